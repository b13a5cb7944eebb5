"""A run's report.html: the page, with its pictures and the recordings of its surest mistakes."""

import io
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import soundfile

from light_sernet_kd import audio
from light_sernet_kd.config import SAMPLE_RATE
from light_sernet_kd.files import write_text
from light_sernet_kd.reporting import web

if TYPE_CHECKING:
    from light_sernet_kd.experiment.shared import Experiment

# Every browser plays both; MP3 takes a third of FLAC, and not every libsndfile writes it.
_FORMATS = {"MP3": "audio/mpeg", "FLAC": "audio/flac"}


def write_page(
    run: "Experiment", metrics: Mapping[str, Any], exported: Mapping[str, Any] | None, *, embeddings: bool
) -> None:
    """Write report.html.

    Args:
        embeddings: whether there is a picture of them.
    """
    folder = run.folder
    extras = web.Extras(web.drawings(folder.path, web.DRAWN), _sounds(run, metrics))
    name = folder.path.resolve().name
    page = web.page(name, metrics, run.config, export=exported, embeddings=embeddings, extras=extras)
    write_text(folder.page, page)


def _sounds(run: "Experiment", metrics: Mapping[str, Any]) -> dict[str, web.Sound]:
    """What the student heard of its surest mistakes; nothing where it hears nothing, or by `--no-audio`."""
    if not run.options.audio or metrics["cut"] is None:
        return {}
    paths = {each.id: each.path for each in run.utterances}
    return {
        each["id"]: sound_of(audio.middle(paths[each["id"]], run.settings.samples))
        for each in metrics.get("mistakes", ())
    }


def sound_of(waveform: Any) -> web.Sound:
    """Samples at 16 kHz as a small file that browsers play; what exceeds full scale is cut off."""
    kind = next(name for name in _FORMATS if name in soundfile.available_formats())
    file = io.BytesIO()
    soundfile.write(file, waveform.clip(-1, 1), SAMPLE_RATE, format=kind)
    return web.Sound(file.getvalue(), _FORMATS[kind])
