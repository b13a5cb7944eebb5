"""What all pictures have in common: fonts, colours, the head with its stamps, and how they are saved."""

import hashlib
import os
import re
import textwrap
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, fontManager, get_font
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.textpath import TextPath

from light_sernet_kd.files import atomic
from light_sernet_kd.reporting import palette
from light_sernet_kd.reporting.palette import contrast

INK, QUIET, PALE, ALARM = "#1a1a1a", "#5f6368", "#c3c8ce", "#b00020"
# Okabe and Ito's colours, told apart with every common colour vision; the markers differ as well.
TRAIN, VALIDATION, MARK = "#0072B2", "#D55E00", "#000000"
POINT_COLORS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9")
POINT_MARKERS = "osD^vP"
# Those of matplotlib that stay apart when filled and when hollow; with the colours, 132 classes differ.
CLASS_MARKERS = "osD^vP*Xphd<"
# Comes with matplotlib, so every machine draws the same; the others give the letters it lacks.
FONT = "DejaVu Sans"
FURTHER_FONTS = (
    "Noto Sans CJK JP", "Noto Sans CJK SC", "Noto Sans CJK KR", "Noto Sans Devanagari", "Noto Sans Bengali",
    "Noto Sans Tamil", "Noto Sans Thai", "Noto Sans Ethiopic", "WenQuanYi Zen Hei", "WenQuanYi Micro Hei",
    "NanumGothic", "IPAGothic", "Droid Sans Fallback", "Microsoft YaHei", "Malgun Gothic", "Yu Gothic",
    "Nirmala UI", "Leelawadee UI", "Hiragino Sans", "Apple SD Gothic Neo", "Arial Unicode MS",
)  # fmt: skip
# What pictures are written as, without names and times, so that they stay the same.
KINDS: dict[str, dict[str, Any]] = {
    ".png": {"Software": None},
    ".svg": {"Creator": None, "Date": None},
    ".pdf": {"Creator": None, "Producer": None, "CreationDate": None},
}
STYLE = {
    "font.size": 9,
    "text.color": INK,
    "axes.edgecolor": QUIET,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": QUIET,
    "ytick.color": QUIET,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "text.parse_math": False,  # a class or file may have "$" in its name
    "pdf.fonttype": 42,  # journals refuse Type 3 fonts
    "savefig.dpi": 160,
    "svg.hashsalt": "light-sernet-kd",
}


