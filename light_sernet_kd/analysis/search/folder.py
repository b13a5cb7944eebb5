"""What one search is, whose recordings choose and whose test, and the folder that holds it.

    search.json                what decides the search; written first
    study.journal              Optuna's storage: every trial, its costs and its scores
    choices.jsonl              the log for people: each trial, what was decided, and why
    untrained/007/             the exported file that trial 7 was measured by
    trial-007/                 the run that scored it, on inner folds: no test speaker is in it
    final-007/                 the run that tested it, once, on the outer folds
    pareto.md, .json, .png

The names of trials are their numbers in Optuna's storage.
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import filelock
import numpy as np

from light_sernet_kd import plugins
from light_sernet_kd.analysis.search.space import Budget, Space
from light_sernet_kd.config import Settings, corpus_name
from light_sernet_kd.data.protocols import select
from light_sernet_kd.data.selection import selected
from light_sernet_kd.errors import UserError
from light_sernet_kd.files import JsonError, path_part, read_json, write_json, write_text
from light_sernet_kd.registries.engines import EXPORTS
from light_sernet_kd.registries.protocols import PROTOCOLS
from light_sernet_kd.registries.students import is_multimodal
from light_sernet_kd.reporting.text import pluralise

# Of the folds that test where none are named.
TEST_SHARE = 0.2
FEWEST_INNER = 3


@dataclass(frozen=True)
class Search:
    """What decides a search.

    Attributes:
        settings: of every trial, but for what the space chooses; `folds` are the outer ones, which test.
        precision: of the file that is measured.
        inner: how many inner folds score a trial: each group of speakers once, the next one chooses the
            epoch, the rest train.
        test_speakers: of the outer folds; no choice is made on them.
        search_speakers: all others.
        corpus_sha256: of the recordings and labels.
        plugins: SHA-256 of those whose names the settings or the space have.
    """

    settings: Settings
    space: Space
    budget: Budget
    precision: str
    inner: int
    test_speakers: tuple[str, ...]
    search_speakers: tuple[str, ...]
    corpus_sha256: str
    plugins: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        plain = {each.name: getattr(self, each.name) for each in dataclasses.fields(self)}
        if not self.plugins:
            del plain["plugins"]
        nested = {"settings": self.settings.as_dict(), "space": self.space.as_dict()}
        return json.loads(json.dumps({**plain, **nested, "budget": dataclasses.asdict(self.budget)}))

    @property
    def name(self) -> str:
        """A folder's name that differs where a search differs."""
        decides = replace(self, plugins=()).as_dict()
        digest = hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()[:8]
        parts = ["search", corpus_name(self.settings.corpus), self.settings.student, digest]
        return path_part("-".join(parts))

    def inner_run(self, point: Settings) -> Settings:
        """The run that scores a point: on inner folds of the search speakers alone, without files."""
        return replace(
            point,
            protocol="group_kfold",
            fold_count=self.inner,
            folds=(),
            speakers=self.search_speakers,
            export=False,
            enrolment=False,  # it makes a file beside the one that is measured, of a student that is trained
        )

    def lines(self) -> list[str]:
        """What it would do, in words."""
        count = self.space.combinations
        size = "" if count is None else f", {pluralise(count, 'combination')}"
        return [
            f"Space{size}:",
            *self.space.lines(),
            f"Budget of the {self.precision} file, measured here: {self.budget}",
            f"Chosen by: {pluralise(self.inner, 'inner fold')} of "
            f"{pluralise(len(self.search_speakers), 'speaker')} ({', '.join(self.search_speakers)})",
            f"Tested once, at the end: folds {', '.join(self.settings.folds)} of {self.settings.protocol} "
            f"(speakers {', '.join(self.test_speakers)})",
        ]


