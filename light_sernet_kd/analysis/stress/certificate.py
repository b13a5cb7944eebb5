"""The verdict of a student: which of the certificate's tests its answers pass."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from light_sernet_kd.analysis.stress import pitch
from light_sernet_kd.analysis.stress.answers import Answers
from light_sernet_kd.analysis.stress.measures import AnswersByCondition, NotApplicableError
from light_sernet_kd.registries.certificate import TESTS, CertificateTest
from light_sernet_kd.registries.degradations import CLEAN, CONDITIONS

PASSED, FAILED, NOT_RUN, NOT_APPLICABLE = "passed", "failed", "not run", "not applicable"
SOURCE = "thresholds of audEERING's ser-tests for emotional categories (arXiv:2312.06270)"


def conditions() -> list[str]:
    """The conditions that the tests need, in the order of all."""
    needed = {CLEAN} | {name for test in TESTS for name in (test.condition, test.against)}
    return [name for name in CONDITIONS if name in needed]


def verdict(
    answers: Answers, names: Sequence[str], missing: Mapping[str, str], f0_of: Mapping[str, float | None]
) -> dict[str, Any]:
    """Which tests a student passes; what `certificate.json` says of it.

    Args:
        names: the conditions of the answers' rows.
        missing: condition → why the recordings were not put in it.
        f0_of: utterance → mean F0 in Hz.
    """
    answered = _answered(answers, names, f0_of)
    tests = [_row(test, answered, missing) for test in TESTS]
    counts = {state: sum(row["verdict"] == state for row in tests) for state in _STATES}
    return {
        "source": SOURCE,
        "passed": counts[PASSED],
        "failed": counts[FAILED],
        "not_run": counts[NOT_RUN],
        "not_applicable": counts[NOT_APPLICABLE],
        "tests": tests,
    }


_STATES = (PASSED, FAILED, NOT_RUN, NOT_APPLICABLE)


def _answered(
    answers: Answers, names: Sequence[str], f0_of: Mapping[str, float | None]
) -> AnswersByCondition:
    utterances = answers.utterances
    # Of this student's test recordings alone: others may have been played to another student.
    speaker_of = {each.id: each.speaker for each in utterances}
    heights = pitch.groups({name: f0_of.get(name) for name in speaker_of}, speaker_of)
    return AnswersByCondition(
        classes=answers.student.labels,
        labels=answers.labels,
        predicted={name: answers.probabilities[row].argmax(axis=1) for row, name in enumerate(names)},
        speakers=np.array([each.speaker for each in utterances]),
        groups={
            "sex": np.array([each.sex or "" for each in utterances]),
            "pitch": np.array([heights.get(each.speaker, "") for each in utterances]),
        },
    )


def _row(test: CertificateTest, answered: AnswersByCondition, missing: Mapping[str, str]) -> dict[str, Any]:
    value, where, reason = None, "", test.unavailable_reason
    reason = reason or missing.get(test.condition, "") or missing.get(test.against, "")
    state = NOT_RUN
    if not reason:
        try:
            value, where = test.find(answered, test)
            state = PASSED if test.passes(value) else FAILED
        except NotApplicableError as error:
            reason, state = str(error), NOT_APPLICABLE
    return {
        "group": test.group,
        "test": test.name,
        "measure": test.measure,
        "rule": test.rule,
        "threshold": test.threshold,
        "value": value,
        "where": where,
        "verdict": state,
        "reason": reason,
    }


def summary(certificate: Mapping[str, Any]) -> str:
    """The last line below a certificate's table."""
    decided = certificate["passed"] + certificate["failed"]
    rest = [
        f"{certificate[key]} {words}"
        for key, words in (("not_run", NOT_RUN), ("not_applicable", NOT_APPLICABLE))
        if certificate[key]
    ]
    return f"{certificate['passed']} of {decided} tests passed{', ' * bool(rest)}{', '.join(rest)}"


def short(result: Mapping[str, Any], certificate: Mapping[str, Any]) -> dict[str, Any]:
    """What the card of an exported file says of a certificate."""
    return {
        "source": certificate["source"],
        "corpus": result["corpus"],
        "passed": certificate["passed"],
        "failed": [
            f"{row['test']}: {row['measure']}" for row in certificate["tests"] if row["verdict"] == FAILED
        ],
        "not_run": certificate["not_run"],
        "not_applicable": certificate["not_applicable"],
        "sounds": result["sounds"],
    }
