"""Grad-CAM: where in the features a student finds a class."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from light_sernet_kd import audio
from light_sernet_kd.analysis.explain.fold import Answer
from light_sernet_kd.config import SAMPLE_RATE, Settings
from light_sernet_kd.errors import UserError
from light_sernet_kd.reporting import figures

if TYPE_CHECKING:
    import keras


def grad_cam(student: "keras.Model", features: ArrayLike, class_index: int) -> NDArray[np.float32]:
    """Where in the features a student finds a class: Grad-CAM of its last convolutional layer.

    The layer's maps, each weighted by the mean gradient of the class's logit over them, are summed; what
    speaks against the class is set to 0.

    Args:
        student: features `(batch, frames, bands, channels)` to logits.
        features: `(frames, bands, channels)`, of one utterance.

    Returns:
        `(frames, bands)`, at least 0; brought from the layer's few positions to the features' by bilinear
        interpolation, so no finer than those (`map_positions`). With a student whose logits are linear in
        the maps' means, the layer's positions would sum to what of the logit speaks for the class.

    Raises:
        UserError: the student has no convolutional layer.

    Source: Selvaraju et al. 2017, arXiv:1610.02391, equations 1 and 2.
    """
    import keras
    import tensorflow as tf

    maps_and_logits = keras.Model(student.inputs[0], [_last_maps(student), student.outputs[0]])
    batch = tf.convert_to_tensor(np.asarray(features)[None])
    with tf.GradientTape() as tape:
        tape.watch(batch)
        maps, logits = maps_and_logits(batch, training=False)
        logit = logits[0, class_index]
    weights = tf.reduce_mean(tape.gradient(logit, maps), axis=(1, 2), keepdims=True)
    coarse = tf.nn.relu(tf.reduce_sum(weights * maps, axis=-1, keepdims=True))
    return np.asarray(tf.image.resize(coarse, batch.shape[1:3])[0, ..., 0], np.float32)


def map_positions(student: "keras.Model") -> tuple[int, int]:
    """(along time, along frequency): how many positions the layer that `grad_cam` reads has."""
    _, frames, bands, _ = _last_maps(student).shape
    return int(frames), int(bands)


def has_maps(student: "keras.Model") -> bool:
    """Whether `grad_cam` can be had: one input, of features, and a convolutional layer."""
    return len(student.inputs) == 1 and bool(_all_maps(student))


def _all_maps(student: "keras.Model") -> list[Any]:
    import keras

    outputs = [layer.output for layer in student.layers if not isinstance(layer, keras.layers.InputLayer)]
    return [output for output in outputs if not isinstance(output, list | dict) and len(output.shape) == 4]


def _last_maps(student: "keras.Model") -> Any:
    maps = _all_maps(student)
    if not maps:
        raise UserError(f"{student.name} has no convolutional layer, which Grad-CAM reads.")
    return maps[-1]


def shortest_span(values: ArrayLike, share: float = 0.5) -> tuple[int, int]:
    """The shortest run of entries, from `first` to before `end`, that holds `share` of the sum.

    Args:
        values: `(entries,)`, none negative; of all zeros the whole is the answer.
    """
    sums = np.concatenate([[0.0], np.cumsum(np.asarray(values, np.float64))])
    if not sums[-1]:
        return 0, len(sums) - 1
    # the slack is for the rounding of the sums
    ends = np.searchsorted(sums, sums[:-1] + (share - 1e-9) * sums[-1])
    firsts = np.flatnonzero(ends < len(sums))
    first = firsts[np.argmin(ends[firsts] - firsts)]
    return int(first), int(ends[first])


@dataclass(frozen=True)
class FeatureAxes:
    """Where the features of a clip lie: `seconds` `(frames,)` of their middles, and names of some bands."""

    seconds: NDArray[np.float64]
    label: str
    ticks: Sequence[tuple[float, str]]


def feature_axes(settings: Settings, frames: int, bands: int) -> FeatureAxes:
    """The axes of a run's features `(frames, bands)`."""
    from light_sernet_kd import features

    spectrum = features.settings_of(str(settings.front_end), settings.input_type)
    middle = 0 if spectrum.centred else spectrum.fft_length / 2
    seconds = (np.arange(frames) * spectrum.frame_step + middle) / SAMPLE_RATE
    if settings.input_type == "mfcc":
        label = f"MFCC, voice from {spectrum.coefficients}" if spectrum.voice else "MFCC"
        return FeatureAxes(seconds, label, [(number, str(number)) for number in range(0, bands, 10)])
    if settings.input_type == "spectrogram":
        hertz = np.linspace(0, SAMPLE_RATE / 2, bands)
    else:
        ends = np.array([spectrum.lowest_hz, spectrum.highest_hz])
        lowest, highest = features.hz_to_mel(ends, spectrum.mel_scale)
        hertz = features.mel_to_hz(np.linspace(lowest, highest, bands + 2)[1:-1], spectrum.mel_scale)
    marks = [250, 500, 1000, 2000, 4000] if settings.input_type == "mel_spectrogram" else range(0, 8001, 2000)
    places = np.interp(list(marks), hertz, np.arange(bands))
    return FeatureAxes(
        seconds, "kHz", [(place, f"{mark / 1000:g}") for place, mark in zip(places, marks, strict=True)]
    )


