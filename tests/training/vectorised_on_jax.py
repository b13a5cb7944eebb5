"""Networks trained together on JAX: what each becomes is what it becomes alone in Keras' own loop.

Keras has one backend per process, so that `test_vectorised` runs this file in one of its own.
"""

import dataclasses
import functools
from pathlib import Path

import keras
import numpy as np
import pytest

from light_sernet_kd import plugins, students
from light_sernet_kd.audio.augment import mix, mix_logits, mixup, parse, restyled, specaugment
from light_sernet_kd.data.augmenter import Augmenter
from light_sernet_kd.data.batches import Examples, TeacherOutputs, epoch_order
from light_sernet_kd.registries.losses import DISTILLATIONS, LABEL_LOSSES
from light_sernet_kd.registries.schedules import SCHEDULES
from light_sernet_kd.training.job import DivergenceError, TrainingJob
from light_sernet_kd.training.network import Network, NetworkSpec

CLASSES, SHAPE = 3, (13, 10, 1)
UTTERANCES = 40
_RNG = np.random.default_rng(0)
LABELS = _RNG.integers(0, CLASSES, UTTERANCES).astype(np.int32)
FEATURES = (_RNG.standard_normal((UTTERANCES, *SHAPE)) + LABELS[:, None, None, None]).astype(np.float32)
EXAMPLES = Examples(FEATURES, LABELS, ("anger", "fear", "joy"))
TEACHERS = [
    TeacherOutputs(
        (3 * _RNG.standard_normal((UTTERANCES, CLASSES))).astype(np.float32),
        _RNG.standard_normal((UTTERANCES, 5)).astype(np.float32),
    )
    for _ in range(2)
]
# Training sets of 3 batches and 1 example, of 4, and of 2 and 3.
FOLDS = (range(0, 25), range(8, 40), range(3, 22))
VALIDATION = (range(25, 40), range(0, 8), range(25, 36))
SCHEDULE = SCHEDULES["light_sernet"].changed(batch_size=8, learning_rate=1e-4, epochs=2)


def student() -> keras.Model:
    """One of each kind of layer that Light-SERNet has; JAX compiles it in a second or two."""
    layers = keras.layers
    features = keras.Input(SHAPE, name="features")
    tensor = layers.Conv2D(4, (3, 2), padding="same")(features)
    tensor = layers.ReLU()(layers.BatchNormalization()(tensor))
    tensor = layers.AveragePooling2D(2, padding="same")(tensor)
    l2 = keras.regularizers.L2(1e-3)
    tensor = layers.Conv2D(6, 3, padding="same", use_bias=False, kernel_regularizer=l2)(tensor)
    tensor = layers.ReLU()(layers.BatchNormalization()(tensor))
    tensor = layers.GlobalAveragePooling2D(name="embedding")(tensor)
    tensor = layers.Dropout(0.3)(tensor)
    return keras.Model(features, layers.Dense(CLASSES, name="logits")(tensor), name="small")


def network(distillation: str = "pure", *, schedule=SCHEDULE, accelerate: bool = True, **spec) -> Network:
    build = spec.pop("build", functools.partial(student))
    facts = {"label_loss": "cross_entropy", "label_settings": {}, "arithmetic": "float32"} | spec
    return Network(NetworkSpec(build, schedule, distillation=distillation, accelerate=accelerate, **facts))


def job(folder: Path, number: int, **changes) -> TrainingJob:
    facts = {
        "examples": EXAMPLES, "train": list(FOLDS[number]), "validation": list(VALIDATION[number]),
        "seed": 10 + number, "checkpoint": folder / f"{number}.npz", "teacher_outputs": TEACHERS[number % 2],
    }  # fmt: skip
    return TrainingJob(**facts | changes)


@pytest.fixture
def together(monkeypatch):
    """`train_together` that trains all at once on a processor too."""
    from light_sernet_kd.training.vectorised import together

    monkeypatch.setattr(together, "most_together", lambda network: 99)
    return together.train_together


