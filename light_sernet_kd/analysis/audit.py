"""What the training and the test set of a fold have in common, and what a teacher knows of the test set.

A score says how well a student does on speech it has not met. Whatever both sets share makes it say less:
a speaker, a session or dialog recorded in one go, a recording that is there twice.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from light_sernet_kd import audio
from light_sernet_kd.config import Settings
from light_sernet_kd.corpora import Corpus, Utterance, same_names
from light_sernet_kd.corpora.registry import different_people
from light_sernet_kd.data import confounds, signatures, unlabelled
from light_sernet_kd.data.protocols import Fold, propose_folds, stamps_of
from light_sernet_kd.data.selection import CorpusPart
from light_sernet_kd.errors import UserError
from light_sernet_kd.registries.corpora import registered_name
from light_sernet_kd.registries.protocols import PROTOCOLS
from light_sernet_kd.reporting import tables
from light_sernet_kd.teachers import Teacher, aligned, speakers_of_fold, trained_speakers_among
from light_sernet_kd.teachers import read as read_teacher

if TYPE_CHECKING:
    from rich.console import Console


@dataclass(frozen=True)
class FoldAudit:
    """What the training and the test set of one fold share.

    Attributes:
        identical: ids of test recordings that are in training too, byte for byte.
        near_identical: ids of test recordings that sound like one in training (`signatures.NEAR_IDENTICAL`).
        transcripts: sentences spoken on both sides; known to a student that reads, not to one that listens.
        teacher_speakers: test speakers the teacher was trained on; None where that is not known.
        validation_speakers: test speakers on whom the epoch is chosen too.
        same_names: names of speakers in both of two corpora, who may be the same people.
    """

    fold: str
    train: int
    validation: int
    test: int
    speakers: tuple[str, ...]
    sessions: tuple[str, ...]
    dialogs: tuple[str, ...]
    identical: tuple[str, ...]
    near_identical: tuple[str, ...]
    transcripts: tuple[str, ...]
    chosen_on_test: bool
    teacher_speakers: tuple[str, ...] | None = ()
    validation_speakers: tuple[str, ...] = ()
    same_names: tuple[str, ...] = ()

    @property
    def leaks(self) -> list[str]:
        """What makes the fold's score optimistic, in words; empty for a fold that is fair."""
        leaks = []
        for what in ("speakers", "sessions", "dialogs", "identical", "near_identical"):
            if shared := getattr(self, what):
                kind = f"{what.replace('_', '-')} recordings" if "identical" in what else what
                leaks.append(f"{len(shared)} {kind if len(shared) > 1 else kind[:-1]} shared")
        if self.chosen_on_test:
            leaks.append("the test set chooses the epoch")
        elif self.validation_speakers:
            leaks.append(f"validation shares {', '.join(self.validation_speakers)} with the test set")
        if self.teacher_speakers is None:
            leaks.append("the teacher's training speakers are not known")
        elif self.teacher_speakers:
            leaks.append(f"the teacher was trained on {', '.join(self.teacher_speakers)}")
        if self.same_names:
            leaks.append(_same_names(self.same_names))
        return leaks

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "leaks": self.leaks}


def audit(
    folds: Sequence[Fold],
    utterances: Sequence[Utterance],
    fingerprints: Mapping[str, str],
    pairs: Sequence[tuple[int, int]],
    teacher: Teacher | None = None,
    *,
    named_alike: Sequence[str] = (),
) -> list[FoldAudit]:
    """Compare the training with the test set of every fold.

    Args:
        fingerprints: utterance id → hash of the recording's content.
        pairs: indices of recordings that sound alike, from `signatures.alike`.
        teacher: also check whether it was trained on the test speakers.
        named_alike: of a test on another corpus, the names of speakers who are in both and may be the same
            people, from the function of that name.
    """
    audits = [_audit_of(fold, utterances, fingerprints, pairs, teacher) for fold in folds]
    return [replace(each, same_names=tuple(named_alike)) for each in audits]


def named_alike(corpus: Corpus, trains: str, tests: str) -> tuple[str, ...]:
    """Names of speakers in both of two corpora who may be the same people; else empty.

    Args:
        corpus: of the two.
        trains, tests: what they are called, each a corpus known by name or the path of a manifest.
    """
    apart = different_people(registered_name(trains), registered_name(tests))
    return () if apart else same_names(corpus)


