"""The Keras model that trains a student on labels and on a teacher's logits."""

from collections.abc import Mapping
from typing import Any

import keras
from keras import ops

from light_sernet_kd.config import UserError
from light_sernet_kd.losses import DISTILLATIONS, LABEL_LOSSES, settings_of

FEATURES, TEACHER = "features", "teacher"


class Distiller(keras.Model):
    """Trains `student`; compile, fit, evaluate and predict are Keras'.

    A batch's inputs are `{"features": (batch, frames, features, 1), "teacher": logits (batch, classes)}`, its
    targets class indices `(batch,)`. The teacher's logits are data: only training reads them, so evaluation
    and prediction may leave them out, or take the features alone. Sample and class weights weigh what a
    distillation loss says of one example; relations between examples (RKD, CKD) stay unweighted. The
    student's own losses (its L2) are added. What is saved is the student.

    Args:
        student: features to logits.
        label_loss: name in `LABEL_LOSSES`; `label_settings` override its defaults.
        distillation: name in `DISTILLATIONS`; `distillation_settings` override the published weights.
        weight_decay: adds `weight_decay * w` to every weight's gradient, as PyTorch's Adam does; Keras' own
            `weight_decay` is the decoupled one of AdamW.

    Raises:
        UserError: an unknown loss or weight, or a batch without the teacher that the loss needs.
    """

    def __init__(
        self,
        student: keras.Model,
        *,
        label_loss: str = "cross_entropy",
        distillation: str = "pure",
        label_settings: Mapping[str, Any] | None = None,
        distillation_settings: Mapping[str, Any] | None = None,
        weight_decay: float = 0.0,
    ):
        super().__init__(name=f"distiller_of_{student.name}")
        self.student = student
        self.label_settings = settings_of(label_loss, label_settings)
        self.distillation_settings = settings_of(distillation, distillation_settings)
        self.label_loss = LABEL_LOSSES[label_loss]
        self.distillation = DISTILLATIONS[distillation]
        self.distillation_name = distillation
        self.weight_decay = weight_decay
        self.label_tracker = keras.metrics.Mean(name="label_loss")
        self.accuracy_tracker = keras.metrics.SparseCategoricalAccuracy(name="accuracy")

    def compile(self, optimizer="adam", **kwargs):
        """As Keras' `compile`; the loss is this model's own, so it takes none."""
        if kwargs.get("loss") is not None:
            raise UserError("a Distiller brings its own loss: name it where the Distiller is made.")
        super().compile(optimizer=optimizer, **kwargs)

    def build(self, input_shape=None):
        self.built = True

    def call(self, inputs, training=None):
        features = inputs[FEATURES] if isinstance(inputs, Mapping) else inputs
        return self.student(features, training=training)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        labels = ops.cast(ops.reshape(y, (-1,)), "int32")
        label_loss = self.label_loss(labels, y_pred, **self.label_settings)
        self.label_tracker.update_state(label_loss, sample_weight=sample_weight)
        if not training:
            return _weighted_mean(label_loss, sample_weight)
        teacher = x.get(TEACHER) if isinstance(x, Mapping) else None
        if teacher is None and self.distillation_name != "pure":
            raise UserError(
                f"{self.distillation_name} needs the teacher's logits in every training batch: "
                f'pass x={{"{FEATURES}": …, "{TEACHER}": …}}.'
            )
        per_example, relational = self.distillation(
            label_loss, labels, teacher, y_pred, **self.distillation_settings
        )
        loss = _weighted_mean(per_example, sample_weight) + relational
        for regularisation in self.losses:
            loss = loss + ops.sum(ops.cast(regularisation, loss.dtype))
        if self.weight_decay:
            # the gradient of half the square is the weight itself
            squares = [ops.sum(ops.square(weight)) for weight in self.student.trainable_variables]
            loss = loss + 0.5 * self.weight_decay * sum(squares)
        return loss

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        self.accuracy_tracker.update_state(y, y_pred, sample_weight=sample_weight)
        return super().compute_metrics(x, y, y_pred, sample_weight)

    @property
    def metrics(self):
        own = [self.label_tracker, self.accuracy_tracker]
        return [*(metric for metric in super().metrics if metric not in own), *own]

    def save(self, filepath, overwrite=True, **kwargs):
        """Save the student, which is what a device needs; it loads without this class."""
        self.student.save(filepath, overwrite=overwrite, **kwargs)


def _weighted_mean(values, weights):
    """Mean of `values * weights` over the batch, as Keras' losses reduce."""
    if weights is not None:
        values = values * ops.cast(ops.reshape(weights, (-1,)), values.dtype)
    return ops.mean(values)
