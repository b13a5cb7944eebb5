"""The Keras model that trains a student on labels and on a teacher's logits, embeddings and text states."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from light_sernet_kd.config import distillation_spec
from light_sernet_kd.distillation.batch_keys import (
    EMBEDDING,
    FEATURES,
    LOGITS,
    MIXUP_WEIGHT,
    OTHER_LABELS,
    SOFT_LABELS,
    STATES,
    TEACHER,
    TEACHER_EMBEDDING,
    TEACHER_STATES,
)
from light_sernet_kd.distillation.losses import hard_labels, settings_of, standardised, terms_of
from light_sernet_kd.errors import UserError, choose
from light_sernet_kd.registries.losses import LABEL_LOSSES, NO_TEACHER

TEXT_ENCODER = "text_encoder"


class _Compared(NamedTuple):
    """What a loss compares: the student's output, the teacher's in a batch, its name, and its width's."""

    output: str
    key: str
    plural: str
    width: str = ""


_COMPARED = {
    "logits": _Compared(LOGITS, TEACHER, "logits"),
    "embedding": _Compared(EMBEDDING, TEACHER_EMBEDDING, "embeddings", "teacher_embedding_width"),
    "states": _Compared(STATES, TEACHER_STATES, "text states", "teacher_state_width"),
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
    - `other_labels`, `share`: `(batch,)`, where examples are mixed of two (mixup). Whatever of the loss
      belongs to one example is then `share` times that with its label and `1 - share` times that with its
      other label. Relations between examples read no labels and count once. Soft labels are given mixed;
      a mixture does not tell the largest share of either, so the label is the target as it is.

    What comes from the teacher is data: only training reads it, so evaluation and prediction may leave it
    out. Sample and class weights weigh what a distillation loss says of one example; relations between
    examples (RKD, CKD, DIST, PKT, SP) stay unweighted. The student's own losses (its L2) are added. What is
    saved is the student.

    Args:
        student: features to logits.
        label_loss: name in `registries.losses.LABEL_LOSSES`; `label_settings` override its defaults.
        distillation: a name or a weighted sum, as `mixtures.parse` reads it; `distillation_settings`
            override the published weights: `alpha` of a single loss, `KD.alpha` in a sum.
        standardise_logits: distillation losses get teacher's and student's logits as `losses.standardised`
            makes them; the label loss does not.
        teacher_embedding_width: Et, which a loss with a linear layer to it, `hint`, must know.
        teacher_state_width: Wt, which a loss on states must know.
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
        distillation: str = NO_TEACHER,
        label_settings: Mapping[str, Any] | None = None,
        distillation_settings: Mapping[str, Any] | None = None,
        standardise_logits: bool = False,
        teacher_embedding_width: int | None = None,
        teacher_state_width: int | None = None,
        weight_decay: float = 0.0,
    ):
        super().__init__(name=f"distiller_of_{student.name}")
        self.student = student
        label_loss = choose("label loss", label_loss, LABEL_LOSSES)
        self.label_settings = settings_of(label_loss, label_settings)
        self.label_loss = LABEL_LOSSES[label_loss].loss
        self.distillation = distillation_spec.parse(distillation)
        self.terms = terms_of(self.distillation, distillation_settings)
        self.standardise_logits = standardise_logits
        self.weight_decay = weight_decay
        self.projection: Any = None
        self.state_projection: Any = None
        outputs = {LOGITS: student.outputs[0]}
        if self.distillation.needs_embeddings:
            outputs[EMBEDDING] = embedding_of(student)
            self.projection = self._projection("projection", outputs, "embedding", teacher_embedding_width)
        if self.distillation.needs_states:
            outputs[STATES] = text_states_of(student)
            self.state_projection = self._projection(
                "state_projection", outputs, "states", teacher_state_width
            )
        self.teacher_state_width = teacher_state_width
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

    def _projection(
        self, name: str, outputs: Mapping[str, Any], compared: str, width: int | None
    ) -> keras.layers.Dense | None:
        """The linear layer to the teacher's width that a loss of the sum has, if one has."""
        losses = (term for term, _ in self.terms if term.entry.compares == compared)
        loss = next((term for term in losses if term.entry.projection), None)
        if loss is None:
            return None
        compares = _COMPARED[compared]
        if not width:
            raise UserError(
                f"{loss.name} needs the width of the teacher's {compares.plural}: pass {compares.width}=…."
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

    def start_projection_anew(self, seed: int) -> None:
        """Give the linear layers to the teacher's widths new weights that `seed` decides."""
        for layer in self.projections:
            layer.kernel.assign(keras.initializers.GlorotUniform(seed=seed)(layer.kernel.shape))
            layer.bias.assign(ops.zeros_like(layer.bias))

    def compile(self, optimizer="adam", **kwargs):
        """As Keras' `compile`; the loss is this model's own, so it takes none."""
        if kwargs.get("loss") is not None:
            raise UserError("a Distiller brings its own loss: name it where the Distiller is made.")
        super().compile(optimizer=optimizer, **kwargs)

    def fit(self, x=None, y=None, batch_size=None, epochs=1, verbose="auto", callbacks=None,
            *arguments, **kwargs):  # fmt: skip
        """As Keras' `fit`; labels that are no class indices are refused."""
        self._check_arrays(x, y)
        validation = kwargs.get("validation_data")
        if isinstance(validation, list | tuple):
            self._check_arrays(*validation[:2])
        callbacks = self._watched(callbacks)
        return super().fit(x, y, batch_size, epochs, verbose, callbacks, *arguments, **kwargs)

    def evaluate(self, x=None, y=None, batch_size=None, verbose="auto", sample_weight=None, steps=None,
                 callbacks=None, **kwargs):  # fmt: skip
        """As Keras' `evaluate`; labels that are no class indices are refused."""
        self._check_arrays(x, y)
        # Within `fit` the callbacks are a list of Keras' own, which watches already.
        callbacks = self._watched(callbacks)
        return super().evaluate(x, y, batch_size, verbose, sample_weight, steps, callbacks, **kwargs)

    def train_on_batch(self, x, y=None, *arguments, **kwargs):
        self._check_arrays(x, y)
        return super().train_on_batch(x, y, *arguments, **kwargs)

    def test_on_batch(self, x, y=None, *arguments, **kwargs):
        self._check_arrays(x, y)
        return super().test_on_batch(x, y, *arguments, **kwargs)

    def _watched(self, callbacks):
        if isinstance(callbacks, keras.callbacks.CallbackList):
            return callbacks
        given = callbacks if isinstance(callbacks, list | tuple) else [callbacks] * (callbacks is not None)
        return [_LabelWatch(self), *given]

    def _check_arrays(self, x=None, y=None) -> None:
        """Of arrays in memory all values can be checked before any is trained on."""
        if y is None or not (hasattr(y, "shape") or isinstance(y, list | tuple)):
            return  # a dataset brings its own labels
        labels = np.asarray(keras.ops.convert_to_numpy(y))
        _check_label_shape("the labels", labels.shape, self.classes)
        for name, values in (("the labels", labels), (f'"{OTHER_LABELS}"', _own(x, OTHER_LABELS))):
            if values is None:
                continue
            numbers = np.asarray(keras.ops.convert_to_numpy(values)).ravel()
            if numbers.dtype.kind not in "biuf":
                found = f"{numbers[0]!s}, which is no number" if len(numbers) else "none"
                raise UserError(_odd_labels(name, found, self.classes))
            odd = numbers[~((numbers >= 0) & (numbers < self.classes) & (numbers == np.floor(numbers)))]
            if len(odd):
                raise UserError(_odd_labels(name, f"{odd[0]} and {len(odd) - 1} more", self.classes))
        for name, values in _arrays(x).items():
            if hasattr(values, "shape") and len(values) != len(labels):
                raise UserError(f"{len(values)} rows of {name} were given for {len(labels)} labels.")
            if name in (TEACHER, SOFT_LABELS) and hasattr(values, "shape"):
                numbers = np.asarray(keras.ops.convert_to_numpy(values))
                if broken := np.count_nonzero(~np.isfinite(numbers)):
                    raise UserError(
                        f'"{name}" has {broken} of {numbers.size} values that are not finite: mend them.'
                    )

    def build(self, input_shape=None):
        self.built = True

    def call(self, inputs, training=None):
        """The student's logits; in training, where a loss needs them, embedding and states beside them."""
        features = self._features(inputs)
        return self._run(features) if training and self._run else self.student(features, training=training)

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
        _check_label_shape("the labels", y.shape, self.classes)
        self.odd_labels.update_state(_count_odd(y, self.classes))
        labels = _indices(y)
        outputs = _by_name(y_pred)
        given = x if isinstance(x, Mapping) else {}
        if not training:
            label_loss = self._label_loss(labels, given, outputs)
            self.label_tracker.update_state(label_loss, sample_weight=sample_weight)
            return _weighted_mean(label_loss, sample_weight)
        self._check(given)
        self._check_shapes(given, len_of=y.shape[0])
        if SOFT_LABELS in given and MIXUP_WEIGHT not in given:
            labels = hard_labels(labels, given[SOFT_LABELS])
        label_loss, per_example, relational = self._parts(labels, given, outputs)
        if MIXUP_WEIGHT in given:
            self.odd_labels.update_state(_count_odd(given[OTHER_LABELS], self.classes))
            share = ops.cast(ops.reshape(given[MIXUP_WEIGHT], (-1,)), per_example.dtype)
            others = self._parts(_indices(given[OTHER_LABELS]), given, outputs)
            label_loss = share * label_loss + (1 - share) * others[0]
            per_example = share * per_example + (1 - share) * others[1]
        self.label_tracker.update_state(label_loss, sample_weight=sample_weight)
        loss = _weighted_mean(per_example, sample_weight) + relational
        for regularisation in self.losses:
            loss = loss + ops.sum(ops.cast(regularisation, loss.dtype))
        if self.weight_decay:
            # the gradient of half the square is the weight itself
            squares = [ops.sum(ops.square(weight)) for weight in self.trainable_variables]
            loss = loss + 0.5 * self.weight_decay * sum(squares)
        return loss

    def _check(self, given: Mapping[str, Any]) -> None:
        for compared, compares in _COMPARED.items():
            if self.distillation.compares(compared) and given.get(compares.key) is None:
                raise UserError(
                    f"{self.distillation} needs the teacher's {compares.plural} in every training batch: "
                    f'pass x={{"{FEATURES}": …, "{compares.key}": …}}.'
                )
        if (MIXUP_WEIGHT in given) != (OTHER_LABELS in given):
            raise UserError(f'a batch of mixed examples has both "{OTHER_LABELS}" and "{MIXUP_WEIGHT}".')
        if self.projection and given[TEACHER_EMBEDDING].shape[-1] != self.projection.units:
            raise UserError(
                f"the teacher's embeddings are {given[TEACHER_EMBEDDING].shape[-1]} wide, "
                f"but teacher_embedding_width is {self.projection.units}."
            )
        width = self.teacher_state_width
        if width and self.distillation.needs_states and given[TEACHER_STATES].shape[-1] != width:
            raise UserError(
                f"the teacher's text states are {given[TEACHER_STATES].shape[-1]} wide, "
                f"but teacher_state_width is {width}."
            )

    def _check_shapes(self, given: Mapping[str, Any], len_of: int | None) -> None:
        """What a compiled step knows of the batch's shapes; a length that it does not know is None."""
        shape = (None, self.classes)
        for key, expected in {
            TEACHER: shape,
            SOFT_LABELS: shape,
            TEACHER_EMBEDDING: (None, None),
            TEACHER_STATES: (None, None, None),
        }.items():
            if given.get(key) is None:
                continue
            found = tuple(given[key].shape)
            wide = len(found) == len(expected) and expected[-1] in (None, found[-1])
            if not wide or (len_of is not None and found[0] not in (None, len_of)):
                text = f"({', '.join(['batch', *(str(n or 'n') for n in expected[1:])])})"
                raise UserError(
                    f'"{key}" of a batch of {len_of or "n"} has the shape {found}; expected {text}'
                    f"{_of_classes(key, self.classes)}."
                )
        for key in (OTHER_LABELS, MIXUP_WEIGHT):
            if key in given:
                _check_label_shape(f'"{key}"', given[key].shape, self.classes)

    def _label_loss(self, labels, given, outputs):
        return self.label_loss(given.get(SOFT_LABELS, labels), outputs[LOGITS], **self.label_settings)

    def _parts(self, labels, given, outputs):
        """The label loss `(batch,)`, and the two parts of the weighted sum of all losses."""
        label_loss = self._label_loss(labels, given, outputs)
        pairs: dict[str | None, Any] = {None: (None, None)}
        for compared, compares in _COMPARED.items():
            pairs[compared] = given.get(compares.key), outputs.get(compares.output)
        if self.standardise_logits and self.distillation.needs_logits:
            pairs["logits"] = [standardised(logits) for logits in pairs["logits"]]
        projections: dict[str | None, Any] = {"embedding": self.projection, "states": self.state_projection}
        per_example = label_loss if self.distillation.adds_label_loss else ops.zeros_like(label_loss)
        relational = ops.zeros((), dtype=label_loss.dtype)
        for term, settings in self.terms:
            entry = term.entry
            teacher, student = pairs[entry.compares]
            if entry.projection and (projection := projections[entry.compares]):
                student = projection(student)
            first = (label_loss,) if entry.brings_label_loss else ()
            parts = entry.loss(*first, labels, teacher, student, **settings)
            per_example = per_example + term.weight * parts[0]
            relational = relational + term.weight * parts[1]
        return label_loss, per_example, relational

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        logits = _by_name(y_pred)[LOGITS]
        self.accuracy_tracker.update_state(y, logits, sample_weight=sample_weight)
        return super().compute_metrics(x, y, logits, sample_weight)

    @property
    def metrics(self):
        own = [self.label_tracker, self.accuracy_tracker, self.odd_labels]
        return [*(metric for metric in super().metrics if metric not in own), *own]

    def get_metrics_result(self):
        """As Keras has it, without what is no metric of the student."""
        return {name: value for name, value in super().get_metrics_result().items() if name != "odd_labels"}

    def save(self, filepath, overwrite=True, **kwargs):
        """Save the student, which is what a device needs; it loads without this class."""
        self.student.save(filepath, overwrite=overwrite, **kwargs)


class _LabelWatch(keras.callbacks.Callback):
    """Refuses labels that are no class indices, where only a compiled step saw them."""

    def __init__(self, distiller: Distiller):
        super().__init__()
        self.distiller = distiller

    def _look(self) -> None:
        if count := int(self.distiller.odd_labels.result()):
            self.distiller.odd_labels.reset_state()
            name = "the labels of the dataset"
            raise UserError(_odd_labels(name, f"{count} others", self.distiller.classes))

    # Validation begins its own count, before the epoch's end.
    def on_test_begin(self, logs=None):
        self._look()

    def on_test_end(self, logs=None):
        self._look()

    def on_epoch_end(self, epoch, logs=None):
        self._look()


def _odd_labels(name: str, found: str, classes: int) -> str:
    return (
        f"{name} must be class indices from 0 to {classes - 1}, as the student has {classes} outputs; "
        f"found {found}."
    )


def _count_odd(labels, classes: int):
    """How many labels are no class index."""
    numbers = ops.cast(labels, "float32")
    odd = ops.logical_or(ops.logical_or(numbers < 0, numbers >= classes), numbers != ops.floor(numbers))
    return ops.sum(ops.cast(odd, "float32"))


def _check_label_shape(name: str, shape: Sequence[int | None], classes: int) -> None:
    shape = tuple(shape)
    if len(shape) == 1 or (len(shape) == 2 and shape[1] == 1):
        return
    one_hot = ""
    if len(shape) == 2 and shape[1] in (None, classes):
        one_hot = (
            " One-hot labels become indices with argmax(axis=1); shares of annotators go into "
            f'x["{SOFT_LABELS}"], beside indices.'
        )
    raise UserError(f"{name} must be class indices of the shape (batch,), found {shape}.{one_hot}")


def _of_classes(key: str, classes: int) -> str:
    if key not in (TEACHER, SOFT_LABELS):
        return ""
    return f", since the student tells {classes} classes apart: both need the same classes in one order"


def _own(x: Any, key: str) -> Any:
    return x.get(key) if isinstance(x, Mapping) else None


def _arrays(x: Any) -> dict[str, Any]:
    """The arrays of a batch's inputs by name."""
    if not isinstance(x, Mapping):
        return {FEATURES: x}
    flat: dict[str, Any] = {}
    for name, values in x.items():
        flat |= values if isinstance(values, Mapping) else {name: values}
    return flat


def embedding_of(student: keras.Model):
    """The symbolic tensor `(batch, Es)` that losses on embeddings compare.

    The output of the student's layer `embedding`; without one the input of its last layer, before Dropout.

    Raises:
        UserError: there is no one vector per example there.
    """
    named = [layer for layer in student.layers if layer.name == EMBEDDING]
    last = student.layers[-1]
    # The input of a model within the student is not one of the student's tensors.
    tensor = _output_in(student, named[0]) if named else None if _is_model(last) else last.input
    before = {
        id(each.output): each.input for each in student.layers if isinstance(each, keras.layers.Dropout)
    }
    while not named and id(tensor) in before:
        tensor = before[id(tensor)]
    if not isinstance(tensor, keras.KerasTensor) or len(tensor.shape) != 2:
        within = ", not within another of its layers" if any(map(_is_model, student.layers)) else ""
        raise UserError(
            f"the student {student.name} has no embedding: name its layer of that output, "
            f"one vector per example, {EMBEDDING!r}{within}."
        )
    return tensor


def text_states_of(student: keras.Model):
    """The symbolic tensor `(batch, tokens, Ws)` that losses on token states compare.

    The output of the student's layer `text_states`, or else of its `text_encoder`, which may be a model.

    Raises:
        UserError: the student has neither, or their output is not one vector per token.
    """
    layers = {layer.name: layer for layer in student.layers}
    layer = layers.get(STATES) or layers.get(TEXT_ENCODER)
    tensor = _output_in(student, layer) if layer else None
    if tensor is None or len(tensor.shape) != 3:
        raise UserError(
            f"the student {student.name} has no text states to compare with a teacher's: it needs a layer "
            f"{STATES!r} or {TEXT_ENCODER!r} that gives one vector per token. "
            "Choose a student that reads text, or a distillation without states."
        )
    return tensor


def _output_in(student: keras.Model, layer: keras.layers.Layer):
    """What `layer` gives within `student`: of a nested model, `output` is that of its own graph instead."""
    graph = getattr(student, "_functional", student)  # which a Sequential wraps
    nodes = itertools.chain.from_iterable(graph._nodes_by_depth.values())
    return next(node.output_tensors[0] for node in nodes if node.operation is layer)


def _is_model(layer: keras.layers.Layer) -> bool:
    return isinstance(layer, keras.Model)


def _linear(name: str, source, width: int) -> keras.layers.Dense:
    layer = keras.layers.Dense(width, name=name, dtype="float32")
    layer.build(source.shape)
    return layer


def _by_name(outputs) -> Mapping[str, Any]:
    return outputs if isinstance(outputs, Mapping) else {LOGITS: outputs}


def _indices(labels):
    return ops.cast(ops.reshape(labels, (-1,)), "int32")


def _weighted_mean(values, weights):
    """Mean of `values * weights` over the batch, as Keras' losses reduce."""
    if weights is not None:
        values = values * ops.cast(ops.reshape(weights, (-1,)), values.dtype)
    return ops.mean(values)
