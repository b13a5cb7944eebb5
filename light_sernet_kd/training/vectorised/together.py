"""Several networks trained together: the loop over epochs, and what each network's training leaves."""

import dataclasses
import itertools
import math
import time
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from light_sernet_kd.arrays import ArrayError, say_anew
from light_sernet_kd.audio.augment import Augmentation, text_of
from light_sernet_kd.data import array_cache
from light_sernet_kd.data.feature_cache import BATCH
from light_sernet_kd.distillation.batch_keys import TEACHER, TEACHER_EMBEDDING
from light_sernet_kd.training.accelerate import arithmetic
from light_sernet_kd.training.checkpoint import (
    TrainingRecord,
    opened_checkpoint,
    validation_scores,
    write_checkpoint,
)
from light_sernet_kd.training.job import DivergenceError, Progress, TrainingJob, TrainingResult
from light_sernet_kd.training.network import Network
from light_sernet_kd.training.vectorised import augmentation
from light_sernet_kd.training.vectorised.program import Data, Draws, Group, Program, State
from light_sernet_kd.training.vectorised.tables import epoch_table

# Checkpoints of many networks are gigabytes, and their epochs are short.
SECONDS_BETWEEN_CHECKPOINTS = 60.0


@dataclass
class _Member:
    """One of the networks: what it is trained on, and how that went so far."""

    network: Network
    job: TrainingJob
    course: TrainingRecord = field(default_factory=TrainingRecord)
    diverged: DivergenceError | None = None

    @property
    def epochs(self) -> int:
        return self.network.epochs_of(self.job)

    @property
    def trains(self) -> bool:
        return self.course.epoch < self.epochs and not self.course.stopped and self.diverged is None


