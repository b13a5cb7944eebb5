"""Training batches: examples in an epoch's order, augmented, with what a teacher says of them."""

import functools
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from light_sernet_kd.audio import augment
from light_sernet_kd.data.augmenter import Augmenter
from light_sernet_kd.data.kept_views import Bank, KeptViews
from light_sernet_kd.distillation.batch_keys import (
    DIMENSIONS,
    FEATURES,
    IS_LABELLED,
    MIXUP_WEIGHT,
    OTHER_LABELS,
    SOFT_LABELS,
    TEACHER,
    TEACHER_DIMENSIONS,
    TEACHER_EMBEDDING,
    TEACHER_STATES,
)
from light_sernet_kd.distillation.label_checks import check_class_indices, check_shares
from light_sernet_kd.errors import UserError, installed


def cap_per_class(indices: Sequence[int], labels: np.ndarray, most: int, *, seed: int) -> Sequence[int]:
    """At most `most` of the indices per class, drawn by `seed`, in their order; 0 keeps all."""
    if not most:
        return indices
    chosen = np.asarray(indices)
    rng = np.random.default_rng(seed)
    kept = [rng.permutation(chosen[labels[chosen] == name])[:most] for name in np.unique(labels[chosen])]
    return tuple(sorted(np.concatenate(kept).tolist()))


def epoch_order(count: int, *, seed: int, epoch: int) -> np.ndarray:
    """The order in which an epoch visits its examples: a permutation that (seed, epoch) alone decide.

    A run that was interrupted therefore continues as if it had not been.
    """
    return np.random.default_rng([seed, epoch]).permutation(count)


def unlabelled_count(labelled: int, share: float) -> int:
    """How many clips without labels join so many labelled examples, to be `share` of all of them.

    >>> unlabelled_count(32, 0.5), unlabelled_count(32, 0.75), unlabelled_count(3, 0.2)
    (32, 96, 1)
    """
    return round(labelled * share / (1 - share))


def draw_unlabelled(clips: int, position: int, count: int, *, seed: int) -> np.ndarray:
    """`count` clips from `position` on of an endless order that `seed` decides, ascending.

    The order is one permutation of all clips after another, so that none comes again before all have come.
    """
    parts = []
    while count:
        number, begin = divmod(position, clips)
        part = _permutation(clips, number, seed)[begin : begin + count]
        parts.append(part)
        position, count = position + len(part), count - len(part)
    return np.sort(np.concatenate(parts)) if parts else np.zeros(0, np.int64)


@functools.lru_cache(maxsize=2)
def _permutation(clips: int, number: int, seed: int) -> np.ndarray:
    # Three numbers, and an epoch's order has two: the two never are one sequence.
    return np.random.default_rng([seed, number, 1]).permutation(clips)


@dataclass(frozen=True)
class Examples:
    """A corpus as a network sees it.

    Attributes:
        rows: features `(utterances, frames, features, 1)`, anything that can be indexed by an array of
            utterances. For a network of several inputs what gives a dictionary of arrays by their names, of
            any types. The second axis of each (tokens, patches) may differ from batch to batch, unless
            `rows.shapes` has the shape of one example under the name.
        labels: class indices `(utterances,)` int32.
        classes: their names.
        soft_labels: share of each class `(utterances, classes)`, where those are trained on.
        dimensions: ratings `(utterances, dimensions)` float32 from -1 to 1, NaN where there is none, where
            those are trained on.

    Raises:
        UserError: labels that are no indices of the classes, or soft labels of another shape.

    >>> features = np.zeros((5, 60, 40, 1), np.float32)
    >>> examples = Examples(features, np.array([0, 1, 0, 1, 0], np.int32), ("anger", "fear"))
    >>> examples.classes[examples.labels[1]]
    'fear'
    """

    rows: Any
    labels: np.ndarray
    classes: tuple[str, ...]
    soft_labels: np.ndarray | None = None
    dimensions: np.ndarray | None = None

    def __post_init__(self) -> None:
        count = len(self.classes)
        if count:  # else nobody names them
            check_class_indices("the labels", self.labels, count, since=f", as there are {count} classes")
        if self.soft_labels is not None:
            check_shares("soft_labels", self.soft_labels, len(self.labels), count)


