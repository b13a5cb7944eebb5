"""The Keras model that trains a student on labels and on a teacher's logits, embeddings and text states."""

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import keras
from keras import ops

from light_sernet_kd.config import distillation_spec
from light_sernet_kd.distillation.batch_checks import (
    LabelWatch,
    check_arrays,
    check_shapes,
    count_odd,
)
from light_sernet_kd.distillation.batch_keys import (
    DIMENSIONS,
    EMBEDDING,
    FEATURES,
    LOGITS,
    MIXUP_WEIGHT,
    OTHER_LABELS,
    SOFT_LABELS,
    STATES,
    TEACHER,
    TEACHER_DIMENSIONS,
    TEACHER_EMBEDDING,
    TEACHER_STATES,
)
from light_sernet_kd.distillation.batch_means import factors_of_labelled, weighted_mean, weights_of_labelled
from light_sernet_kd.distillation.custom_losses import custom_loss_sum, student_output
from light_sernet_kd.distillation.label_checks import check_label_shape
from light_sernet_kd.distillation.loss_ramps import LossRamps, RampWatch
from light_sernet_kd.distillation.losses import hard_labels, settings_of, standardised, terms_of
from light_sernet_kd.distillation.student_outputs import dimensions_of, embedding_of, text_states_of
from light_sernet_kd.errors import UserError, choose
from light_sernet_kd.registries.losses import DIMENSION_LOSSES, LABEL_LOSSES, NO_TEACHER

# The outputs of a student of several, in their order.
_OF_SEVERAL = (LOGITS, DIMENSIONS)


@dataclass(frozen=True)
class TeacherWidths:
    """The widths of the teacher's outputs that a loss may need; None where no loss needs one.

    Attributes:
        embedding: of `teacher_embedding`, which a loss with a linear layer to it, `hint`, must know.
        states: of `teacher_states`, which a loss on states must know.
    """

    embedding: int | None = None
    states: int | None = None


class _Compared(NamedTuple):
    """What a loss compares: the student's output, the teacher's in a batch, and what people call them."""

    output: str
    key: str
    plural: str


# By the names of `Distillation.compares`, two of which are of `TeacherWidths`.
_COMPARED = {
    "logits": _Compared(LOGITS, TEACHER, "logits"),
    "embedding": _Compared(EMBEDDING, TEACHER_EMBEDDING, "embeddings"),
    "states": _Compared(STATES, TEACHER_STATES, "text states"),
    "dimensions": _Compared(DIMENSIONS, TEACHER_DIMENSIONS, "values of dimensions"),
}


