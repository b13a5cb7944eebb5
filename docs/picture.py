"""Pictures of README and the pages: the pipeline, and figures read from docs/results.md.

python docs/picture.py
"""

import re
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch

DOCS = Path(__file__).resolve().parent
INK, TEAL, GREY, PALE = "#24323a", "#00796b", "#b8c4c8", "#eef5f4"

# Place of the left lower corner, width, title and explanation.
BOXES = {
    "corpus": (0.0, 0.55, "Recordings", "public corpora or\nyour own table"),
    "folds": (2.5, 0.55, "Folds", "separate speakers for\ntraining and test"),
    "teacher": (5.0, 1.5, "Teacher outputs", "network, probe,\nspeech model or file"),
    "student": (5.0, -0.4, "Student", "distilled from labels\nand teacher outputs"),
    "scores": (7.5, 1.5, "Scores", "UA with interval;\nstamps for leaks"),
    "file": (7.5, -0.4, "One .tflite file", "raw audio in, calibrated\nprobabilities out"),
    "device": (10.0, -0.4, "Device", "phone, browser,\nlaptop, microphone"),
}
WIDTH, HEIGHT = 2.05, 1.3
ARROWS = [
    ("corpus", "folds"),
    ("folds", "teacher"),
    ("folds", "student"),
    ("teacher", "student"),
    ("student", "scores"),
    ("student", "file"),
    ("file", "device"),
]


def table(heading: str) -> list[list[str]]:
    """The rows of the first table below a heading of docs/results.md, its head first."""
    text = (DOCS / "results.md").read_text(encoding="utf-8")
    section = text.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    lines = section[section.index("\n|") :].strip().partition("\n\n")[0].splitlines()
    rows = [[cell.strip(" `") for cell in line.strip("|").split("|")] for line in lines]
    return [rows[0], *rows[2:]]


def pipeline(axes: Axes) -> None:
    for x, y, title, text in BOXES.values():
        axes.add_patch(
            FancyBboxPatch(
                (x, y), WIDTH, HEIGHT, boxstyle="round,pad=0,rounding_size=0.12", fc=PALE, ec=TEAL, lw=1.3
            )
        )
        middle = x + WIDTH / 2
        axes.text(middle, y + 0.96, title, ha="center", va="center", weight="bold", size=11.5, color=INK)
        axes.text(middle, y + 0.44, text, ha="center", va="center", size=9.5, color=INK)
    for source, target in ARROWS:
        axes.annotate("", *_ends(source, target), arrowprops={"arrowstyle": "-|>", "color": INK, "lw": 1.3})
    axes.set(xlim=(-0.1, 12.2), ylim=(-0.6, 3.0), aspect="equal")
    axes.axis("off")


def _ends(source: str, target: str) -> tuple[tuple[float, float], tuple[float, float]]:
    """Where an arrow ends and where it begins."""
    (x, y, *_), (u, v, *_) = BOXES[source], BOXES[target]
    if x == u:
        return (u + WIDTH / 2, v + HEIGHT), (x + WIDTH / 2, y)
    return (u, v + HEIGHT / 2), (x + WIDTH, y + HEIGHT / 2)


def bars(axes: Axes, title: str, names: list[str], values: list[float], form: str) -> None:
    colours = [TEAL if name == "int8" else GREY for name in names]
    shown = axes.barh(names, values, color=colours, height=0.62)
    axes.bar_label(shown, fmt=form, padding=3, size=9.5, color=INK)
    axes.set_xlim(0, 1.2 * max(values))
    _plain(axes, title)
    axes.invert_yaxis()


def noise(axes: Axes) -> None:
    """UA with and without noise in training."""
    head, without, with_noise = table("Noise in training")
    kept = [name for name in ("clean", "white 20 dB", "MP3", "babble 20 dB") if name in head]
    places = range(len(kept))
    for offset, row, colour, label in (
        (-0.19, without, GREY, "without"),
        (0.19, with_noise, TEAL, "with noise in training"),
    ):
        values = [float(row[head.index(name)]) for name in kept]
        shown = axes.barh([place + offset for place in places], values, 0.36, color=colour, label=label)
        axes.bar_label(shown, fmt="%.0f", padding=3, size=8.5, color=INK)
    axes.set_yticks(places, kept)
    axes.set_xlim(0, 95)
    axes.legend(loc="upper center", bbox_to_anchor=(0.45, 0.0), ncols=2, frameon=False, fontsize=8.5)
    _plain(axes, "UA %, EMO-DB, 5 folds")
    axes.invert_yaxis()


def _plain(axes: Axes, title: str) -> None:
    axes.set_title(title, loc="left", size=10.5, color=INK)
    axes.tick_params(axis="y", length=0, labelsize=9.5, colors=INK)
    axes.set_xticks([])
    axes.spines[:].set_visible(False)