def is_before_norm(path: str) -> bool:
    """Whether a weight is a convolution's bias before batch norm.

    The norm takes it out again, so that its gradient is rounding alone, and Adam makes steps of any noise.
    """
    return "conv2d" in path and path.endswith("bias")


def assert_same(ours, theirs, paths, tolerance: float) -> None:
    for name, values in theirs.history.items():
        np.testing.assert_allclose(ours.history[name], values, rtol=tolerance, atol=tolerance, err_msg=name)
    assert ours.best_epoch == theirs.best_epoch
    for kind in ("selected", "last"):
        for path, our, their in zip(paths, getattr(ours, kind), getattr(theirs, kind), strict=True):
            if not is_before_norm(path):
                np.testing.assert_allclose(our, their, atol=tolerance, err_msg=path)


def in_turn(alone: Network, training: TrainingJob) -> tuple[dict[str, list[float]], list[np.ndarray]]:
    """History and weights of a network after its epochs, each batch given to Keras' own step."""
    alone.begin(training)
    distiller, history = alone.distiller, {"loss": [], "label_loss": [], "train_wa": [], "val_loss": []}
    distiller.optimizer.learning_rate = alone.schedule.learning_rate
    for epoch in range(alone.schedule.epochs):
        order = np.array(training.train)[epoch_order(len(training.train), seed=training.seed, epoch=epoch)]
        told, counts, weights = [], [], []
        for first in range(0, len(order), alone.schedule.batch_size):
            rows = np.sort(order[first : first + alone.schedule.batch_size])
            batch = {"features": FEATURES[rows], "teacher": training.teacher_outputs.logits[rows]}
            weighed = training.class_weights[LABELS[rows]]
            distiller.reset_metrics()
            told.append(
                distiller.train_on_batch(batch, LABELS[rows], sample_weight=weighed, return_dict=True)
            )
            counts.append(len(rows))
            weights.append(weighed.sum())
        for name, column, of in (("loss", "loss", counts), ("label_loss", "label_loss", weights),
                                 ("accuracy", "train_wa", weights)):  # fmt: skip
            history[column].append(np.average([logs[name] for logs in told], weights=of))
        held_out = list(training.validation)
        logits = np.float64(alone.student.predict_on_batch(FEATURES)[held_out])  # one shape, compiled once
        logits -= np.logaddexp.reduce(logits, axis=1, keepdims=True)
        history["val_loss"].append(-np.mean(logits[np.arange(len(held_out)), LABELS[held_out]]))
    return history, alone.student.get_weights()


def test_three_folds_together_are_what_keras_makes_of_each(tmp_path, together):
    """The plain student in Keras' own step is the reference. A fourth network diverges."""
    alone = network("KD", accelerate=False)
    weighed = {"class_weights": np.array([1.0, 2.0, 0.5])}
    theirs = [in_turn(alone, job(tmp_path, i, **weighed)) for i in range(3)]
    ours, wild = network("KD"), network("KD", schedule=SCHEDULE.changed(learning_rate=1e30))
    jobs = [job(tmp_path, i, **weighed) for i in range(3)]
    bad = job(tmp_path, 0, checkpoint=tmp_path / "bad.npz", **weighed)
    *trained, diverged = together([*((ours, one) for one in jobs), (wild, bad)])
    assert isinstance(diverged, DivergenceError)
    assert "diverged at epoch 1" in str(diverged)
    paths = [weight.path for weight in ours.twin.weights]
    assert any(map(is_before_norm, paths))
    for one, (history, weights) in zip(trained, theirs, strict=True):
        for name, values in history.items():
            np.testing.assert_allclose(one.history[name], values, rtol=1e-4, err_msg=name)
        for path, our, their in zip(paths, one.last, weights, strict=True):
            if not is_before_norm(path):
                np.testing.assert_allclose(our, their, atol=1e-4, err_msg=path)
    assert len({one.history["loss"][0] for one in trained}) == 3


