"""How well exported students do on degraded recordings: noise, overload, a line, a codec, a room, silence.

Files are run as a phone runs them, through `runner.Runner`. Every recording is degraded once per condition
and given to all of the students, so conditions and students are compared on the same sound.
"""

import csv
import json
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from light_sernet_kd import audio, evaluation
from light_sernet_kd.analysis import degradations
from light_sernet_kd.analysis.degradations import DegradationContext
from light_sernet_kd.config import SAMPLE_RATE
from light_sernet_kd.corpora import Corpus, Utterance
from light_sernet_kd.data import training_list
from light_sernet_kd.errors import UserError, choose
from light_sernet_kd.files import atomic, write_json, write_text
from light_sernet_kd.registries.degradations import BABBLE_TALKERS, CLEAN, CONDITIONS, SPEECHLESS
from light_sernet_kd.reporting.tables import markdown_table
from light_sernet_kd.reporting.text import NONE, plain, pluralise
from light_sernet_kd.runner import (
    SILENCE_DBFS,
    STEADY_DB,
    UNSURE_BELOW,
    Runner,
    RunnerError,
    too_short,
    unheard,
    unsure_threshold,
)

if TYPE_CHECKING:
    from rich.console import Console

SPEECHLESS_DRAWS = 50
# Recordings that babble is made of: so many are held in memory, however large the corpus is.
POOL = 60
PICTURE = "stress.png"
NO_SPEECH = "without speech"
# What is added for a student that was trained on what it is stressed with.
KNOWN = (
    "; what the conditions cost is still of use. For honest scores stress the run's folder, where each "
    "fold's student hears speakers it does not know"
)
WHOLE, CLASS, SPEAKER, SEX = "all", "class", "speaker", "sex"


@dataclass(frozen=True)
class Part:
    """A file, and the ids of the utterances that it is tested on; None for all of the corpus."""

    runner: Runner
    ids: frozenset[str] | None = None


@dataclass(frozen=True)
class Student:
    """What is stressed: one file, or a file per fold of a run.

    Attributes:
        name: for tables; unlike the others'.
        parts: files of the same classes.
        trained: a sentence on whether it knows the recordings.
        heard: whether it was trained on any of the recordings that it is tested on; None where that was not
            checked.
        stamps: what breaks the rule that nobody tests who trained.
    """

    name: str
    parts: tuple[Part, ...]
    trained: str
    heard: bool | None
    stamps: tuple[str, ...] = ()

    @property
    def labels(self) -> tuple[str, ...]:
        return self.parts[0].runner.labels

    @property
    def precision(self) -> str:
        return self.parts[0].runner.precision

    @property
    def unsure_below(self) -> float:
        return unsure_threshold(self.parts[0].runner.card)

    def tests(self, utterance: Utterance) -> Iterator[int]:
        """The parts that are tested on an utterance: none of an emotion that they cannot answer."""
        for number, part in enumerate(self.parts):
            if utterance.emotion in self.labels and (part.ids is None or utterance.id in part.ids):
                yield number


def open_part(path: Path, ids: frozenset[str] | None = None) -> Part:
    """An exported file that hears audio and nothing else.

    Raises:
        UserError: it is none.
    """
    try:
        runner = Runner(path)
    except RunnerError as error:
        raise UserError(str(error)) from None
    if runner.inputs != ("audio",):
        takes = "text" if runner.text is not None else "states of encoders"
        raise UserError(
            f"{path} takes {takes}{' beside audio' * ('audio' in runner.inputs)}: stress degrades what is "
            "heard, and takes students that hear alone."
        )
    if runner.sample_rate != SAMPLE_RATE:
        raise UserError(f"{path} hears {runner.sample_rate} Hz; stress is made for {SAMPLE_RATE} Hz.")
    return Part(runner, ids)


