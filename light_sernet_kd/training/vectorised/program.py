"""An epoch of M networks of one architecture, compiled for JAX as one program.

What one network does is what the `Distiller` does under Keras' own trainer: the same call of the student,
`compute_loss`, and the optimiser's `stateless_apply`. `jax.vmap` does it for M networks, and `jax.lax.scan`
for the steps of an epoch, without a return to Python in between.
"""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import keras
import numpy as np

from light_sernet_kd.audio.augment import Augmentation
from light_sernet_kd.distillation.batch_keys import (
    FEATURES,
    LOGITS,
    MIXUP_WEIGHT,
    OTHER_LABELS,
    SOFT_LABELS,
    TEACHER,
    TEACHER_EMBEDDING,
)
from light_sernet_kd.training.devices import precision
from light_sernet_kd.training.vectorised import augmentation
from light_sernet_kd.training.vectorised.tables import EpochTable
from light_sernet_kd.training.vectorised.twins import traced

if TYPE_CHECKING:
    from light_sernet_kd.training.network import Network


@dataclass(frozen=True)
class Group:
    """Networks that are trained on the same losses, whose numbers may differ.

    Attributes:
        network: one that says what is computed.
        first, count: which of the program's networks they are.
    """

    network: "Network"
    first: int
    count: int

    @property
    def members(self) -> slice:
        return slice(self.first, self.first + self.count)


@dataclass
class State:
    """All that a training changes, of M networks: lists of arrays `(M, …)` in the order of the variables.

    Attributes:
        best: the weights, trainable and not, that are kept of each network's epochs so far.
    """

    trainable: list[Any]
    non_trainable: list[Any]
    optimizer: list[Any]
    best: list[Any]


jax.tree_util.register_dataclass(State, ["trainable", "non_trainable", "optimizer", "best"], [])


@dataclass(frozen=True)
class Draws:
    """What the networks draw for an epoch.

    Attributes:
        keys: JAX's, `(M,)`.
        views: which view of each utterance, `(M, utterances)`; None where there are none.
    """

    keys: Any
    views: Any


jax.tree_util.register_dataclass(Draws, ["keys", "views"], [])


@dataclass(frozen=True)
class Data:
    """What is in the device's memory for all of a training.

    Attributes:
        features: `(utterances, …)`, which all networks share.
        labels: `(utterances,)` int32.
        soft_labels: `(utterances, classes)`, or None.
        teachers: name in a batch → `(teachers, utterances, width)`.
        teacher_of: which of these each network has, `(M,)`.
        class_weights: `(M, classes)`, or None.
        numbers: for each group, `(its networks, numbers of its losses)`.
        views: as `augmentation.views` makes them, or None.
    """

    features: Any
    labels: Any
    soft_labels: Any
    teachers: Mapping[str, Any]
    teacher_of: Any
    class_weights: Any
    numbers: list[Any]
    views: Any = None


jax.tree_util.register_dataclass(Data, [*Data.__dataclass_fields__], [])


