"""Training on one fold: it continues as if never stopped, chooses its epoch, and follows its schedule."""

import dataclasses
import functools
import io
import math
from typing import NamedTuple

import keras
import numpy as np
import pytest

from light_sernet_kd import students
from light_sernet_kd.data.batches import UnlabelledClips
from light_sernet_kd.distillation.distiller import TeacherWidths
from light_sernet_kd.errors import UserError
from light_sernet_kd.files import write_arrays
from light_sernet_kd.registries.losses import DISTILLATIONS, LABEL_LOSSES
from light_sernet_kd.registries.schedules import SCHEDULES, Schedule
from light_sernet_kd.registries.students import STUDENTS
from light_sernet_kd.training import network as training
from light_sernet_kd.training.checkpoint import EpochState
from light_sernet_kd.training.history import read_history, write_history
from light_sernet_kd.training.job import DivergenceError, Examples, TeacherOutputs, TrainingJob
from light_sernet_kd.training.network import Network, NetworkSpec

pytestmark = pytest.mark.usefixtures("shallow")

SHAPE, CLASSES = (16, 12, 1), ("anger", "fear", "neutral")
COUNT = 42
TRAIN, VALIDATION = range(30), range(30, COUNT)
SCHEDULE = Schedule(
    learning_rate=0.01,
    batch_size=8,
    epochs=3,
    weight_decay=1e-4,
    decay=0.5,
    decay_every=3,
    decay_unit="steps",
)
STEPS = math.ceil(len(TRAIN) / SCHEDULE.batch_size)


def examples():
    """Features in which the class is the level of a band, in noise."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, len(CLASSES), COUNT).astype(np.int32)
    rows = rng.standard_normal((COUNT, *SHAPE)).astype("float32")
    for row, label in zip(rows, labels, strict=True):
        row[:, 4 * label : 4 * label + 4] += 1.0
    return Examples(rows, labels, CLASSES)


EXAMPLES = examples()
TEACHER = (3 * np.eye(len(CLASSES))[EXAMPLES.labels] + 0.1).astype("float32")


def network(*, schedule=SCHEDULE, distillation="pure", arithmetic="float32", **settings):
    return Network(
        NetworkSpec(
            functools.partial(students.build, "light_sernet", SHAPE, len(CLASSES), width=0.1),
            dataclasses.replace(schedule, batch_norm_momentum=0.8),
            label_loss="cross_entropy",
            label_settings={},
            distillation=distillation,
            arithmetic=arithmetic,
            **settings,
        )
    )


@pytest.fixture(scope="module")
def shared():
    """A network that many folds are trained with, one after another, as in a run."""
    return network()


def job(folder, *, seed=1, validation=VALIDATION, **settings):
    return TrainingJob(
        examples=EXAMPLES,
        train=TRAIN,
        validation=validation,
        seed=seed,
        checkpoint=folder / "fold.npz",
        **settings,
    )


def train(trained_network, folder, **settings):
    return trained_network.train(job(folder, **settings))


@pytest.fixture(scope="module")
def whole(shared, tmp_path_factory):
    """A training of all its epochs without interruption, and its checkpoints, epoch by epoch."""
    folder = tmp_path_factory.mktemp("whole")
    checkpoints = []
    trained = train(
        shared, folder, progress=lambda *_: checkpoints.append((folder / "fold.npz").read_bytes())
    )
    return trained, checkpoints


def continued(trained_network, folder, content, **settings):
    """Train where a checkpoint of this content lies; the outcome, and the epochs that were run."""
    (folder / "fold.npz").write_bytes(content)
    epochs = []
    trained = train(trained_network, folder, progress=lambda epoch, *_: epochs.append(epoch), **settings)
    return trained, epochs


def assert_same(found, expected):
    """Bit by bit: weights, history and choice; only the time may differ."""
    assert found.history == expected.history
    assert found.best_epoch == expected.best_epoch
    for kind in ("selected", "last"):
        for ours, theirs in zip(getattr(found, kind), getattr(expected, kind), strict=True):
            np.testing.assert_array_equal(ours, theirs)


def differs(some, others):
    return any(not np.array_equal(one, other) for one, other in zip(some, others, strict=True))


class Interrupted(BaseException):
    """As KeyboardInterrupt, which nothing in between may catch."""


def interrupt_after(epoch):
    def progress(done, epochs, row):
        if done == epoch:
            raise Interrupted

    return progress


# Continuing


def test_an_interrupted_training_ends_as_if_it_had_not_been(tmp_path):
    """CKD in bfloat16, with dropout, Adam's moments, weight decay and a schedule that counts steps."""
    settings = {"distillation": "CKD", "arithmetic": "bfloat16"}
    given = {
        "class_weights": np.array([1.0, 2.0, 0.5]),
        "teacher_outputs": TeacherOutputs(TEACHER),
        "epochs": 4,
    }
    first = network(**settings)
    expected = train(first, tmp_path / "whole", **given)
    with pytest.raises(Interrupted):
        train(first, tmp_path, progress=interrupt_after(2), **given)
    # As in a new process: nothing is left of the first network but the file.
    checkpoint = (tmp_path / "fold.npz").read_bytes()
    found, epochs = continued(network(**settings), tmp_path, checkpoint, **given)
    assert epochs == [3, 4]
    assert_same(found, expected)