def searched(
    settings: Settings, space: Space, budget: Budget, data: Path, *, precision: str, inner: int
) -> Search:
    """The search of these settings, with its outer folds: those named, or a fifth of all, drawn by the seed.

    Raises:
        UserError: a student of speech and text, a protocol that is no honest one, a setting given twice, or
            too few speakers.
    """
    students = space.values.get("student", ())
    for student in (settings.student, *(students if isinstance(students, tuple) else ())):
        if is_multimodal(student):
            raise UserError(f"a search is for students of features alone, not for {student}.")
    protocol = PROTOCOLS[settings.protocol]
    if protocol.stamps or protocol.takes_test_corpus:
        raise UserError(
            f"a search tests on speakers that neither training nor selection uses, and "
            f"{settings.protocol} has none: take --protocol loso, session or group_kfold."
        )
    for name in space.values:
        if getattr(settings, name) != getattr(Settings(), name):
            raise UserError(f"the space chooses {name}, and it is given too: leave out one.")
    if inner < FEWEST_INNER:
        raise UserError(
            f"--inner must be at least {FEWEST_INNER} (one group of speakers scores, one chooses the epoch, "
            f"the rest train), found {inner}."
        )
    selection = selected(replace(settings, folds=()), data)
    if settings.folds:
        outer = select(selection.folds, settings.folds)
    else:
        count = max(1, round(TEST_SHARE * len(selection.folds)))
        drawn = np.random.default_rng(settings.seed).permutation(len(selection.folds))[:count]
        outer = [selection.folds[place] for place in sorted(drawn)]
    test = {name for fold in outer for name in selection.speakers(fold.test)}
    everyone = selection.speakers(range(len(selection.utterances)))
    rest = tuple(name for name in everyone if name not in test)
    if len(rest) < inner:
        raise UserError(
            f"{pluralise(len(everyone), 'speaker')} less {len(test)} that test leave {len(rest)}, and "
            f"{inner} inner folds need {inner}: name fewer --folds or a smaller --inner."
        )
    settings = replace(settings, folds=tuple(fold.name for fold in outer), engine=EXPORTS)
    digest, named = selection.digest, plugins.behind({**settings.as_dict(), "space": space.as_dict()})
    return Search(settings, space, budget, precision, inner, tuple(sorted(test)), rest, digest, tuple(named))


@dataclass
class SearchFolder:
    """The folder of a search."""

    path: Path
    stored: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, search: Search, path: Path) -> "SearchFolder":
        """The folder, which need not exist.

        Raises:
            UserError: it holds another search or anything else, or `search.json` is damaged.
        """
        folder = cls(path)
        try:
            stored = read_json(folder.file, dict)
        except FileNotFoundError:
            others = sorted(each.name for each in path.glob("*") if not each.name.startswith("."))
            if others:
                raise UserError(f"{path} holds no search, but {others[0]}: name another --run.") from None
            return folder
        except NotADirectoryError:
            raise UserError(f"{path} is no folder: name another --run.") from None
        except JsonError as error:
            raise UserError(f"{error} Name another --run, or remove {path}.") from None
        now = search.as_dict()
        stored["settings"] = Settings.completed(stored.get("settings") or {})
        if changed := _changes(stored, now):
            raise UserError(f"{path} holds another search: {changed[0]}. Name another --run.")
        return cls(path, stored)

    @property
    def file(self) -> Path:
        return self.path / "search.json"

    @property
    def journal(self) -> Path:
        return self.path / "study.journal"

    @property
    def choices(self) -> Path:
        return self.path / "choices.jsonl"

    def lock(self, name: str, *, wait: bool = True) -> filelock.BaseFileLock:
        """What one process at a time holds; it ends with its process."""
        return filelock.FileLock(self.path / ".locks" / f"{name}.lock", timeout=-1 if wait else 0)

    def begin(self, search: Search) -> None:
        """Write what decides the search, unless that was done."""
        (self.path / ".locks").mkdir(parents=True, exist_ok=True)
        if not self.file.exists():
            write_json(self.file, search.as_dict())

    def log(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write the choices, a line of JSON each."""
        write_text(self.choices, "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows))


def _changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    changed = []
    for name, value in now.items():
        old = before.get(name)
        if isinstance(value, dict) and isinstance(old, dict):
            changed += [
                f"{key} was {_plain(old.get(key))}, is {_plain(value.get(key))}"
                for key in {**old, **value}
                if old.get(key) != value.get(key)
            ]
        elif name == "plugins":
            if old not in (None, value):  # None of a search that is older than this entry
                changed.append("the code of a plug-in is another now")
        elif old != value and name == "corpus_sha256":
            changed.append("the corpus has other recordings or labels now")
        elif old != value:
            changed.append(f"{name} was {_plain(old)}, is {_plain(value)}")
    return changed


def _plain(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