def open_students(
    paths: Sequence[Path],
    corpus: Corpus,
    *,
    tested: Sequence[Utterance] | None = None,
    origin: str = "",
) -> list[Student]:
    """A student of each exported file, to be stressed on recordings of a corpus.

    Args:
        tested: the recordings; by default all of the corpus.
        origin: the corpus's own name where it is known by name; empty for a manifest.

    Raises:
        UserError: a file cannot be used, is named twice, or its list of training recordings is damaged.
    """
    if len({path.resolve() for path in paths}) < len(paths):
        raise UserError("a file is named twice: name each once.")
    names = [path.name for path in paths]
    parts = [open_part(path) for path in paths]
    students = []
    read: dict[Path, bytes | None] = {}
    for path, name, part in zip(paths, names, parts, strict=True):
        trained = training_list.read(path)
        answered = [
            each
            for each in (corpus.utterances if tested is None else tested)
            if trained is not None and each.emotion in part.runner.labels
        ]
        asked = training_list.known(
            part.runner.card,
            trained,
            training_list.of_tested(answered, corpus=corpus.name, origin=origin, read=read),
        )
        words = asked.words + KNOWN * (asked.trained_on is True)
        shown = name if names.count(name) == 1 else str(path)
        students.append(Student(shown, (part,), words, asked.trained_on))
    return students


def of_folds(name: str, parts: Sequence[Part], stamps: Sequence[str] = ()) -> Student:
    """A run as one student: the file of each fold, tested on that fold's test utterances."""
    trained = (
        f"{pluralise(len(parts), 'fold')}, each one's own student on that fold's test recordings, which it "
        "was not trained on"
    )
    return Student(name, tuple(parts), trained, False, tuple(stamps))


def limited(utterances: Sequence[Utterance], most: int, *, seed: int = 0) -> tuple[Utterance, ...]:
    """At most so many utterances of each emotion, drawn by the seed and evenly over the speakers."""
    kept: set[str] = set()
    for emotion in {each.emotion for each in utterances}:
        kept |= {each.id for each in _spread([u for u in utterances if u.emotion == emotion], most, seed)}
    return tuple(each for each in utterances if each.id in kept)


def _spread(utterances: Sequence[Utterance], most: int, seed: int) -> list[Utterance]:
    """So many utterances, of every speaker the first drawn before anyone's second."""
    # By id, so that who else is there does not change the draw.
    drawn = sorted(utterances, key=lambda each: zlib.crc32(f"{seed} {each.id}".encode()))
    seen: Counter[str] = Counter()
    turns = []
    for place, each in enumerate(drawn):
        turns.append((seen[each.speaker], place))
        seen[each.speaker] += 1
    return [drawn[place] for _, place in sorted(turns)[:most]]


def conditions_of(names: Sequence[str]) -> list[str]:
    """The conditions of these names or kinds, clean first; all of them where none is named.

    Raises:
        UserError: an unknown name.
    """
    kinds = {condition.kind for condition in CONDITIONS.values()}
    wanted = {choose("condition", name, [*CONDITIONS, *sorted(kinds - {*CONDITIONS})]) for name in names}
    wanted |= {CLEAN}
    return [
        name
        for name, condition in CONDITIONS.items()
        if not names or name in wanted or condition.kind in wanted
    ]


@dataclass
class _Answers:
    """What one student said, row by row: a row is an utterance and a part that is tested on it.

    Attributes:
        utterances: of each row.
        probabilities: `(conditions, rows, classes)`.
        unheard: `(conditions, rows)`, whether a stream's gates would keep it from being classified.
    """

    student: Student
    utterances: list[Utterance]
    probabilities: NDArray[np.float32]
    unheard: NDArray[np.bool_]

    @property
    def labels(self) -> NDArray[np.int64]:
        place = {name: number for number, name in enumerate(self.student.labels)}
        return np.array([place[each.emotion] for each in self.utterances], np.int64)