def sizes(path: Path = DOCS / "pictures" / "sizes.png") -> None:
    """UA over the number of parameters, a panel for each corpus; ours are coloured."""
    head, *rows = table("Size and score")
    corpora = list(dict.fromkeys(row[head.index("Corpus")] for row in rows))
    figure = plt.figure(figsize=(10.4, 3.9), layout="constrained")
    for axes, corpus in zip(figure.subplots(1, len(corpora), sharey=True), corpora, strict=True):
        for row in (each for each in rows if each[head.index("Corpus")] == corpus):
            x, y = (float(row[head.index(name)]) for name in ("Parameters, M", "UA"))
            name = row[0].replace("`", "")
            ours = name.startswith("Light-SERNet")
            axes.plot(x, y, "o" if ours else "s", color=TEAL if ours else INK, markersize=8)
            left = x > 5  # beside the point, at the side where there is room
            axes.annotate(
                f"{name}: {y:.1f}",
                (x, y),
                (-8 if left else 8, 0),
                textcoords="offset points",
                ha="right" if left else "left",
                va="center",
                size=9,
                color=TEAL if ours else INK,
            )
        axes.set(xscale="log", xlim=(0.02, 1500), xlabel="parameters")
        axes.set_xticks([0.1, 1, 10, 100, 1000], ["0.1 M", "1 M", "10 M", "100 M", "1,000 M"])
        axes.set_title(corpus, loc="left", size=10.5, color=INK)
        axes.grid(color=GREY, linewidth=0.5, alpha=0.6)
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=9, colors=INK)
    figure.axes[0].set_ylabel("UA %, separate speakers")
    figure.axes[0].set_ylim(55, 90)
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path, dpi=150, facecolor="white", metadata={"Software": ""})


def taught(path: Path = DOCS / "pictures" / "taught.png") -> None:
    """UA of taught students over that of their teachers, with intervals, beside the student alone."""
    head, *rows = table("Distillation from a strong teacher")
    teacher, ua = head.index("Teacher's UA"), head.index("UA")

    def scores(row: list[str]) -> list[float]:
        """UA and the ends of its interval."""
        return [float(each) for each in re.findall(r"[\d.]+", row[ua])]

    (alone,) = [scores(row) for row in rows if not row[teacher]]
    figure = plt.figure(figsize=(7.4, 3.9), layout="constrained")
    axes = figure.subplots()
    axes.axhspan(*alone[1:], color=GREY, alpha=0.25, linewidth=0)
    axes.axhline(alone[0], color=GREY, linewidth=1.4)
    axes.annotate(f"student alone: {alone[0]:.1f}", (63.4, alone[0]), (0, 3), textcoords="offset points",
                  va="bottom", size=8, color=INK)  # fmt: skip
    others = sorted((row for row in rows if row[teacher]), key=lambda row: scores(row)[0])
    for row in others:
        # Students of one teacher stand a little beside one another, so that their intervals are seen; their
        # names stand behind, one above the other.
        same = [each for each in others if each[teacher] == row[teacher]]
        place = same.index(row) - (len(same) - 1) / 2
        x, (value, low, high) = float(row[teacher]) + 0.5 * place, scores(row)
        axes.plot([x, x], [low, high], color=TEAL, linewidth=1.4)
        axes.plot(x, value, "o", color=TEAL, markersize=7)
        seeds = f"seed{'s' * (',' in row[head.index('Seeds')])} {row[head.index('Seeds')]}"
        middle = sum(scores(each)[0] for each in same) / len(same)
        name = f"{row[0].replace('`', '')}: {value:.1f}, {seeds}"
        line = {"arrowstyle": "-", "color": TEAL, "linewidth": 0.5, "shrinkA": 0, "shrinkB": 3}
        alone_there = len(same) == 1 and float(row[teacher]) > 75
        at = float(row[teacher]) + (-1 if alone_there else 1.6), middle + 2.2 * place
        axes.annotate(name, (x, value), at, va="center", ha="right" if alone_there else "left", size=8,
                      color=TEAL, arrowprops=line)  # fmt: skip
    axes.set(
        xlim=(63, 107),
        ylim=(55, 90),
        xticks=range(65, 96, 5),
        xlabel="teacher's UA %",
        ylabel="student's UA %",
    )
    axes.set_title("EMO-DB, leave one speaker out", loc="left", size=10.5, color=INK)
    axes.grid(color=GREY, linewidth=0.5, alpha=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=9, colors=INK)
    figure.savefig(path, dpi=150, facecolor="white", metadata={"Software": ""})


def main(path: Path = DOCS / "pictures" / "pipeline.png") -> None:
    figure = plt.figure(figsize=(10.4, 5.3), layout="constrained")
    above, below = figure.subfigures(2, 1, height_ratios=(3.1, 2.2))
    pipeline(above.subplots())
    size, time, loss = below.subplots(1, 3, width_ratios=(1, 1, 1.25))
    head, *rows = table("Cost on the device")
    names = [row[0] for row in rows]
    kilobytes = [float(row[head.index("kB")].replace(",", "")) for row in rows]
    milliseconds = [float(row[head.index("1 thread, ms")].split()[0]) for row in rows]
    bars(size, "File, kB", names, kilobytes, "{:,.0f}")
    bars(time, "One answer on 3 s, ms, 1 thread", names, milliseconds, "%.1f")
    noise(loss)
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path, dpi=150, facecolor="white", metadata={"Software": ""})


if __name__ == "__main__":
    main()
    sizes()
    taught()