def train_together(
    trainings: Sequence[tuple[Network, TrainingJob]],
    *,
    progress: Progress | None = None,
    checkpoint_every: float = SECONDS_BETWEEN_CHECKPOINTS,
) -> list[TrainingResult | DivergenceError]:
    """Train networks of one architecture together on JAX; each as `Network.train` does, without callbacks.

    A network gives the same numbers whichever others are trained beside it, but for the order in which
    a device sums.

    Args:
        trainings: networks and their jobs. The networks have equal `Network.architecture`, and the jobs one
            corpus and one augmentation.
        progress: told of every epoch, with the means over the networks that were trained in it.
        checkpoint_every: seconds.

    Returns:
        In their order, what each training left, or why it left nothing: the others go on without it.

    Raises:
        MemoryError: not even one network can be trained here.
    """
    order = _neighbours([network for network, _ in trainings])
    outcomes: dict[int, TrainingResult | DivergenceError] = {}
    left, most = order, most_together(trainings[0][0])
    while left:
        some = left[:most]
        try:
            trained = _train([trainings[i] for i in some], progress, checkpoint_every)
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error):
                raise
            if len(some) == 1:
                raise MemoryError(str(error)) from None
            most = -(-len(some) // 2)
            continue
        outcomes |= zip(some, trained, strict=True)
        left = left[len(some) :]
    return [outcomes[i] for i in range(len(trainings))]


def trains_several() -> bool:
    """Whether networks are trained together here: a processor computes them no faster so."""
    return jax.default_backend() != "cpu"


def most_together(network: Network) -> int:
    """How many such networks are trained at once here: on a GPU as many as its memory may hold."""
    memory = jax.devices()[0].memory_stats() or {}
    if not trains_several() or "bytes_limit" not in memory:
        return 1
    free = memory["bytes_limit"] - memory.get("bytes_in_use", 0)
    return max(1, int(free / training_bytes(network)))


def training_bytes(network: Network) -> int:
    """About what the training of one such network takes, in bytes; on an H200 it was two thirds of this."""
    width = 2 if arithmetic(network.spec.arithmetic) == "bfloat16" else 4
    outputs = sum(math.prod(layer.output.shape[1:]) for layer in network.twin.layers)
    # Each is there with its gradient, and that of a convolution's patches.
    return 3 * width * outputs * network.schedule.batch_size + 2 * network.nbytes


def _train(
    trainings: Sequence[tuple[Network, TrainingJob]], progress: Progress | None, checkpoint_every: float
) -> list[TrainingResult | DivergenceError]:
    """`train_together`, in the order in which networks of equal losses are neighbours."""
    members = [_Member(network, job) for network, job in trainings]
    drawn = augmentation.on_device(members[0].job.augmenter)
    running = _Running(members, _program([network for network, _ in trainings], drawn))
    running.begin()
    began = written = time.perf_counter()
    while any(each.trains for each in members):
        row = running.epoch()
        if progress:
            progress(max(each.course.epoch for each in members), max(each.epochs for each in members), row)
        if time.perf_counter() - written >= checkpoint_every:
            running.write_checkpoints()
            written = time.perf_counter()
    if written > began or len(members) > 1:
        running.write_checkpoints()  # the caller may be killed before it has stored what each one left
    return list(running.outcomes())


def _neighbours(networks: Sequence[Network]) -> list[int]:
    """The networks' order in which those of equal losses are neighbours."""
    first: dict[Any, int] = {}
    for i, network in enumerate(networks):
        first.setdefault(network.losses, i)
    return sorted(range(len(networks)), key=lambda i: first[networks[i].losses])


def _program(networks: Sequence[Network], augmentations: Sequence[Augmentation]) -> Program:
    """The program of networks in this order; compiled once for as many of each kind."""
    groups: list[Group] = []
    for number, network in enumerate(networks):
        if groups and groups[-1].network.losses == network.losses:
            groups[-1] = dataclasses.replace(groups[-1], count=groups[-1].count + 1)
        else:
            groups.append(Group(network, number, 1))
    # It ends with the networks that it is compiled for.
    programs = networks[0].programs
    key = tuple((id(each.network), each.count) for each in groups), text_of(augmentations)
    if key not in programs:
        programs[key] = Program(groups, augmentations)
    return programs[key]


def _batch(members: Sequence[_Member]) -> int:
    return members[0].network.schedule.batch_size


class _Running:
    """Networks in training: their state on the device, and what they are trained on."""

    def __init__(self, members: list[_Member], program: Program):
        self.members, self.program = members, program
        self.data = self._data()
        self.validation = self._validation_indices()
        self.state: State

    def begin(self) -> None:
        """New weights for each network, or those of its checkpoint."""
        states, bests = [], []
        for member in self.members:
            member.network.begin(member.job)
            variables = member.network.state_variables
            values = [np.asarray(each) for each in variables]
            best = [np.asarray(each) for each in member.network.twin.weights]
            try:
                with opened_checkpoint(member.job.checkpoint, values, best) as stored:
                    values = [stored.state(number) for number in range(len(values))]
                    best, member.course = stored.best(), stored.course
            except (FileNotFoundError, NotADirectoryError):
                pass
            except ArrayError as error:
                say_anew(error, "the training begins anew")
            states.append(self._by_role(member.network, values))
            # The twin's weights come first among the variables.
            bests.append(itertools.chain(*self._by_role(member.network, [*best, *values[len(best) :]])[:2]))
        trainable, non_trainable, optimizer = [
            [jnp.asarray(np.stack(each)) for each in zip(*role, strict=True)]
            for role in zip(*states, strict=True)
        ]
        best = [jnp.asarray(np.stack(each)) for each in zip(*bests, strict=True)]
        self.state = State(trainable, non_trainable, optimizer, best)

    def _by_role(self, network: Network, values: Sequence[np.ndarray]) -> list[list[np.ndarray]]:
        """Values of `state_variables` as trainable, not trainable, and of the optimiser."""
        of = {id(variable): value for variable, value in zip(network.state_variables, values, strict=True)}
        distiller = network.distiller
        roles = (
            distiller.trainable_variables, distiller.non_trainable_variables, distiller.optimizer.variables,
        )  # fmt: skip
        return [[of[id(variable)] for variable in role] for role in roles]

    def _data(self) -> Data:
        members, examples = self.members, self.members[0].job.examples
        views, self.views_of = augmentation.views_of([each.job for each in members])
        teachers: dict[str, list[np.ndarray | None]] = {TEACHER: [], TEACHER_EMBEDDING: []}
        known: dict[Hashable, int] = {}
        teacher_of = []
        for member in members:
            outputs, needs = member.job.teacher_outputs, member.network.distiller.distillation
            key = id(outputs), needs.needs_logits, needs.needs_embeddings
            if key not in known:
                known[key] = len(known)
                teachers[TEACHER].append(outputs.logits if outputs and needs.needs_logits else None)
                embedding = outputs.embedding if outputs and needs.needs_embeddings else None
                teachers[TEACHER_EMBEDDING].append(embedding)
            teacher_of.append(known[key])
        weights = None
        if any(each.job.class_weights is not None for each in members):
            ones = np.ones(len(examples.classes))
            chosen = [each.job.class_weights for each in members]
            weights = jnp.asarray(np.stack([ones if w is None else w for w in chosen]), jnp.float32)
        soft = examples.soft_labels
        return Data(
            features=jnp.asarray(_in_memory(examples.rows)),
            labels=jnp.asarray(examples.labels, jnp.int32),
            soft_labels=None if soft is None else jnp.asarray(soft, jnp.float32),
            teachers={name: _stacked(each) for name, each in teachers.items()},
            teacher_of=jnp.asarray(teacher_of, jnp.int32),
            class_weights=weights,
            views=None if views is None else jnp.asarray(views),
            numbers=[
                jnp.asarray(
                    [each.network.distiller.loss_numbers for each in members[group.members]], jnp.float32
                )
                for group in self.program.groups
            ],
        )

    def _validation_indices(self) -> np.ndarray | None:
        """`(M, blocks, block)`, filled up with the first."""
        sets = [list(each.job.validation) for each in self.members]
        if not any(sets):
            return None
        return _in_blocks(sets)

    def epoch(self) -> dict[str, float]:
        """Train each network that is not done for one epoch more; returns the mean of their rows."""
        began, members = time.perf_counter(), self.members
        table = epoch_table(
            [each.job.train for each in members],
            _batch(members),
            seeds=[each.job.seed for each in members],
            epochs=[each.course.epoch for each in members],
        )
        draws = self._draws()
        trains = np.array([each.trains for each in members])
        rates = self._rates(len(table.whole))
        self.state, sums = self.program.epoch(self.state, self.data, table, draws, rates, trains)
        logits = None
        if self.validation is not None:
            logits = np.asarray(self._logits(self.state.trainable, self.state.non_trainable, self.validation))
        rows = self._rows(sums, rates, logits)
        finite = np.asarray(self.program.finite(self.state))
        shares = np.zeros(len(members), np.float32)
        seconds = (time.perf_counter() - began) / max(1, int(trains.sum()))
        for i, member in enumerate(members):
            if not trains[i]:
                continue
            try:
                shares[i] = member.course.add_epoch(
                    rows[i],
                    finite=finite[i],
                    patience=member.job.patience,
                    keep=member.job.keep,
                    epochs=member.epochs,
                )
            except DivergenceError as error:
                member.diverged = error
                continue
            member.course.seconds += seconds
            if member.job.progress:
                member.job.progress(member.course.epoch, member.epochs, rows[i])
        self.state = self.program.keep(self.state, shares)
        shown = [row for i, row in enumerate(rows) if trains[i] and members[i].diverged is None]
        names = {name: None for row in shown or rows for name in row}
        return {name: float(np.mean([row[name] for row in shown or rows if name in row])) for name in names}

    def _draws(self) -> Draws:
        """What each network draws for its epoch."""
        seeds = [each.job.seed for each in self.members]
        epochs = [each.course.epoch for each in self.members]
        keys = _keys(np.array(seeds, np.uint32), np.array(epochs, np.uint32))
        views = None
        if self.data.views is not None:
            views = augmentation.chosen_views(len(self.data.labels), seeds=seeds, epochs=epochs)
            views += augmentation.VIEWS * self.views_of[:, None]
        return Draws(keys, views)

    def _rates(self, steps: int) -> np.ndarray:
        """Learning rates `(steps + 1, M)`, the last that of a network's smaller batch."""
        rates = np.zeros((steps + 1, len(self.members)), np.float32)
        for i, member in enumerate(self.members):
            schedule, epoch = member.network.schedule, member.course.epoch
            per_epoch = math.ceil(len(member.job.train) / schedule.batch_size)
            whole = len(member.job.train) // schedule.batch_size
            at = [
                schedule.learning_rate_at(epoch=epoch, step=epoch * per_epoch + step)
                for step in range(per_epoch)
            ]
            rates[:whole, i] = at[:whole]
            rates[steps, i] = at[-1]
        return rates

    def _rows(self, sums, rates: np.ndarray, logits: np.ndarray | None) -> list[dict[str, float]]:
        """The history's row of each network."""
        losses = np.asarray(sums["loss"]) / np.maximum(1, np.asarray(sums["examples"]))
        rows = []
        for group, metrics in zip(self.program.groups, sums["metrics"], strict=True):
            distiller = group.network.distiller
            sums_of = {
                id(variable): np.asarray(values)
                for variable, values in zip(distiller.metrics_variables, metrics, strict=True)
            }
            trackers = {"label_loss": distiller.label_tracker, "train_wa": distiller.accuracy_tracker}
            for i in range(group.count):
                number = group.first + i
                job, row = self.members[number].job, {"loss": float(losses[number])}
                for name, tracker in trackers.items():
                    total, count = sums_of[id(tracker.total)][i], sums_of[id(tracker.count)][i]
                    row[name] = float(total / count) if count else 0.0
                row["learning_rate"] = float(rates[-1, number])
                if job.validation and logits is not None:
                    member_logits = logits[number, : len(job.validation)]
                    row |= validation_scores(job.examples, job.validation, member_logits)
                rows.append(row)
        return rows

    def _logits(self, trainable, non_trainable, indices):
        return self.program.logits(trainable, non_trainable, self.data.features, indices)

    def _values(self, trainable, non_trainable) -> Iterator[tuple[list[np.ndarray], dict[int, np.ndarray]]]:
        """Of each network, its twin's weights and all values by variable."""
        arrays = [[np.asarray(each) for each in role] for role in (trainable, non_trainable)]
        for i, member in enumerate(self.members):
            distiller = member.network.distiller
            variables = (*distiller.trainable_variables, *distiller.non_trainable_variables)
            of = {
                id(variable): values[i]
                for variable, values in zip(variables, [*arrays[0], *arrays[1]], strict=True)
            }
            yield [of[id(weight)] for weight in member.network.twin.weights], of

    def _best(self) -> Iterator[list[np.ndarray]]:
        count = len(self.state.trainable)
        for weights, _ in self._values(self.state.best[:count], self.state.best[count:]):
            yield weights

    def write_checkpoints(self) -> None:
        optimizer = [np.asarray(each) for each in self.state.optimizer]
        current = self._values(self.state.trainable, self.state.non_trainable)
        for i, (member, (_, of), best) in enumerate(zip(self.members, current, self._best(), strict=True)):
            if member.diverged is not None:
                continue
            variables = member.network.distiller.optimizer.variables
            of |= {id(variable): values[i] for variable, values in zip(variables, optimizer, strict=True)}
            state = [of[id(variable)] for variable in member.network.state_variables]
            write_checkpoint(member.job.checkpoint, member.course, state, best)

    def outcomes(self) -> Iterator[TrainingResult | DivergenceError]:
        current = self._values(self.state.trainable, self.state.non_trainable)
        for member, (last, _), best in zip(self.members, current, self._best(), strict=True):
            course = member.course
            if member.diverged is not None:
                yield member.diverged
            else:
                yield TrainingResult(best, last, course.history, course.best_epoch, course.seconds)


@jax.jit
def _keys(seeds, epochs):
    return jax.vmap(lambda seed, epoch: jax.random.fold_in(jax.random.key(seed), epoch))(seeds, epochs)


def _stacked(arrays: Sequence[Any]) -> Any:
    """`(teachers, …)` float32; None where none of them has the output, zeros where one has not."""
    some = next((each for each in arrays if each is not None), None)
    if some is None:
        return None
    empty = np.zeros(np.shape(some), np.float32)
    return jnp.asarray(np.stack([empty if each is None else np.asarray(each, np.float32) for each in arrays]))


def _in_memory(rows: Any) -> np.ndarray:
    """All rows, of which some compute what is asked for when it is."""
    blocks = (np.asarray(rows[first : first + BATCH]) for first in range(0, len(rows), BATCH))
    return array_cache.in_memory(blocks, rows.shape, np.dtype(np.float32))


def _in_blocks(sets: Sequence[Sequence[int]]) -> np.ndarray:
    """Utterances `(M, blocks, block)` of sets of unequal sizes, filled up."""
    size = min(BATCH, max(map(len, sets)))
    blocks = -(-max(map(len, sets)) // size)
    filled = np.zeros((len(sets), blocks * size), np.int32)
    for i, indices in enumerate(sets):
        filled[i, : len(indices)] = indices
    return filled.reshape(len(sets), blocks, size)