def stress(
    students: Sequence[Student],
    corpus: Corpus,
    *,
    tested: Sequence[Utterance] | None = None,
    conditions: Sequence[str] = (),
    seed: int = 0,
    skip_bad: bool = False,
    notes: Sequence[str] = (),
    progress: audio.Progress | None = None,
) -> dict[str, Any]:
    """What each condition costs each student; a dictionary as `stress.json` holds it.

    Per condition and student: UA, WA and F1 with 95 % intervals over speakers, their difference to the clean
    recordings (paired: the same utterances and the same drawn speakers), the mean of the largest
    probability, the share that is unsure, recall per class, and the scores of each speaker and sex. An
    answer is unsure where its largest probability is below the card's `unsure_below` (0.5 by default) or the
    clip is silent or as steady as noise; it counts in UA and WA all the same.

    Args:
        students: at least one; of several, each is also compared with the first.
        corpus: babble is made of all of it.
        tested: the utterances, by default all of the corpus.
        conditions: names of `CONDITIONS`, or their kinds; by default all.
        seed: decides noises, babble and rooms; the same for an utterance whatever else is tested.
        notes: what else must be known of `tested`, for the result's `notes`.
        progress: called with (done, all) after each recording.

    Raises:
        UserError: no emotion in common, or recordings that cannot be read (before any is classified).
    """
    tested = corpus.utterances if tested is None else tested
    for student in students:
        if not any(part.ids is None or each.id in part.ids for part in student.parts for each in tested):
            raise UserError(
                f"{student.name} tests none of the {pluralise(len(tested), 'recording')} chosen: choose "
                "others (--speakers, --folds), or more of them (--limit)."
            )
        if not any(True for each in tested for _ in student.tests(each)):
            raise UserError(
                f"{student.name} tells apart {', '.join(student.labels)}; {corpus.name} has "
                f"{', '.join(sorted({each.emotion for each in tested}))} here: none in common."
            )
    names = conditions_of(conditions)
    notes = [*notes]
    if len(corpus.speakers) < 2:
        for kind in dict.fromkeys(CONDITIONS[name].kind for name in names if CONDITIONS[name].is_of_others):
            names = [name for name in names if CONDITIONS[name].kind != kind]
            notes.append(f"no {kind}: {corpus.name} has one speaker, and {kind} is of others")
    heard = [each for each in tested if any(True for student in students for _ in student.tests(each))]
    # Decoding each once more takes less than a hundredth of what all of its conditions take.
    bad, pool, read = audio.find_bad(heard), [], {each.id for each in heard}
    if any(CONDITIONS[name].is_of_others for name in names):
        chosen = _spread(corpus.utterances, POOL, seed)
        pool = _read_pool(chosen, bad)
        read |= {each.id for each in chosen}
    if bad and not skip_bad:
        raise audio.unusable(bad, len(read))
    heard = [each for each in heard if each.id not in bad]
    answers = []
    for student in students:
        rows = [each for each in heard for _ in student.tests(each)]
        shape = (len(names), len(rows))
        answers.append(
            _Answers(
                student,
                rows,
                np.zeros((*shape, len(student.labels)), np.float32),
                np.zeros(shape, bool),
            )
        )
    if not all(each.utterances for each in answers):
        raise UserError(f"no recording of {corpus.name} is left: {audio.listing(bad, len(read))}")
    filled = [0] * len(students)  # rows so far
    for number, (utterance, waveform) in enumerate(
        zip(heard, audio.read_all([each.path for each in heard]), strict=True), start=1
    ):
        if isinstance(waveform, audio.AudioError):  # it was whole before
            raise waveform
        around = DegradationContext(seed, utterance.id, _talkers(utterance, pool, seed))
        sounds = [CONDITIONS[name](waveform, around) for name in names]
        for place, each in enumerate(answers):
            for part in each.student.tests(utterance):
                runner = each.student.parts[part].runner
                for row, sound in enumerate(sounds):
                    each.probabilities[row, filled[place]] = runner.probabilities(sound)
                    each.unheard[row, filled[place]] = is_unheard(sound, samples=runner.samples)
                filled[place] += 1
        if progress:
            progress(number, len(heard))
    return {
        "corpus": corpus.name,
        "synthetic": corpus.synthetic,
        "seed": seed,
        "ci_method": evaluation.CI_METHOD,
        "conditions": [{"name": n, "kind": CONDITIONS[n].kind, "text": CONDITIONS[n].text} for n in names],
        "left_out": [{"id": name, "reason": reason} for name, reason in sorted(bad.items())],
        "notes": [*notes, *_notes(students, answers, corpus, tested)],
        "students": [_of_student(each, names, answers[0], seed) for each in answers],
    }


