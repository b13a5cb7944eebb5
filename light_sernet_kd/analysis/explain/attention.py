"""What a student of speech and text attends to."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from light_sernet_kd import audio
from light_sernet_kd.analysis.explain.fold import Answer, states_of, student_inputs
from light_sernet_kd.config import SAMPLE_RATE
from light_sernet_kd.registries.encoders import audio_encoder
from light_sernet_kd.reporting import figures

if TYPE_CHECKING:
    import keras


def attention_labels(
    tokens: Sequence[str], patches: int, *, patch_seconds: float = 0.96, hop_seconds: float | None = None
) -> list[str]:
    """The names of a sequence of text tokens followed by audio patches: patches are named in seconds.

    Args:
        patches: how many of the recording's own; padding is left out.
        patch_seconds: how long one is; VGGish's are 0.96 s.
        hop_seconds: from one patch to the next; by default they follow one another without overlap.
    """
    hop = patch_seconds if hop_seconds is None else hop_seconds
    digits = 2 if round(100 * hop) % 10 or round(100 * patch_seconds) % 10 else 1
    times = [
        f"{number * hop:.{digits}f}–{number * hop + patch_seconds:.{digits}f} s" for number in range(patches)
    ]
    return [*tokens, *times]


# Of what is attended to, so many are listed.
MOST_ATTENDED = 5


def draw_attention(answer: Answer, folder: Path) -> dict[str, Any]:
    """A picture for each attention layer of the head, and what it attends to most."""
    from light_sernet_kd.students.attention import AUDIO_STATES, attention_between, attention_maps

    student = answer.tested.student
    inputs = student_inputs(student, answer.tested.inputs, np.array([answer.index]))
    by_name = {tensor.name: values for tensor, values in zip(student.inputs, inputs, strict=True)}
    real = _real_rows(student, inputs)
    names = _row_names(answer, real)
    facts: dict[str, Any] = {}
    for layer, weights in attention_maps(student, by_name).items():
        query_states, key_states = attention_between(layer)
        queries, keys = (
            [name for each in side for name in names[each]] for side in (query_states, key_states)
        )
        rows, columns = (np.concatenate([real[each] for each in side]) for side in (query_states, key_states))
        kept = weights[0][:, rows][:, :, columns]
        between = _between(query_states, key_states)
        figures.attention(
            kept,
            folder / layer,
            queries=queries,
            keys=keys,
            notes=[
                f"{layer.replace('_', ' ')}: {between}; padding left out",
                *_notes(answer, layer, queries, keys),
                *(_note_of_length(answer) if AUDIO_STATES in {*query_states, *key_states} else ()),
            ],
            **answer.head,
        )
        shares = kept.mean(axis=(0, 1))
        most = np.argsort(-shares, kind="stable")[:MOST_ATTENDED].tolist()
        facts[layer] = {
            "between": between,
            "heads": len(kept),
            "queries": len(queries),
            "keys": len(keys),
            "most_attended": [{"name": keys[i], "mean_attention": float(shares[i])} for i in most],
        }
    return facts


def _real_rows(student: "keras.Model", inputs: Sequence[np.ndarray]) -> dict[str, NDArray[np.bool_]]:
    """For text and audio states, where the student has them, whether each row is one and not padding."""
    import keras

    from light_sernet_kd.students.attention import AUDIO_STATES, TEXT_STATES

    real = {}
    for which in (TEXT_STATES, AUDIO_STATES):
        for tensor in states_of(student, which):
            states = np.asarray(keras.Model(student.inputs, tensor)(inputs, training=False))[0]
            real[which] = states.any(axis=-1)
    return real


def _row_names(answer: Answer, real: Mapping[str, NDArray[np.bool_]]) -> dict[str, list[str]]:
    """Tokens for the rows of text, seconds for those of audio."""
    from light_sernet_kd.students.attention import AUDIO_STATES, TEXT_STATES

    names: dict[str, list[str]] = {}
    if TEXT_STATES in real:
        names[TEXT_STATES] = list(answer.tested.tokens[answer.index])
    if AUDIO_STATES in real:
        encoder, _ = audio_encoder(answer.tested.settings.audio_encoder)
        times = attention_labels(
            [],
            len(real[AUDIO_STATES]),
            patch_seconds=encoder.window_seconds,
            hop_seconds=encoder.hop_seconds,
        )
        names[AUDIO_STATES] = [times[row] for row in np.flatnonzero(real[AUDIO_STATES])]
    return names


def _between(query_states: Sequence[str], key_states: Sequence[str]) -> str:
    queries, keys = (" and ".join(side).replace("_states", "") for side in (query_states, key_states))
    itself = "itself" if len(query_states) == 1 else "themselves"
    return f"{queries} over {keys if query_states != key_states else itself}"


def _notes(answer: Answer, layer: str, queries: Sequence[str], keys: Sequence[str]) -> list[str]:
    notes = []
    if len(keys) == 1:
        notes.append("there is one row to attend to, so it gets everything")
    if layer == "fusion_attention" and answer.tested.settings.pooling == "first":
        notes.append(f"of these the student reads the first, {queries[0]}")
    return notes


def _note_of_length(answer: Answer) -> list[str]:
    samples, recorded = answer.tested.settings.samples, len(audio.read(answer.utterance.path))
    if recorded <= samples:
        return []
    end, whole = samples / SAMPLE_RATE, recorded / SAMPLE_RATE
    return [f"seconds of the student's input: the middle {end:g} s of {whole:.2f} s"]
