"""The surest mistakes of a run, each with a button that plays it."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from light_sernet_kd.reporting.text import pluralise
from light_sernet_kd.reporting.web.blocks import attributes
from light_sernet_kd.reporting.web.scores import share


@dataclass(frozen=True)
class Sound:
    """A recording, or its beginning, as a file's content.

    Attributes:
        kind: such as `audio/flac`.
    """

    content: bytes
    kind: str

    @property
    def address(self) -> str:
        return f"data:{self.kind};base64,{base64.b64encode(self.content).decode()}"


def mistakes(rows: Sequence[Mapping[str, Any]], sounds: Mapping[str, Sound], *, seconds: float) -> str:
    """The list.

    Args:
        rows: `id`, `speaker`, `fold`, `label`, `predicted`, `probability` of the predicted class, and
            `label_probability` of the true one, the surest first.
        sounds: by id, of those that can be heard.
        seconds: how much of a recording the student hears.
    """
    if not rows:
        return "<p>There is none: every test prediction is right.</p>"
    intro = "The wrong test predictions with the largest probabilities, as trained. "
    if sounds:
        intro += (
            f"A button plays the student's input: of longer recordings the middle {seconds:g} s. "
            f"This file holds {pluralise(len(sounds), 'recording')} of the corpus: read the corpus's licence "
            "before you pass it on. --no-audio writes the page without them."
        )
    else:
        intro += "The page was written without their sound."
    items = "".join(_item(each, sounds.get(each["id"])) for each in rows)
    return f'<p>{escape(intro)}</p><ol class="mistakes">{items}</ol>'


def _item(mistake: Mapping[str, Any], sound: Sound | None) -> str:
    name = str(mistake["id"])
    if sound is None:
        player = ""
    else:
        how = attributes(controls=True, preload="none", src=sound.address, aria_label=f"Recording {name}")
        player = f'<div class="hear"><audio{how}></audio></div>'
    predicted, label = escape(mistake["predicted"]), escape(mistake["label"])
    where = escape(f"{name}, speaker {mistake['speaker']}, fold {mistake['fold']}")
    return (
        f"<li{attributes(class_=None if player else 'mute')}>{player}"
        f'<div class="what"><p><strong>{predicted}</strong> instead of <strong>{label}</strong></p>'
        f'<p class="quiet small">{where}</p></div>'
        f'<p class="how-sure"><span>{share(mistake["probability"])} %</span> '
        f'<span class="quiet small">{label} {share(mistake["label_probability"])} %</span></p></li>'
    )