def is_unheard(waveform: np.ndarray, *, samples: int) -> bool:
    """Whether what a student of clips of `samples` hears of a waveform is silence, no speech or too short.

    The rule is `runner.unheard`'s, of the clip without the zeros that pad a short recording.
    """
    clip = audio.fit(waveform, min(len(waveform), samples))
    return too_short(len(waveform), SAMPLE_RATE) or unheard(clip, SAMPLE_RATE) != ""


def _read_pool(chosen: Sequence[Utterance], bad: dict[str, str]) -> list[tuple[str, str, np.ndarray]]:
    """Speaker, id and active part of the recordings that babble is made of; adds to `bad` what is broken."""
    pool = []
    for each, waveform in zip(chosen, audio.read_all([each.path for each in chosen]), strict=True):
        if isinstance(waveform, audio.AudioError):
            bad[each.id] = str(waveform)
        elif len(speech := degradations.active(waveform)):
            pool.append((each.speaker, each.id, speech))
    return pool


def _talkers(
    utterance: Utterance, pool: Sequence[tuple[str, str, np.ndarray]], seed: int
) -> list[np.ndarray]:
    """Recordings of the pool by other speakers, as many different ones as there are."""
    others = [each for each in pool if each[0] != utterance.speaker]
    order = DegradationContext(seed, utterance.id).rng("talkers").permutation(len(others))
    seen: Counter[str] = Counter()
    turns = []
    for place, index in enumerate(order):
        speaker = others[index][0]
        turns.append((seen[speaker], place, index))
        seen[speaker] += 1
    return [others[index][2] for _, _, index in sorted(turns)[:BABBLE_TALKERS]]


def _notes(
    students: Sequence[Student], answers: Sequence[_Answers], corpus: Corpus, tested: Sequence[Utterance]
) -> list[str]:
    """What of the corpus is not tested, and what it does not tell."""
    notes = corpus.reported()
    for student in students:
        emotions = Counter(each.emotion for each in tested)
        unknown = {name: emotions[name] for name in sorted(emotions) if name not in student.labels}
        if unknown:
            listed = ", ".join(f"{count} of {name}" for name, count in unknown.items())
            notes.append(f"{student.name} does not know, and is not tested on: {listed}")
        if absent := [name for name in student.labels if name not in emotions]:
            notes.append(
                f"{student.name} may also answer {', '.join(absent)}, which is not there, and is then wrong"
            )
    rows = [each for part in answers for each in part.utterances]
    untold = len({each.id for each in rows if each.sex is None})
    if untold:
        whole = untold == len({each.id for each in rows})
        notes.append(
            f"{corpus.name} does not tell the sex of "
            + ("its speakers" if whole else f"the speakers of {pluralise(untold, 'utterance')}")
        )
    return notes