class Program:
    """The compiled functions of M networks.

    Attributes:
        groups: one after the other; the first network's forward pass serves all.
        count: M.
        augmentations: that are drawn on the device.
    """

    def __init__(self, groups: Sequence[Group], augmentations: Sequence[Augmentation] = ()):
        self.groups, self.augmentations = groups, augmentations
        self.count = groups[-1].members.stop
        for group in groups:
            group.network.distiller.build()
        # The state is replaced, so that its memory may be used again at once.
        self._steps = jax.jit(self._scanned, donate_argnums=(0, 1))
        self._one_step = jax.jit(self._step, static_argnames="rests", donate_argnums=(0, 1))
        self.logits = jax.jit(self._logits)
        self.keep = jax.jit(_kept, donate_argnums=0)
        self.finite = jax.jit(_finite)

    @functools.cached_property
    def forward(self) -> "Network":
        """The network whose call gives all that any group's losses compare."""
        networks = [group.network for group in self.groups]
        return max(networks, key=lambda each: each.distiller.distillation.needs_embeddings)

    def epoch(
        self, state: State, data: Data, table: EpochTable, draws: Draws, rates: np.ndarray, trains: np.ndarray
    ):
        """The state after an epoch, and its sums.

        Args:
            rates: learning rates of the steps, `(steps + 1, M)`, the last those of the smaller batches.
            trains: which of the networks do so, `(M,)`; the others stay as they are.
        """
        sums, steps = self._no_sums(), len(table.whole)
        if steps and jax.default_backend() != "cpu":
            active = table.has_whole & trains
            state, sums = self._steps(state, sums, data, draws, table.whole, active, rates[:steps])
        else:
            # XLA computes convolutions within a loop on one core of a processor, and 20 times slower.
            for step in range(steps):
                active = table.has_whole[step] & trains
                state, sums = self._one_step(
                    state, sums, data, draws, table.whole[step], rates[step], active, rests=None
                )
        if any(table.rests):
            active = trains & (np.array(table.rests) > 0)
            state, sums = self._one_step(
                state, sums, data, draws, table.rest, rates[steps], active, rests=table.rests
            )
        return state, sums

    def _scanned(self, state, sums, data, draws, indices, active, rates):
        def step(carried, each):
            (state, sums), (indices, active, rates) = carried, each
            return self._step(state, sums, data, draws, indices, rates, active, rests=None), None

        return jax.lax.scan(step, (state, sums), (indices, active, rates))[0]

    def _no_sums(self) -> dict[str, Any]:
        """Of the losses and of what Keras' metrics count, at an epoch's beginning."""
        metrics = [
            [jnp.zeros((group.count, *v.shape), v.dtype) for v in group.network.distiller.metrics_variables]
            for group in self.groups
        ]
        return {"loss": jnp.zeros(self.count), "examples": jnp.zeros(self.count), "metrics": metrics}

    def _step(self, state, sums, data, draws, indices, rate, active, *, rests):  # noqa: PLR0913 (it is compiled)
        """One batch of each network, of which those with `active` learn.

        Args:
            rests: how many examples of each network's batch are no padding; None for all.
        """
        sizes = jnp.full(self.count, indices.shape[1]) if rests is None else jnp.asarray(rests)

        def total(trainable):
            losses, non_trainable, metrics = self._losses(
                trainable, state, sums, data, (draws, indices), rests
            )
            return jnp.sum(losses), (losses, non_trainable, metrics)

        gradients, (losses, non_trainable, metrics) = jax.grad(total, has_aux=True)(state.trainable)
        optimizer = self.forward.distiller.optimizer
        rates = [
            jnp.asarray(rate, value.dtype) if variable is optimizer._learning_rate else value
            for variable, value in zip(optimizer.variables, state.optimizer, strict=True)
        ]
        trainable, optimizer_state = jax.vmap(optimizer.stateless_apply)(rates, gradients, state.trainable)
        after = State(trainable, non_trainable, optimizer_state, state.best)
        totals = {
            "loss": sums["loss"] + losses * sizes,
            "examples": sums["examples"] + sizes,
            "metrics": metrics,
        }
        state = _chosen(active, after, state)
        per_group = [
            _chosen(active[group.members], new, old)
            for group, new, old in zip(self.groups, metrics, sums["metrics"], strict=True)
        ]
        kept = {name: jnp.where(active, totals[name], sums[name]) for name in ("loss", "examples")}
        return state, {**kept, "metrics": per_group}

    def _losses(self, trainable, state, sums, data, drawn, rests):
        """The loss of each network's batch `(M,)`, and what the forward pass changed."""
        forward, (draws, indices) = self.forward.distiller, drawn

        def call(trainable, non_trainable, features, mask):
            with traced(mask, self.count), precision(self.forward.spec.arithmetic):
                return forward.stateless_call(trainable, non_trainable, {FEATURES: features}, training=True)

        real = jnp.full(self.count, indices.shape[1]) if rests is None else jnp.asarray(rests)
        mask = jnp.arange(indices.shape[1]) < real[:, None]
        features, mixing = self._seen(data, draws, indices, mask)
        if rests is None:
            called = jax.vmap(functools.partial(call, mask=None))
            outputs, non_trainable = called(trainable, state.non_trainable, features)
        else:
            outputs, non_trainable = jax.vmap(call)(trainable, state.non_trainable, features, mask)
        outputs = outputs if isinstance(outputs, Mapping) else {LOGITS: outputs}
        losses, metrics = jnp.zeros(self.count), []
        for number, group in enumerate(self.groups):
            before = sums["metrics"][number]
            for size, members in self._of_one_size(group, indices.shape[1], rests):
                within = members - group.first
                # share and mate of each example, where batches are mixed
                mixed = mixing and tuple(values[members][:, :size] for values in mixing)
                everything = (trainable, non_trainable, data, indices[members][:, :size], mixed)
                shown = {name: values[members][:, :size] for name, values in outputs.items()}
                variables = [values[within] for values in before]
                loss, after = self._group_losses(number, group, members, everything, shown, variables)
                losses = losses.at[members].set(loss)
                before = [values.at[within].set(new) for values, new in zip(before, after, strict=True)]
            metrics.append(before)
        return losses, non_trainable, metrics

    def _seen(self, data, draws, indices, mask):
        """Features of each network's batch `(M, batch, …)`, and what is mixed with what."""
        if data.views is None:
            features = data.features[indices]
        else:
            views = jnp.take_along_axis(draws.views, indices, axis=1)
            features = data.views[views * data.labels.shape[0] + indices].astype(jnp.float32)
        if not self.augmentations:
            return features, None
        changed = functools.partial(augmentation.changed_features, self.augmentations)
        features = jax.vmap(changed)(draws.keys, indices, features)
        styled = functools.partial(augmentation.styled, self.augmentations)
        features = jax.vmap(styled)(draws.keys, indices, mask, features)
        mixing = jax.vmap(functools.partial(augmentation.mixture, self.augmentations))(
            draws.keys, indices, mask
        )
        if mixing is not None:
            share, mate = mixing
            features = jax.vmap(lambda x, share, mate: augmentation.mixed(x, x[mate], share))(
                features, share, mate
            )
        return features, mixing

    def _of_one_size(self, group: Group, batch: int, rests: Sequence[int] | None):
        """The group's networks by the size of their batch; those without one are left out."""
        members = np.arange(group.first, group.first + group.count)
        if rests is None:
            return [(batch, members)]
        of = np.asarray(rests)[members]
        return [(int(size), members[of == size]) for size in np.unique(of[of > 0])]

    def _group_losses(self, number, group, members, everything, outputs, metrics):
        trainable, non_trainable, data, indices, mixing = everything
        distiller, needs = group.network.distiller, group.network.distiller.distillation
        labels = data.labels[indices]
        batch: dict[str, Any] = {}
        teacher_of = data.teacher_of[members][:, None]
        for name, needed in ((TEACHER, needs.needs_logits), (TEACHER_EMBEDDING, needs.needs_embeddings)):
            if needed:
                batch[name] = data.teachers[name][teacher_of, indices]
        if data.soft_labels is not None:
            batch[SOFT_LABELS] = data.soft_labels[indices]
        weights = None
        if data.class_weights is not None:
            weights = jnp.take_along_axis(data.class_weights[members], labels, axis=1)
        if mixing is not None:
            batch, weights = jax.vmap(_mixed)(batch, labels, weights, *mixing)
        shown = {
            name: values
            for name, values in outputs.items()
            if name == LOGITS or distiller.has_several_outputs
        }

        def loss(trainable, non_trainable, metrics, numbers, batch, labels, weights, outputs):
            with distiller.with_loss_numbers(numbers), precision(self.forward.spec.arithmetic):
                value, (_, _, metrics) = distiller.stateless_compute_loss(
                    trainable, non_trainable, metrics, x=batch, y=labels, y_pred=outputs,
                    sample_weight=weights, training=True,
                )  # fmt: skip
            pairs = list(zip(distiller.metrics_variables, metrics, strict=True))
            with keras.StatelessScope(state_mapping=pairs) as scope:
                distiller.accuracy_tracker.update_state(labels, outputs[LOGITS], sample_weight=weights)
            return value, [scope.get_current_value(variable) for variable, _ in pairs]

        of_members = [[values[members] for values in each] for each in (trainable, non_trainable)]
        numbers = data.numbers[number][members - group.first]
        return jax.vmap(loss)(*of_members, metrics, numbers, batch, labels, weights, shown)

    def _logits(self, trainable, non_trainable, features, indices):
        """Logits `(M, utterances, classes)` of float32 students for the utterances `indices` `(M, …)`.

        A block of each network's utterances at a time: what is between two layers of all of them would not
        fit.
        """
        student = self.forward.scorer

        def call(trainable, non_trainable, features):
            with traced(networks=self.count):
                return student.stateless_call(trainable, non_trainable, features, training=False)[0]

        weights = trainable[: len(student.trainable_variables)]
        rest = non_trainable[: len(student.non_trainable_variables)]
        with jax.default_matmul_precision("highest"):
            blocks = jax.lax.map(
                lambda block: jax.vmap(call)(weights, rest, features[block]), jnp.swapaxes(indices, 0, 1)
            )
        # blocks of (M, block, classes), one after the other
        return jnp.reshape(jnp.swapaxes(blocks, 0, 1), (indices.shape[0], -1, blocks.shape[-1]))


