"""All that the findings of a run are."""

from collections.abc import Sequence

from light_sernet_kd.corpora import Utterance
from light_sernet_kd.data.confounds.classes import (
    class_findings,
    fold_classes,
    fold_findings,
    speaker_findings,
)
from light_sernet_kd.data.confounds.dependence import fact_findings
from light_sernet_kd.data.confounds.facts import RecordingFacts
from light_sernet_kd.data.confounds.wording import Findings, enumerated, merge_findings
from light_sernet_kd.data.protocols import Fold


def findings(
    folds: Sequence[Fold],
    utterances: Sequence[Utterance],
    facts: Sequence[RecordingFacts] | None = None,
    *,
    tests_apart: bool = False,
) -> Findings:
    """What makes the scores of a run say less than they seem to, though nothing leaks; and what is near it.

    Args:
        facts: of each recording; None leaves out what is tied to them.
        tests_apart: the test recordings may be of another source than the training recordings, so that each
            are looked at by themselves.
    """
    return merge_findings(
        fold_findings(fold_classes(folds, utterances)),
        corpus_findings(folds, utterances, facts, tests_apart=tests_apart),
    )


def corpus_findings(
    folds: Sequence[Fold],
    utterances: Sequence[Utterance],
    facts: Sequence[RecordingFacts] | None = None,
    *,
    tests_apart: bool = False,
) -> Findings:
    """Those `findings` that are of no single fold."""
    tested = {utterances[i].emotion for fold in folds for i in fold.test}
    classes = {each.emotion for each in utterances}
    warnings = []
    if missing := sorted(classes - tested):
        over = f"{len(tested)} of {len(classes)} classes"
        warnings.append(f"no test recording is of {enumerated(missing, 'or')}: UA is the mean over {over}")
    of_corpus = merge_findings(
        Findings(warnings, []), class_findings(utterances), speaker_findings(utterances)
    )
    if facts is None:
        return of_corpus
    if not tests_apart:
        return merge_findings(of_corpus, fact_findings(utterances, facts))
    for name in ("training", "test"):
        rows = sorted({i for fold in folds for i in _part(fold, name)})
        of_part = fact_findings([utterances[i] for i in rows], [facts[i] for i in rows])
        sentences = ([f"{name} recordings: {text}" for text in texts] for texts in of_part)
        of_corpus = merge_findings(of_corpus, Findings(*sentences))
    return of_corpus


def _part(fold: Fold, name: str) -> Sequence[int]:
    return fold.test if name == "test" else (*fold.train, *fold.validation)
