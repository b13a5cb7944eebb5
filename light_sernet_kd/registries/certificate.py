"""The tests of the stress certificate: what is measured under which condition, and what passes.

The thresholds are those that audEERING's ser-tests publishes for emotional categories (github.com/audeering/
ser-tests, folder test/emotion; Derington et al., Testing Correctness, Fairness, and Robustness of Speech
Emotion Recognition Models, arXiv:2312.06270). `docs/robustness.md` says what was left out and what differs.
"""

from dataclasses import dataclass
from typing import Literal

from light_sernet_kd.registries.degradations import CLEAN
from light_sernet_kd.registries.lazy import Lazy

CORRECTNESS, FAIRNESS, ROBUSTNESS = "correctness", "fairness", "robustness"


@dataclass(frozen=True)
class CertificateTest:
    """One test, which passes or fails.

    Attributes:
        name, measure: for tables.
        find: `(answers, test)` to what is measured: of `analysis.stress.measures`.
        rule: how the value must lie to the threshold.
        condition: the recordings' condition; answers are compared with those to `against`.
        grouped_by: whose groups are compared with all.
        unavailable_reason: why nobody can run it here, or nothing.
    """

    group: str
    name: str
    measure: str
    find: Lazy
    rule: Literal[">", "≥", "<"]
    threshold: float
    condition: str = CLEAN
    against: str = CLEAN
    grouped_by: Literal["", "sex", "pitch"] = ""
    unavailable_reason: str = ""

    def passes(self, value: float) -> bool:
        """Whether a value passes.

        >>> test = CertificateTest(FAIRNESS, "sex", "ΔUAR", Lazy(""), "<", 0.075)
        >>> test.passes(0.07), test.passes(0.075)
        (True, False)
        """
        if self.rule == "<":
            return value < self.threshold
        # A difference of two shares may miss a threshold that it meets by the last bit.
        return value > self.threshold if self.rule == ">" else value >= self.threshold - 1e-9


def _measure(function: str) -> Lazy:
    return Lazy(f"analysis.stress.measures:{function}")


def _costs(name: str, condition: str, most: float, unchanged: float) -> tuple[CertificateTest, ...]:
    """A condition that may cost so much UAR and UAP, and leaves so many answers."""
    change = (ROBUSTNESS, name)
    return (
        CertificateTest(*change, "ΔUAR", _measure("uar_change"), "≥", -most, condition),
        CertificateTest(*change, "ΔUAP", _measure("uap_change"), "≥", -most, condition),
        CertificateTest(*change, "unchanged", _measure("unchanged"), "≥", unchanged, condition),
    )


def _fair(name: Literal["sex", "pitch"], *, recall: float, precision: float) -> tuple[CertificateTest, ...]:
    """Groups of speakers that may differ by so much from all."""
    return tuple(
        CertificateTest(FAIRNESS, name, measure, _measure(function), "<", most, grouped_by=name)
        for measure, function, most in (
            ("|ΔUAR|", "uar_gap", 0.075),
            ("|ΔUAP|", "uap_gap", 0.05),
            ("|Δrecall|", "recall_gap", recall),
            ("|Δprecision|", "precision_gap", precision),
        )
    )


TESTS: tuple[CertificateTest, ...] = (
    CertificateTest(CORRECTNESS, "all", "UAR", _measure("uar"), ">", 0.5),
    CertificateTest(CORRECTNESS, "all", "UAP", _measure("uap"), ">", 0.5),
    CertificateTest(CORRECTNESS, "each class", "recall", _measure("lowest_recall"), ">", 0.5),
    CertificateTest(CORRECTNESS, "each class", "precision", _measure("lowest_precision"), ">", 0.5),
    CertificateTest(CORRECTNESS, "each class", "|Δshare|", _measure("share_error"), "<", 0.15),
    CertificateTest(CORRECTNESS, "speakers", "|Δshare|", _measure("speaker_share_error"), "<", 0.1),
    CertificateTest(CORRECTNESS, "speakers", "rank correlation", _measure("speaker_rank"), ">", 0.7),
    *_fair("sex", recall=0.175, precision=0.075),
    *_fair("pitch", recall=0.225, precision=0.1),
    *_costs("babble", "babble 20 dB", 0.05, 0.9),
    *_costs("cough", "cough 10 dB", 0.05, 0.9),
    *_costs("environment", "environment 20 dB", 0.05, 0.9),
    *_costs("music", "music 20 dB", 0.05, 0.9),
    *_costs("sneeze", "sneeze 10 dB", 0.05, 0.9),
    *_costs("white noise", "white 20 dB", 0.05, 0.9),
    *_costs("phone", "phone", 0.05, 0.5),
    *_costs("tilt up", "tilt up", 0.02, 0.8),
    *_costs("tilt down", "tilt down", 0.02, 0.8),
    *(
        CertificateTest(ROBUSTNESS, name, "unchanged", _measure("unchanged"), "≥", 0.8, condition, against)
        for name, condition, against in (
            ("room", "other room", "booth"),
            ("position", "other position", "centre"),
        )
    ),
    CertificateTest(
        ROBUSTNESS, "microphone", "unchanged", _measure("unchanged"), "≥", 0.8,
        unavailable_reason="needs the same speech, recorded by several microphones at once",
    ),
    *(
        CertificateTest(ROBUSTNESS, name, "unchanged", _measure("unchanged"), "≥", 0.95, name)
        for name in (
            *("tone", "zeros before", "zeros after", "crop start", "crop end"),
            *("small clip", "small gain", "high-pass", "low-pass", "faint white"),
        )
    ),
)  # fmt: skip
