"""What the networks of a run see: features of every utterance, and the states of encoders."""

import functools
from typing import TYPE_CHECKING, Any

from light_sernet_kd.data import feature_cache
from light_sernet_kd.registries.front_ends import FRONT_ENDS
from light_sernet_kd.registries.students import is_multimodal

if TYPE_CHECKING:
    from light_sernet_kd.encoders.multimodal import SpeechAndText
    from light_sernet_kd.experiment.shared import Experiment


def features_of(run: "Experiment", front_end: str) -> Any:
    """Features of every utterance, indexed by an array of utterances."""
    if front_end not in run.feature_rows:
        run.feature_rows[front_end] = feature_cache.features(
            run.utterances,
            run.selection.fingerprints,
            front_end=front_end,
            input_type=_input_type(run, front_end),
            samples=run.settings.samples,
            cache=feature_cache.Cache(run.cache_folder, run.options.cache, run.options.memory_bytes),
            reader=_reader(run),
        )
    return run.feature_rows[front_end]


def architectures(run: "Experiment") -> dict[str, str]:
    """Role → the name of its network, for the networks that are trained in this run."""
    teacher = run.settings.trained_teacher
    return {"student": run.settings.student} | ({"teacher": teacher} if teacher else {})


def multimodal_networks(run: "Experiment") -> dict[str, "SpeechAndText"]:
    """Role → encoders, of the networks of speech and text."""
    return {
        role: _speech_and_text(run, role, name)
        for role, name in architectures(run).items()
        if is_multimodal(name)
    }


def _speech_and_text(run: "Experiment", role: str, name: str) -> "SpeechAndText":
    from light_sernet_kd.encoders.multimodal import SpeechAndText

    return SpeechAndText(
        name,
        run.settings,
        run.selection,
        is_teacher=role == "teacher",
        data=run.options.data,
        cache=run.cache_folder / "embeddings",
        features=functools.partial(features_of, run, "vggish"),
    )


def _input_type(run: "Experiment", front_end: str) -> str:
    """The run's; of a front end that feeds an encoder, the one that it makes."""
    entry = FRONT_ENDS[front_end]
    return next(iter(entry.spectra)) if entry.of_encoder else run.settings.input_type


def _reader(run: "Experiment") -> feature_cache.Reader:
    if run.settings.reader == "soundfile":
        return feature_cache.SOUNDFILE
    from light_sernet_kd.data import tfio_reader

    return tfio_reader.TFIO
