"""Pictures of matplotlib as SVG within a page: of one size with the window, and dark where the page is."""

import re
from collections.abc import Iterable
from pathlib import Path

from light_sernet_kd.reporting import palette
from light_sernet_kd.reporting.figures.page import ALARM, INK, PALE, QUIET
from light_sernet_kd.reporting.web.blocks import attributes

# What the figures draw lines and text in → what the page calls it.
_COLORS = {
    ALARM: "--alarm",
    INK: "--ink",
    QUIET: "--quiet",
    PALE: "--pale",
    "#000000": "--ink",
    "#ffffff": "--paper",
}
# The classes' colours differ on light and dark pages: `class_colours` says what these names are.
_CLASSES = palette.colours(palette.EMOTIONS)
_COLORS |= {each.light: f"--{name}" for name, each in _CLASSES.items()}
# Times and names; and rules of style, which would be those of the whole page.
_LEFT_OUT = re.compile(r"<!--.*?-->|<metadata>.*?</metadata>|<style.*?</style>", re.DOTALL)
_PIXELS_PER_POINT = 4 / 3


def class_colours() -> str:
    """The rules of style for the colours of classes, on paper those of a light page."""

    def rule(theme: str) -> str:
        named = (f"--{name}:{getattr(each, theme)};" for name, each in _CLASSES.items())
        return f":root{{{''.join(named)}}}"

    return f"{rule('light')}\n@media screen and (prefers-color-scheme: dark){{{rule('dark')}}}\n"


def drawings(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """The pictures of these names that are in a folder as SVG, for a page: name → element."""
    inlined_svg = {}
    for number, name in enumerate(names, start=1):
        path = folder / f"{name}.svg"
        content = path.read_text(encoding="utf-8") if path.is_file() else ""
        if "<svg" in content:
            inlined_svg[name] = inlined(content, f"p{number}-", label=name.replace("_", " "))
    return inlined_svg


def inlined(content: str, prefix: str, *, label: str) -> str:
    """An SVG file of matplotlib as an element of a page.

    Args:
        prefix: of all its names, which are the same in every picture.
    """
    svg = content[content.index("<svg") :]
    svg = _LEFT_OUT.sub("", svg)
    svg = re.sub(r'\bid="', f'id="{prefix}', svg)
    svg = re.sub(r'href="#', f'href="#{prefix}', svg)
    svg = svg.replace("url(#", f"url(#{prefix}")
    for color, variable in _COLORS.items():
        svg = re.sub(rf"{color}\b", f"var({variable})", svg, flags=re.IGNORECASE)
    begin, end = svg.index("<svg"), svg.index(">")
    view = re.search(r'viewBox="0 0 ([\d.]+) [\d.]+"', svg[begin:end])
    assert view
    head = attributes(
        role="img",
        aria_label=label,
        viewBox=view[0].split('"')[1],
        style=f"width:{float(view[1]) * _PIXELS_PER_POINT:.0f}px",
    )
    lines = (line.strip() for line in svg[end + 1 :].splitlines())
    return f"<svg{head}>" + "\n".join(line for line in lines if line)