@pytest.mark.every
def test_a_network_does_not_depend_on_those_beside_it(tmp_path, together):
    """Of several methods, of which some differ in a number alone."""
    kinds = [
        network(), network("KD", distillation_settings={"temperature": 2.0}),
        network("KD", distillation_settings={"temperature": 4.0, "alpha": 0.3}), network("CKD+SP:300"),
    ]  # fmt: skip
    jobs = [job(tmp_path, i % 3, checkpoint=tmp_path / f"{i}.npz") for i in range(4)]
    assert len({kind.architecture for kind in kinds}) == 1
    assert kinds[1].losses == kinds[2].losses != kinds[3].losses
    all_of_them = together(list(zip(kinds, jobs, strict=True)))
    paths = [weight.path for weight in kinds[0].twin.weights]
    for i in (2, 3):
        (tmp_path / str(i)).mkdir()
        (one,) = together([(kinds[i], dataclasses.replace(jobs[i], checkpoint=tmp_path / str(i) / "c.npz"))])
        assert_same(all_of_them[i], one, paths, 5e-5)


@pytest.mark.every
def test_learning_rates_that_fall_and_epochs_that_differ(tmp_path, together):
    """One trains for three epochs at a rate that falls with each step, the other for one."""
    falls = SCHEDULE.changed(decay=0.5, decay_every=2, decay_unit="steps", decay_from=0, epochs=3)
    ours = network(schedule=falls)
    first, second = together([(ours, job(tmp_path, 0)), (ours, job(tmp_path, 1, epochs=1))])
    # Folds of 4 batches each, the last of which are steps 3, 7 and 11.
    np.testing.assert_allclose(first.history["learning_rate"], [1e-4 * 0.5**n for n in (1, 3, 5)])
    assert len(second.history["loss"]) == 1
    plain = network(schedule=falls, accelerate=False)
    expected = plain.train(job(tmp_path, 0, checkpoint=tmp_path / "alone.npz"))
    assert_same(first, expected, [weight.path for weight in ours.twin.weights], 1e-4)


def test_an_interrupted_training_goes_on_to_the_same_bits(tmp_path, together):
    ours, jobs = network("KD"), [job(tmp_path, i, epochs=3) for i in range(2)]
    whole = together([(ours, one) for one in jobs])
    for one in jobs:
        one.checkpoint.unlink()  # what is trained together is kept until its caller has stored it

    def interrupt(epoch, epochs, row):
        if epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        together([(ours, one) for one in jobs], progress=interrupt, checkpoint_every=0)
    # One of the two has no checkpoint, as where the process was killed while they were written.
    jobs[1].checkpoint.unlink()
    seen = []
    again = together([(ours, one) for one in jobs], progress=lambda epoch, *_: seen.append(epoch))
    assert seen[0] == 2  # one epoch was kept of the first
    for one, other in zip(again, whole, strict=True):
        assert one.history == other.history
        for kind in ("selected", "last"):
            for ours, theirs in zip(getattr(one, kind), getattr(other, kind), strict=True):
                np.testing.assert_array_equal(ours, theirs)


@pytest.mark.every
def test_each_network_keeps_the_weights_that_its_job_says(tmp_path, together):
    """The same course, of which one keeps the last weights, one the mean and one the best."""
    ours = network()
    jobs = [
        job(tmp_path, 0, keep=keep, epochs=8, checkpoint=tmp_path / f"{keep}.npz")
        for keep in ("last", "mean", "best")
    ]
    trained = together([(ours, one) for one in jobs])
    plain, paths = network(accelerate=False), [weight.path for weight in ours.twin.weights]
    for found, one in zip(trained, jobs, strict=True):
        expected = plain.train(dataclasses.replace(one, checkpoint=tmp_path / f"plain-{one.keep}.npz"))
        assert_same(found, expected, paths, 1e-3)
    for last, mean in zip(trained[0].selected, trained[1].selected, strict=True):
        assert not np.array_equal(last, mean)