def _of_student(answers: _Answers, names: Sequence[str], first: _Answers, seed: int) -> dict[str, Any]:
    student, labels = answers.student, answers.labels
    speakers = [each.speaker for each in answers.utterances]
    sexes = [each.sex or "" for each in answers.utterances]
    # A run's rows may be of other utterances than a file's.
    paired = answers is not first and student.labels == first.student.labels
    paired = paired and [u.id for u in answers.utterances] == [u.id for u in first.utterances]
    predicted = answers.probabilities.argmax(axis=2)
    rows = []
    for row, name in enumerate(names):
        scored = _scored(student.labels, labels, predicted[row], predicted[0], speakers)
        top = answers.probabilities[row].max(axis=1)
        unsure = (top < student.unsure_below) | answers.unheard[row]
        sure = ~unsure
        result = {
            "condition": name,
            **scored,
            "mean_top_probability": float(top.mean(dtype=np.float64)),
            "unsure": float(unsure.mean()),
            "wa_of_sure": float((predicted[row] == labels)[sure].mean()) if sure.any() else None,
            "answers": {
                label: int((predicted[row] == place).sum()) for place, label in enumerate(student.labels)
            },
        }
        for group, of in ((SPEAKER, speakers), (SEX, sexes)):
            groups = {}
            for member in sorted({*of} - {""}):
                chosen = np.array(of) == member
                groups[member] = _scored(
                    student.labels,
                    labels[chosen],
                    predicted[row][chosen],
                    predicted[0][chosen],
                    [speaker for speaker, kept in zip(speakers, chosen, strict=True) if kept],
                )
            result[f"per_{group}"] = groups
        if paired:
            theirs = first.probabilities[row].argmax(axis=1)
            result["to_first"] = _difference(student.labels, labels, theirs, predicted[row], speakers)
        rows.append(result)
    return {
        "name": student.name,
        "precision": student.precision,
        "files": len(student.parts),
        "classes": list(student.labels),
        "trained": student.trained,
        "heard_in_training": student.heard,
        "stamps": list(student.stamps),
        "unsure_below": student.unsure_below,
        "silent_below_dbfs": SILENCE_DBFS,
        "steady_below_db": STEADY_DB,
        "utterances": len({each.id for each in answers.utterances}),
        "speakers": len({*speakers}),
        "conditions": rows,
        NO_SPEECH.replace(" ", "_"): [_speechless(student, name, seed) for name in SPEECHLESS],
    }


def _scored(
    classes: Sequence[str],
    labels: NDArray[np.int64],
    predicted: NDArray[np.int64],
    clean: NDArray[np.int64],
    speakers: Sequence[str],
) -> dict[str, Any]:
    """Scores with intervals, and their differences to the clean answers."""
    intervals = evaluation.bootstrap_ci(labels, predicted, speakers, classes) or {}
    return {
        **evaluation.scores(labels, predicted, classes).as_dict(),
        "intervals": {name: list(pair) for name, pair in intervals.items()},
        "to_clean": _difference(classes, labels, clean, predicted, speakers),
    }


def _difference(classes, labels, before, after, speakers) -> dict[str, Any]:
    """UA and WA of `after` less those of `before`, with paired intervals (None for too few speakers)."""
    scores = [evaluation.scores(labels, each, classes) for each in (before, after)]
    intervals = evaluation.bootstrap_difference_ci(labels, before, after, speakers, classes) or {}
    return {
        name: {
            "difference": getattr(scores[1], name) - getattr(scores[0], name),
            "interval": list(intervals[name]) if name in intervals else None,
        }
        for name in ("ua", "wa")
    }


def _speechless(student: Student, name: str, seed: int) -> dict[str, Any]:
    """How often a student is unsure of clips of its own length without speech."""
    each = SPEECHLESS[name]
    tops, kept_out, answers = [], [], Counter[str]()
    for part in student.parts:
        for draw in range(SPEECHLESS_DRAWS if each.varies else 1):
            clip = each(part.runner.samples, DegradationContext(seed, f"{draw}").rng(name))
            probabilities = part.runner.probabilities(clip)
            tops.append(float(probabilities.max()))
            kept_out.append(is_unheard(clip, samples=part.runner.samples))
            answers[student.labels[int(probabilities.argmax())]] += 1
    unsure = (np.array(tops) < student.unsure_below) | np.array(kept_out)
    return {
        "clip": name,
        "text": each.text,
        "count": len(tops),
        "unsure": float(unsure.mean()),
        "unheard": float(np.mean(kept_out)),
        "mean_top_probability": float(np.mean(tops)),
        "answers": dict(sorted(answers.items(), key=lambda item: -item[1])),
    }


# Tables.


