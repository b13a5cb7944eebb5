"""Students that teach the next generation of students."""

import dataclasses
import itertools
import json
import shutil

import keras
import numpy as np
import pytest
import soundfile
from small_runs import EMOTIONS, SPEAKERS, error_of, no_graphs, train

from light_sernet_kd import teachers
from light_sernet_kd.config import RunOptions, Settings, make_settings
from light_sernet_kd.config.engine import engine_here
from light_sernet_kd.corpora import demo, manifest
from light_sernet_kd.data.protocols import fold_seed
from light_sernet_kd.data.run_folder import RunFolder
from light_sernet_kd.errors import UserError
from light_sernet_kd.experiment import fold
from light_sernet_kd.experiment import run as experiment
from light_sernet_kd.experiment.exported import final
from light_sernet_kd.experiment.networks.phases import phases_of
from light_sernet_kd.experiment.networks.training import Training
from light_sernet_kd.experiment.teachers import generations
from light_sernet_kd.reporting import display
from light_sernet_kd.training import checkpoint

pytestmark = pytest.mark.usefixtures("undrawn", "shallow", "eager")

FOLD = sorted(SPEAKERS)[0]
COMMON = ["--epochs", "2", "--folds", "#1", "--no-export", "--teacher_gate", "off"]


@dataclasses.dataclass
class Watched:
    """A network that a run trained: what it learnt from, and the weights that its training selected."""

    run: object
    role: str
    outputs: object
    epochs: object
    selected: list


@pytest.fixture(scope="module")
def result(manifest, tmp_path_factory):
    """A folder of results, with the file of a teacher whose embeddings are no student's."""
    folder = tmp_path_factory.mktemp("result")
    rows = _utterances(manifest)
    right = np.eye(3, dtype=np.float32)[[sorted(EMOTIONS).index(row.emotion) for row in rows]]
    noise = np.random.default_rng(0).normal(size=(len(rows), 5)).astype(np.float32)
    ids, classes = tuple(row.id for row in rows), tuple(sorted(EMOTIONS))
    teacher = teachers.Teacher(ids, classes, 4 * right[None], embeddings=noise[None])
    teachers.write(folder / "other.npz", teacher)
    return folder


def _utterances(path):
    return manifest.utterances(path).utterances


def watched(patch) -> list[Watched]:
    """What the students of runs from now on learn from."""
    seen = []

    def watching(train_network):
        def instead(run, role, of_fold, outputs=None, epochs=None):
            outcome = train_network(run, role, of_fold, outputs, epochs=epochs)
            seen.append(Watched(run, role, outputs, epochs, outcome.selected))
            # Of those before the last the selected weights count, and no others.
            last = outcome.last if role == "student" else [each + 1 for each in outcome.last]
            return dataclasses.replace(outcome, last=last)

        return instead

    for module in (fold, generations, final):
        patch.setattr(module, "train_network", watching(module.train_network))
    return seen


def learn(manifest, result, name, *arguments):
    taught = ["-kd", "KD+hint:0.1", "--teacher", str(result / "other.npz")]
    assert train(manifest, result, "--run", name, *COMMON, *taught, *arguments) == 0


@pytest.fixture(scope="module")
def three(manifest, result, shallow):
    """A run of three generations, and what each learnt from."""
    with no_graphs(), pytest.MonkeyPatch.context() as patch:
        seen = watched(patch)
        learn(manifest, result, "three", "--generations", "3")
    return seen


def student_with(watched_run: Watched) -> keras.Model:
    """The student of that training, as Keras has it."""
    model = phases_of(watched_run.run, "student")[-1].build()
    model.set_weights(watched_run.selected)
    return model


def loaded(path) -> list[np.ndarray]:
    return keras.saving.load_model(path, compile=False).get_weights()


def same(one, other) -> bool:
    return all(np.array_equal(mine, theirs) for mine, theirs in zip(one, other, strict=True))


def features_of(watched_run: Watched) -> np.ndarray:
    return np.asarray(phases_of(watched_run.run, "student")[-1].rows[np.arange(27)])


# Who teaches whom