@pytest.mark.every
def test_either_loop_goes_on_from_the_others_checkpoint(tmp_path, together):
    plain, jobs = network(accelerate=False), [job(tmp_path, 0, epochs=epochs) for epochs in (1, 2)]
    plain.train(jobs[0])
    ours = network()
    (trained,) = together([(ours, jobs[1])])
    expected = plain.train(dataclasses.replace(jobs[1], checkpoint=tmp_path / "other.npz"))
    assert_same(trained, expected, [weight.path for weight in ours.twin.weights], 1e-4)


@pytest.mark.every
@pytest.mark.parametrize(
    "changes",
    [
        {"optimizer": "adamw", "weight_decay": 0.01, "accumulation": 2},
        {"optimizer": "sgd", "weight_decay": 1e-3},
        {"batch_norm_momentum": 0.8, "batch_size": 40},  # less than a batch in each fold
    ],
)
def test_optimisers_accumulation_and_decay_are_keras_own(changes, tmp_path, together):
    schedule = dataclasses.replace(SCHEDULE, **changes)
    plain, ours = network("DKD", schedule=schedule, accelerate=False), network("DKD", schedule=schedule)
    if "batch_norm_momentum" in changes:
        for each in plain.twin.layers:
            if isinstance(each, keras.layers.BatchNormalization):
                each.momentum = 0.8
    theirs = [plain.train(job(tmp_path, i, checkpoint=tmp_path / f"a{i}.npz")) for i in range(2)]
    trained = together([(ours, job(tmp_path, i)) for i in range(2)])
    for one, other in zip(trained, theirs, strict=True):
        assert_same(one, other, [weight.path for weight in ours.twin.weights], 1e-4)


@pytest.mark.every
def test_a_network_that_stops_early_keeps_its_weights_while_others_train(tmp_path, together):
    ours = network()
    # Nothing is learned at a rate of next to nothing, so the first epoch stays the best.
    still = network(schedule=SCHEDULE.changed(learning_rate=1e-12))
    first, second = together(
        [(still, job(tmp_path, 0, epochs=6, patience=2)), (ours, job(tmp_path, 1, epochs=6))]
    )
    assert len(first.history["loss"]) < 6 == len(second.history["loss"])
    (alone,) = together([(still, job(tmp_path, 0, epochs=6, patience=2, checkpoint=tmp_path / "a.npz"))])
    np.testing.assert_allclose(first.history["val_loss"], alone.history["val_loss"], rtol=1e-5)
    for our, their in zip(first.last, alone.last, strict=True):
        np.testing.assert_allclose(our, their, atol=1e-5)


@pytest.mark.every
def test_less_are_trained_at_once_where_memory_is_short(tmp_path, together, monkeypatch):
    import jax

    from light_sernet_kd.training.vectorised.program import Program

    counts, epoch = [], Program.epoch

    def short(self, *arguments):
        counts.append(self.count)
        if self.count > 2:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate")
        return epoch(self, *arguments)

    ours = network()

    def jobs(name: str) -> list[tuple[Network, TrainingJob]]:
        places = (tmp_path / f"{name}-{i}.npz" for i in range(3))
        return [(ours, job(tmp_path, i, epochs=1, checkpoint=place)) for i, place in enumerate(places)]

    expected = together(jobs("expected"))
    monkeypatch.setattr(Program, "epoch", short)
    trained = together(jobs("short"))
    assert counts == [3, 2, 1]
    for one, other in zip(trained, expected, strict=True):
        np.testing.assert_allclose(one.history["loss"], other.history["loss"], rtol=1e-5)

    def never(self, *arguments):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate")

    monkeypatch.setattr(Program, "epoch", never)
    with pytest.raises(MemoryError):
        together(jobs("never"))

    def broken(self, *arguments):
        raise jax.errors.JaxRuntimeError("INTERNAL: something else")

    monkeypatch.setattr(Program, "epoch", broken)
    with pytest.raises(jax.errors.JaxRuntimeError, match="something else"):
        together(jobs("broken"))