def _percent(share: float | None, form: str = ".1f") -> str:
    return NONE if share is None else format(100 * share, form)


def _range(pair: Sequence[float] | None, form: str = ".1f") -> str:
    return NONE if pair is None else f"{_percent(pair[0], form)} to {_percent(pair[1], form)}"


HEADER = (
    "condition",
    "UA %",
    "95 %",
    "ΔUA",
    "95 % of ΔUA",
    "WA %",
    "95 %",
    "mean p",
    "unsure %",
    "WA of sure %",
)


def cells(student: Mapping[str, Any]) -> list[list[str]]:
    """A row of text per condition, under `HEADER`."""
    return [
        [
            row["condition"],
            _percent(row["ua"]),
            _range(row["intervals"].get("ua")),
            _percent(row["to_clean"]["ua"]["difference"], "+.1f") if row["condition"] != CLEAN else NONE,
            _range(row["to_clean"]["ua"]["interval"], "+.1f") if row["condition"] != CLEAN else NONE,
            _percent(row["wa"]),
            _range(row["intervals"].get("wa")),
            f"{row['mean_top_probability']:.2f}",
            _percent(row["unsure"]),
            _percent(row["wa_of_sure"]),
        ]
        for row in student["conditions"]
    ]


def _speechless_cells(student: Mapping[str, Any]) -> list[list[str]]:
    return [
        [
            row["clip"],
            row["text"],
            str(row["count"]),
            _percent(row["unsure"], ".0f"),
            f"{row['mean_top_probability']:.2f}",
            ", ".join(f"{name} {count}" for name, count in row["answers"].items()),
        ]
        for row in student[NO_SPEECH.replace(" ", "_")]
    ]


SPEECHLESS_HEADER = ("clip", "what", "clips", "unsure %", "mean p", "answers, if they counted")


