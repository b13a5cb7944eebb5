"""The Keras model that trains a student on labels and on a teacher's logits and embeddings."""

from collections.abc import Mapping
from typing import Any

import keras
from keras import ops

from light_sernet_kd import mixtures
from light_sernet_kd.config import UserError
from light_sernet_kd.losses import (
    DISTILLATIONS,
    EMBEDDING_DISTILLATIONS,
    LABEL_LOSSES,
    settings_of,
    standardised,
    terms_of,
)

FEATURES, TEACHER, TEACHER_EMBEDDING = "features", "teacher", "teacher_embedding"
OTHER_LABELS, SHARE = "other_labels", "share"
LOGITS, EMBEDDING = "logits", "embedding"


class Distiller(keras.Model):
    """Trains `student`; compile, fit, evaluate and predict are Keras'.

    A batch's targets are class indices `(batch,)`, its inputs the features alone or a dictionary of

    - `features`: `(batch, frames, features, 1)`;
    - `teacher`: logits `(batch, classes)`, where a loss compares with them;
    - `teacher_embedding`: `(batch, Et)`, where a loss compares with it;
    - `other_labels`, `share`: `(batch,)`, where examples are mixed of two (mixup). Whatever of the loss
      belongs to one example is then `share` times that with its label and `1 - share` times that with its
      other label. Relations between examples read no labels and count once.

    What comes from the teacher is data: only training reads it, so evaluation and prediction may leave it
    out. Sample and class weights weigh what a distillation loss says of one example; relations between
    examples (RKD, CKD, DIST, PKT, SP) stay unweighted. The student's own losses (its L2) are added. What is
    saved is the student.

    Args:
        student: features to logits.
        label_loss: name in `LABEL_LOSSES`; `label_settings` override its defaults.
        distillation: a name or a weighted sum, as `mixtures.parse` reads it; `distillation_settings`
            override the published weights: `alpha` of a single loss, `KD.alpha` in a sum.
        standardise_logits: distillation losses get teacher's and student's logits as `losses.standardised`
            makes them; the label loss does not.
        teacher_embedding_width: Et, which `hint` must know.
        weight_decay: adds `weight_decay * w` to every weight's gradient, as PyTorch's Adam does; Keras' own
            `weight_decay` is the decoupled one of AdamW.

    Attributes:
        projection: with `hint` the linear layer from the student's embedding to the teacher's, else None.

    Raises:
        UserError: an unknown loss or weight, or a batch without what the loss needs of the teacher.
    """

    def __init__(
        self,
        student: keras.Model,
        *,
        label_loss: str = "cross_entropy",
        distillation: str = "pure",
        label_settings: Mapping[str, Any] | None = None,
        distillation_settings: Mapping[str, Any] | None = None,
        standardise_logits: bool = False,
        teacher_embedding_width: int | None = None,
        weight_decay: float = 0.0,
    ):
        super().__init__(name=f"distiller_of_{student.name}")
        self.student = student
        self.label_settings = settings_of(label_loss, label_settings)
        self.label_loss = LABEL_LOSSES[label_loss]
        self.mixture = mixtures.parse(distillation)
        self.terms = terms_of(self.mixture, distillation_settings)
        self.standardise_logits = standardise_logits
        self.weight_decay = weight_decay
        self.projection: Any = None
        if self.mixture.needs_embeddings:
            embedding = embedding_of(student)
            inputs = student.inputs[0] if len(student.inputs) == 1 else student.input
            both = keras.Model(inputs, {LOGITS: student.outputs[0], EMBEDDING: embedding})
            # A function, because as an attribute Keras would count the student's layers twice.
            self._run = lambda features: both(features, training=True)
            if any(term.name == "hint" for term, _ in self.terms):
                if not teacher_embedding_width:
                    raise UserError(
                        "hint needs the width of the teacher's embeddings: pass teacher_embedding_width=…."
                    )
                self.projection = keras.layers.Dense(
                    teacher_embedding_width, name="projection", dtype="float32"
                )
                self.projection.build(embedding.shape)
        self.label_tracker = keras.metrics.Mean(name="label_loss")
        self.accuracy_tracker = keras.metrics.SparseCategoricalAccuracy(name="accuracy")

    def start_projection_anew(self, seed: int) -> None:
        """Give the linear layer of `hint`, where there is one, new weights that `seed` decides."""
        if self.projection:
            kernel = self.projection.kernel
            kernel.assign(keras.initializers.GlorotUniform(seed=seed)(kernel.shape))
            self.projection.bias.assign(ops.zeros_like(self.projection.bias))

    def compile(self, optimizer="adam", **kwargs):
        """As Keras' `compile`; the loss is this model's own, so it takes none."""
        if kwargs.get("loss") is not None:
            raise UserError("a Distiller brings its own loss: name it where the Distiller is made.")
        super().compile(optimizer=optimizer, **kwargs)

    def build(self, input_shape=None):
        self.built = True

    def call(self, inputs, training=None):
        """The student's logits; in training, where a loss needs it, the embedding beside them."""
        features = inputs[FEATURES] if isinstance(inputs, Mapping) else inputs
        if training and self.mixture.needs_embeddings:
            return self._run(features)
        return self.student(features, training=training)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        labels = _indices(y)
        logits, embedding = _logits_and_embedding(y_pred)
        if not training:
            label_loss = self.label_loss(labels, logits, **self.label_settings)
            self.label_tracker.update_state(label_loss, sample_weight=sample_weight)
            return _weighted_mean(label_loss, sample_weight)
        given = x if isinstance(x, Mapping) else {}
        self._check(given)
        label_loss, per_example, relational = self._parts(labels, given, logits, embedding)
        if SHARE in given:
            share = ops.cast(ops.reshape(given[SHARE], (-1,)), per_example.dtype)
            others = self._parts(_indices(given[OTHER_LABELS]), given, logits, embedding)
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
        for needed, key, what in (
            (self.mixture.needs_logits, TEACHER, "the teacher's logits"),
            (self.mixture.needs_embeddings, TEACHER_EMBEDDING, "the teacher's embeddings"),
        ):
            if needed and given.get(key) is None:
                raise UserError(
                    f"{self.mixture} needs {what} in every training batch: "
                    f'pass x={{"{FEATURES}": …, "{key}": …}}.'
                )
        if (SHARE in given) != (OTHER_LABELS in given):
            raise UserError(f'a batch of mixed examples has both "{OTHER_LABELS}" and "{SHARE}".')
        if self.projection and given[TEACHER_EMBEDDING].shape[-1] != self.projection.units:
            raise UserError(
                f"the teacher's embeddings are {given[TEACHER_EMBEDDING].shape[-1]} wide, "
                f"but teacher_embedding_width is {self.projection.units}."
            )

    def _parts(self, labels, given, logits, embedding):
        """The label loss `(batch,)`, and the two parts of the weighted sum of all losses."""
        label_loss = self.label_loss(labels, logits, **self.label_settings)
        teacher = given.get(TEACHER)
        to_compare = logits
        if self.standardise_logits and self.mixture.needs_logits:
            teacher, to_compare = standardised(teacher), standardised(logits)
        per_example = label_loss if self.mixture.adds_label_loss else ops.zeros_like(label_loss)
        relational = ops.zeros((), dtype=label_loss.dtype)
        for term, settings in self.terms:
            if term.name in DISTILLATIONS:
                loss = DISTILLATIONS[term.name]
                parts = loss(label_loss, labels, teacher, to_compare, **settings)
            else:
                compared = self.projection(embedding) if term.name == "hint" else embedding
                loss = EMBEDDING_DISTILLATIONS[term.name]
                parts = loss(labels, given[TEACHER_EMBEDDING], compared, **settings)
            per_example = per_example + term.weight * parts[0]
            relational = relational + term.weight * parts[1]
        return label_loss, per_example, relational

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        logits, _ = _logits_and_embedding(y_pred)
        self.accuracy_tracker.update_state(y, logits, sample_weight=sample_weight)
        return super().compute_metrics(x, y, logits, sample_weight)

    @property
    def metrics(self):
        own = [self.label_tracker, self.accuracy_tracker]
        return [*(metric for metric in super().metrics if metric not in own), *own]

    def save(self, filepath, overwrite=True, **kwargs):
        """Save the student, which is what a device needs; it loads without this class."""
        self.student.save(filepath, overwrite=overwrite, **kwargs)


