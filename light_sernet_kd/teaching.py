"""Teachers on embeddings of other networks: YAMNet, and self-supervised speech models.

They are made for all folds at once: the embeddings are the same for each, what is trained on them is not.
"""

import dataclasses
from pathlib import Path
from typing import Any

from light_sernet_kd import embeddings, probe
from light_sernet_kd.audio import Progress
from light_sernet_kd.config import Settings
from light_sernet_kd.selection import Selection
from light_sernet_kd.teachers import Teacher


def embedding_teacher(
    source: str,
    selection: Selection,
    settings: Settings,
    *,
    data: Path,
    cache: Path,
    work: Path,
    fine_tune: bool = False,
    progress: Progress | None = None,
) -> Teacher:
    """A teacher for every fold of the selection, and one trained on all speakers.

    Args:
        source: `yamnet`, `yamnet=FILE`, or a speech model's name on the Hugging Face hub or folder.
        data: holds `models/`.
        cache: keeps embeddings.
        work: keeps the folds of a fine-tuned model that are finished.
        fine_tune: train the speech model itself, and not only what reads it.
        progress: called with (done, all) after each block of embeddings.
    """
    utterances, fingerprints = selection.utterances, selection.fingerprints
    folds = [*selection.folds, selection.final_fold]
    facts: dict[str, Any] = {"corpus": selection.corpus.name, "protocol": settings.protocol}
    if path := embeddings.yamnet_path(source, data):
        encoder = embeddings.yamnet(path)
        found = embeddings.embed(utterances, fingerprints, encoder, cache=cache, progress=progress)
        card = {"made_by": "probe on YAMNet", "encoder": dict(encoder.identity), **facts}
        return probe.probe_teacher(found.stacked(), utterances, selection.classes, folds, card=card)

    from light_sernet_kd import speech_models

    if fine_tune:
        return speech_models.fine_tuned_teacher(
            source,
            utterances,
            fingerprints,
            selection.classes,
            folds,
            card={"made_by": f"{source}, fine-tuned", **facts},
            work=work,
            seed=settings.seed,
            settings=dataclasses.replace(speech_models.TuningSettings(), **_tuning(settings)),
        )
    model = speech_models.load(source)
    encoder = speech_models.layer_encoder(model)
    layers = embeddings.embed(utterances, fingerprints, encoder, cache=cache, progress=progress)
    card = {"made_by": f"probe on {source}", "encoder": {"source": source, **encoder.identity}, **facts}
    return speech_models.layer_probe_teacher(
        layers, utterances, selection.classes, folds, card=card, seed=settings.seed
    )


def _tuning(settings: Settings) -> dict[str, Any]:
    """What the user says of a fine-tuning; the rest stays as `TuningSettings` has it."""
    own = {name: getattr(settings, name) for name in ("epochs", "batch_size", "learning_rate")}
    return {name: value for name, value in own.items() if value is not None}