def _same_names(names: Sequence[str], most: int = 5) -> str:
    """That two corpora name speakers alike, in words."""
    listed = ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
    if len(names) == 1:
        named = f"the speaker name {listed} is in both corpora, and may be the same person"
    else:
        named = f"{len(names)} speaker names are in both corpora, and may be the same people: {listed}"
    return f"{named} (if not: --different-speakers)"


def _audit_of(
    fold: Fold,
    utterances: Sequence[Utterance],
    fingerprints: Mapping[str, str],
    pairs: Sequence[tuple[int, int]],
    teacher: Teacher | None,
) -> FoldAudit:
    train, test = set(fold.train), set(fold.test)

    def shared(attribute: str) -> tuple[str, ...]:
        sides = ({getattr(utterances[i], attribute) for i in side} - {None, ""} for side in (train, test))
        return tuple(sorted(set.intersection(*sides)))

    prints = {fingerprints[utterances[i].id] for i in train}
    identical = {i for i in test if fingerprints[utterances[i].id] in prints}
    near = {b for a, b in (*pairs, *((b, a) for a, b in pairs)) if a in train and b in test} - identical
    speakers_of = [{utterances[i].speaker for i in side} for side in (fold.validation, fold.test)]
    known: set[str] | None = set()
    if teacher:
        seen = speakers_of_fold(teacher, fold.name)
        known = None if seen is None else trained_speakers_among(teacher, seen, speakers_of[1])
    return FoldAudit(
        fold=fold.name,
        train=len(fold.train),
        validation=len(fold.validation),
        test=len(fold.test),
        speakers=shared("speaker"),
        sessions=shared("session"),
        dialogs=shared("dialog"),
        identical=tuple(utterances[i].id for i in sorted(identical)),
        near_identical=tuple(utterances[i].id for i in sorted(near)),
        transcripts=shared("transcript"),
        chosen_on_test=bool(test & set(fold.validation)),
        teacher_speakers=None if known is None else tuple(sorted(known)),
        validation_speakers=tuple(sorted(set.intersection(*speakers_of))),
    )


def stamps(audits: Sequence[FoldAudit]) -> list[str]:
    """What folds share that no protocol's name gives away; shown on every result.

    That speakers are shared, or that the test set chose the epoch, is the protocol's own stamp.
    """
    stamps = []
    for what, text in (("sessions", "sessions"), ("dialogs", "dialogs")):
        folds = sum(bool(getattr(each, what)) and not each.speakers for each in audits)
        if folds:
            where = f"{folds} fold{'s' if folds > 1 else ''}"
            stamps.append(f"optimistic: training shares {text} with the test speakers in {where}")
    for what, text in (("identical", "also occur"), ("near_identical", "have a near-identical twin")):
        if count := sum(len(getattr(each, what)) for each in audits):
            stamps.append(f"optimistic: {count} test recordings {text} in training")
    if names := next((each.same_names for each in audits if each.same_names), ()):
        stamps.append(f"perhaps optimistic: {_same_names(names)}")
    return stamps


# A corpus, before anyone trains


@dataclass(frozen=True)
class Question:
    """What is audited: the folds that a protocol makes of a corpus, or of two.

    Attributes:
        test_on: the second corpus, which tests; empty for none.
        teacher: a file; it is asked what it was trained on.
        different_speakers: names that both corpora have are known to be of different people.
        unlabelled: a folder of recordings that would train without labels.
    """

    part: CorpusPart
    protocol: str
    test_on: str = ""
    teacher: Path | None = None
    different_speakers: bool = False
    fold_count: int = 5
    seed: int = 0
    unlabelled: Path | None = None


