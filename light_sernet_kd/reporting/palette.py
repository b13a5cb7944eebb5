"""A colour for each emotion: of the page of `demo`, of `report.html` and of the pictures.

Every two emotions differ by at least 15 in CIE 1976 (CIELAB) for readers with deuteranopia or protanopia,
by Machado, Oliveira and Fernandes 2009; those of EMO-DB also in CIEDE2000. Each colour has a contrast of at
least 3 to its background, and the words on it one of at least 4.5 (WCAG 2.1).
"""

from collections.abc import Sequence
from dataclasses import dataclass

LIGHT_SURFACE, DARK_SURFACE = "#ffffff", "#1a2126"
INK, PAPER = "#14191c", "#ffffff"


@dataclass(frozen=True)
class Colours:
    """A class's colours, as `#rrggbb`.

    Attributes:
        light, dark: of what is filled with it, on a light and on a dark page.
        on_light, on_dark: of words on these.
    """

    light: str
    dark: str
    on_light: str
    on_dark: str


# Light and dark.
_EMOTIONS = {
    "anger": ("#881801", "#c53a28"),
    "boredom": ("#2f1c19", "#bca275"),
    "calm": ("#168178", "#3fb4a7"),
    "disgust": ("#497a54", "#dcfec8"),
    "excitement": ("#9b5b0c", "#ff670b"),
    "fear": ("#93429c", "#8a5c93"),
    "frustration": ("#f64792", "#b76c77"),
    "happiness": ("#b48401", "#fcec3d"),
    "neutral": ("#3e4851", "#f3f5fc"),
    "sadness": ("#290a6d", "#6582fe"),
    "surprise": ("#3f91d6", "#7bcaff"),
}
EMOTIONS = tuple(_EMOTIONS)


def luminance(colour: str | Sequence[float]) -> float:
    """Relative luminance of `#rrggbb`, or of `(red, green, blue, …)` in 0..1.

    Source: WCAG 2.1.

    >>> luminance("#00ff00"), luminance((0, 1, 0, 0.5))
    (0.7152, 0.7152)
    """
    if isinstance(colour, str):
        colour = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour[:3])
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str | Sequence[float], other: str | Sequence[float]) -> float:
    """WCAG 2.1's contrast ratio of two colours as `luminance` takes them, from 1 to 21.

    >>> contrast("#ffffff", "#000000")
    21.0
    """
    darker, lighter = sorted((luminance(one), luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


def words_on(colour: str) -> str:
    """The colour of words on it: white or nearly black, whichever has more contrast.

    >>> words_on("#000080"), words_on("#ffffcc")
    ('#ffffff', '#14191c')
    """
    return max((PAPER, INK), key=lambda ink: contrast(ink, colour))


def _pair(name: str) -> Colours:
    light, dark = _EMOTIONS[name]
    return Colours(light, dark, words_on(light), words_on(dark))


def colours(classes: Sequence[str]) -> dict[str, Colours]:
    """The colours of classes, in their order.

    A class that is no emotion of the list gets the colours of one that is not among the classes. More classes
    than colours share them.

    >>> [each.light for each in colours(["sadness", "joy"]).values()] == [
    ...     colours(["sadness"])["sadness"].light, colours(["anger"])["anger"].light]
    True
    """
    free = [name for name in EMOTIONS if name not in classes] or list(EMOTIONS)
    others = [name for name in classes if name not in _EMOTIONS]
    sources = {name: free[place % len(free)] for place, name in enumerate(others)}
    return {name: _pair(sources.get(name, name)) for name in classes}