def class_looks(classes: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Colour and marker of each class: one of the two tells for readers who cannot tell by the other.

    >>> class_looks(["fear", "joy"])["joy"][1]
    's'
    """
    colors = palette.colours(classes)
    return {
        name: (colors[name].light, CLASS_MARKERS[place % len(CLASS_MARKERS)])
        for place, name in enumerate(classes)
    }


@cache
def fonts() -> list[str]:
    """The families that letters are looked for in, first to last."""
    return [FONT, *(name for name in FURTHER_FONTS if name in fontManager.get_font_names())]


def letters_without_font(texts: Iterable[str]) -> str:
    """The letters that pictures show as boxes, because no font here has them."""
    known = set().union(*(get_font(findfont(name)).get_charmap() for name in fonts()))
    return "".join(sorted({letter for letter in "".join(texts) if ord(letter) not in known}))


@contextmanager
def style() -> Iterator[None]:
    """A context in which matplotlib is set as these pictures want it, whatever the user has set."""
    with matplotlib.rc_context(), warnings.catch_warnings():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update({"font.family": fonts(), **STYLE})
        # `letters_without_font` says it once, and not for every letter and picture
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        yield


def save(figure: Figure, path: str | os.PathLike[str]) -> list[Path]:
    """Write `<path>.png`, `<path>.svg` and `<path>.pdf`; one file where `path` ends in one of these suffixes.

    Returns:
        The paths of the files.
    """
    path = Path(path)
    kinds = [path.suffix] if path.suffix in KINDS else KINDS
    stem = path.with_suffix("") if path.suffix in KINDS else path
    targets = [stem.with_name(f"{stem.name}{kind}") for kind in kinds]
    for target in targets:
        with atomic(target) as temporary:
            figure.savefig(temporary, metadata=KINDS[target.suffix])
            if target.suffix == ".svg":
                _name_clips(temporary)
        # To lay a figure out takes half of the time, and the first file has settled it.
        figure.set_layout_engine("none")
    return targets


def _name_clips(svg: Path) -> None:
    """Name each clip by what is written of it.

    matplotlib names them by numbers that it rounds only when it writes them, so that the last bit of a layout
    would change the file. Equal names in several pictures of a page are equal clips.
    """
    text = svg.read_text(encoding="utf-8")
    for name, clip in re.findall(r'<clipPath id="(\w+)">(.*?)</clipPath>', text, re.DOTALL):
        text = text.replace(name, f"p{hashlib.sha256(clip.encode()).hexdigest()[:10]}")
    svg.write_text(text, encoding="utf-8", newline="\n")


# Text, points, weight, colour.
HeadLine = tuple[str, int, str, str]


def head_lines(
    title: str,
    stamps: Sequence[str],
    notes: Sequence[str],
    *,
    width_inches: float,
    synthetic: bool | None = None,
) -> list[HeadLine]:
    """The wrapped lines above a picture.

    Args:
        synthetic: whether a line in red says so; by default where the title has "(synthetic)".
    """
    if synthetic is None:
        synthetic = "(synthetic)" in title.lower()

    def wrap(text: str, points: int, weight: str, color: str) -> list[HeadLine]:
        # Mean letter widths of DejaVu Sans. The no-break space keeps a number and its % together.
        letter_inches = points * (0.0091 if weight == "bold" else 0.0081)
        lines = textwrap.wrap(text.replace(" %", "\u00a0%"), int((width_inches - 0.24) / letter_inches))
        return [(line, points, weight, color) for line in lines]

    head = wrap("SYNTHETIC RECORDINGS", 9, "bold", ALARM) if synthetic else []
    head += wrap(title, 12, "bold", INK)
    head += [line for stamp in stamps for line in wrap(stamp, 9, "normal", ALARM)]
    return head + [line for note in notes for line in wrap(note, 9, "normal", INK)]


def line_inches(points: int) -> float:
    return points * 1.45 / 72


def head_inches(lines: Sequence[HeadLine]) -> float:
    """The height of the lines that `head_lines` gives."""
    return 0.2 + sum(line_inches(points) for _, points, _, _ in lines)


def draw_head(figure: Figure, lines: Sequence[HeadLine]) -> None:
    """Write the lines that `head_lines` gives at the top of `figure`."""
    width, height = figure.get_size_inches()
    inches = 0.1
    for text, points, weight, color in lines:
        at = (0.12 / width, 1 - inches / height)
        figure.text(*at, text, size=points, weight=weight, color=color, va="top")
        inches += line_inches(points)


def figure_below_head(
    title: str,
    stamps: Sequence[str],
    notes: Sequence[str],
    *,
    width_inches: float,
    body_inches: float,
    synthetic: bool | None = None,
) -> Figure:
    """A figure with its head drawn, whose axes are kept below it; arguments as of `head_lines`."""
    head = head_lines(title, stamps, notes, width_inches=width_inches, synthetic=synthetic)
    height = head_inches(head) + body_inches
    below = ConstrainedLayoutEngine(rect=(0.01, 0.01, 0.98, body_inches / height - 0.01), wspace=0.05)
    figure = Figure((width_inches, height), layout=below)
    draw_head(figure, head)
    return figure


def text_inches(text: str, points: float) -> float:
    """Width of the longest of `text`'s lines."""
    return max(TextPath((0, 0), line, size=points).get_extents().width for line in text.split("\n")) / 72


def text_color(background: Sequence[float]) -> str:
    """White or ink, whichever has the greater WCAG contrast ratio to the background.

    >>> text_color((0, 0, 0.5)), text_color((1, 1, 0.8))
    ('white', '#1a1a1a')
    """
    return max(INK, "white", key=lambda color: contrast(background, to_rgb(color)))


def tick(name: str) -> str:
    """A name that fits beside a tick; a space that is a token is seen.

    >>> tick("overwhelmed by something"), tick(" ")
    ('overwhelmed by so…', '␣')
    """
    return (name if len(name) <= 18 else f"{name[:17]}…") if name.strip() else "␣"


def thinned(count: int, *, most: int) -> list[int]:
    """Evenly spaced places, at most `most` of them.

    >>> thinned(10, most=4)
    [0, 3, 6, 9]
    """
    return list(range(0, count, max(1, -(-count // max(1, most)))))