class Distiller(keras.Model):
    """Trains `student`; compile, fit, evaluate and predict are Keras'.

    A batch's targets are class indices `(batch,)`, its inputs the features alone or a dictionary of

    - `features`: `(batch, frames, features, 1)`, or of a student with several inputs a dictionary by their
      names;
    - `soft_labels`: `(batch, classes)`, where the label loss has these as its target. What a distillation
      loss takes for the label is then the class with the largest share (`losses.hard_labels`). Accuracy is
      that of the targets;
    - `teacher`: logits `(batch, classes)`, where a loss compares with them;
    - `teacher_embedding`: `(batch, Et)`, where a loss compares with it;
    - `teacher_states`: of the text's tokens, `(batch, tokens, Wt)`, rows of zeros being padding, where a loss
      compares with them;
    - `dimensions`: ratings `(batch, dimensions)` from -1 to 1, NaN where there is none, where the second
      output of a student learns them (`learn_dimensions`). Predictions are then a dictionary;
    - `teacher_dimensions`: likewise, where a loss compares with them;
    - `other_labels`, `share`: `(batch,)`, where examples are mixed of two (mixup). Whatever of the loss
      belongs to one example is then `share` times that with its label and `1 - share` times that with its
      other label. Relations between examples read no labels and count once. Soft labels are given mixed;
      a mixture does not tell the largest share of either, so the label is the target as it is;
    - `labelled`: `(batch,)`, 1 of an example with a label and 0 of one without, whose label may be any class
      index: nothing reads it. The label loss, and a loss that is defined by the label (DKD, NKD, WSLD), are
      then means over the labelled examples, all others over the whole batch. Accuracy is that of the labelled
      ones.

    What comes from the teacher is data: only training reads it, so evaluation and prediction may leave it
    out. Sample and class weights weigh what a distillation loss says of one example; relations between
    examples (RKD, CKD, DIST, PKT, SP) stay unweighted. The student's own losses (its L2) are added. What is
    saved is the student.

    Args:
        student: features to logits.
        label_loss: name in `registries.losses.LABEL_LOSSES`; `label_settings` override its defaults.
        distillation: a name or a weighted sum, as `distillation_spec.parse` reads it; `distillation_settings`
            override the published weights: `alpha` of a single loss, `KD.alpha` in a sum. A number may
            change over the epochs: `"0.9>0.3"` goes from 0.9 in the first to 0.3 in the last one of `fit`
            (elsewhere `ramps.set_epoch` gives it its value). Or a function of the teacher's and the student's
            logits to `(batch,)` or a scalar, or a loss of `keras.distillation`; its settings are
            `label_weight` and `weight`, both 1. One on features compares the student's layer that it names
            with `teacher_embedding`.
        standardise_logits: distillation losses get teacher's and student's logits as `losses.standardised`
            makes them; the label loss does not.
        teacher_widths: Et and Wt, where a loss must know them.
        weight_decay: adds `weight_decay * w` to every weight's gradient, as PyTorch's Adam does; Keras' own
            `weight_decay` is the decoupled one of AdamW.

    Attributes:
        projection: the linear layer from the student's embedding to the teacher's where a loss, `hint`, has
            one, else None.
        state_projection: that from the student's states to the teacher's where a loss, `states`, has one for
            states of unequal width, else None.

    Raises:
        UserError: an unknown loss or weight, a student without what a loss compares, a batch without what
            the loss needs of the teacher, or one of another shape; labels that are no class indices (in a
            dataset, whose values no shape tells, at the end of the epoch).

    A student of zeros finds three classes alike; the label has 0.3 of the loss, and a teacher that finds the
    same adds nothing: 0.3 log 3.

    >>> import numpy as np
    >>> student = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    >>> distiller = Distiller(student, distillation="KD")
    >>> distiller.compile("sgd")
    >>> inputs = {"features": np.zeros((2, 4)), "teacher": np.zeros((2, 3))}
    >>> fit = distiller.fit(inputs, np.array([0, 1]), verbose=0)
    >>> round(fit.history["loss"][0], 4), round(fit.history["label_loss"][0], 4)
    (0.3296, 1.0986)
    """

    def __init__(
        self,
        student: keras.Model,
        *,
        label_loss: str = "cross_entropy",
        distillation: Any = NO_TEACHER,
        label_settings: Mapping[str, Any] | None = None,
        distillation_settings: Mapping[str, Any] | None = None,
        standardise_logits: bool = False,
        teacher_widths: TeacherWidths = TeacherWidths(),
        weight_decay: float = 0.0,
    ):
        super().__init__(name=f"distiller_of_{student.name}")
        self.student = student
        label_loss = choose("label loss", label_loss, LABEL_LOSSES)
        self.label_settings = settings_of(label_loss, label_settings)
        self.label_loss = LABEL_LOSSES[label_loss].loss
        is_named = isinstance(distillation, str)
        self.distillation = (
            distillation_spec.parse(distillation) if is_named else custom_loss_sum(distillation)
        )
        self.terms = terms_of(self.distillation, distillation_settings)
        self.ramps = LossRamps(self.terms, self.add_weight)
        self.standardise_logits = standardise_logits
        self.weight_decay = weight_decay
        self.teacher_widths = teacher_widths
        self.projection: Any = None
        self.state_projection: Any = None
        outputs = {LOGITS: student.outputs[0]}
        self.dimensions_loss: Any = None
        self.dimensions_tracker: Any = None
        self.dimensions_weight = 0.0
        if len(student.outputs) > 1 or self.distillation.needs_dimensions:
            outputs[DIMENSIONS] = dimensions_of(student)
        if self.distillation.needs_embeddings:
            named = None if is_named else student_output(distillation, student)
            outputs[EMBEDDING] = embedding_of(student) if named is None else named
            self.projection = self._projection("projection", outputs, "embedding")
        if self.distillation.needs_states:
            outputs[STATES] = text_states_of(student)
            self.state_projection = self._projection("state_projection", outputs, "states")
        self._run: Any = None
        if len(outputs) > 1:
            inputs = student.inputs[0] if len(student.inputs) == 1 else student.input
            run = keras.Model(inputs, outputs)
            # A function, because as an attribute Keras would count the student's layers twice.
            self._run = lambda features: run(features, training=True)
        self.label_tracker = keras.metrics.Mean(name="label_loss")
        self.accuracy_tracker = keras.metrics.SparseCategoricalAccuracy(name="accuracy")
        # Labels that are no class, since the epoch's beginning: a compiled step cannot refuse them.
        self.odd_labels = keras.metrics.Sum(name="odd_labels")

    def _projection(self, name: str, outputs: Mapping[str, Any], compared: str) -> keras.layers.Dense | None:
        """The linear layer to the teacher's width that a loss of the sum has, if one has."""
        losses = (term for term, _ in self.terms if term.entry.compares == compared)
        loss = next((term for term in losses if term.entry.projection), None)
        if loss is None:
            return None
        compares, width = _COMPARED[compared], getattr(self.teacher_widths, compared)
        if not width:
            raise UserError(
                f"{loss.name} needs the width of the teacher's {compares.plural}: "
                f"pass teacher_widths=TeacherWidths({compared}=…)."
            )
        output = outputs[compares.output]
        if loss.entry.projection == "unequal" and output.shape[-1] == width:
            return None
        return _linear(name, output, width)

    @property
    def classes(self) -> int:
        """How many the student tells apart."""
        return int(self.student.outputs[0].shape[-1])

    @property
    def projections(self) -> list[keras.layers.Dense]:
        """The linear layers to the teacher's widths, where there are: what trains beside the student."""
        return [layer for layer in (self.projection, self.state_projection) if layer]

    @property
    def loss_numbers(self) -> list[float]:
        """The numbers that the losses are computed with, in a fixed order: settings, and weights of the sum.

        >>> student = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
        >>> Distiller(student, distillation="KD:0.5").loss_numbers  # smoothing, weight, temperature, alpha
        [0.0, 0.5, 1.2, 0.7]
        """
        numbers = list(filter(_is_number, self.label_settings.values()))
        for term, settings in self.terms:
            numbers += [term.weight, *filter(_is_number, settings.values())]
        return numbers

    @contextlib.contextmanager
    def with_loss_numbers(self, numbers) -> Iterator[None]:
        """Within, the losses are computed with these numbers, which may be traced: one graph for many runs.

        Args:
            numbers: in the order of `loss_numbers`.
        """
        left = iter([numbers[i] for i in range(len(self.loss_numbers))])

        def replaced(settings):
            return {name: next(left) if _is_number(value) else value for name, value in settings.items()}

        before = self.label_settings, self.terms
        self.label_settings = replaced(self.label_settings)
        self.terms = [
            (dataclasses.replace(term, weight=next(left)), replaced(settings))
            for term, settings in self.terms
        ]
        try:
            yield
        finally:
            self.label_settings, self.terms = before

    def learn_dimensions(self, loss: str = "ccc", *, weight: float = 1.0) -> None:
        """Add a loss on the ratings in a batch's `dimensions`, `weight` times; before `compile`.

        The student's second output, `dimensions`, is trained on them: `students.build` makes it.

        Args:
            loss: name in `registries.losses.DIMENSION_LOSSES`.

        Raises:
            UserError: no such loss, or the student has no second output.

        >>> from light_sernet_kd import students
        >>> distiller = Distiller(students.build("light_sernet", (60, 40, 1), 3, width=0.1, dimensions=2))
        >>> distiller.learn_dimensions("mse", weight=0.5)
        """
        dimensions_of(self.student)
        self.dimensions_loss = DIMENSION_LOSSES[choose("loss", loss, DIMENSION_LOSSES)].loss
        self.dimensions_weight = weight
        self.dimensions_tracker = keras.metrics.Mean(name="dimensions_loss")

    def start_projection_anew(self, seed: int) -> None:
        """Give the linear layers to the teacher's widths new weights that `seed` decides."""
        for layer in self.projections:
            layer.kernel.assign(keras.initializers.GlorotUniform(seed=seed)(layer.kernel.shape))
            layer.bias.assign(ops.zeros_like(layer.bias))

    def compile(self, optimizer="adam", **kwargs):
        """As Keras' `compile`; the loss is this model's own, so it takes none.

        Raises:
            UserError: a loss is given.
        """
        if kwargs.get("loss") is not None:
            raise UserError("a Distiller brings its own loss: name it where the Distiller is made.")
        super().compile(optimizer=optimizer, **kwargs)

    def fit(self, x=None, y=None, batch_size=None, epochs=1, verbose="auto", callbacks=None,
            *arguments, **kwargs):  # fmt: skip
        """As Keras' `fit`; labels that are no class indices are refused."""
        check_arrays(x, y, classes=self.classes)
        validation = kwargs.get("validation_data")
        if isinstance(validation, list | tuple):
            check_arrays(*validation[:2], classes=self.classes)
        callbacks = self._watched(callbacks)
        if self.ramps and not any(isinstance(each, RampWatch) for each in callbacks):
            callbacks = [RampWatch(epochs), *callbacks]
        return super().fit(x, y, batch_size, epochs, verbose, callbacks, *arguments, **kwargs)

    def evaluate(self, x=None, y=None, batch_size=None, verbose="auto", sample_weight=None, steps=None,
                 callbacks=None, **kwargs):  # fmt: skip
        """As Keras' `evaluate`; labels that are no class indices are refused."""
        check_arrays(x, y, classes=self.classes)
        # Within `fit` the callbacks are a list of Keras' own, which watches already.
        callbacks = self._watched(callbacks)
        return super().evaluate(x, y, batch_size, verbose, sample_weight, steps, callbacks, **kwargs)

    def train_on_batch(self, x, y=None, *arguments, **kwargs):
        """As Keras' `train_on_batch`.

        Raises:
            UserError: as `check_arrays`.
        """
        check_arrays(x, y, classes=self.classes)
        return super().train_on_batch(x, y, *arguments, **kwargs)

    def test_on_batch(self, x, y=None, *arguments, **kwargs):
        """As Keras' `test_on_batch`.

        Raises:
            UserError: as `check_arrays`.
        """
        check_arrays(x, y, classes=self.classes)
        return super().test_on_batch(x, y, *arguments, **kwargs)

    def _watched(self, callbacks):
        if isinstance(callbacks, keras.callbacks.CallbackList):
            return callbacks
        single = [callbacks] * (callbacks is not None)
        return [LabelWatch(self), *(callbacks if isinstance(callbacks, list | tuple) else single)]

    def build(self, input_shape=None):
        self.built = True

    def call(self, inputs, training=None):
        """The student's logits, or a dictionary of logits and dimensions; in training, where a loss needs
        them, embedding and states beside them.
        """
        features = self._features(inputs)
        if training and self._run:
            return self._run(features)
        made = self.student(features, training=training)
        return dict(zip(_OF_SEVERAL, made, strict=True)) if isinstance(made, list | tuple) else made

    @property
    def has_several_outputs(self) -> bool:
        """Whether in training it gives more than logits."""
        return self._run is not None

    def _features(self, inputs):
        if not isinstance(inputs, Mapping):
            return inputs
        names = [tensor.name for tensor in self.student.inputs]
        if len(names) > 1 and not isinstance(inputs.get(FEATURES), Mapping):
            # the student's inputs alone, one of which may be called features too
            return {name: inputs[name] for name in names}
        return inputs[FEATURES]

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        if y is None:
            raise UserError("a batch has no labels: pass class indices (batch,) beside its inputs.")
        y = ops.convert_to_tensor(y)
        check_label_shape("the labels", y.shape, self.classes)
        self.odd_labels.update_state(count_odd(y, self.classes))
        labels = _indices(y)
        outputs = _by_name(y_pred)
        batch = x if isinstance(x, Mapping) else {}
        if not training:
            label_loss = self._label_loss(labels, batch, outputs)
            self.label_tracker.update_state(label_loss, sample_weight=sample_weight)
            return weighted_mean(label_loss, sample_weight)
        self._check_teacher_outputs(batch)
        check_shapes(batch, y.shape[0], self.classes)
        if SOFT_LABELS in batch and MIXUP_WEIGHT not in batch:
            labels = hard_labels(labels, batch[SOFT_LABELS])
        label_loss, per_example, relational = self._parts(labels, batch, outputs)
        if MIXUP_WEIGHT in batch:
            self.odd_labels.update_state(count_odd(batch[OTHER_LABELS], self.classes))
            share = ops.cast(ops.reshape(batch[MIXUP_WEIGHT], (-1,)), per_example.dtype)
            others = self._parts(_indices(batch[OTHER_LABELS]), batch, outputs)
            label_loss = share * label_loss + (1 - share) * others[0]
            per_example = share * per_example + (1 - share) * others[1]
        self.label_tracker.update_state(label_loss, sample_weight=weights_of_labelled(batch, sample_weight))
        loss = weighted_mean(per_example, sample_weight) + relational
        if self.dimensions_loss:
            rated = self.dimensions_loss(batch[DIMENSIONS], outputs[DIMENSIONS])
            # By how many ratings there are: of a batch without any the loss is 0.
            known = ops.sum(ops.cast(ops.isfinite(batch[DIMENSIONS]), rated.dtype))
            self.dimensions_tracker.update_state(rated, sample_weight=known)
            loss = loss + self.dimensions_weight * rated
        for regularisation in self.losses:
            loss = loss + ops.sum(ops.cast(regularisation, loss.dtype))
        if self.weight_decay:
            # the gradient of half the square is the weight itself
            squares = [ops.sum(ops.square(weight)) for weight in self.trainable_variables]
            loss = loss + 0.5 * self.weight_decay * sum(squares)
        return loss

    def _check_teacher_outputs(self, batch: Mapping[str, Any]) -> None:
        for compared, compares in _COMPARED.items():
            if self.distillation.compares(compared) and batch.get(compares.key) is None:
                raise UserError(
                    f"{self.distillation} needs the teacher's {compares.plural} in every training batch: "
                    f'pass x={{"{FEATURES}": …, "{compares.key}": …}}.'
                )
        if self.dimensions_loss and batch.get(DIMENSIONS) is None:
            raise UserError(
                f'the loss on dimensions needs their values in every training batch: pass x={{"{FEATURES}": '
                f'…, "{DIMENSIONS}": …}}.'
            )
        if (MIXUP_WEIGHT in batch) != (OTHER_LABELS in batch):
            raise UserError(f'a batch of mixed examples has both "{OTHER_LABELS}" and "{MIXUP_WEIGHT}".')
        for compared in ("embedding", "states"):
            compares, width = _COMPARED[compared], getattr(self.teacher_widths, compared)
            uses_width = self.projection if compared == "embedding" else self.distillation.needs_states
            if width and uses_width and batch[compares.key].shape[-1] != width:
                raise UserError(
                    f"the teacher's {compares.plural} are {batch[compares.key].shape[-1]} wide, "
                    f"but teacher_widths.{compared} is {width}."
                )

    def _label_loss(self, labels, batch, outputs):
        return self.label_loss(batch.get(SOFT_LABELS, labels), outputs[LOGITS], **self.label_settings)

    def _parts(self, labels, batch, outputs):
        """The label loss `(batch,)`, and the two parts of the weighted sum of all losses."""
        label_loss = self._label_loss(labels, batch, outputs)
        labelled = factors_of_labelled(batch, label_loss.dtype)
        counted = label_loss if labelled is None else labelled * label_loss
        pairs: dict[str | None, Any] = {None: (None, None)}
        for compared, compares in _COMPARED.items():
            pairs[compared] = batch.get(compares.key), outputs.get(compares.output)
        if self.standardise_logits and self.distillation.needs_logits:
            pairs["logits"] = [standardised(logits) for logits in pairs["logits"]]
        projections: dict[str | None, Any] = {"embedding": self.projection, "states": self.state_projection}
        per_example = counted if self.distillation.adds_label_loss else ops.zeros_like(label_loss)
        relational = ops.zeros((), dtype=label_loss.dtype)
        for term, settings in self.terms:
            entry = term.entry
            teacher, student = pairs[entry.compares]
            if entry.projection and (projection := projections[entry.compares]):
                student = projection(student)
            # What is defined by the label is left to the labelled examples as a whole, and of another loss
            # its label loss alone, in which each loss is linear.
            whole = entry.reads_label and labelled is not None
            first = (label_loss if whole else counted,) if entry.brings_label_loss else ()
            parts = entry.loss(*first, labels, teacher, student, **self.ramps.now(term, settings))
            per_example = per_example + term.weight * (labelled * parts[0] if whole else parts[0])
            relational = relational + term.weight * parts[1]
        return label_loss, per_example, relational

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        logits = _by_name(y_pred)[LOGITS]
        weights = weights_of_labelled(x if isinstance(x, Mapping) else {}, sample_weight)
        self.accuracy_tracker.update_state(y, logits, sample_weight=weights)
        return super().compute_metrics(x, y, logits, sample_weight)

    @property
    def metrics(self):
        trackers = [self.label_tracker, self.accuracy_tracker, self.odd_labels]
        trackers += [self.dimensions_tracker] if self.dimensions_tracker else []
        return [*(metric for metric in super().metrics if metric not in trackers), *trackers]

    def get_metrics_result(self):
        """As Keras has it, without what is no metric of the student."""
        return {name: value for name, value in super().get_metrics_result().items() if name != "odd_labels"}

    def save(self, filepath, overwrite=True, **kwargs):
        """Save the student, which is what a device needs; it loads without this class."""
        self.student.save(filepath, overwrite=overwrite, **kwargs)


def _is_number(setting: Any) -> bool:
    return isinstance(setting, int | float) and not isinstance(setting, bool)


def _linear(name: str, source, width: int) -> keras.layers.Dense:
    layer = keras.layers.Dense(width, name=name, dtype="float32")
    layer.build(source.shape)
    return layer


def _by_name(outputs) -> Mapping[str, Any]:
    return outputs if isinstance(outputs, Mapping) else {LOGITS: outputs}


def _indices(labels):
    return ops.cast(ops.reshape(labels, (-1,)), "int32")