def every_loss() -> list:
    others = ("states", "dimensions")  # JAX trains these networks one by one, or not at all
    methods = [name for name, loss in DISTILLATIONS.items() if loss.compares not in others]
    pairs = [("cross_entropy", name) for name in methods] + [(name, "pure") for name in LABEL_LOSSES]
    quick = {("cross_entropy", "KD"), ("cross_entropy", "CKD"), ("focal", "pure")}
    return [pytest.param(*pair, marks=[] if pair in quick else pytest.mark.every) for pair in pairs]


@pytest.mark.parametrize(("label_loss", "distillation"), every_loss())
def test_the_numbers_of_every_loss_may_be_traced(label_loss, distillation):
    import jax

    from light_sernet_kd.distillation.distiller import Distiller, TeacherWidths

    distiller = Distiller(
        student(), label_loss=label_loss, distillation=distillation,
        teacher_widths=TeacherWidths(embedding=5),
    )  # fmt: skip
    batch = {"teacher": TEACHERS[0].logits[:6], "teacher_embedding": TEACHERS[0].embedding[:6]}
    outputs = {"logits": FEATURES[:6, 0, :3, 0]}
    if distiller.distillation.needs_embeddings:
        outputs["embedding"] = FEATURES[:6, 0, :6, 0]

    def loss(numbers):
        with distiller.with_loss_numbers(numbers):
            label_loss, per_example, relational = distiller._parts(LABELS[:6], batch, outputs)
        return label_loss.sum() + per_example.sum() + relational

    numbers = np.array(distiller.loss_numbers, np.float32)
    changed = numbers * np.linspace(0.8, 1.2, len(numbers), dtype=np.float32)
    before = distiller.loss_numbers
    for each in (numbers, changed):
        as_numbers = jax.jit(functools.partial(loss, each.tolist()))  # which are constants there
        np.testing.assert_allclose(jax.jit(loss)(each), as_numbers(), rtol=2e-5)
    assert distiller.loss_numbers == before


@pytest.mark.parametrize("padding", ["same", pytest.param("valid", marks=pytest.mark.every)])
def test_a_convolution_by_patches_is_keras_convolution(padding):
    import jax

    from light_sernet_kd.training.vectorised.twins import ConvolutionByPatches, traced

    inputs = np.random.default_rng(1).standard_normal((2, 9, 8, 3)).astype(np.float32)

    def squares(layer):
        # In one program, as a run does: by itself, JAX would compile each operation of each shape.
        return jax.jit(jax.value_and_grad(lambda values: (layer(values) ** 2).sum()))(inputs)

    for kernel, strides in (((1, 4), (2, 1)), ((6, 3), (3, 2)), ((1, 1), (1, 1))):
        theirs = keras.layers.Conv2D(5, kernel, strides, padding, bias_initializer="normal")
        theirs.build(inputs.shape)
        ours = ConvolutionByPatches.from_config(theirs.get_config())
        ours.build(inputs.shape)
        ours.set_weights(theirs.get_weights())
        with traced(networks=2):
            found = squares(ours)
        expected = squares(theirs)
        np.testing.assert_allclose(found[0], expected[0], rtol=1e-5)
        np.testing.assert_allclose(found[1], expected[1], atol=1e-4)


def test_pooling_by_parts_is_keras_pooling():
    import jax

    from light_sernet_kd.training.vectorised.twins import AveragePoolingByParts

    inputs = np.random.default_rng(1).standard_normal((2, 9, 7, 3)).astype(np.float32)
    for pool in ((2, 2), (2, 1), (1, 3), (4, 5)):
        for padding in ("same", "valid"):
            theirs = keras.layers.AveragePooling2D(pool, padding=padding)
            ours = AveragePoolingByParts.from_config(theirs.get_config())
            found, expected = jax.jit(lambda values, pools=(ours, theirs): [pool(values) for pool in pools])(
                inputs
            )
            np.testing.assert_allclose(found, expected, atol=1e-6)