def embedding_of(student: keras.Model):
    """The symbolic tensor `(batch, Es)` that losses on embeddings compare.

    The output of the student's layer `embedding`; without one the input of its last layer, before Dropout.

    Raises:
        UserError: there is no one vector per example there.
    """
    named = [layer for layer in student.layers if layer.name == EMBEDDING]
    tensor = named[0].output if named else student.layers[-1].input
    before = {
        id(each.output): each.input for each in student.layers if isinstance(each, keras.layers.Dropout)
    }
    while not named and id(tensor) in before:
        tensor = before[id(tensor)]
    if isinstance(tensor, list | tuple | dict) or len(tensor.shape) != 2:
        raise UserError(
            f"the student {student.name} has no embedding: name its layer of that output, "
            f"one vector per example, {EMBEDDING!r}."
        )
    return tensor


def _logits_and_embedding(outputs):
    return (outputs[LOGITS], outputs[EMBEDDING]) if isinstance(outputs, Mapping) else (outputs, None)


def _indices(labels):
    return ops.cast(ops.reshape(labels, (-1,)), "int32")


def _weighted_mean(values, weights):
    """Mean of `values * weights` over the batch, as Keras' losses reduce."""
    if weights is not None:
        values = values * ops.cast(ops.reshape(weights, (-1,)), values.dtype)
    return ops.mean(values)