def _mixed(batch, labels, weights, share, mate):
    """What a network's batch carries beside its features, mixed as these are."""
    mixed = {
        name: (augmentation.mix_logits if name == TEACHER else augmentation.mixed)(
            values, values[mate], share
        )
        for name, values in batch.items()
    }
    if weights is not None:
        weights = augmentation.mixed(weights, weights[mate], share)
    return {**mixed, OTHER_LABELS: labels[mate], MIXUP_WEIGHT: share}, weights


def _chosen(active, new, old):
    """Arrays `(M, …)` of `new` for networks that are active, else of `old`."""
    return jax.tree.map(
        lambda a, b: jnp.where(jnp.reshape(active, (-1, *[1] * (a.ndim - 1))), a, b), new, old
    )


def _kept(state: State, shares) -> State:
    """The state with so much of the current weights, `shares` `(M,)`, in those that are kept."""
    current = [*state.trainable, *state.non_trainable]
    mixed = [
        kept + jnp.reshape(shares, (-1, *[1] * (kept.ndim - 1))) * (now - kept)
        if kept.dtype.kind == "f"
        else now
        for kept, now in zip(state.best, current, strict=True)
    ]
    best = _chosen(shares == 1.0, current, _chosen(shares > 0.0, mixed, state.best))
    return State(state.trainable, state.non_trainable, state.optimizer, best)


def _finite(state: State):
    """Which networks' weights are all finite, `(M,)`."""
    weights = [values for values in [*state.trainable, *state.non_trainable] if values.dtype.kind == "f"]
    each = [jnp.all(jnp.isfinite(jnp.reshape(values, (values.shape[0], -1))), axis=1) for values in weights]
    return jnp.all(jnp.stack(each), axis=0)
