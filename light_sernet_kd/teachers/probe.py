"""Teachers that are a linear probe on embeddings: multinomial logistic regression, one per fold."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from light_sernet_kd import evaluation
from light_sernet_kd.audio import in_order
from light_sernet_kd.config.dimensions import are_ratings_alone
from light_sernet_kd.corpora import Utterance, class_indices
from light_sernet_kd.data.protocols import Fold
from light_sernet_kd.errors import UserError
from light_sernet_kd.evaluation import log_loss
from light_sernet_kd.teachers import Teacher, train_speakers

# Inverse strengths of the L2 penalty, for standardised embeddings: half decades. They reach
# lower than 1,024 embeddings need, since rows of 6,373 functionals are longer.
STRENGTHS = tuple((10.0 ** np.arange(-6, 0.1, 0.5)).tolist())
PARTS = 5
# Rows of more columns are turned onto their principal axes, of which there are no more than rows: the fit is
# the same and takes a tenth of the time. Such rows are too wide and too unequal to be learnt from, and the
# teacher's embeddings are their first components.
WIDE, COMPONENTS = 4096, 64
# A speaker of fewer clips is standardised by the training set's moments: of 3 clips of a speaker, moments
# cost more than they gave on EMO-DB, of 5 they gave.
LEAST_CLIPS = 5

STAMP_KNOWN = "the teacher knew the test speaker's recordings, without labels"

Rows = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class ProbeOptions:
    """How probes are fitted.

    Attributes:
        cross_fit: a training utterance's logits are from a probe that was fitted without its speaker.
        balanced: every class weighs the same in training, however frequent.
        standardise_speakers: see `rows_by_speaker`.
    """

    cross_fit: bool = True
    balanced: bool = False
    standardise_speakers: bool = False


@dataclass(frozen=True)
class FoldProbe:
    """A fold's probes, for what is no utterance, and for training utterances that sound otherwise.

    Attributes:
        logits: embeddings `(n, width)` to logits `(n, classes)`, by the probe on all of the training set.
        components: embeddings to the first components of wide rows; None where embeddings serve as they are.
        training: other embeddings `(training utterances, width)` of the fold's training utterances, in their
            order, to logits of probes that never met the speaker, and to components as above. With
            `standardise_speakers` they are standardised among themselves, by the same rule.
    """

    logits: Rows
    components: Rows | None = None
    training: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray | None]] | None = None


def probe_teacher(
    embeddings: np.ndarray,
    utterances: Sequence[Utterance],
    classes: Sequence[str],
    folds: Sequence[Fold],
    *,
    card: Mapping[str, Any],
    options: ProbeOptions = ProbeOptions(),
    on_fold: Callable[[str, FoldProbe], None] | None = None,
) -> Teacher:
    """A teacher with one probe per fold, trained on that fold's training utterances alone.

    The penalty is the one with the smallest log loss on the fold's validation set: a student learns from
    probabilities, so they count and not only the largest. Where the validation set is empty or tests too, it
    is chosen on training speakers held out in turn, so the test set decides nothing.

    A probe separates its own training set almost perfectly, and then teaches little that the labels do not
    say. With `cross_fit`, an utterance in training gets its logits from a probe trained on the other parts
    of `PARTS`, none of which has its speaker; all other utterances get theirs from the probe on all of
    training. Source: Dao et al. 2021, arXiv:2104.09732, section 4.

    A column of one value says nothing. Of wide rows and of standardised speakers, no value counts as further
    from the mean than a training row's can be.

    Args:
        embeddings: `(utterances, width)`, finite; kept in the teacher, in float16 if they are. Of more than
            `WIDE` columns, each fold's first `COMPONENTS` principal components are kept instead, of unit
            variance in training.
        card: what is known of the embeddings and the corpus; `made_by` at least.
        on_fold: called with each fold's name and probes.

    Raises:
        UserError: a fold trains on one class only.
    """
    import sklearn.linear_model  # noqa: F401  (its libraries must be there to be limited)
    import threadpoolctl

    embeddings = np.asarray(embeddings)
    task = _Task(
        embeddings.astype(np.float64),
        class_indices(utterances, classes),
        np.array([utterance.speaker for utterance in utterances]),
        classes,
        options,
    )
    # One thread each: sums in the same order on any machine, and far faster for matrices of this size.
    with threadpoolctl.threadpool_limits(1):
        fitted = [_fitted(task, fold, on_fold) for fold in folds]
    facts: dict[str, Any] = {
        "strengths": {fold.name: each.strength for fold, each in zip(folds, fitted, strict=True)},
        "cross_fitted": options.cross_fit,
        "balanced": options.balanced,
    }
    if options.standardise_speakers:
        facts |= {"standardised_speakers": True, "known_speakers": _known_scores(task, folds, fitted)}
    components = [each.components for each in fitted if each.components is not None]
    return Teacher(
        ids=tuple(utterance.id for utterance in utterances),
        classes=tuple(classes),
        logits=np.stack([each.logits for each in fitted]).astype(np.float32),
        folds=tuple(fold.name for fold in folds),
        card={**card, "probe": facts, "train_speakers": train_speakers(folds, utterances)},
        embeddings=np.stack(components).astype(np.float32) if components else embeddings[None],
    )


def rows_by_speaker(
    values: np.ndarray, speakers: np.ndarray, fold: Fold, *, knows_tested: bool = False
) -> np.ndarray:
    """`values` `(utterances, width)`, each standardised by its speaker's own recordings that do not test.

    No label is looked at. A speaker with fewer than `LEAST_CLIPS` recordings there, as one who tests, is
    standardised by the training set's moments: no recording that tests decides anything of any other.

    Args:
        speakers: `(utterances,)`.
        knows_tested: also by the recordings that test. A score of it knows the test speaker.

    >>> fold = Fold("bea", (0, 1, 2, 3, 4), (), (5,))
    >>> values = np.array([[1.0], [1], [3], [5], [5], [9]])
    >>> rows_by_speaker(values, np.array(["ann"] * 5 + ["bea"]), fold).round(2).ravel().tolist()
    [-1.12, -1.12, 0.0, 1.12, 1.12, 2.24]
    """
    rows = _standardiser(values[list(fold.train)], bounded=True)(values)
    counts = np.ones(len(values), bool)
    if not knows_tested:
        counts[list(fold.test)] = False
    for speaker in np.unique(speakers):
        is_speaker = speakers == speaker
        if (is_speaker & counts).sum() >= LEAST_CLIPS:
            rows[is_speaker] = _standardiser(values[is_speaker & counts], bounded=True)(values[is_speaker])
    return rows


def _standardiser(rows: np.ndarray, *, bounded: bool) -> Rows:
    """Values about the mean of `rows` in their standard deviations.

    None of n rows is further than √n from their mean. With `bounded` nothing else counts as further either:
    functionals that hardly differ in training may be a million deviations off in another recording.
    """
    from sklearn.preprocessing import StandardScaler

    scaler, limit = StandardScaler().fit(rows), np.sqrt(len(rows))
    if not bounded:
        return scaler.transform
    return lambda values: np.clip(scaler.transform(values), -limit, limit)


@dataclass(frozen=True)
class _Task:
    """What all folds share: `values` `(utterances, width)`, `labels` and `speakers` `(utterances,)`."""

    values: np.ndarray
    labels: np.ndarray
    speakers: np.ndarray
    classes: Sequence[str]
    options: ProbeOptions

    def rows(self, fold: Fold, *, knows_tested: bool = False) -> np.ndarray:
        """The values as the fold's probes take them."""
        if not self.options.standardise_speakers:
            return self.values
        return rows_by_speaker(self.values, self.speakers, fold, knows_tested=knows_tested)

    def training_rows(self, fold: Fold, values: np.ndarray) -> np.ndarray:
        """Other values of the fold's training utterances as its probes take them."""
        values = np.asarray(values, np.float64)
        if not self.options.standardise_speakers:
            return values
        training_only = Fold(fold.name, tuple(range(len(fold.train))), (), ())
        return rows_by_speaker(values, self.speakers[list(fold.train)], training_only)


