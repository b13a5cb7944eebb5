"""What must be known to believe a run's scores: what training and test share, and what the corpus shows."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from light_sernet_kd.analysis import audit
from light_sernet_kd.data import confounds, signatures, training_list
from light_sernet_kd.data.protocols import stamps_of
from light_sernet_kd.data.selection import Selection
from light_sernet_kd.experiment import start
from light_sernet_kd.experiment.networks.training import trained_on
from light_sernet_kd.experiment.teachers import unlabelled
from light_sernet_kd.experiment.teachers.teacher import teacher_stamps
from light_sernet_kd.registries.corpora import registered_name
from light_sernet_kd.runner import NO_TEXT

if TYPE_CHECKING:
    from light_sernet_kd.experiment.shared import Experiment


def data_warnings(run: "Experiment") -> list[str]:
    """What the corpus and its folds show before anything is trained."""
    facts, apart = run.measured.facts, run.selection.tests_apart
    return confounds.findings(run.folds, run.utterances, facts, tests_apart=apart).warnings


def stamps(run: "Experiment") -> list[str]:
    """What a reader must know before believing the scores."""
    pairs = signatures.alike(run.measured.vectors, run.measured.lengths)
    audits = audit.audit(
        run.folds, run.utterances, run.selection.fingerprints, pairs, named_alike=_named_alike(run)
    )
    return [
        *stamps_of(run.protocol, run.folds, run.utterances),
        *audit.stamps(audits),
        *_shared_texts(run),
        *unlabelled.stamps(run),
        *start.stamps(run),
        *teacher_stamps(run),
    ]


def packed_training_list(run: "Experiment") -> bytes:
    """The recordings that the final student was trained on, for its files."""
    rows = trained_on(run, run.selection.final_fold)
    others, before = unlabelled.listed(run), run.start.list_of_final if run.start else None
    return packed_list(run.selection, run.measured, rows, run.settings.corpus, others=others, before=before)


def packed_list(
    selection: Selection,
    measured: signatures.Measured,
    rows: Sequence[int],
    corpus: str,
    *,
    others: NDArray[Any] | None = None,
    before: training_list.TrainingList | None = None,
) -> bytes:
    """The list of these training recordings, for files.

    Args:
        measured: of all of the selection's utterances.
        corpus: as the settings name it.
        others: as of `training_list.of_training`.
        before: the recordings that the student had been trained on when this training began.
    """
    rows = list(rows)
    trained = training_list.of_training(
        [selection.utterances[i] for i in rows],
        selection.fingerprints,
        measured.vectors[rows],
        measured.lengths[rows],
        corpus=selection.corpus.name,
        origin=registered_name(corpus),
        others=others,
    )
    return training_list.packed(training_list.merge_lists(trained, before) if before else trained)


def _named_alike(run: "Experiment") -> tuple[str, ...]:
    """Names of speakers in both of two corpora, unless the user says that they are different people."""
    settings = run.settings
    if settings.different_speakers or settings.test_on is None:
        return ()
    return audit.named_alike(run.corpus, settings.corpus, settings.test_on)


def _shared_texts(run: "Experiment") -> list[str]:
    """For a student that reads: how much of what it is tested on it has read in training."""
    encoders = run.multimodal.get("student")
    if encoders is None or encoders.text is None:
        return []
    # As it reads them: two spellings may be one text to it, and NULL stands for none.
    texts = [ids.tobytes() for ids in encoders.tokens.token_ids]
    none = encoders.text.tokeniser([NO_TEXT]).token_ids.tobytes()
    known = 0
    for fold in run.folds:
        read = {texts[i] for i in fold.train} - {none}
        known += sum(texts[i] in read for i in fold.test)
    return [f"{known} of {len(run.test_rows)} test texts occur in training"] if known else []
