"""Second heads of a run's students, for speakers of whom recordings are known, and how they score."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from light_sernet_kd import evaluation
from light_sernet_kd.arrays import read_arrays
from light_sernet_kd.data.feature_cache import predictions
from light_sernet_kd.data.protocols import Fold
from light_sernet_kd.experiment.networks.phases import phases_of
from light_sernet_kd.experiment.networks.training import trained_on
from light_sernet_kd.students.enrolled import EnrolledHead
from light_sernet_kd.training.network import load_student

if TYPE_CHECKING:
    from light_sernet_kd.experiment.shared import Experiment

HEAD, TEST_EMBEDDINGS = "enrolled_head.npz", "enrolled_embeddings.npz"


def is_enrolled(run: "Experiment") -> bool:
    """Whether the run's students get a second head: `--enrolment` of audio-only students with classes."""
    return run.settings.enrolment and run.has_classes and "student" not in run.multimodal


def head_of(run: "Experiment", fold: Fold) -> EnrolledHead | None:
    """The second head of the step's student, of its own temperature; None where the run has none.

    It is fitted where the step has none yet.
    """
    if not is_enrolled(run):
        return None
    step = run.step(fold)
    if not step.has(HEAD):
        _fit(run, fold)
    return step.read(HEAD, _read_head, remove=HEAD)[0]


def enrolled_scores(
    run: "Experiment", precision: str | None = None, clips: Sequence[int] = evaluation.CLIPS
) -> dict[str, Any] | None:
    """How the folds' students score with some recordings of their test speakers known; None without heads.

    Args:
        precision: of their exported files; by default as trained.
        clips: numbers of known recordings.
    """
    if not is_enrolled(run):
        return None
    folds = [_tested(run, fold, precision) for fold in run.folds]
    return evaluation.enrolled_scores(folds, run.classes, run.settings.protocol, clips)


def card_scores(run: "Experiment", precision: str) -> dict[str, Any]:
    """What a file's card says of `enrolled_scores`: with 10 known recordings, and what that is over none."""
    enrolled = enrolled_scores(run, precision, (evaluation.REPORTED_CLIPS,)) or {}
    strict, with_known = enrolled["curve"]
    return {"protocol": enrolled["protocol"], "strict_ua": strict["ua"], **with_known}


def _tested(run: "Experiment", fold: Fold, precision: str | None) -> evaluation.FoldAnswers:
    from light_sernet_kd.experiment.exported.conversion import precision_embeddings, precision_probabilities
    from light_sernet_kd.experiment.fold import read_test_logits

    head, step, count = head_of(run, fold), run.step(fold), len(fold.test)
    if head is None:
        raise RuntimeError("a run without second heads has no scores of them")
    stored = step.read(TEST_EMBEDDINGS, read_arrays, remove=HEAD)
    if precision is None:
        strict, embeddings = read_test_logits(run, fold)["selected"], stored["test"]
    else:
        strict = precision_probabilities(run, fold)[precision]
        embeddings = precision_embeddings(run, fold)[precision]
    if embeddings.shape != (count, len(head.mean)):
        raise ValueError(f"{count} embeddings of {len(head.mean)} expected, found {embeddings.shape}")
    return evaluation.FoldAnswers(
        labels=run.selection.labels[list(fold.test)],
        speakers=np.array([run.utterances[row].speaker for row in fold.test]),
        strict=strict.argmax(axis=1),
        embeddings=embeddings,
        logits=head.logits,
        others=stored["others"],
    )


def _fit(run: "Experiment", fold: Fold) -> None:
    from light_sernet_kd.training.enrolled import embedder, fit_head, stages

    step = run.step(fold)
    student = step.read("student.keras", load_student)
    model = embedder(student)
    train = trained_on(run, fold)
    heard, speakers = _embeddings(run, model, train), _speakers(run, train)
    head = fit_head(
        heard,
        run.selection.labels[list(train)],
        speakers,
        [tuple(each.shape[1:]) for each in stages(student)],
        len(run.classes),
        seed=run.settings.seed,
    )
    temperature = _temperature(run, fold, head, model)
    others = [
        heard[known].mean(axis=0)
        for known, _ in evaluation.known_and_scored(speakers, 0).values()
        if len(known)
    ]
    # First, since a head that is there is taken for whole.
    step.add(
        TEST_EMBEDDINGS,
        {
            "test": _embeddings(run, model, fold.test)
            if fold.test
            else np.zeros((0, heard.shape[1]), np.float32),
            # Where nobody has two recordings, nobody can be taken for another.
            "others": np.array(others or [head.mean], np.float32),
        },
    )
    cooled = head.with_temperature(temperature)
    step.add(
        HEAD,
        {
            "mean": cooled.mean,
            "weights": cooled.weights,
            "bias": cooled.bias,
            "stages": np.array(cooled.stages),  # all of them have as many axes
            "prior_clips": np.array([cooled.prior_clips]),
            "temperature": np.array([temperature]),
        },
    )
    run.display.say(f"fold {fold.name}: second head fitted, for speakers of whom recordings are known")


def _temperature(run: "Experiment", fold: Fold, head: EnrolledHead, model: Any) -> float:
    """Of the head's logits: fitted on validation speakers of whom 10 recordings are known.

    The exported student has none that it was not trained on: it gets the mean of the folds', in logarithms.
    """
    if fold.name == run.selection.final_fold.name:
        fitted = [
            run.step(each).read(HEAD, _read_head, remove=HEAD)[1] for each in run.folds if head_of(run, each)
        ]
        return float(np.exp(np.mean(np.log(fitted))))
    rows = np.asarray(fold.selection_indices, int)
    if len(rows) < evaluation.FEWEST_TO_CALIBRATE:
        return 1.0
    embeddings, labels = _embeddings(run, model, rows), run.selection.labels[rows]
    logits, truth = [], []
    for known, scored in evaluation.known_and_scored(_speakers(run, rows), 0).values():
        known = known[: evaluation.REPORTED_CLIPS]
        mean = embeddings[known].mean(axis=0) if len(known) else head.mean
        count = len(scored)
        logits.append(head.logits(embeddings[scored], np.tile(mean, (count, 1)), np.full(count, len(known))))
        truth.append(labels[scored])
    return evaluation.fit_temperature(np.concatenate(logits), np.concatenate(truth))


def _embeddings(run: "Experiment", model: Any, rows: Sequence[int] | np.ndarray) -> np.ndarray:
    features = phases_of(run, "student")[-1].rows
    return np.concatenate([np.asarray(block) for block in predictions(model, features, rows)])


def _speakers(run: "Experiment", rows: Sequence[int] | np.ndarray) -> list[str]:
    return [run.utterances[row].speaker for row in rows]


def _read_head(path: Path) -> tuple[EnrolledHead, float]:
    """The head, and the temperature that its logits were divided by."""
    arrays = read_arrays(path)
    head = EnrolledHead(
        arrays["mean"],
        float(arrays["prior_clips"][0]),
        arrays["weights"],
        arrays["bias"],
        tuple(tuple(int(size) for size in shape) for shape in arrays["stages"]),
    )
    width = len(head.mean)
    if head.weights.shape != (width, len(head.bias)) or not head.stages:
        raise ValueError(f"{path} holds no second head")
    return head, float(arrays["temperature"][0])
