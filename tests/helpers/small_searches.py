"""Searches of seconds on a small made corpus."""

import json
from pathlib import Path

from small_runs import SENTENCES, made_corpus

from light_sernet_kd.corpora import demo

SPEAKERS = tuple(demo.SPEAKERS)[:5]
SPACE = "[space]\nwidth = [0.1, 0.6]\nlearning_rate = { low = 1e-3, high = 5e-3, log = true }\n"
QUICK = ["-id", "1.2", "--bn_momentum", "0.8", "-bt", "8", "--epochs", "1"]


def corpus_of_five(folder: Path) -> Path:
    """Of five speakers, one clip per emotion and sentence, with a space beside it; returns its manifest."""
    (folder / "space.toml").write_text(SPACE)
    return made_corpus(folder, SPEAKERS, SENTENCES[:2])


def arguments_of(corpus: Path, result: Path, *more: str) -> list[str]:
    """A search's command line."""
    given = ["search", "-dn", str(corpus), *QUICK, "--space", str(corpus.parent / "space.toml")]
    where = ["--result", str(result), "--run", "small", "-v", "0"]
    return [*given, "--inner", "3", *where, *more]


def lines_of(folder: Path) -> list[dict]:
    """The log of a search."""
    return [json.loads(line) for line in (folder / "choices.jsonl").read_text().splitlines()]