@dataclass(frozen=True)
class _Fitted:
    """What a fold's probes say: logits `(utterances, classes)`, of tested speakers also as known ones."""

    strength: float
    logits: np.ndarray
    components: np.ndarray | None
    known: np.ndarray | None


def _fitted(task: _Task, fold: Fold, on_fold: Callable[[str, FoldProbe], None] | None) -> _Fitted:
    labels, train = task.labels, np.array(fold.train)
    if are_ratings_alone(task.classes):
        return _nothing_to_tell_apart(task, fold)
    if len(seen := np.unique(labels[train])) < 2:
        raise UserError(
            f"fold {fold.name} trains on {task.classes[seen[0]]} alone; a probe needs 2 emotions."
        )
    values = task.rows(fold)

    def part(rows: np.ndarray) -> _Part:
        return _Part(values[rows], labels[rows], len(task.classes), balanced=task.options.balanced)

    whole = part(train)
    held_out = held_out_parts(task.speakers[train])
    parts = [(train[mask], part(train[~mask])) for mask in _needed(held_out, task, fold)]
    strength = _best_strength(whole, parts, values, labels, fold)
    predict = whole.at(strength)
    held = [(rows, others.at(strength)) for rows, others in parts] if task.options.cross_fit else []
    logits = predict(values)
    for rows, others in held:
        logits[rows] = others(values[rows])
    known = None
    if task.options.standardise_speakers and fold.test:
        known = predict(task.rows(fold, knows_tested=True)[list(fold.test)])
    components = whole.components_of(np.asarray)
    if on_fold:
        # whose speaker nobody knows
        first = (
            _standardiser(task.values[train], bounded=True)
            if task.options.standardise_speakers
            else np.asarray
        )

        def training(embeddings: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
            rows = task.training_rows(fold, embeddings)
            answers = predict(rows)
            for of_part, others in held:
                places = np.searchsorted(train, of_part)
                answers[places] = others(rows[places])
            return answers, components(rows) if components else None

        fold_probe = FoldProbe(lambda rows: predict(first(rows)), whole.components_of(first), training)
        on_fold(fold.name, fold_probe)
    return _Fitted(strength, logits, components(values) if components else None, known)


def _nothing_to_tell_apart(task: _Task, fold: Fold) -> _Fitted:
    """Where ratings alone are learnt: no logits, and the embeddings as ever."""
    values, train = task.rows(fold), np.array(fold.train)
    whole = _Part(values[train], task.labels[train], 1, balanced=task.options.balanced)
    components = whole.components_of(np.asarray)
    logits = np.zeros((len(values), 1), np.float32)
    return _Fitted(STRENGTHS[0], logits, components(values) if components else None, None)


def _needed(held_out: list[np.ndarray], task: _Task, fold: Fold) -> list[np.ndarray]:
    """The parts that are left out in turn, where something asks for them."""
    return held_out if task.options.cross_fit or not fold.selection_indices else []


def _best_strength(
    whole: "_Part",
    parts: Sequence[tuple[np.ndarray, "_Part"]],
    values: np.ndarray,
    labels: np.ndarray,
    fold: Fold,
) -> float:
    if fold.selection_indices:
        parts = [(np.array(fold.selection_indices), whole)]
    selection_rows = np.concatenate([rows for rows, _ in parts])

    def loss(strength: float) -> float:
        logits = np.concatenate([part.at(strength)(values[rows]) for rows, part in parts])
        return log_loss(labels[selection_rows], logits)

    return STRENGTHS[int(np.argmin(list(in_order(loss, STRENGTHS))))]


def _known_scores(task: _Task, folds: Sequence[Fold], fitted: Sequence[_Fitted]) -> dict[str, Any]:
    """Scores of probes that standardise a tested speaker by the recordings that test, and their stamp."""
    tested = [(fold, each.known) for fold, each in zip(folds, fitted, strict=True) if each.known is not None]

    def scored(rows: Sequence[int], logits: np.ndarray) -> dict[str, float]:
        result = evaluation.scores(task.labels[list(rows)], logits.argmax(axis=1), tuple(task.classes))
        return {"ua": float(result.ua), "wa": float(result.wa)}

    facts: dict[str, Any] = {"stamp": STAMP_KNOWN}
    if tested:
        facts |= scored(
            [i for fold, _ in tested for i in fold.test], np.concatenate([each for _, each in tested])
        )
    return {**facts, "folds": {fold.name: scored(fold.test, logits) for fold, logits in tested}}


def held_out_parts(speakers: np.ndarray, parts: int = PARTS) -> list[np.ndarray]:
    """Up to `parts` masks `(utterances,)` that cover all utterances once; none splits a speaker.

    One speaker alone is split into parts of utterances.

    Raises:
        UserError: there are fewer than 2 utterances.
    """
    from sklearn.model_selection import GroupKFold

    groups = speakers if len(set(speakers.tolist())) > 1 else np.arange(len(speakers))
    count = min(parts, len(set(groups.tolist())))
    if count < 2:
        raise UserError("a probe needs at least 2 utterances to train on.")
    masks = []
    for _, held_out in GroupKFold(count).split(np.empty(len(groups)), groups=groups):
        mask = np.zeros(len(groups), bool)
        mask[held_out] = True
        masks.append(mask)
    return masks


class _Part:
    """Training rows as probes of any strength are fitted on them."""

    def __init__(self, rows: np.ndarray, labels: np.ndarray, classes: int, *, balanced: bool):
        self.labels, self.classes, self.balanced = labels, classes, balanced
        wide = rows.shape[1] > WIDE
        self.standardise = _standardiser(rows, bounded=wide)
        self.rows, self.axes, self.lengths = self.standardise(rows), None, None
        if wide:
            self._turn()

    def _turn(self) -> None:
        """Onto the principal axes: what the penalty leaves lies in the span of the rows."""
        squares, vectors = np.linalg.eigh(self.rows @ self.rows.T)
        kept = np.flatnonzero(squares > squares[-1] * len(squares) * np.finfo(float).eps)[::-1]
        self.lengths = np.sqrt(squares[kept])
        self.axes = self.rows.T @ (vectors[:, kept] / self.lengths)
        self.rows = vectors[:, kept] * self.lengths

    def coordinates(self, values: np.ndarray) -> np.ndarray:
        """Values as the probes take them."""
        standardised = self.standardise(values)
        return standardised if self.axes is None else standardised @ self.axes

    def components_of(self, first: Rows) -> Rows | None:
        """The first coordinates in their standard deviations, `(n, COMPONENTS)`; None of narrow rows."""
        if self.lengths is None:
            return None
        deviations = self.lengths[:COMPONENTS] / np.sqrt(len(self.rows))
        missing = COMPONENTS - len(deviations)  # fewer rows have fewer axes; all folds have as many columns

        def components(values: np.ndarray) -> np.ndarray:
            coordinates = self.coordinates(first(values))[:, :COMPONENTS] / deviations
            return np.pad(coordinates, ((0, 0), (0, missing)))

        return components

    def at(self, strength: float) -> Rows:
        """Logits `(utterances, classes)` as a function of values, by a probe of this strength."""
        from sklearn.linear_model import LogisticRegression

        labels, seen = self.labels, np.unique(self.labels)
        model = LogisticRegression(
            C=strength, class_weight="balanced" if self.balanced else None, max_iter=10_000, tol=1e-5
        )
        if len(seen) > 1:
            model.fit(self.rows, labels)

        def predict(values: np.ndarray) -> np.ndarray:
            if len(seen) > 1:
                scores = model.decision_function(self.coordinates(values))
            else:
                scores = np.zeros((len(values), 1))
            if scores.ndim == 1:  # two classes: the log odds of the second
                scores = np.stack([-scores / 2, scores / 2], axis=1)
            # A class that training lacks: less likely than the least likely one, by the number of examples.
            least = scores.min(axis=1, keepdims=True) - np.log(len(labels))
            logits = np.repeat(least, self.classes, axis=1)
            logits[:, seen] = scores
            return logits

        return predict