@dataclass(frozen=True)
class UnlabelledClips:
    """Clips without labels that train beside the labelled examples, and what the teacher says of them.

    Attributes:
        rows: features `(clips, frames, features, 1)`, anything that can be indexed by an array of clips.
        share: of all examples of a batch, above 0 and below 1.
        logits, embedding: as of `TeacherOutputs`, likewise.
        views: of the same form as `rows`, which take their place: each pass over the clips
            takes the next one.

    Two utterances make a batch, and two of three clips are its other half.

    >>> made = np.zeros((3, 60, 40, 1), np.float32), np.zeros((3, 2), np.float32)
    >>> clips = UnlabelledClips(made[0], share=0.5, logits=made[1])
    >>> teacher = TeacherOutputs(logits=made[1][:2], unlabelled=clips)
    >>> examples = Examples(made[0][:2], np.array([0, 1], np.int32), ("anger", "fear"))
    >>> inputs, labels = next(iter(batches(examples, range(2), batch_size=2, seed=0, teacher=teacher)))
    >>> inputs["labelled"].numpy().tolist()
    [1.0, 1.0, 0.0, 0.0]
    """

    rows: Any
    share: float
    logits: Any = None
    embedding: Any = None
    views: Sequence[Any] = ()

    def rows_at(self, position: int) -> Any:
        """The rows that training takes at this place of the clips' order."""
        return self.views[position // len(self.rows) % len(self.views)] if self.views else self.rows


class BatchTeacher(Protocol):
    """A teacher that is asked anew of every batch, on the features that the student sees.

    Attributes:
        widths: name in a batch → how many numbers it says of an example.
    """

    widths: Mapping[str, int]

    def __call__(self, features: np.ndarray, utterances: np.ndarray) -> dict[str, np.ndarray]:
        """Name in a batch → `(batch, width)` of features `(batch, frames, features, 1)`."""
        ...


class ViewRows:
    """A row of numbers for each training utterance in each view of a bank.

    Args:
        values: `(views, training utterances, width)`.
        utterances: the training utterances, ascending.

    >>> rows = ViewRows(np.arange(8.0).reshape(2, 2, 2), np.array([3, 7]))
    >>> rows.of(1)[np.array([7])].tolist(), rows.of(1).shape
    ([[6.0, 7.0]], (2, 2))
    """

    def __init__(self, values: np.ndarray, utterances: np.ndarray):
        self.values, self.utterances = values, utterances

    def of(self, view: int) -> "OneView":
        return OneView(self.values[view], self.utterances)


class OneView:
    """The rows of one view, indexed by an array of training utterances."""

    def __init__(self, values: np.ndarray, utterances: np.ndarray):
        self._values, self._utterances = values, utterances
        self.shape = values.shape

    def __getitem__(self, utterances: np.ndarray) -> np.ndarray:
        places = np.searchsorted(self._utterances, utterances)
        if not np.array_equal(self._utterances[places % len(self._utterances)], utterances):
            raise IndexError("the teacher was asked on views of training utterances alone")
        return np.asarray(self._values[places])


@dataclass(frozen=True)
class TeacherViews:
    """What a frozen teacher says of a bank of augmented views, from which the student's epochs draw.

    Attributes:
        bank: how its views are drawn.
        logits, embedding: as of `TeacherOutputs`, of each view; None where those are.
    """

    bank: Bank
    logits: ViewRows | None = None
    embedding: ViewRows | None = None


@dataclass(frozen=True)
class TeacherOutputs:
    """What a teacher says of every utterance; None where no loss compares with it.

    Attributes:
        logits: `(utterances, classes)`.
        embedding: `(utterances, width)`.
        states: of a text's tokens; what an array of utterances makes `(batch, tokens, width)`, rows of zeros
            being padding.
        unlabelled: clips without labels, of which the teacher says something too.
        batch_teacher: what says it in training, of the features as they are augmented and mixed there.
        views: what it says of the views that training draws from, in the place of `logits` and `embedding`.
        dimensions: `(utterances, dimensions)` float32, as of `Examples`.

    >>> outputs = TeacherOutputs(logits=np.zeros((5, 2), np.float32))
    >>> outputs.logits.shape, outputs.embedding
    ((5, 2), None)
    """

    logits: np.ndarray | None = None
    embedding: np.ndarray | None = None
    states: Any = None
    unlabelled: UnlabelledClips | None = None
    batch_teacher: BatchTeacher | None = None
    views: TeacherViews | None = None
    dimensions: np.ndarray | None = None


def batches(
    examples: Examples,
    indices: Sequence[int],
    *,
    batch_size: int,
    seed: int,
    first_epoch: int = 0,
    teacher: TeacherOutputs | None = None,
    augmenter: Augmenter | None = None,
    class_weights: np.ndarray | None = None,
):
    """Endless training batches as a `tf.data.Dataset`; an epoch is `ceil(len(indices) / batch_size)` of them.

    Args:
        indices: the training utterances.
        first_epoch: where to begin, for a run that continues.
        teacher: carried with the batch, as soft labels are. With `unlabelled` a batch has all of its labelled
            examples and, behind them, as many clips without labels as make their share; `labelled` tells them
            apart. These clips are not augmented but for their own views. With `views` the augmenter draws
            from their bank, and an epoch's batches have what is said of its view.
        augmenter: changes the batches' features. With mixup a batch's inputs also hold `other_labels` and
            `share`: an example's target is `share` of its own label and the rest of the other's, and what the
            batch carries of the teacher and of soft labels is mixed alike.
        class_weights: `(classes,)`; a batch then also carries the weight of each of its examples.

    Raises:
        UserError: an augmentation of what a student of several inputs reads, or mixup of a teacher's states.

    Five utterances make a batch of four and a batch of one.

    >>> features, labels = np.zeros((5, 60, 40, 1), np.float32), np.array([0, 1, 0, 1, 0], np.int32)
    >>> teacher = TeacherOutputs(logits=np.zeros((5, 2), np.float32))
    >>> examples = Examples(features, labels, ("anger", "fear"))
    >>> endless = batches(examples, range(5), batch_size=4, seed=0, teacher=teacher)
    >>> inputs, targets = next(iter(endless))
    >>> {name: tuple(values.shape) for name, values in inputs.items()}, tuple(targets.shape)
    ({'features': (4, 60, 40, 1), 'teacher': (4, 2)}, (4,))
    """
    with installed("tensorflow", "training with tf.data"):
        import tensorflow as tf

    source = Source.of(
        examples, indices, teacher=teacher, augmenter=augmenter, weights=class_weights, seed=seed
    )
    signature = source.signature()

    def generated() -> Iterator[tuple[Any, ...]]:
        return source.endless(batch_size, first_epoch)

    made = tf.data.Dataset.from_generator(generated, output_signature=signature).prefetch(2)
    options = tf.data.Options()
    # The autotuner can hold the end of `fit` for seconds, and there is nothing here to tune.
    options.autotune.enabled = False
    options.deterministic = True
    return made.with_options(options)


@dataclass(frozen=True)
class Source:
    """What the batches of a training set are made from; `of` takes the arguments of `batches`."""

    examples: Examples
    training: np.ndarray
    teacher: TeacherOutputs
    augmenter: Augmenter | None
    class_weights: np.ndarray | None
    seed: int
    kept: KeptViews | None = None

    @classmethod
    def of(
        cls,
        examples: Examples,
        indices: Sequence[int],
        *,
        teacher: TeacherOutputs | None,
        augmenter: Augmenter | None,
        weights: np.ndarray | None,
        seed: int,
    ) -> "Source":
        """The source of a fold's training set.

        Raises:
            UserError: as `batches`, and as `Augmenter.bound`.
            ValueError: the teacher has views, and nothing changes the recordings.
        """
        training, kept = np.asarray(indices), None
        teacher = teacher or TeacherOutputs()
        if augmenter is not None:
            _check_changes(augmenter, _example(examples.rows, training), teacher)
            augmenter = augmenter.bound(training, examples.labels)
            bank = teacher.views.bank if teacher.views else None
            kept = augmenter.kept(getattr(examples.rows, "shape", ()), bank)
        if teacher.views and kept is None:
            raise ValueError("a teacher's views are of recordings that an augmenter changes")
        return cls(examples, training, teacher, augmenter, weights, seed, kept)

    def endless(self, batch_size: int, first_epoch: int) -> Iterator[tuple[Any, ...]]:
        """Batch after batch, epoch after epoch, from the beginning of `first_epoch` on."""
        starts = range(0, len(self.training), batch_size)
        beside = [self.beside(len(self.training[start : start + batch_size])) for start in starts]

        def of_epoch(epoch: int) -> Iterator[np.ndarray]:
            order = self.training[epoch_order(len(self.training), seed=self.seed, epoch=epoch)]
            for start in starts:
                # sorted, because a file mapped into memory is read fastest forwards
                yield np.sort(order[start : start + batch_size])

        if self.kept is not None:
            # In the batches that made them, so that a run that continues has them bit for bit.
            for epoch in self.kept.epochs_before(first_epoch):
                for batch in of_epoch(epoch):
                    self.kept.renew(batch, self.seed, epoch)
        for epoch in itertools.count(first_epoch):
            for number, batch in enumerate(of_epoch(epoch)):
                position = epoch * sum(beside) + sum(beside[:number])
                yield self.with_unlabelled(self.batch(batch, epoch, number), position, beside[number])

    @property
    def mixup(self) -> augment.Augmentation | None:
        return self.augmenter.mixup if self.augmenter else None

    def carried(self, epoch: int = 0) -> dict[str, Any]:
        """What an epoch's batch carries beside its features, each indexed by an array of utterances."""
        carried: dict[str, Any] = {
            TEACHER: self.teacher.logits,
            TEACHER_EMBEDDING: self.teacher.embedding,
            TEACHER_STATES: self.teacher.states,
            SOFT_LABELS: self.examples.soft_labels,
            DIMENSIONS: self.examples.dimensions,
            TEACHER_DIMENSIONS: self.teacher.dimensions,
        }
        if views := self.teacher.views:
            view = views.bank.view(epoch)
            for name, rows in ((TEACHER, views.logits), (TEACHER_EMBEDDING, views.embedding)):
                if rows is not None and carried[name] is not None:
                    carried[name] = rows.of(view)
        asked = self.teacher.batch_teacher.widths if self.teacher.batch_teacher else ()
        return {name: values for name, values in carried.items() if values is not None and name not in asked}

    def signature(self) -> tuple[Any, ...]:
        """The types and shapes of a batch, found from its first utterance."""
        import tensorflow as tf

        one = self.training[:1]
        spec = {FEATURES: self._features_signature()}
        for name, values in self.carried().items():
            if name == TEACHER_STATES:
                spec[name] = _free_signature(values[one])
            else:
                spec[name] = tf.TensorSpec((None, values.shape[1]), tf.float32)
        if self.teacher.batch_teacher:
            for name, width in self.teacher.batch_teacher.widths.items():
                spec[name] = tf.TensorSpec((None, width), tf.float32)
        if self.mixup:
            spec[OTHER_LABELS] = tf.TensorSpec((None,), tf.int32)
            spec[MIXUP_WEIGHT] = tf.TensorSpec((None,), tf.float32)
        if self.teacher.unlabelled:
            spec[IS_LABELLED] = tf.TensorSpec((None,), tf.float32)
        weights = () if self.class_weights is None else (tf.TensorSpec((None,), tf.float32),)
        return (spec, tf.TensorSpec((None,), tf.int32), *weights)

    def _features_signature(self):
        import tensorflow as tf

        rows = self.examples.rows
        example = _example(rows, self.training)
        if example is None:
            return tf.TensorSpec((None, *rows.shape[1:]), tf.float32)
        shapes = getattr(rows, "shapes", {})
        return {name: _free_signature(array, shapes.get(name)) for name, array in example.items()}

    def batch(self, utterances: np.ndarray, epoch: int, number: int) -> tuple[Any, ...]:
        """The batch of these utterances, the `number`th of its epoch."""
        labels = self.examples.labels[utterances]
        inputs = self._inputs(utterances, epoch, number)
        return (
            (inputs, labels)
            if self.class_weights is None
            else (inputs, labels, self._weights(inputs, labels))
        )

    def beside(self, labelled: int) -> int:
        """How many clips without labels join so many examples."""
        clips = self.teacher.unlabelled
        return unlabelled_count(labelled, clips.share) if clips else 0

    def with_unlabelled(self, batch: tuple[Any, ...], position: int, count: int) -> tuple[Any, ...]:
        """The batch, and behind it the clips without labels from `position` of their order on.

        The clips get placeholders of the right shape for labels, soft labels, mixup and ratings; no loss
        reads them.
        """
        clips = self.teacher.unlabelled
        if clips is None:
            return batch
        inputs, labels, *weights = batch
        drawn = draw_unlabelled(len(clips.rows), position, count, seed=self.seed)
        classes = len(self.examples.classes)
        # What a loss compares with, or an example's own; made for what the batch has of it.
        made = {
            FEATURES: lambda: clips.rows_at(position)[drawn],
            TEACHER: lambda: clips.logits[drawn],
            TEACHER_EMBEDDING: lambda: clips.embedding[drawn],
            SOFT_LABELS: lambda: np.full((count, classes), 1 / classes),
            OTHER_LABELS: lambda: np.zeros(count),
            MIXUP_WEIGHT: lambda: np.ones(count),
            # nobody rated them
            DIMENSIONS: lambda: np.full((count, inputs[DIMENSIONS].shape[1]), np.nan),
            TEACHER_DIMENSIONS: lambda: np.full((count, inputs[TEACHER_DIMENSIONS].shape[1]), np.nan),
        }
        joined = {
            name: np.concatenate([values, made[name]().astype(values.dtype)])
            for name, values in inputs.items()
        }
        joined[IS_LABELLED] = np.repeat(np.array([1, 0], np.float32), [len(labels), count])
        labels = np.concatenate([labels, np.zeros(count, labels.dtype)])
        return (joined, labels, *(np.concatenate([each, np.ones(count, each.dtype)]) for each in weights))

    def _inputs(self, utterances: np.ndarray, epoch: int, number: int) -> dict[str, Any]:
        rows = self.examples.rows
        if self.augmenter:
            features = self.augmenter.features(rows, utterances, seed=self.seed, epoch=epoch, kept=self.kept)
        else:
            features = rows[utterances]
        carried = self.carried(epoch)
        inputs = {FEATURES: features} | {name: values[utterances] for name, values in carried.items()}
        asked = self.teacher.batch_teacher
        if not self.mixup:
            return inputs | (asked(features, utterances) if asked else {})
        share = augment.shares(self.mixup, seed=self.seed, epoch=epoch, utterances=utterances)
        other = augment.mates(len(utterances), seed=self.seed, epoch=epoch, batch=number)
        for name, values in inputs.items():
            inputs[name] = _mixed(name, values, values[other], share)
        if asked:
            inputs |= asked(inputs[FEATURES], utterances)
        return inputs | {OTHER_LABELS: self.examples.labels[utterances[other]], MIXUP_WEIGHT: share}

    def _weights(self, inputs: dict[str, Any], labels: np.ndarray) -> np.ndarray:
        weights = np.asarray(self.class_weights, np.float32)
        if not self.mixup:
            return weights[labels]
        return augment.mix(weights[labels], weights[inputs[OTHER_LABELS]], inputs[MIXUP_WEIGHT])


def _example(rows: Any, training: np.ndarray) -> Mapping[str, np.ndarray] | None:
    """A batch of the first utterance as a student of several inputs reads it; None of features alone."""
    example = None if hasattr(rows, "shape") else rows[training[:1]]
    return example if isinstance(example, Mapping) else None


def _check_changes(
    augmenter: Augmenter, example: Mapping[str, np.ndarray] | None, teacher: TeacherOutputs
) -> None:
    """Refuse to change what cannot be changed. Raises as `batches`."""
    if example is not None:
        raise UserError(
            "augmentation changes spectrograms, and this student reads text or embeddings too: "
            "leave out --augment, or choose a student of audio alone."
        )
    if augmenter.mixup and teacher.states is not None:
        raise UserError(
            "mixup cannot mix what a teacher says of two texts token by token: leave mixup out of "
            "--augment, or choose a distillation without states."
        )


def _mixed(name: str, values: np.ndarray, others: np.ndarray, share: np.ndarray) -> np.ndarray:
    mixed = augment.mix_logits if name == TEACHER else augment.mix
    return mixed(values, others, share)


def _free_signature(array: np.ndarray, shape: tuple[int | None, ...] | None = None):
    """Of a batch like `array`, whose second axis may differ from batch to batch unless `shape` is given."""
    import tensorflow as tf

    free = (None, *array.shape[2:]) if array.ndim > 1 else ()
    return tf.TensorSpec((None, *(free if shape is None else shape)), array.dtype)
