"""Degrade every recording once per condition, and play it to all of the students."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from light_sernet_kd import audio, evaluation
from light_sernet_kd.analysis import degradations
from light_sernet_kd.analysis.degradations import DegradationContext
from light_sernet_kd.analysis.stress.answers import Answers, is_unheard
from light_sernet_kd.analysis.stress.choosing import conditions_of, spread
from light_sernet_kd.analysis.stress.students import Student
from light_sernet_kd.analysis.stress.summary import notes_of, of_student
from light_sernet_kd.corpora import Corpus, Utterance
from light_sernet_kd.errors import UserError
from light_sernet_kd.registries.degradations import BABBLE_TALKERS, CONDITIONS
from light_sernet_kd.reporting.text import pluralise

# Recordings that babble is made of: so many are held in memory, however large the corpus is.
POOL = 60


@dataclass(frozen=True)
class Recordings:
    """What is played.

    Attributes:
        tested: utterances that can be read.
        pool: what babble is made of: speaker, id and active part of each.
        bad: id → reason of each that cannot be read.
    """

    tested: list[Utterance]
    pool: list[tuple[str, str, np.ndarray]]
    bad: dict[str, str]


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
    _check_emotions(students, corpus, tested)
    names, left_out_notes = _possible(conditions_of(conditions), corpus)
    babbles = any(CONDITIONS[name].is_of_others for name in names)
    drawn = spread(corpus.utterances, POOL, seed) if babbles else []
    recordings = _readable(students, corpus, tested, drawn, skip_bad=skip_bad)
    answers = [Answers.empty(student, recordings.tested, len(names)) for student in students]
    _answer(answers, recordings, names, seed, progress)
    return {
        "corpus": corpus.name,
        "synthetic": corpus.synthetic,
        "seed": seed,
        "ci_method": evaluation.CI_METHOD,
        "conditions": [{"name": n, "kind": CONDITIONS[n].kind, "text": CONDITIONS[n].text} for n in names],
        "left_out": [{"id": name, "reason": reason} for name, reason in sorted(recordings.bad.items())],
        "notes": [*notes, *left_out_notes, *notes_of(students, answers, corpus, tested)],
        "students": [of_student(each, names, answers[0], seed) for each in answers],
    }


def _check_emotions(students: Sequence[Student], corpus: Corpus, tested: Sequence[Utterance]) -> None:
    """Every student tests some of the utterances, and knows an emotion of theirs."""
    for student in students:
        if not any(part.ids is None or each.id in part.ids for part in student.parts for each in tested):
            raise UserError(
                f"{student.name} tests none of the {pluralise(len(tested), 'recording')} chosen: choose "
                "others (--speakers, --folds), or more of them (--limit)."
            )
        if not _tested_by([student], tested):
            raise UserError(
                f"{student.name} tells apart {', '.join(student.labels)}; {corpus.name} has "
                f"{', '.join(sorted({each.emotion for each in tested}))} here: none in common."
            )


def _tested_by(students: Sequence[Student], utterances: Sequence[Utterance]) -> list[Utterance]:
    """The utterances that a part of one of the students is tested on."""
    return [each for each in utterances if any(True for student in students for _ in student.tests(each))]


def _possible(names: Sequence[str], corpus: Corpus) -> tuple[list[str], list[str]]:
    """The conditions that a corpus can be put in, and notes on the others: babble needs other speakers."""
    if len(corpus.speakers) > 1:
        return [*names], []
    kinds = dict.fromkeys(CONDITIONS[name].kind for name in names if CONDITIONS[name].is_of_others)
    notes = [f"no {kind}: {corpus.name} has one speaker, and {kind} is of others" for kind in kinds]
    return [name for name in names if CONDITIONS[name].kind not in kinds], notes


def _readable(
    students: Sequence[Student],
    corpus: Corpus,
    tested: Sequence[Utterance],
    drawn: Sequence[Utterance],
    *,
    skip_bad: bool,
) -> Recordings:
    """What of the tested recordings, and of those drawn for babble, can be read.

    Raises:
        UserError: some cannot and `skip_bad` is false, or a student has none left.
    """
    tested = _tested_by(students, tested)
    # Decoding each once more takes less than a hundredth of what all of its conditions take.
    bad = audio.find_bad(tested)
    pool = _read_pool(drawn, bad)
    count = len({each.id for each in (*tested, *drawn)})
    if bad and not skip_bad:
        raise audio.unusable(bad, count)
    whole = [each for each in tested if each.id not in bad]
    if not all(_tested_by([student], whole) for student in students):
        raise UserError(f"no recording of {corpus.name} is left: {audio.listing(bad, count)}")
    return Recordings(whole, pool, bad)


def _answer(
    answers: Sequence[Answers],
    recordings: Recordings,
    names: Sequence[str],
    seed: int,
    progress: audio.Progress | None,
) -> None:
    """Play every recording under every condition to the students that are tested on it."""
    filled = [0] * len(answers)  # rows so far
    waveforms = audio.read_all([each.path for each in recordings.tested])
    for number, (utterance, waveform) in enumerate(zip(recordings.tested, waveforms, strict=True), start=1):
        if isinstance(waveform, audio.AudioError):  # it was whole before
            raise waveform
        context = DegradationContext(seed, utterance.id, _talkers(utterance, recordings.pool, seed))
        sounds = [CONDITIONS[name](waveform, context) for name in names]
        for place, each in enumerate(answers):
            for part in each.student.tests(utterance):
                runner = each.student.parts[part].runner
                for row, sound in enumerate(sounds):
                    each.probabilities[row, filled[place]] = runner.probabilities(sound)
                    each.unheard[row, filled[place]] = is_unheard(sound, samples=runner.samples)
                filled[place] += 1
        if progress:
            progress(number, len(recordings.tested))


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