@dataclass(frozen=True)
class Audited:
    """What an audit found out.

    Attributes:
        audits: of each of the folds.
        facts: of each of the utterances' recordings.
        unlabelled: what is known of a folder of unlabelled recordings, in a line; empty where none is named.
        unlabelled_leaks: unlabelled recording → the test or validation utterance that it is.
    """

    protocol: str
    corpus: Corpus
    utterances: tuple[Utterance, ...]
    folds: list[Fold]
    audits: list[FoldAudit]
    facts: Sequence[confounds.RecordingFacts]
    unlabelled: str = ""
    unlabelled_leaks: Mapping[str, str] = field(default_factory=dict)

    @property
    def stamps(self) -> tuple[str, ...]:
        """The protocol's own."""
        return stamps_of(PROTOCOLS[self.protocol], self.folds, self.utterances)

    @property
    def findings(self) -> confounds.Findings:
        return confounds.findings(self.folds, self.utterances, self.facts, tests_apart=self._tests_apart)

    @property
    def corpus_findings(self) -> confounds.Findings:
        """Those of the corpus as a whole, which `as_list` does not tell."""
        return confounds.corpus_findings(
            self.folds, self.utterances, self.facts, tests_apart=self._tests_apart
        )

    @property
    def _tests_apart(self) -> bool:
        return PROTOCOLS[self.protocol].tests_apart

    def as_list(self) -> list[dict[str, Any]]:
        """What is said of each fold."""
        classes = confounds.fold_classes(self.folds, self.utterances)
        return [audit.as_dict() | fold.as_dict() for audit, fold in zip(self.audits, classes, strict=True)]


def audited(question: Question, *, say: Callable[[str], None] = lambda text: None) -> Audited:
    """Load what is asked about, make its folds, and compare their training and test sets.

    Args:
        say: told of each recording that is left out.

    Raises:
        UserError: the corpus, a recording or the teacher cannot be used.
    """
    part = question.part
    teacher = read_teacher(question.teacher) if question.teacher else None
    corpus = part.load(test_on=question.test_on)
    bad = dict(audio.find_bad(corpus.utterances)) if part.skip_bad else {}
    utterances = tuple(each for each in corpus.utterances if each.id not in bad)
    if not utterances:
        raise UserError(audio.listing(bad, len(bad)))
    for reason in [*corpus.skipped.values(), *bad.values()]:
        say(f"left out: {reason}")
    folds = propose_folds(question.protocol, utterances, seed=question.seed, n_folds=question.fold_count)
    if teacher:
        # As train would refuse it: a teacher that does not fit says nothing of leaks.
        for fold in folds:
            aligned(teacher, utterances, Corpus("", utterances).classes, fold.name)
    fingerprints = audio.fingerprints(utterances)
    measured = signatures.measure(utterances, fingerprints)
    pairs = signatures.alike(measured.vectors, measured.lengths)
    names = () if question.different_speakers else named_alike(corpus, part.corpus, question.test_on)
    audits = audit(folds, utterances, fingerprints, pairs, teacher, named_alike=names)
    about, leaks = "", {}
    if question.unlabelled:
        survey = unlabelled.survey(question.unlabelled, Settings().samples)
        about = unlabelled.sentence(survey.facts())
        leaks = unlabelled.leaking(survey, folds, utterances, fingerprints, measured)
    return Audited(question.protocol, corpus, utterances, folds, audits, measured.facts, about, leaks)


# The table


def show(
    audits: Sequence[FoldAudit], console: "Console", *, protocol: str, description: str, most: int = 5
) -> None:
    """Print a row per fold, then what leaks; `most` names per kind."""
    tables.say(console, f"{protocol}: {description}")
    kinds = ("speakers", "sessions", "dialogs", "identical", "near_identical", "transcripts")
    titles = ("train", "valid.", "test", "speakers", "sessions", "dialogs", "identical", "near", "texts")
    rows = [
        [
            *(each.fold, each.train, "test" if each.chosen_on_test else each.validation, each.test),
            *(len(getattr(each, kind)) or "·" for kind in kinds),
        ]
        for each in audits
    ]
    tables.Table([*tables.words("fold"), *tables.numbers(*titles)], rows).show(console)
    tables.say(
        console,
        "Columns from speakers on: how many training and test share; near: near-identical recordings.",
    )
    leaking = [each for each in audits if each.leaks]
    if any(each.transcripts for each in audits):
        tables.say(
            console, "Shared texts are known to a student of speech and text, not to an audio-only student."
        )
    for each in leaking:
        tables.say(console, f"fold {each.fold}: {'; '.join(each.leaks)}", style="bold yellow")
        for kind in kinds[:-1]:
            names = getattr(each, kind)
            if names:
                more = f" and {len(names) - most} more" if len(names) > most else ""
                tables.say(console, f"  {kind.replace('_', '-')}: {', '.join(names[:most])}{more}")
    if not leaking:
        tables.say(console, "nothing leaks from test to training", style="green")
