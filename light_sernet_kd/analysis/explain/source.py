"""A finished run, and what its networks take of a recording."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from light_sernet_kd import audio
from light_sernet_kd.config import Settings
from light_sernet_kd.corpora import Corpus, Utterance
from light_sernet_kd.data.run_folder import Run, RunFolder, Step
from light_sernet_kd.data.selection import Selection, of_speakers
from light_sernet_kd.errors import UserError
from light_sernet_kd.files import JsonError, read_json
from light_sernet_kd.registries.students import is_multimodal

if TYPE_CHECKING:
    from light_sernet_kd.encoders.multimodal import SpeechAndText


@dataclass(frozen=True)
class Source:
    """A run's folder, what it says of itself, its corpus, and the folder of corpora."""

    folder: Path
    run: Run
    settings: Settings
    corpus: Corpus
    data: Path


def step_of(folder: Path, fold: str) -> Step:
    """The fold's step in the run's folder.

    Raises:
        UserError: it is not done, or what says so is damaged.
    """
    step = RunFolder(folder).fold(fold)
    try:
        if read_json(step.done, {"name": str})["name"] == fold:
            return step
    except (FileNotFoundError, NotADirectoryError):
        pass
    except (OSError, JsonError):
        raise UserError(f"{step.done} is damaged: remove it, and the run's command makes it anew.") from None
    raise UserError(f"{folder} has no fold.json of fold {fold}: the run's command makes it anew.")


def speech_and_text(
    source: Source, utterances: tuple[Utterance, ...], *, work: Path, is_teacher: bool = False
) -> "SpeechAndText | None":
    """The encoders of the run's student (or its own teacher) for these utterances; None of another kind."""
    settings = source.settings
    name = settings.trained_teacher if is_teacher else settings.student
    if not is_multimodal(name):
        return None
    from light_sernet_kd.encoders.multimodal import SpeechAndText

    skipped = {each["id"] for each in source.run.metrics["skipped"]}
    chosen = of_speakers(source.corpus.utterances, settings.speakers)
    every = tuple(each for each in chosen if each.id not in skipped)
    selection = Selection(source.corpus, every, [], {}, source.run.predictions.classes, [])
    cache = source.folder.resolve().parent / ".cache" / "embeddings"
    encoders = SpeechAndText(
        name,
        settings,
        selection,
        is_teacher=is_teacher,
        data=source.data,
        cache=cache if cache.is_dir() else work / "embeddings",
        features=lambda: None,  # inputs_of has them for these utterances
    )
    # Made of the texts of all, as a random encoder's vocabulary is; from here on only these are asked about.
    encoders.selection = replace(
        selection, utterances=utterances, fingerprints=audio.fingerprints(utterances)
    )
    return encoders


def inputs_of(
    settings: Settings,
    utterances: Sequence[Utterance],
    *,
    work: Path,
    encoders: "SpeechAndText | None" = None,
) -> dict[str, Any]:
    """What a run's student takes of these utterances: input name → rows in their order.

    Args:
        work: an empty folder; what does not fit into memory is kept there.
        encoders: of a student of speech and text, those for these utterances.
    """
    if encoders and not encoders.is_whole:
        return encoders.states.columns
    inputs: dict[str, Any] = {}
    if encoders and encoders.text:
        from light_sernet_kd.encoders.text import texts_of

        tokens = encoders.text.tokeniser(texts_of(utterances).cleaned)
        inputs |= {"token_ids": tokens.token_ids, "text_mask": tokens.text_mask}
    if encoders is None or encoders.audio_branch:
        inputs["features"] = _features(
            settings, utterances, "vggish" if encoders else settings.front_end, work
        )
    return inputs


def _features(settings: Settings, utterances: Sequence[Utterance], front_end: str | None, work: Path) -> Any:
    from light_sernet_kd.data import feature_cache

    reader = feature_cache.SOUNDFILE
    if settings.reader != "soundfile":
        from light_sernet_kd.data import tfio_reader

        reader = tfio_reader.TFIO
    return feature_cache.features(
        utterances,
        audio.fingerprints(utterances),
        front_end=str(front_end),
        input_type=settings.input_type,
        samples=settings.samples,
        cache=feature_cache.Cache(work, "ram"),
        reader=reader,
    )


def tokens_of(encoders: "SpeechAndText", utterances: Sequence[Utterance]) -> list[list[str]]:
    """What the text encoder reads of each utterance; nothing where there is none."""
    if encoders.text is None:
        return []
    from light_sernet_kd.encoders.text import texts_of

    tokeniser = encoders.text.tokeniser
    tokens = tokeniser(texts_of(utterances).cleaned)
    return [
        [tokeniser.vocabulary[number] for number in ids[mask.astype(bool)]]
        for ids, mask in zip(tokens.token_ids, tokens.text_mask, strict=True)
    ]