def test_an_interrupted_training_with_hint_ends_as_if_it_had_not_been(tmp_path):
    """The linear layer to the teacher's embeddings and its moments continue too, and start anew per fold."""
    settings = {"distillation": "KD+hint:5", "teacher_widths": TeacherWidths(embedding=5)}
    embeddings = np.random.default_rng(3).normal(size=(COUNT, 5)).astype("float32")
    given = {"teacher_outputs": TeacherOutputs(TEACHER, embeddings)}
    first = network(**settings)
    train(first, tmp_path / "other", seed=7, epochs=1, **given)  # another fold before this one
    expected = train(first, tmp_path / "whole", **given)
    projection = [np.array(weight) for weight in first.distiller.projection.weights]
    with pytest.raises(Interrupted):
        train(first, tmp_path, progress=interrupt_after(1), **given)
    checkpoint = (tmp_path / "fold.npz").read_bytes()
    second = network(**settings)
    found, epochs = continued(second, tmp_path, checkpoint, **given)
    assert epochs == [2, 3]
    assert_same(found, expected)
    for ours, theirs in zip(second.distiller.projection.weights, projection, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    second.start_anew(1)
    assert differs([np.array(weight) for weight in second.distiller.projection.weights], projection)


@pytest.mark.every
def test_an_interrupted_training_with_clips_without_labels_ends_as_if_it_had_not_been(tmp_path):
    rng = np.random.default_rng(4)
    clips = UnlabelledClips(
        rng.standard_normal((20, *SHAPE)).astype("float32"), 0.6, rng.standard_normal((20, len(CLASSES)))
    )
    given = {"teacher_outputs": TeacherOutputs(TEACHER, unlabelled=clips)}
    first = network(distillation="KD")
    expected = train(first, tmp_path / "whole", **given)
    with pytest.raises(Interrupted):
        train(first, tmp_path, progress=interrupt_after(1), **given)
    found, epochs = continued(first, tmp_path, (tmp_path / "fold.npz").read_bytes(), **given)
    assert epochs == [2, 3]
    assert_same(found, expected)
    without = train(first, tmp_path / "without", teacher_outputs=TeacherOutputs(TEACHER))
    assert differs(found.last, without.last)


def test_an_interruption_within_an_epoch_repeats_that_epoch(shared, whole, tmp_path):
    class Crash(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if int(self.model.optimizer.iterations) == STEPS + 2:
                raise Interrupted

    with pytest.raises(Interrupted):
        train(shared, tmp_path, callbacks=[Crash()])
    found, epochs = continued(shared, tmp_path, (tmp_path / "fold.npz").read_bytes())
    assert epochs == [2, 3]
    assert_same(found, whole[0])


def test_a_finished_training_is_not_repeated(shared, whole, tmp_path):
    expected, checkpoints = whole
    shared.start_anew(9)  # other weights are in the network now
    found, epochs = continued(shared, tmp_path, checkpoints[-1])
    assert epochs == []
    assert_same(found, expected)


def damaged(content, kind):
    middle = len(content) // 2
    return {
        "empty": b"",
        "cut short": content[:middle],
        "another file": b"not a checkpoint",
        "one wrong byte": content[:middle] + bytes([content[middle] ^ 0xFF]) + content[middle + 1 :],
    }[kind]


@pytest.mark.parametrize("kind", ["empty", "cut short", "another file", "one wrong byte"])
def test_a_damaged_checkpoint_is_ignored(shared, whole, tmp_path, kind):
    expected, checkpoints = whole
    found, epochs = continued(shared, tmp_path, damaged(checkpoints[0], kind))
    assert epochs == [1, 2, 3]
    assert_same(found, expected)


def header_flips(content: bytes):
    """A checkpoint with one bit flipped in the header of a member, or in a ZIP's flags, method or sizes."""
    start = content.index(b"\x93NUMPY")
    entry = content.index(b"PK\1\2")
    for place in (*range(start, start + 100, 9), *range(entry, entry + 46, 3), len(content) - 1):
        yield content[:place] + bytes([content[place] ^ 0x01]) + content[place + 1 :]


def test_no_damaged_checkpoint_changes_the_network_and_one_line_says_why(shared, whole, tmp_path, caplog):
    _, checkpoints = whole
    shared.start_anew(5)
    before = [np.array(weight) for weight in shared.twin.get_weights()]
    path = tmp_path / "fold.npz"
    state = EpochState(shared, job(tmp_path))
    for content in header_flips(checkpoints[0]):
        path.write_bytes(content)
        assert state.restore(), "the network is as it was"
        assert state.course.epoch == 0
        assert not differs(shared.twin.get_weights(), before)
        (record,) = caplog.records
        assert record.getMessage().startswith(f"{path} is damaged")
        assert record.getMessage().endswith(": the training begins anew.")
        caplog.clear()
    path.write_bytes(checkpoints[0])
    assert state.restore()
    assert state.course.epoch == 1
    assert differs(shared.twin.get_weights(), before)
    assert not caplog.records


def test_a_checkpoint_without_a_hash_is_not_continued(shared, whole, tmp_path, caplog):
    with np.load(io.BytesIO(whole[1][0])) as stored:
        np.savez(tmp_path / "fold.npz", **stored)
    state = EpochState(shared, job(tmp_path))
    assert state.restore()
    assert state.course.epoch == 0
    assert "it does not end in its hash" in caplog.text


def test_a_stored_student_is_loaded_as_it_was_or_refused_in_one_line(shared, tmp_path):
    path = tmp_path / "student.keras"
    shared.student.save(path)
    content = path.read_bytes()
    weights, told = shared.student.get_weights(), []
    for place in np.random.default_rng(0).integers(0, len(content), 40).tolist():
        path.write_bytes(content[:place] + bytes([content[place] ^ 0x10]) + content[place + 1 :])
        try:
            loaded = training.load_student(path)
        except UserError as error:
            told.append(str(error))
        else:
            assert not differs(loaded.get_weights(), weights)
    assert len(told) > 20
    assert all(line.startswith(f"{path} ") and len(line.splitlines()) == 1 for line in told)
    with pytest.raises(FileNotFoundError):
        training.load_student(tmp_path / "none.keras")


def test_a_checkpoint_of_another_network_is_ignored(shared, whole, tmp_path):
    expected, checkpoints = whole
    with np.load(io.BytesIO(checkpoints[0])) as stored:
        wider = {
            name: np.repeat(array, 2, axis=-1) if array.ndim else array for name, array in stored.items()
        }
    write_arrays(tmp_path / "fold.npz", wider)
    found, epochs = continued(shared, tmp_path, (tmp_path / "fold.npz").read_bytes())
    assert epochs == [1, 2, 3]
    assert_same(found, expected)


# Chance


def test_a_seed_decides_everything(shared, whole, tmp_path):
    """Also after other trainings of the same network: weights, moments and dropout start anew."""
    expected, _ = whole
    assert_same(train(network(), tmp_path / "fresh"), expected)
    other = train(shared, tmp_path / "other", seed=6)
    assert differs(other.last, expected.last)
    assert other.history["loss"] != expected.history["loss"]
    assert_same(train(shared, tmp_path / "again"), expected)


def test_starting_anew_leaves_nothing_of_the_last_training(shared, tmp_path):
    shared.start_anew(3)
    start = [np.array(weight) for weight in shared.twin.get_weights()]
    train(shared, tmp_path, epochs=1)
    assert any(np.any(variable) for variable in shared.distiller.optimizer.variables)
    assert differs(shared.twin.get_weights(), start)
    shared.start_anew(3)
    assert not any(np.any(variable) for variable in shared.distiller.optimizer.variables)
    assert not differs(shared.twin.get_weights(), start)
    states = training._random_states(shared.twin)
    assert [state.numpy().tolist() for state in states] == [[3, 0]]  # one dropout layer
    shared.start_anew(4)
    assert differs(shared.twin.get_weights(), start)


# Which epoch


def scripted(monkeypatch, scores):
    """Validation that finds these (UA, loss), epoch by epoch."""
    remaining = iter(scores)

    def validate(state):
        ua, loss = next(remaining)
        return {"val_loss": loss, "val_ua": ua, "val_wa": ua}

    monkeypatch.setattr(EpochState, "_validate", validate)


@pytest.mark.parametrize(
    ("scores", "best"),
    [
        ([(0.5, 1.0), (0.7, 2.0), (0.6, 0.1)], 2),  # the highest UA, whatever the loss
        ([(0.7, 0.9), (0.7, 0.8), (0.7, 0.85)], 2),  # of equal UA the smallest loss
        ([(0.5, 0.9), (0.7, 0.8), (0.7, 0.8)], 2),  # of all equal the earliest
    ],
)
def test_the_selected_epoch_has_the_best_validation(shared, tmp_path, monkeypatch, scores, best):
    scripted(monkeypatch, scores)
    weights = []
    found = train(shared, tmp_path, epochs=3, progress=lambda *_: weights.append(shared.twin.get_weights()))
    assert found.best_epoch == best
    assert not differs(found.selected, weights[best - 1])
    assert not differs(found.last, weights[-1])
    assert differs(weights[0], weights[1])


def test_a_training_that_diverges_ends_without_a_checkpoint_of_that_epoch(shared, tmp_path, monkeypatch):
    monkeypatch.setattr(shared, "schedule", dataclasses.replace(SCHEDULE, learning_rate=1e38))
    for validation in (VALIDATION, ()):
        with pytest.raises(DivergenceError, match="training diverged at epoch 1"):
            train(shared, tmp_path, validation=validation)
        assert not (tmp_path / "fold.npz").exists()
    monkeypatch.undo()
    scripted(monkeypatch, [(0.9, 5.0), (0.9, math.inf)])
    with pytest.raises(DivergenceError, match="training diverged at epoch 2"):
        train(shared, tmp_path)


def test_without_validation_the_last_epoch_counts(shared, tmp_path):
    found = train(shared, tmp_path, validation=(), epochs=3, patience=1)
    assert found.best_epoch == 3
    assert not differs(found.selected, found.last)
    assert list(found.history) == ["loss", "label_loss", "train_wa", "learning_rate"]


@pytest.mark.parametrize(("keep", "averaged"), [("last", 1), ("mean", 2)])
def test_what_is_kept_is_the_last_or_the_mean_of_the_last_quarter(shared, tmp_path, keep, averaged):
    """Also where it was interrupted amid the epochs that are averaged."""
    weights = []
    note = lambda *_: weights.append(shared.twin.get_weights())  # noqa: E731
    whole = train(shared, tmp_path / "whole", keep=keep, epochs=8, progress=note)
    expected = [np.mean(each, axis=0) for each in zip(*weights[-averaged:], strict=True)]
    for ours, theirs in zip(whole.selected, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-7)
    assert whole.best_epoch == 8
    assert len(whole.history["val_ua"]) == 8  # it is watched, and decides nothing
    with pytest.raises(Interrupted):
        train(shared, tmp_path, keep=keep, epochs=8, progress=interrupt_after(7))
    assert_same(train(shared, tmp_path, keep=keep, epochs=8), whole)


def test_patience_counts_epochs_without_a_better_one(shared, tmp_path, monkeypatch):
    scores = [(0.5, 1.0), (0.6, 1.0), (0.6, 1.0), (0.5, 0.5), (0.9, 0.1), (0.9, 0.1)]
    scripted(monkeypatch, scores)
    found = train(shared, tmp_path, epochs=6, patience=2)
    assert len(found.history["loss"]) == 4
    assert found.best_epoch == 2
    # A training that stopped stays so when it is asked for again.
    again = train(shared, tmp_path, epochs=6, patience=2)
    assert_same(again, found)


def test_validation_scores_are_those_of_the_plain_student(shared, whole):
    found, _ = whole
    student = students.build("light_sernet", SHAPE, len(CLASSES), width=0.1)
    student.set_weights(found.last)
    logits = student(EXAMPLES.rows[list(VALIDATION)]).numpy().astype("float64")
    labels = EXAMPLES.labels[list(VALIDATION)]
    right = logits.argmax(axis=1) == labels
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    loss = -np.mean(np.log(probabilities[np.arange(len(labels)), labels]))
    ua = np.mean([right[labels == label].mean() for label in range(len(CLASSES))])
    assert found.history["val_loss"][-1] == pytest.approx(loss, rel=1e-5)
    assert found.history["val_ua"][-1] == pytest.approx(ua)
    assert found.history["val_wa"][-1] == pytest.approx(right.mean())
    np.testing.assert_allclose(
        shared.logits(found.last, EXAMPLES.rows, VALIDATION), logits, rtol=1e-4, atol=1e-5
    )


def test_validation_changes_nothing_in_training(shared, whole, tmp_path):
    without = train(shared, tmp_path, validation=())
    assert not differs(without.last, whole[0].last)


def test_it_learns_what_there_is_to_learn(tmp_path):
    found = train(network(schedule=dataclasses.replace(SCHEDULE, decay=1.0)), tmp_path, epochs=10)
    assert found.history["loss"][-1] < 0.7 * found.history["loss"][0]
    assert max(found.history["val_ua"]) > 0.8


def test_a_heavier_class_is_named_more_often(shared, tmp_path):
    named = []
    for weight in (0.1, 10.0):
        found = train(shared, tmp_path / str(weight), class_weights=np.array([1.0, 1.0, weight]))
        predicted = shared.logits(found.last, EXAMPLES.rows, range(COUNT)).argmax(axis=1)
        named.append(np.count_nonzero(predicted == 2))
    assert named[1] > named[0] + 5


# The schedule


def test_light_sernets_learning_rate_falls_as_it_was_released():
    """By exp(-0.15) at epochs 60, 80, 100 and so on, counted from 0."""
    schedule = SCHEDULES["light_sernet"]
    falls = {0: 0, 49: 0, 50: 0, 59: 0, 60: 1, 79: 1, 80: 2, 99: 2, 100: 3, 299: 12}
    for epoch, count in falls.items():
        for step in (0, 10_000):
            expected = 1e-4 * math.exp(-0.15 * count)
            assert schedule.learning_rate_at(epoch=epoch, step=step) == pytest.approx(expected, rel=1e-9)


def test_cubic_kds_learning_rate_falls_by_a_tenth_every_300_steps():
    schedule = SCHEDULES["cubic"]
    for step, count in {0: 0, 299: 0, 300: 1, 599: 1, 600: 2, 3000: 10}.items():
        for epoch in (0, 70):
            expected = 1e-3 * 0.9**count
            assert schedule.learning_rate_at(epoch=epoch, step=step) == pytest.approx(expected, rel=1e-9)


def test_robusts_learning_rate_rises_and_falls_as_half_a_cosine():
    schedule = Schedule(0.5, 32, 22, 0.0, 1.0, 1, "cosine", warm_up=2)
    rates = [schedule.learning_rate_at(epoch=epoch, step=99) for epoch in range(22)]
    np.testing.assert_allclose(rates[:3], [0.5 / 3, 1.0 / 3, 0.5])
    np.testing.assert_allclose(rates[2:], 0.25 * (1 + np.cos(np.pi * np.arange(20) / 20)))
    assert schedule.learning_rate_at(epoch=40, step=0) == 0.0  # beyond its epochs


class RecordedLearningRates(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.values = []

    def on_train_batch_end(self, batch, logs=None):
        self.values.append(float(self.model.optimizer.learning_rate.numpy()))


def test_the_optimiser_follows_a_schedule_in_steps(shared, tmp_path):
    """30 examples in batches of 8 are 4 steps; the rate halves every 3, also where an epoch continues."""
    with pytest.raises(Interrupted):
        train(shared, tmp_path, epochs=3, progress=interrupt_after(1), callbacks=[])
    recorded = RecordedLearningRates()
    found = train(shared, tmp_path, epochs=3, callbacks=[recorded])
    expected = [0.01 * 0.5 ** (step // 3) for step in range(3 * STEPS)]
    np.testing.assert_allclose(recorded.values, expected[STEPS:], rtol=1e-6)
    np.testing.assert_allclose(found.history["learning_rate"], expected[STEPS - 1 :: STEPS], rtol=1e-6)


def test_the_optimiser_follows_a_schedule_in_epochs(shared, tmp_path, monkeypatch):
    schedule = dataclasses.replace(SCHEDULE, decay_unit="epochs", decay_every=2, decay_from=2)
    monkeypatch.setattr(shared, "schedule", schedule)
    recorded = RecordedLearningRates()
    found = train(shared, tmp_path, epochs=5, callbacks=[recorded])
    per_epoch = [0.01, 0.01, 0.005, 0.005, 0.0025]
    np.testing.assert_allclose(found.history["learning_rate"], per_epoch, rtol=1e-6)
    np.testing.assert_allclose(recorded.values, np.repeat(per_epoch, STEPS), rtol=1e-6)


# The history file


def test_a_history_is_read_as_it_was_written(tmp_path):
    history = {"loss": [1.25, 0.5, 1e-7], "val_ua": [0.25, 1 / 3, 1.0]}
    write_history(tmp_path / "history.csv", history)
    lines = (tmp_path / "history.csv").read_text(encoding="utf-8").splitlines()
    assert lines[:2] == ["epoch,loss,val_ua", "1,1.25,0.25"]
    read = read_history(tmp_path / "history.csv")
    assert list(read) == ["loss", "val_ua"]
    for name, values in history.items():
        np.testing.assert_allclose(read[name], values, rtol=1e-5)


# Optimisers


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd"])
def test_gathered_gradients_make_the_step_of_their_mean(name):
    schedule = dataclasses.replace(SCHEDULE, optimizer=name)
    gradients = [np.array([1.0, -3.0], "float32"), np.array([2.0, 5.0], "float32")]
    one, gathered = (keras.Variable(np.array([0.5, -0.25], "float32")) for _ in range(2))
    training._optimizer(schedule).apply([np.mean(gradients, axis=0)], [one])
    optimizer = training._optimizer(dataclasses.replace(schedule, accumulation=2))
    optimizer.apply(gradients[:1], [gathered])
    np.testing.assert_array_equal(gathered, [0.5, -0.25])
    optimizer.apply(gradients[1:], [gathered])
    np.testing.assert_allclose(gathered, one, rtol=1e-6)
    assert abs(float(one[0]) - 0.5) > 1e-4


def test_adamw_decays_the_weights_themselves_and_the_loss_has_no_part_of_it():
    adamw = network(schedule=dataclasses.replace(SCHEDULE, optimizer="adamw", weight_decay=0.01))
    assert adamw.distiller.weight_decay == 0
    assert adamw.distiller.optimizer.weight_decay == 0.01
    assert network(schedule=dataclasses.replace(SCHEDULE, weight_decay=0.01)).distiller.weight_decay == 0.01


# Numbers that change over the epochs

RAMPS = {"KD.alpha": "0.9>0.3", "KD.temperature": "4>1"}


def of_ramps(**settings):
    """Weights that stand still, so that an epoch's loss is that of its numbers alone."""
    still = dataclasses.replace(SCHEDULE, learning_rate=0.0, weight_decay=0.0)
    return network(schedule=still, distillation="KD+MSE:0.5", distillation_settings=settings or RAMPS)


def test_an_epoch_has_the_numbers_of_its_place_also_where_a_training_goes_on(tmp_path):
    ramped, teacher = of_ramps(), TeacherOutputs(TEACHER)
    whole = ramped.train(job(tmp_path / "whole", teacher_outputs=teacher)).history["loss"]
    halfway = of_ramps(**{"KD.alpha": 0.6, "KD.temperature": 2.5})
    constant = halfway.train(job(tmp_path / "constant", teacher_outputs=teacher)).history["loss"]
    np.testing.assert_allclose(whole[1], constant[1], rtol=1e-5)
    assert min(abs(whole[epoch] - constant[epoch]) for epoch in (0, 2)) > 1e-3
    ramped.train(job(tmp_path / "parts", teacher_outputs=teacher, epochs=2))  # of the schedule's three
    parts = ramped.train(job(tmp_path / "parts", teacher_outputs=teacher)).history["loss"]
    np.testing.assert_array_equal(parts, whole)


# Networks that are kept


def spec(*, shape=SHAPE, **changes):
    facts = {
        "build": functools.partial(students.build, "light_sernet", shape, 3, width=0.1),
        "schedule": SCHEDULE,
        "label_loss": "focal",
        "label_settings": {"gamma": 2.0},
    }
    return NetworkSpec(**{**facts, **changes})


@pytest.mark.parametrize(
    "change",
    [
        {"shape": (20, 12, 1)},
        {"schedule": dataclasses.replace(SCHEDULE, learning_rate=0.1)},
        {"label_loss": "mse"},
        {"label_settings": {"gamma": 1.0}},
        {"distillation": "KD"},
        {"distillation_settings": {"temperature": 2.0}},
        {"distillation_settings": {"temperatures": [1, 2]}},
        {"standardise_logits": True},
        {"teacher_widths": TeacherWidths(embedding=5)},
        {"arithmetic": "float32"},
        {"accelerate": False},
        {"int8": True},
    ],
    ids=lambda change: "-".join(change),
)
def test_specs_of_one_key_are_of_equal_networks(change):
    assert spec().key == spec().key
    assert spec(**change).key not in (None, spec().key)
    assert spec(**change).key == spec(**change).key


def test_a_network_that_cannot_be_told_from_others_has_no_key():
    assert spec(build=lambda: None).key is None
    assert spec(label_settings={"weights": np.ones(2)}).key is None


def test_a_replaced_entry_is_another_network(monkeypatch):
    before = spec(distillation="KD+hint:0.1").key
    for registry, name in ((STUDENTS, "light_sernet"), (LABEL_LOSSES, "focal"), (DISTILLATIONS, "hint")):
        with monkeypatch.context() as patch:
            patch.setitem(registry, name, dataclasses.replace(registry[name]))
            assert spec(distillation="KD+hint:0.1").key != before
    assert spec(distillation="KD+hint:0.1").key == before


def test_a_run_leaves_its_networks_to_the_next_and_no_more_than_fits(monkeypatch):
    from light_sernet_kd.experiment.networks import training as networks

    class Kept(NamedTuple):
        spec: NetworkSpec
        nbytes: int

    class Run:
        def __init__(self, *specs):
            self.networks = {("student", n): Kept(each, 40) for n, each in enumerate(specs)}

    monkeypatch.setattr(networks, "_KEPT", {})
    monkeypatch.setattr(networks, "_MOST_BYTES", 100)
    first, second = spec(), spec(int8=True)
    run = Run(first, second, spec(build=lambda: None))
    networks.keep_networks(run)
    assert run.networks == {}
    assert [*networks._KEPT] == [(("student", 0), first.key), (("student", 1), second.key)]
    third = spec(accelerate=False)
    networks.keep_networks(Run(third))
    assert [*networks._KEPT] == [(("student", 1), second.key), (("student", 0), third.key)]