def test_batch_norm_is_keras_batch_norm_of_what_is_no_padding():
    import jax

    from light_sernet_kd.training.vectorised.twins import BatchNormalizationOfMany, traced

    rng = np.random.default_rng(1)
    inputs, weights = (rng.standard_normal((6, 5, 4, 3)).astype(np.float32) + 2 for _ in range(2))
    theirs = keras.layers.BatchNormalization(momentum=0.7)
    theirs.build(inputs.shape)
    theirs.set_weights([rng.standard_normal(3) for _ in range(3)] + [np.ones(3)])
    ours = BatchNormalizationOfMany.from_config(theirs.get_config())
    ours.build(inputs.shape)

    def results(layer, inputs, weights):
        def total(trainable, inputs):
            outputs, after = layer.stateless_call(trainable, state, inputs, training=True)
            return (weights * outputs**3).sum(), after

        trainable = [variable.value for variable in layer.trainable_variables]
        state = [variable.value for variable in layer.non_trainable_variables]
        return jax.jit(jax.value_and_grad(total, argnums=(0, 1), has_aux=True))(trainable, inputs)

    for padding in (None, np.array([1, 1, 0, 1, 1, 0], bool)):
        kept = np.ones(6, bool) if padding is None else padding
        ours.set_weights(theirs.get_weights())
        (value, after), (of_trainable, of_inputs) = results(theirs, inputs[kept], weights[kept])
        with traced(padding):
            zeroed = weights * kept[:, None, None, None]  # padding has no part in any loss
            (our_value, our_after), ours_of = results(ours, inputs, zeroed)
        np.testing.assert_allclose(our_value, value, rtol=1e-4)
        for found, expected in zip([*our_after, *ours_of[0]], [*after, *of_trainable], strict=True):
            np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)
        np.testing.assert_allclose(ours_of[1][kept], of_inputs, atol=1e-3)
        np.testing.assert_allclose(ours_of[1][~kept], 0, atol=1e-3)


def test_masks_on_the_device_are_drawn_as_those_of_specaugment():
    import jax

    from light_sernet_kd.training.vectorised.augmentation import masked

    settings = {"chance": 0.8, "time_masks": 2, "time_most": 0.5, "frequency_masks": 1, "frequency_most": 0.4}
    clip = np.random.default_rng(1).standard_normal((12, 10, 1)).astype(np.float32)
    draw = jax.jit(jax.vmap(functools.partial(masked, features=clip, settings=settings)))
    ours = np.asarray(draw(jax.random.split(jax.random.key(0), 10_000)))
    rng = np.random.default_rng(2)
    theirs = np.stack([specaugment(clip, rng, **settings) for _ in range(10_000)])
    for made in (ours, theirs):
        changed = made != clip
        assert np.unique(made[changed].round(5)).tolist() == [pytest.approx(clip.mean(), abs=1e-5)]
    # Each cell is masked equally often, and as many are masked at once.
    shares = [(made != clip).mean(axis=0) for made in (ours, theirs)]
    np.testing.assert_allclose(*shares, atol=0.04)
    counts = [np.sort((made != clip).sum(axis=(1, 2, 3))) for made in (ours, theirs)]
    assert np.abs(counts[0] - counts[1]).mean() < 2.0


def test_mixtures_on_the_device_are_those_of_mixup():
    import jax

    from light_sernet_kd.training.vectorised import augmentation

    settings = {"chance": 0.6, "alpha": 0.3}
    draw = jax.jit(jax.vmap(functools.partial(augmentation.share, settings=settings)))
    ours = np.sort(draw(jax.random.split(jax.random.key(0), 4000)))
    rng = np.random.default_rng(1)
    theirs = np.sort([mixup(1.0, rng, **settings) for _ in range(4000)])
    assert np.abs(ours - theirs).mean() < 0.02
    mask = np.array([True] * 5 + [False] * 2)
    orders = {tuple(augmentation.mates(jax.random.key(i), mask).tolist()) for i in range(30)}
    assert len(orders) > 20
    assert all(sorted(order[:5]) == [*range(5)] and order[5:] == (5, 6) for order in orders)
    logits, others = (3 * _RNG.standard_normal((6, CLASSES)).astype(np.float32) for _ in range(2))
    share = np.array([0.0, 1.0, 0.5, 0.2, 0.9, 0.99], np.float32)
    for on_device, reference in ((augmentation.mix_logits, mix_logits), (augmentation.mixed, mix)):
        found = on_device(logits, others, share)
        np.testing.assert_allclose(found, reference(logits, others, share), atol=1e-5)