def _side_by_side(stressed: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """UA of every student under every condition, and what the others differ by from the first."""
    students = stressed["students"]
    precisions = [student["precision"] for student in students]
    short = "precision" if len({*precisions}) == len(students) else "name"
    header = ["condition"]
    for number, student in enumerate(students):
        header += [student[short], "Δ clean"] + [f"Δ {students[0][short]}", "95 %"] * (number > 0)
    lines = []
    for place, condition in enumerate(stressed["conditions"]):
        line = [condition["name"]]
        for number, student in enumerate(students):
            row = student["conditions"][place]
            to_first = row.get("to_first", {}).get("ua")
            line += [_percent(row["ua"]), _percent(row["to_clean"]["ua"]["difference"], "+.1f")]
            if number:
                line += [
                    _percent(to_first["difference"], "+.1f") if to_first else NONE,
                    _range(to_first["interval"], "+.1f") if to_first else NONE,
                ]
        lines.append(line)
    return header, lines


def _by_group(student: Mapping[str, Any], group: str) -> tuple[list[str], list[list[str]]]:
    """Recall per class, or UA per speaker or sex, of each condition, in per cent."""
    conditions = student["conditions"]
    if group == CLASS:
        members = student["classes"]
        values = [[row["recall_per_class"][member] for member in members] for row in conditions]
    else:
        members = [*conditions[0][f"per_{group}"]]
        values = [[row[f"per_{group}"][member]["ua"] for member in members] for row in conditions]
    lines = [
        [row["condition"], *(_percent(value) for value in line)]
        for row, line in zip(conditions, values, strict=True)
    ]
    return ["condition", *members], lines


def heads(stressed: Mapping[str, Any]) -> list[str]:
    """What must be known before a number is read: one line per student, then the notes."""
    lines = []
    if stressed["synthetic"]:
        lines.append("SYNTHETIC recordings: no evidence about real speech.")
    alike: dict[tuple[str, str], list[str]] = {}
    for student in stressed["students"]:
        tested = (
            f"{pluralise(student['utterances'], 'utterance')} of {pluralise(student['speakers'], 'speaker')}"
        )
        alike.setdefault((tested, student["trained"]), []).append(
            f"{student['name']} ({student['precision']})"
        )
    for (tested, trained), names in alike.items():
        lines.append(f"{', '.join(names)} on {stressed['corpus']}, {tested}: {trained}.")
    stamps = {stamp: None for student in stressed["students"] for stamp in student["stamps"]}
    lines += [f"STAMP: {stamp}" for stamp in stamps]
    lines += [f"{note}." for note in stressed["notes"]]
    if left_out := stressed["left_out"]:
        lines.append(f"{pluralise(len(left_out), 'recording')} left out:")
        lines += [f"  {each['reason']}" for each in left_out]
    return lines


def footnotes(stressed: Mapping[str, Any]) -> list[str]:
    """How the columns are to be read."""
    below = sorted({student["unsure_below"] for student in stressed["students"]})
    return [
        "UA is the mean of the classes' recalls, WA the share that is right; ΔUA is against clean, in "
        "points, paired.",
        f"95 %: {stressed['ci_method']}.",
        "mean p: mean of the largest probability. unsure: that is below "
        f"{' or '.join(format(each, 'g') for each in below)} (the card's, else {UNSURE_BELOW:g}), or the "
        f"clip is digital silence (below {SILENCE_DBFS:.0f} dBFS) or its level as steady as noise's (it "
        f"moves by less than {STEADY_DB:g} dB); unsure answers count in UA and WA all the same. WA of sure: "
        "of the others.",
    ]


def show(stressed: Mapping[str, Any], console: "Console") -> None:
    """Print the tables."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    def table(title: str, header: Sequence[str], lines: Sequence[Sequence[str]], words: int = 1) -> None:
        shown = Table(
            box=box.SIMPLE, padding=(0, 1, 0, 0), pad_edge=False, title=Text(title), title_justify="left"
        )
        for number, name in enumerate(header):
            side: Any = "left" if number < words else "right"
            shown.add_column(Text(name), justify=side, overflow="fold", no_wrap=number == 0)
        for line in lines:
            shown.add_row(*(Text(cell) for cell in line))
        console.print(shown)

    for line in heads(stressed):
        console.print(Text(line), soft_wrap=True)
    students = stressed["students"]
    for student in students:
        # On a narrow terminal the intervals of WA go first.
        kept = [n for n in range(len(HEADER)) if console.width >= 100 or n not in (5, 6, 9)]
        lines = [[line[n] for n in kept] for line in cells(student)]
        table(student["name"], [HEADER[n] for n in kept], lines)
        table(f"{student['name']}, {NO_SPEECH}", SPEECHLESS_HEADER, _speechless_cells(student), words=2)
        if any(row["per_sex"] for row in student["conditions"]):
            table(f"{student['name']}, UA % by sex", *_by_group(student, SEX))
    if len(students) > 1:
        table("UA % side by side", *_side_by_side(stressed))
    for line in footnotes(stressed):
        console.print(Text(line), soft_wrap=True)


# Files.

CSV_COLUMNS = (
    *("student", "precision", "condition", "group", "member", "count", "ua", "ua_low", "ua_high"),
    *("wa", "wa_low", "wa_high", "recall", "ua_to_clean", "ua_to_clean_low", "ua_to_clean_high"),
    *("mean_top_probability", "unsure", "wa_of_sure"),
)


def csv_rows(stressed: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """A row per student, condition and group: all, a class, a speaker, a sex, without speech; shares."""
    for student in stressed["students"]:
        named = {"student": student["name"], "precision": student["precision"]}
        for row in student["conditions"]:
            about = {**named, "condition": row["condition"]}
            asked = {name: row[name] for name in ("mean_top_probability", "unsure", "wa_of_sure")}
            yield {**about, "group": WHOLE, **_flat(row), **asked}
            for member, recall in row["recall_per_class"].items():
                yield {**about, "group": CLASS, "member": member, "recall": recall}
            for group in (SPEAKER, SEX):
                for member, scored in row[f"per_{group}"].items():
                    yield {**about, "group": group, "member": member, **_flat(scored)}
        for row in student[NO_SPEECH.replace(" ", "_")]:
            asked = {name: row[name] for name in ("count", "mean_top_probability", "unsure")}
            yield {**named, "condition": row["clip"], "group": NO_SPEECH, **asked}


def _flat(scored: Mapping[str, Any]) -> dict[str, Any]:
    flat = {name: scored[name] for name in ("count", "ua", "wa")}
    for name in ("ua", "wa"):
        flat[f"{name}_low"], flat[f"{name}_high"] = scored["intervals"].get(name) or (None, None)
    change = scored["to_clean"]["ua"]
    flat["ua_to_clean"] = change["difference"]
    flat["ua_to_clean_low"], flat["ua_to_clean_high"] = change["interval"] or (None, None)
    return flat


def page(stressed: Mapping[str, Any], *, picture: str = PICTURE) -> str:
    """All of it as Markdown."""

    def table(header: Sequence[str], lines: Sequence[Sequence[str]], words: int = 1) -> list[str]:
        return ["", *markdown_table(header, [[*map(plain, line)] for line in lines], words=words), ""]

    students = stressed["students"]
    lines = [f"# Stressed on {plain(stressed['corpus'])}", ""]
    lines += [f"> {plain(line)}  " for line in heads(stressed)]
    lines += ["", f"![What each condition costs]({picture})", ""]
    if len(students) > 1:
        header, body = _side_by_side(stressed)
        lines += ["## UA % side by side", *table([*map(plain, header)], body)]
    for student in students:
        name = plain(student["name"])
        lines += [f"## {name}", *table(HEADER, cells(student))]
        lines += [f"### {NO_SPEECH.capitalize()}", *table(SPEECHLESS_HEADER, _speechless_cells(student), 2)]
        lines += ["### Recall per class, %", *table(*_by_group(student, CLASS))]
        for group in (SPEAKER, SEX):
            if student["conditions"][0][f"per_{group}"]:
                lines += [f"### UA per {group}, %", *table(*_by_group(student, group))]
    lines += ["## Conditions", ""]
    lines += [f"- {plain(each['name'])}: {plain(each['text'])}" for each in stressed["conditions"]]
    lines += ["", f"Seed {stressed['seed']}.", "", *(f"- {plain(each)}" for each in footnotes(stressed))]
    return "\n".join(lines) + "\n"


def write(stressed: Mapping[str, Any], folder: Path) -> list[Path]:
    """Write `stress.json`, `stress.csv`, `stress.md` and `stress.png`; returns them."""
    from light_sernet_kd.reporting import figures

    written = [folder / f"stress.{kind}" for kind in ("json", "csv", "md")]
    write_json(written[0], stressed)
    with atomic(written[1]) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, CSV_COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(csv_rows(stressed))
    students = stressed["students"]
    synthetic = " (SYNTHETIC)" if stressed["synthetic"] else ""
    stamps = [*{stamp: None for each in students for stamp in each["stamps"]}]
    known = [each["name"] for each in students if each["heard_in_training"]]
    if known:
        stamps.append(f"{', '.join(known)}: trained on recordings of these; the drop counts, not the level")
    drawn = [
        {
            "name": each["name"],
            "classes": each["classes"],
            "ua": each["conditions"][0]["ua"],
            "changes": [row["to_clean"]["ua"] for row in each["conditions"]],
            "recalls": [[*row["recall_per_class"].values()] for row in each["conditions"]],
        }
        for each in students
    ]
    written += figures.stress(
        drawn,
        [(each["name"], each["kind"]) for each in stressed["conditions"]],
        folder / PICTURE,
        title=f"What degraded sound costs on {stressed['corpus']}{synthetic}",
        stamps=stamps,
    )
    write_text(written[2], page(stressed))
    return written


def as_json(stressed: Mapping[str, Any]) -> str:
    return json.dumps(stressed, indent=2, ensure_ascii=False, allow_nan=False)
