"""What tells the class without the voice: gaps in the classes, and facts of recordings tied to a class.

A fold whose training set lacks a class cannot get it right, and a class that one speaker alone has is never
tested on another voice. A class that comes from another source is told by its sample rate, codec, level or
length, and a score then says how well the source is recognised.
"""

from light_sernet_kd.data.confounds.classes import (
    FoldClasses,
    class_findings,
    fold_classes,
    fold_findings,
    loso_classes,
)
from light_sernet_kd.data.confounds.dependence import fact_findings
from light_sernet_kd.data.confounds.facts import RecordingFacts, facts_of, level_and_cut
from light_sernet_kd.data.confounds.runs import corpus_findings, findings
from light_sernet_kd.data.confounds.wording import Findings, merge_findings, show

__all__ = [
    "Findings",
    "FoldClasses",
    "RecordingFacts",
    "class_findings",
    "corpus_findings",
    "fact_findings",
    "facts_of",
    "findings",
    "fold_classes",
    "fold_findings",
    "level_and_cut",
    "loso_classes",
    "merge_findings",
    "show",
]