def augmenter(folder: Path, text: str) -> Augmenter:
    """Of recordings of noise, whose "features" are their first samples."""
    recorded = np.zeros(UTTERANCES, [("length", np.int32), ("samples", np.float32, (200,))])
    recorded["length"] = 150
    recorded["samples"] = FEATURES.reshape(UTTERANCES, -1)[:, :100].repeat(2, axis=1)

    def compute(clips):
        return clips[:, : SHAPE[0] * SHAPE[1]].reshape(-1, *SHAPE)

    speakers = np.arange(UTTERANCES) % 4
    return Augmenter(parse(text), recorded, compute, 160, "right", "noise", folder, speakers)


def test_views_are_what_the_augmenter_makes_and_are_kept(tmp_path, monkeypatch):
    from light_sernet_kd.training.vectorised import augmentation

    ours = augmenter(tmp_path, "gain,noise:chance=1,specaugment,mixup")
    views = augmentation.views(ours, FEATURES)
    assert views.dtype == np.float16
    before = augmenter(tmp_path, "gain,noise:chance=1")
    everything = np.arange(UTTERANCES)
    for view in (0, 3, augmentation.VIEWS - 1):
        made = before.features(FEATURES, everything, seed=0, epoch=view)
        stored = views.reshape(augmentation.VIEWS, UTTERANCES, *SHAPE)[view]
        np.testing.assert_array_equal(stored, made.astype(np.float16))
    (path,) = tmp_path.iterdir()
    stamp = path.stat().st_mtime_ns
    assert augmentation.views(before, FEATURES) is not None
    assert [path.stat().st_mtime_ns] == [each.stat().st_mtime_ns for each in tmp_path.iterdir()] == [stamp]
    assert augmentation.views(augmenter(tmp_path, "specaugment,mixup"), FEATURES) is None
    edited = plugins.Plugin("mine", Path("mine"), "0" * 64, is_named=False, added=[("augmentation", "gain")])
    monkeypatch.setitem(plugins._loaded, edited.place, edited)
    assert augmentation.views(before, FEATURES) is not None
    assert len([*tmp_path.iterdir()]) == 2


def test_statistics_on_the_device_are_those_of_freqmixstyle():
    import jax

    from light_sernet_kd.training.vectorised import augmentation

    share = np.linspace(0, 1, 6).astype(np.float32)
    clips, others = (3 * _RNG.standard_normal((6, 12, 5, 1)).astype(np.float32) + 2 for _ in range(2))
    found = jax.jit(augmentation.restyled)(clips, others, share)
    np.testing.assert_allclose(found, restyled(clips, others, share), atol=1e-4)
    asked, mask = parse("freqmixstyle:chance=1:alpha=1"), np.array([True] * 4 + [False] * 2)
    styled = jax.jit(functools.partial(augmentation.styled, asked, features=jax.numpy.asarray(clips)))
    drawn = [np.asarray(styled(jax.random.key(i), np.arange(6), mask)) for i in (0, 0, 1)]
    np.testing.assert_array_equal(drawn[0], drawn[1])
    assert np.abs(drawn[0][:4] - drawn[2][:4]).max() > 0.1
    # Padding lends its statistics to nobody: its mate is itself.
    np.testing.assert_allclose(drawn[0][4:], clips[4:], atol=1e-4)
    never = augmentation.styled(parse("freqmixstyle:chance=0"), jax.random.key(0), np.arange(6), mask, clips)
    np.testing.assert_array_equal(never, clips)