def test_the_first_learns_from_the_teacher_and_each_other_from_the_one_before(three):
    assert [each.role for each in three] == ["generation-1", "generation-2", "student"]
    given = teachers.read(three[0].run.options.result / "other.npz").logits[0]
    np.testing.assert_array_equal(three[0].outputs.logits, given)
    for before, after in itertools.pairwise(three):
        model = student_with(before)
        both = keras.Model(model.input, [model.output, model.get_layer("embedding").output])
        logits, embedding = (each.numpy() for each in both(features_of(before), training=False))
        np.testing.assert_allclose(after.outputs.logits, logits, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(after.outputs.embedding, embedding, rtol=1e-4, atol=1e-5)
        assert after.outputs.batch_teacher is None


def test_a_generation_begins_anew_and_is_the_same_however_many_follow(manifest, result, three):
    learn(manifest, result, "one")
    learn(manifest, result, "two", "--generations", "2")
    # the first is what such a run was before there were generations
    of_fold, other = three[0].run.folds[0], three[0].run
    assert Training(other, "generation-1", of_fold).seed(0) == fold_seed(0, f"student {FOLD}")
    assert Training(other, "generation-1", of_fold).seed(1) == fold_seed(0, f"student-2 {FOLD}")
    assert len({Training(other, each.role, of_fold).seed(phase) for each in three for phase in (0, 1)}) == 6
    for number, name in enumerate(("one", "two", "three")):
        path = result / name / f"fold-{FOLD}" / "student.keras"
        assert same(loaded(path), three[number].selected), name
    # a generation that went on from the last would be as near to it as two epochs allow
    first, second = (keras.ops.convert_to_numpy(each.selected[0]) for each in three[:2])
    assert np.abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < 0.7


def test_the_same_view_asks_the_generation_before_of_the_batch(manifest, result, monkeypatch):
    common = [*COMMON, "--arithmetic", "float32"]
    assert train(manifest, result, "--run", "teaches", *common) == 0
    seen = watched(monkeypatch)
    arguments = ["-kd", "KD+hint:0.1", "--teacher", f"run:{result / 'teaches'}", "--teacher_view", "same"]
    more = ["--generations", "2", "--augment", "noise:chance=1"]
    assert train(manifest, result, "--run", "view", *common, *arguments, *more) == 0
    batch = features_of(seen[0])[:5] + np.float32(0.1)
    said = seen[1].outputs.batch_teacher(batch, np.arange(5))
    model = student_with(seen[0])
    np.testing.assert_allclose(said["teacher"], model(batch, training=False), rtol=1e-4, atol=1e-5)
    inner = keras.Model(model.input, model.get_layer("embedding").output)
    np.testing.assert_allclose(said["teacher_embedding"], inner(batch), rtol=1e-4, atol=1e-5)


def test_the_generation_before_answers_clips_without_labels(manifest, result, monkeypatch, tmp_path):
    speech = tmp_path / "speech"
    speech.mkdir()
    for sentence in tuple(demo.SENTENCES)[:3]:
        sound = demo.synthesise(tuple(demo.SPEAKERS)[4], sentence, "anger")
        soundfile.write(speech / f"{sentence}.wav", sound, 16_000)
    seen = watched(monkeypatch)
    arguments = ["-kd", "KD", "--teacher", "auto", "--teacher_epochs", "1", "--unlabelled", str(speech)]
    views = ["--unlabelled_views", "2", "--augment", "gain:chance=1"]
    assert train(manifest, result, "--run", "clips", *COMMON, *arguments, *views, "--generations", "2") == 0
    first, clips = (each.outputs.unlabelled for each in seen)
    assert len(clips.views) == 2
    for mine, before in zip(clips.views, first.views, strict=True):
        np.testing.assert_array_equal(mine[np.arange(len(mine))], before[np.arange(len(before))])
    heard = np.asarray(clips.rows[np.arange(len(clips.logits))])
    expected = student_with(seen[0])(heard, training=False)
    np.testing.assert_allclose(clips.logits, expected, rtol=1e-4, atol=1e-5)
    assert clips.embedding is None


# What is kept and told


def test_the_scores_of_each_generation_are_kept_and_told(result, three):
    step = RunFolder(result / "three").fold(FOLD)
    told = json.loads((result / "three" / "metrics.json").read_text())
    kept = np.load(step.path / "generation_logits.npz")
    kept = [kept["1"], kept["2"], np.load(step.path / "test_logits.npz")["selected"]]
    rows = three[0].run.folds[0].test
    labels = three[0].run.selection.labels[list(rows)]
    for row, logits, watched_run in zip(told["generations"], kept, three, strict=True):
        direct = student_with(watched_run)(features_of(watched_run)[list(rows)], training=False)
        np.testing.assert_allclose(logits, direct, rtol=1e-4, atol=1e-5)
        recalls = [np.mean(logits.argmax(axis=1)[labels == label] == label) for label in range(3)]
        assert row["ua"] == pytest.approx(np.mean(recalls))
        assert row["folds"] == {FOLD: {"ua": pytest.approx(row["ua"]), "wa": pytest.approx(row["wa"])}}
    assert [row["generation"] for row in told["generations"]] == [1, 2, 3]
    gain = told["generations"][2]["ua"] - told["generations"][0]["ua"]
    assert told["generations"][2]["less_first"] == {"ua": pytest.approx(gain), "ci95": None}
    assert told["pooled"]["ua"] == told["generations"][2]["ua"]
    # the run's teacher is what taught the first
    given = teachers.read(result / "other.npz").logits[0][list(rows)]
    np.testing.assert_array_equal(np.load(step.path / "test_logits.npz")["teacher"], given)
    report = (result / "three" / "report.md").read_text()
    assert "## Generations" in report
    assert "| 1 | the run's teacher |" in report.replace("  ", " ").replace("  ", " ")
    assert "generation 2" in report
    assert sorted(path.name for path in step.path.glob("generation*")) == [
        "generation-1_history.csv", "generation-2_history.csv", "generation_logits.npz",
    ]  # fmt: skip
    assert len(step.outcome()["generations"]) == 2


@pytest.mark.parametrize(
    "after", [3, *(pytest.param(epochs, marks=pytest.mark.every) for epochs in (1, 2, 5))]
)
def test_an_interrupted_run_goes_on_with_its_generation(manifest, result, three, monkeypatch, after):
    """It is interrupted as an epoch's checkpoint is written: of the first, second or third generation."""
    write, written = checkpoint.write_checkpoint, []

    def interrupting(*arguments):
        write(*arguments)
        written.append(arguments)
        if len(written) == after:
            raise KeyboardInterrupt

    name = f"stopped-{after}"
    arguments = ["-kd", "KD+hint:0.1", "--teacher", str(result / "other.npz"), "--generations", "3"]
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "write_checkpoint", interrupting)
        assert train(manifest, result, "--run", name, *COMMON, *arguments) == 130
    left = sorted(path.name for path in (result / name / f"fold-{FOLD}").glob("generation-?.npz"))
    assert left == [f"generation-{number}.npz" for number in range(1, (after + 1) // 2)]
    seen = watched(monkeypatch)
    assert train(manifest, result, "--run", name, *COMMON, *arguments) == 0
    assert len(seen) == 3 - len(left), "what was done is not done again"
    for file in ("test_logits.npz", "generation_logits.npz"):
        one, other = (np.load(result / each / f"fold-{FOLD}" / file) for each in ("three", name))
        assert all(np.array_equal(one[key], other[key]) for key in one.files)
    assert same(seen[-1].selected, three[-1].selected)


def test_a_damaged_generation_says_what_to_remove(manifest, result, three, monkeypatch, capsys):
    name, path = "damaged", result / "damaged" / f"fold-{FOLD}" / "generation-1.npz"
    (result / name).mkdir()
    shutil.copy(result / "three" / "config.json", result / name)
    path.parent.mkdir()
    path.write_bytes(b"PK")
    arguments = ["-kd", "KD+hint:0.1", "--teacher", str(result / "other.npz"), "--generations", "3"]
    assert train(manifest, result, "--run", name, *COMMON, *arguments) == 2
    assert f"{path} is damaged: remove {path}" in error_of(capsys)


def test_the_final_student_goes_through_the_same_generations(manifest, result, monkeypatch):
    settings = make_settings(
        corpus=str(manifest), input_seconds=1.2, width=0.15, distillation="KD", batch_size=8,
        teacher=str(result / "other.npz"), generations=3, folds=("#1",), epochs=9,
    )  # fmt: skip
    options = RunOptions(data=result, result=result, run="final")
    seen = watched(monkeypatch)
    with experiment.opened(settings, options, display.Display(verbose=0)) as run:
        outcomes = [
            {"best_epochs": [last], "generations": [{"best_epochs": [one]}, {"best_epochs": [two]}]}
            for one, two, last in ((1, 2, 1), (1, 2, 1), (7, 8, 9))
        ]
        final.train_final(run, outcomes)
        assert [(each.role, list(each.epochs)) for each in seen] == [
            ("generation-1", [1]), ("generation-2", [2]), ("student", [1]),
        ]  # fmt: skip
        expected = student_with(seen[1])(features_of(seen[1]), training=False)
        np.testing.assert_allclose(seen[2].outputs.logits, expected, rtol=1e-4, atol=1e-5)
        assert same(loaded(run.step(run.selection.final_fold).student), seen[2].selected)


# What is refused


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "--generations 2 is for students that teach the next ones: add -kd KD"),
        ({"distillation": "KD", "student": "bert_vggish"}, "for audio-only students, not for bert_vgg"),
        ({"distillation": "KD", "generations": 0}, "generations must be above 0"),
        ({"distillation": "KD", "generations": 1.5}, "generations must be a whole number"),
    ],
)
def test_what_has_no_generations_is_told(values, message):
    with pytest.raises(UserError, match=message):
        make_settings(**{"generations": 2, **values})


def test_jax_trains_no_generations():
    with pytest.raises(UserError, match="--engine jax does not train with --generations 2: leave it out"):
        engine_here(make_settings(distillation="KD", generations=2), "jax")
    with pytest.raises(UserError, match="--engine jax does not train with --start_from: leave it out"):
        engine_here(make_settings(start_from="result/before"), "jax")


def test_one_generation_is_the_run_that_it_was_before():
    plain = Settings(distillation="KD", teacher="auto")
    assert dataclasses.replace(plain, generations=1).digest() == plain.digest()
    assert dataclasses.replace(plain, generations=2).digest() != plain.digest()
