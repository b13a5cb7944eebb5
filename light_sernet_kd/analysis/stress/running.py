"""Degrade every recording once per condition, and play it to all of the students."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from light_sernet_kd import audio, evaluation
from light_sernet_kd.analysis import degradations
from light_sernet_kd.analysis.degradations import DegradationContext
from light_sernet_kd.analysis.stress import certificate, pitch
from light_sernet_kd.analysis.stress.answers import Answers, is_unheard
from light_sernet_kd.analysis.stress.choosing import conditions_of, spread
from light_sernet_kd.analysis.stress.noises import described
from light_sernet_kd.analysis.stress.students import Student
from light_sernet_kd.analysis.stress.summary import notes_of, of_student
from light_sernet_kd.corpora import Corpus, Utterance
from light_sernet_kd.errors import UserError
from light_sernet_kd.registries.degradations import BABBLE_TALKERS, CONDITIONS
from light_sernet_kd.reporting.text import pluralise

# Recordings that babble is made of: so many are held in memory, however large the corpus is.
POOL = 60

Noises = Mapping[str, Sequence[np.ndarray]]


@dataclass(frozen=True)
class Plan:
    """What is done to the recordings.

    Attributes:
        names: the conditions, clean first.
        missing: condition → why the recordings cannot be put in it.
        noises: a user's recordings, by kind.
    """

    names: list[str]
    missing: dict[str, str]
    noises: Noises
    seed: int


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


@dataclass(frozen=True)
class StressAnswers:
    """What every student answered to what was played, and how high the voices were where that was asked."""

    answers: list[Answers]
    recordings: Recordings
    f0_of: dict[str, float | None] = field(default_factory=dict)


def stress(
    students: Sequence[Student],
    corpus: Corpus,
    *,
    tested: Sequence[Utterance] | None = None,
    conditions: Sequence[str] = (),
    noises: Noises | None = None,
    seed: int = 0,
    skip_bad: bool = False,
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
        conditions: names of `CONDITIONS`, or their kinds; by default all that are so by default.
        noises: recordings to be used for a kind of `NOISES`; what is not there is synthesised.
        seed: decides noises, babble and rooms; the same for an utterance whatever else is tested.
        progress: called with (done, all) after each recording.

    Raises:
        UserError: no emotion in common, or recordings that cannot be read (before any is classified).
    """
    tested = corpus.utterances if tested is None else tested
    plan = _planned(conditions_of(conditions), corpus, noises, seed)
    played = _played(students, corpus, tested, plan, skip_bad=skip_bad, progress=progress)
    return _result(students, corpus, tested, plan, played)


def certify(
    students: Sequence[Student],
    corpus: Corpus,
    *,
    tested: Sequence[Utterance] | None = None,
    noises: Noises | None = None,
    seed: int = 0,
    skip_bad: bool = False,
    progress: audio.Progress | None = None,
) -> dict[str, Any]:
    """The same under the certificate's conditions, and what they say: each student has a `certificate`.

    Args and errors are those of `stress`. Beside the students, `sounds` says what coughs, sneezes, music and
    surroundings were made of.
    """
    tested = corpus.utterances if tested is None else tested
    plan = _planned(certificate.conditions(), corpus, noises, seed)
    played = _played(students, corpus, tested, plan, skip_bad=skip_bad, progress=progress, measures_f0=True)
    result = {**_result(students, corpus, tested, plan, played), "sounds": described(plan.noises)}
    for entry, answers in zip(result["students"], played.answers, strict=True):
        entry["certificate"] = certificate.verdict(answers, plan.names, plan.missing, played.f0_of)
    return result


def _planned(names: Sequence[str], corpus: Corpus, noises: Noises | None, seed: int) -> Plan:
    """The conditions that a corpus can be put in here, and why it cannot be put in the others."""
    missing = {}
    for name in names:
        condition = CONDITIONS[name]
        if condition.needs_other_speakers and len(corpus.speakers) < 2:
            missing[name] = f"{corpus.name} has one speaker, and {condition.kind} is of others"
        elif condition.unavailable_reason and (reason := condition.unavailable_reason()):
            missing[name] = reason.removesuffix(".")
    return Plan([name for name in names if name not in missing], missing, noises or {}, seed)


def _played(
    students: Sequence[Student],
    corpus: Corpus,
    tested: Sequence[Utterance],
    plan: Plan,
    *,
    skip_bad: bool,
    progress: audio.Progress | None,
    measures_f0: bool = False,
) -> StressAnswers:
    """Play what is tested to the students, under all conditions."""
    _check_emotions(students, corpus, tested)
    babbles = any(CONDITIONS[name].needs_other_speakers for name in plan.names)
    drawn = spread(corpus.utterances, POOL, plan.seed) if babbles else []
    recordings = _readable(students, corpus, tested, drawn, skip_bad=skip_bad)
    answers = [Answers.empty(student, recordings.tested, len(plan.names)) for student in students]
    f0_of: dict[str, float | None] | None = {} if measures_f0 else None
    _answer(answers, recordings, plan, f0_of, progress)
    return StressAnswers(answers, recordings, f0_of or {})


def _result(
    students: Sequence[Student],
    corpus: Corpus,
    tested: Sequence[Utterance],
    plan: Plan,
    played: StressAnswers,
) -> dict[str, Any]:
    """What `stress.json` says."""
    kinds = {CONDITIONS[name].kind: reason for name, reason in plan.missing.items()}
    left_out_notes = [f"no {kind}: {reason}" for kind, reason in kinds.items()]
    answers, names = played.answers, plan.names
    return {
        "corpus": corpus.name,
        "synthetic": corpus.synthetic,
        "seed": plan.seed,
        "ci_method": evaluation.CI_METHOD,
        "conditions": [{"name": n, "kind": CONDITIONS[n].kind, "text": CONDITIONS[n].text} for n in names],
        "left_out": [
            {"id": name, "reason": reason} for name, reason in sorted(played.recordings.bad.items())
        ],
        "notes": [*left_out_notes, *notes_of(students, answers, corpus, tested)],
        "students": [of_student(each, names, answers[0], plan.seed) for each in answers],
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
    plan: Plan,
    f0_of: dict[str, float | None] | None,
    progress: audio.Progress | None,
) -> None:
    """Play every recording under every condition to the students that are tested on it.

    Args:
        f0_of: filled with the mean F0 of each; None where nobody asks for it.
    """
    filled = [0] * len(answers)  # rows so far
    waveforms = audio.read_all([each.path for each in recordings.tested])
    for number, (utterance, waveform) in enumerate(zip(recordings.tested, waveforms, strict=True), start=1):
        if isinstance(waveform, audio.AudioError):  # it was whole before
            raise waveform
        talkers = _talkers(utterance, recordings.pool, plan.seed)
        context = DegradationContext(plan.seed, utterance.id, talkers, plan.noises)
        sounds = [CONDITIONS[name](waveform, context) for name in plan.names]
        if f0_of is not None:
            f0_of[utterance.id] = pitch.mean_f0(waveform)
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