def test_views_of_babble_are_those_of_each_jobs_training_set(tmp_path):
    from light_sernet_kd.training.vectorised import augmentation

    ours, sets = augmenter(tmp_path, "babble:chance=1,mixup"), ([0, 1, 2, 3], [2, 3, 4, 5], [3, 2, 1, 0])
    jobs = [job(tmp_path, i, augmenter=ours, train=train) for i, train in enumerate(sets)]
    views, of = augmentation.views_of(jobs)
    assert of.tolist() == [0, 1, 0], "equal sets share their views"
    assert views.shape == (2 * augmentation.VIEWS * UTTERANCES, *SHAPE)
    before = ours.with_only(parse("babble:chance=1"))
    for number in (0, 1):
        made = before.bound(sets[number], LABELS).features(FEATURES, np.arange(UTTERANCES), seed=0, epoch=5)
        stored = views[(number * augmentation.VIEWS + 5) * UTTERANCES :][:UTTERANCES]
        np.testing.assert_array_equal(stored, made.astype(np.float16))
    gain = [
        job(tmp_path, i, augmenter=augmenter(tmp_path, "gain"), train=train) for i, train in enumerate(sets)
    ]
    assert augmentation.views_of(gain)[1].tolist() == [0, 0, 0]


@pytest.mark.every
@pytest.mark.parametrize(
    "text",
    [
        "gain,noise:chance=1,specaugment,mixup",
        "specaugment:chance=0,gain:chance=0",
        "babble:chance=1,freqmixstyle:chance=1:alpha=1",
    ],
)
def test_augmented_networks_do_not_depend_on_those_beside_them(text, tmp_path, together):
    ours, augments = network("KD+PKT:100"), {"augmenter": augmenter(tmp_path, text)}
    soft = np.eye(CLASSES, dtype=np.float32)[LABELS] * 0.8 + 0.2 / CLASSES
    facts = augments | {"examples": dataclasses.replace(EXAMPLES, soft_labels=soft)}
    trained = together([(ours, job(tmp_path, i, **facts)) for i in range(3)])
    (alone,) = together([(ours, job(tmp_path, 2, checkpoint=tmp_path / "alone.npz", **facts))])
    assert_same(trained[2], alone, [weight.path for weight in ours.twin.weights], 5e-5)
    assert trained[2].history["loss"][0] != trained[2].history["loss"][1]


@pytest.mark.every
def test_an_augmentation_that_never_happens_changes_nothing(tmp_path, together):
    """Of views too, whose float16 rounds: so only masks and mixtures."""
    ours, text = network("CKD"), "specaugment:chance=0,mixup:chance=0"
    (never,) = together([(ours, job(tmp_path, 0, augmenter=augmenter(tmp_path, text)))])
    (plain,) = together([(ours, job(tmp_path, 0, checkpoint=tmp_path / "plain.npz"))])
    assert_same(never, plain, [weight.path for weight in ours.twin.weights], 5e-5)


@pytest.mark.every
@pytest.mark.parametrize(("name", "tolerance"), [("light_sernet", 1e-4), ("mobilenetv3_small_075", 2e-3)])
def test_a_student_is_what_keras_makes_of_it(name, tolerance, tmp_path, together):
    """Keras' own `fit`, fed by tf.data, is the reference; what is deep makes more of a rounding."""
    build = functools.partial(students.build, name, (36, 32, 1), CLASSES, width=0.25)
    rows = np.random.default_rng(2).standard_normal((UTTERANCES, 36, 32, 1)).astype(np.float32)
    wide = {"examples": dataclasses.replace(EXAMPLES, rows=rows)}
    schedule = SCHEDULE.changed(learning_rate=1e-4)
    alone = network("CKD", build=build, accelerate=False, schedule=schedule)
    ours = network("CKD", build=build, schedule=schedule)
    theirs = [alone.train(job(tmp_path, i, checkpoint=tmp_path / f"a{i}.npz", **wide)) for i in range(3)]
    trained = together([(ours, job(tmp_path, i, **wide)) for i in range(3)])
    for one, other in zip(trained, theirs, strict=True):
        np.testing.assert_allclose(one.history["loss"], other.history["loss"], rtol=tolerance)
        np.testing.assert_allclose(one.history["val_loss"], other.history["val_loss"], rtol=5 * tolerance)