def draw_grad_cam(answer: Answer, path: Path) -> dict[str, Any]:
    """The picture, and per class where the map lies."""
    from light_sernet_kd.registries.front_ends import FRONT_ENDS

    tested, settings = answer.tested, answer.tested.settings
    features = np.asarray(tested.inputs["features"][np.array([answer.index])])[0]
    recording = audio.read(answer.utterance.path)
    pad = FRONT_ENDS[str(settings.front_end)].padding
    clip, is_recorded = (
        audio.fit(each, settings.samples, pad=pad) for each in (recording, np.ones(len(recording)))
    )
    classes = tested.run.predictions.classes
    maps = {
        name: grad_cam(tested.student, features, classes.index(name))
        for name in dict.fromkeys([answer.predicted, answer.label])
    }
    axes = feature_axes(settings, *features.shape[:2])
    positions = map_positions(tested.student)
    recorded_samples = np.flatnonzero(is_recorded)
    begin, end = recorded_samples[0] / SAMPLE_RATE, (recorded_samples[-1] + 1) / SAMPLE_RATE
    notes = [
        f"orange: Grad-CAM of {positions[0]} × {positions[1]} positions (time × bands)"
        + (", on one scale" if len(maps) > 1 else "")
    ]
    if len(recording) > settings.samples:
        whole = len(recording) / SAMPLE_RATE
        notes.append(f"the student's input: the middle {end:g} s of {whole:.2f} s")
    elif not is_recorded.all():
        notes.append("grey, in the waveform: padding")
    if nothing := [name for name, values in maps.items() if not values.any()]:
        notes.append(f"nothing speaks for {' or '.join(nothing)}: no orange")
    drawn = figures.Clip(
        clip, features[..., 0], SAMPLE_RATE, (begin, end), axes.seconds, axes.label, axes.ticks
    )
    figures.grad_cam(drawn, maps, path, notes=notes, **answer.head)
    return {
        name: {"positions": list(positions), **_where(values, axes.seconds, begin, end)}
        for name, values in maps.items()
    }


def _where(
    values: NDArray[np.float32], seconds: NDArray[np.float64], begin: float, end: float
) -> dict[str, Any]:
    """In which seconds a map lies, and how much of it on padding: outside of `begin` to `end`."""
    first, after = shortest_span(values.sum(axis=1))
    total = float(values.sum())
    half_frame = (seconds[1] - seconds[0]) / 2 if len(seconds) > 1 else 0.0
    is_padding = (seconds < begin) | (seconds >= end)
    return {
        "largest": float(values.max()),
        "half_of_it_from_seconds": max(0.0, float(seconds[first] - half_frame)) if total else None,
        "half_of_it_to_seconds": float(seconds[after - 1] + half_frame) if total else None,
        "share_in_padding": float(values[is_padding].sum()) / total if total else None,
    }
