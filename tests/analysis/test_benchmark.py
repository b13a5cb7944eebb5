"""What `benchmark` says of a file against hand counts, the Keras model and NumPy."""

import json
import math
import shutil
import zipfile
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from exported_cases import with_list
from rich.console import Console

from light_sernet_kd import audio, cli, runner, students
from light_sernet_kd.analysis import benchmark
from light_sernet_kd.analysis.benchmark import measuring
from light_sernet_kd.analysis.benchmark.graph import _multiply_adds
from light_sernet_kd.analysis.benchmark.tables import _names
from light_sernet_kd.corpora.registry import load
from light_sernet_kd.data import protocols, training_list
from light_sernet_kd.data.selection import CorpusPart
from light_sernet_kd.errors import UserError
from light_sernet_kd.export.tflite import ExportSpec, export

CLASSES = ("anger", "boredom", "neutral")
SAMPLES = 48_000
SCORED = {"ua": 0.6789, "wa": 0.72, "ua_low": 0.611, "ua_high": 0.743}
# The issue's, of a student of 3 s with the front end inside.
MOST_BYTES = {"float32": 2_000_000, "float16": 1_100_000, "int8": 650_000}


def voices(count: int = 6) -> np.ndarray:
    rng = np.random.default_rng(0)
    seconds = np.arange(SAMPLES) / 16_000
    return np.array(
        [
            0.1 * np.sin(2 * np.pi * rng.uniform(80, 300) * seconds) + 0.02 * rng.normal(size=SAMPLES)
            for _ in range(count)
        ],
        np.float32,
    )


@pytest.fixture(scope="module")
def student() -> keras.Model:
    keras.utils.set_random_seed(0)
    return students.build("light_sernet", (184, 40, 1), len(CLASSES))


@pytest.fixture(scope="module")
def files(student, tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    made = export(
        student,
        ExportSpec(
            classes=CLASSES,
            front_end="lsn",
            input_type="mfcc",
            samples=SAMPLES,
            representative=voices(),
            folder=folder,
            card={"student": "light_sernet", "corpus": "EMO-DB", "protocol": "loso", "synthetic": False}
            | {
                "folds": ["03", "08"],
                "stamps": ["optimistic"],
                "scored": "UA and WA are the folds' students'.",
            },
            precisions=("float32", "float16", "int8"),
            precision_cards={"float16": {"ua": 0.61, "wa": 0.7}, "int8": SCORED},
        ),
    )
    return {each.precision: each.path for each in made}


@pytest.fixture(scope="module")
def measured(files):
    return benchmark.measure([*files.values()], rounds=20)


def model_of(path) -> bytes:
    with zipfile.ZipFile(path) as archive:
        return path.read_bytes()[: json.loads(archive.read("card.json"))["model_bytes"]]


def keras_multiply_adds(model: keras.Model) -> int:
    """By a loop over the layers, from the shapes that Keras knows."""
    total = 0
    for layer in model.layers:
        if isinstance(layer, keras.layers.Conv2D):
            _, height, width, filters = layer.output.shape
            total += height * width * filters * math.prod(layer.kernel.shape[:3])
        elif isinstance(layer, keras.layers.Dense):
            total += math.prod(layer.kernel.shape)
    return total


def test_multiply_adds_are_those_of_the_keras_layers(student, files):
    found = {precision: benchmark.work(model_of(path)) for precision, path in files.items()}
    expected = keras_multiply_adds(student)
    assert found["float32"].network == found["float16"].network == expected
    # Light-SERNet's seven pools of an int8 file, each of them a convolution of 4 or 2 values per mean.
    pools = 4 * 92 * 20 * 96 + 4 * 46 * 10 * 64 + 4 * 23 * 5 * 96 + 2 * 12 * 5 * 128 + 2 * 6 * 5 * 160
    assert found["int8"].network == expected + pools
    # By hand: the first convolutions and the table's second, at 3 s and 40 coefficients.
    assert expected > 184 * 40 * 32 * (11 + 9 + 9) + 92 * 20 * 64 * 3 * 3 * 96
    assert {each.front_end for each in found.values()} == {found["float32"].front_end}


def test_multiply_adds_of_the_front_end_are_those_of_its_products(files):
    frames = 184
    rows = frames * 34 * 32 * 32  # 32 columns of 32 rows to 17 complex numbers
    columns = frames * 17 * 64 * 64  # 32 complex numbers to 32
    cepstrum = frames * 128 * 40
    bands = benchmark.work(model_of(files["float32"])).front_end - rows - columns - cepstrum
    # Each band meets some neighbouring bins: between two and a quarter of all.
    assert frames * 128 * 2 < bands < frames * 128 * 513 / 4


def test_multiply_adds_by_hand():
    count = _multiply_adds
    options = SimpleNamespace(adjX=False)
    assert count("CONV_2D", [(1, 9, 9, 6), (8, 3, 5, 6)], (1, 7, 5, 8), None) == 7 * 5 * 8 * 3 * 5 * 6
    assert count("CONV_2D", [(1, 9, 9, 6), (8, 3, 5, 2)], (1, 7, 5, 8), None) == 7 * 5 * 8 * 3 * 5 * 2
    assert count("DEPTHWISE_CONV_2D", [(1, 9, 9, 6), (1, 3, 3, 6)], (1, 7, 7, 6), None) == 7 * 7 * 6 * 9
    assert count("FULLY_CONNECTED", [(4, 10), (3, 10), ()], (4, 3), None) == 4 * 10 * 3
    assert count("BATCH_MATMUL", [(2, 4, 5), (2, 5, 6)], (2, 4, 6), options) == 2 * 4 * 5 * 6
    assert count("BATCH_MATMUL", [(2, 5, 4), (2, 5, 6)], (2, 4, 6), SimpleNamespace(adjX=True)) == 240
    assert count("AVERAGE_POOL_2D", [(1, 8, 8, 3)], (1, 4, 4, 3), None) == 0


def test_operators_and_weights_are_those_of_the_flatbuffer(student, files):
    for path in files.values():
        content = model_of(path)
        found = benchmark.work(content)
        (graph,) = schema.ModelT.InitFromPackedBuf(content).subgraphs
        assert sum(found.operators.values()) == len(graph.operators)
        assert found.operators["CONV_2D"] == 8
    # Batch norm is in the kernels, and a bias in its place.
    kernels = sum(math.prod(w.shape) for w in student.weights if w.path.endswith("kernel"))
    biases = 96 + 64 + 96 + 128 + 160 + 320
    float32 = benchmark.work(model_of(files["float32"])).weights
    assert 0 < float32 - kernels - biases < 30_000, "the front end's tables are small"


def test_sizes_are_within_the_targets(measured, files):
    for row in measured["files"]:
        path = files[row["precision"]]
        assert row["bytes"] == path.stat().st_size <= MOST_BYTES[row["precision"]]


def test_parts_of_xnnpack_hold_all_but_what_is_named(measured):
    for row in measured["files"]:
        found = row["delegation"]
        assert 1 <= found["parts"] <= 5
        assert not {"CONV_2D", "FULLY_CONNECTED", "BATCH_MATMUL", "AVERAGE_POOL_2D"} & {*found["left"]}
        assert "TOPK_V2" in found["left"]


def test_delegation_is_read_from_what_a_part_takes_and_gives():
    def node(index, name, inputs, outputs):
        return {"index": index, "op_name": name, "inputs": inputs, "outputs": outputs}

    nodes = [
        node(0, "TOPK_V2", [0], [1]),
        node(1, "MUL", [1, 9], [2]),
        node(2, "ADD", [2], [3]),
        node(3, "ARG_MAX", [3], [4]),
        node(4, "DELEGATE", [1, 9], [3]),
    ]
    found = benchmark.delegation(SimpleNamespace(_get_ops_details=lambda: nodes))
    assert found == {"parts": 1, "left": {"TOPK_V2": 1, "ARG_MAX": 1}}
    assert benchmark.delegation(SimpleNamespace()) is None


def test_median_and_percentile_are_numpys():
    seconds = np.random.default_rng(0).exponential(0.004, 101)
    found = benchmark.summary([*seconds])
    assert found["median_ms"] == pytest.approx(1e3 * np.sort(seconds)[50])
    assert found["p95_ms"] == pytest.approx(1e3 * np.sort(seconds)[95])
    assert benchmark.summary([0.001, 0.003]) == pytest.approx({"median_ms": 2.0, "p95_ms": 2.9})


def test_calls_take_turns_and_each_is_the_first_as_often():
    order = []
    calls = {name: (lambda name=name: order.append(name)) for name in "abc"}
    found = benchmark.in_turn(calls, rounds=6)
    assert {name: len(seconds) for name, seconds in found.items()} == dict.fromkeys("abc", 6)
    assert "".join(order[3 * benchmark.WARM_UP :]) == "abcbcacab" * 2


def test_rounds_end_after_their_time_but_not_before_there_are_enough():
    found = benchmark.in_turn({0: lambda: None}, rounds=1000, most_seconds=0.0)
    assert len(found[0]) == benchmark.FEWEST_ROUNDS


def test_times_and_memory_are_those_of_an_answer(measured):
    for row in measured["files"]:
        for each in row["latency"].values():
            assert 0.1 < each["median_ms"] <= each["p95_ms"] < 10_000
            assert each["rounds"] == 20
            assert each["processor_ms"] > 0.1
            assert each["real_time_factor"] == pytest.approx(each["median_ms"] / 3000)
        alone = row["latency"]["1"]
        assert alone["processor_ms"] <= 1.01 * alone["median_ms"]
        # At least the file itself is read, and its tensors have a place.
        assert row["bytes"] < row["peak_memory_bytes"] < 100e6


def test_the_table_names_files_shortly_and_says_what_is_counted(measured, tmp_path):
    console = Console(width=80, record=True, file=(tmp_path / "out").open("w"))
    benchmark.show(measured, console)
    text = console.export_text()
    assert text.split("\n")[1].split() == ["float32", "float16", "int8"]
    size = measured["files"][0]["bytes"] / 1000
    assert (
        f"size (kB)  {size:,.0f}".split()
        == [word for line in text.split("\n") if "size" in line for word in line.split()][:3]
    )
    assert "multiply-adds of convolutions" in text
    assert "WA %" not in text


def test_the_ua_of_the_folds_students_is_the_cards_and_says_whose_it_is(measured):
    assert [row["folds_students"] and row["folds_students"]["ua"] for row in measured["files"]] == [
        None, 0.61, 0.6789,
    ]  # fmt: skip
    rows = {row[0]: row[1:] for row in benchmark.table(measured).cells()}
    assert rows["UA % of the folds' students"] == ["–", "61.0", "67.9"]
    assert rows["95 % of it"] == ["–", "–", "61.1 to 74.3"]
    notes = benchmark.notes(measured)
    (note,) = [line for line in notes if line.startswith("UA % of the folds' students")]
    assert "by the card, on EMO-DB, protocol loso, 2 folds: each fold's student in this precision" in note
    assert note.endswith("STAMP: optimistic.")
    assert any(line.startswith("95 % of it: percentile bootstrap over test speakers") for line in notes)
    # Of files that know nothing of a run there is no such row.
    untold = [{**row, "folds_students": None} for row in measured["files"]]
    fewer = benchmark.table({**measured, "files": untold})
    assert [row[0] for row in fewer.cells()] == [*rows][:-2]
    assert not any("folds' students" in line for line in benchmark.notes({**measured, "files": untold}))


def test_names_are_as_short_as_they_can_be():
    def names(*paths):
        return _names([{"file": path} for path in paths])

    assert names("a/student_int8.tflite") == ["int8"]
    assert names("a/student_int8.tflite", "b/student_int8.tflite") == ["a/int8", "b/int8"]
    assert names("a/student_int8.tflite", "a/other.tflite") == ["int8", "other"]


def test_what_is_written_is_what_was_measured(measured, tmp_path):
    written = benchmark.write(measured, tmp_path / "new")
    assert [path.name for path in written] == ["benchmark.json", "benchmark.md"]
    assert json.loads(written[0].read_text()) == json.loads(json.dumps(measured))
    lines = written[1].read_text().split("\n")
    assert lines[2].split("|")[1:-1] == ["  ", " float32 ", " float16 ", " int8 "]
    assert {path.name for path in (tmp_path / "new").iterdir()} == {"benchmark.json", "benchmark.md"}


def test_accuracy_is_that_of_the_runner_and_training_is_admitted(files, shared_data):
    rows = benchmark.recordings_of(CorpusPart("EMO-DB", shared_data), fold="03")
    assert {each.speaker for each in rows.utterances} == {"03"}
    few = benchmark.Recordings(rows.corpus, rows.what, rows.utterances[::4])
    found = benchmark.accuracy(files["float32"], few)
    known = [each for each in few.utterances if each.emotion in CLASSES]
    opened = runner.Runner(files["float32"])
    right = [
        opened.labels[opened.probabilities(audio.read(each.path)).argmax()] == each.emotion for each in known
    ]
    assert found["wa"] == pytest.approx(np.mean(right))
    assert found["utterances"] + found["left_out"] == len(few.utterances)
    assert found["utterances"] == len(known) < len(few.utterances)
    assert (found["trained_on"], found["trained_on_recordings"]) == (None, None)
    assert "Not checked whether it was trained on these recordings" in text_of(found)
    assert f"without {found['left_out']} of emotions" in text_of(found)


def text_of(accuracy: dict) -> str:
    measured = {
        "machine": {"processor": "x", "cores": 1, "system": "y", "ai_edge_litert": "1"},
        "multiply_adds": "",
        "peak_memory": "",
        "files": [{"accuracy": accuracy, "latency": {"1": {"rounds": 3}}}],
    }
    return "\n".join(benchmark.notes(measured))


def manifest_of(utterances, path, name="{}"):
    """A manifest of recordings where they lie; `name` is what their speakers are called in it."""
    rows = [f"{each.path},{each.emotion},{name.format(each.speaker)}" for each in utterances]
    path.write_text("\n".join(["path,emotion,speaker", *rows]) + "\n")
    return path


@pytest.fixture(scope="module")
def few(shared_data):
    """Recordings of EMO-DB by two speakers, of the file's three classes."""
    found = [each for each in load("EMO-DB", shared_data).utterances if each.emotion in CLASSES]
    return [[each for each in found if each.speaker == name][:6] for name in ("03", "08")]


@pytest.mark.parametrize(
    ("trained", "tested", "words", "trained_on", "same_names"),
    [
        ((0, 6), (0, 6), "This is no test: TRAINED ON 6 of these 6 recordings", True, 0),
        ((0, 6), (2, 4), "This is no test: TRAINED ON 2 of these 2 recordings", True, 0),
        ((2, 4), (0, 6), "This is no test: TRAINED ON 2 of these 6 recordings", True, 4),
        (
            (0, 3),
            (3, 6),
            "utterances. None of these 3 recordings was found among those that it was trained on (whole ones "
            "are compared: parts, other speeds and mixtures are not looked for)",
            False,
            3,
        ),
    ],
)
def test_a_file_is_asked_for_the_recordings_whatever_their_corpus_is_called(
    files, few, tmp_path, capsys, trained, tested, words, trained_on, same_names
):
    mine, _ = few
    about = {"corpus": "EMO-DB", "origin": "EMO-DB"}
    path = with_list(files["int8"], tmp_path, mine[slice(*trained)], **about)
    manifest = manifest_of(mine[slice(*tested)], tmp_path / "mysubset.csv")
    options = ["--on", str(manifest), "--rounds", "1", "--threads", "1", "--out", str(tmp_path)]
    assert cli.main(["benchmark", str(path), *options]) == 0
    page = " ".join((tmp_path / "benchmark.md").read_text().split())
    assert words in page
    assert words in " ".join(capsys.readouterr().out.split())
    assert "not on mysubset" not in page
    (file,) = json.loads((tmp_path / "benchmark.json").read_text())["files"]
    assert file["accuracy"]["trained_on"] is trained_on
    # Other recordings of a speaker who trained are no training data, and their voice is not new.
    assert file["accuracy"]["same_speaker_names"] == same_names
    assert ("speakers whose names are among those" in page) is (same_names > 0)


def test_another_corpus_of_the_same_table_name_is_not_called_training_data(files, few, tmp_path):
    mine, other = few
    path = with_list(files["int8"], tmp_path, mine, corpus="m", origin="")
    (tmp_path / "elsewhere").mkdir()
    table = manifest_of(other, tmp_path / "elsewhere" / "m.csv")
    rows = benchmark.recordings_of(CorpusPart(str(table), tmp_path))
    found = benchmark.accuracy(path, rows)
    assert (rows.corpus, found["trained_on"], found["same_speaker_names"]) == ("m", False, 0)
    named = benchmark.recordings_of(CorpusPart(str(manifest_of(other, table, "03")), tmp_path))
    found = benchmark.accuracy(path, named)
    assert (found["trained_on"], found["same_speaker_names"]) == (False, len(other))
    assert f"but {len(other)} are of speakers whose names are among those" in text_of(found)


def test_a_damaged_list_of_training_recordings_is_one_line_and_exit_code_2(files, few, tmp_path, capsys):
    path = tmp_path / "student_int8.tflite"
    shutil.copy(files["int8"], path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(training_list.MEMBER, "nothing")
    table = manifest_of(few[0][:1], tmp_path / "m.csv")
    for command in (["benchmark", "--rounds", "1"], ["stress", "--conditions", "gain"]):
        assert cli.main([command[0], str(path), "--on", str(table), *command[1:]]) == 2
        out, err = capsys.readouterr()
        assert (out, err.count("\n")) == ("", 1)
        assert "its list of training recordings (training.bin) is damaged" in err


def run_of(folder, **settings):
    """Where an exported file of a run with these settings would lie."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"settings": settings}))
    return folder / "student_int8.tflite"


@pytest.mark.parametrize(
    ("settings", "fold", "what"),
    [
        ({"protocol": "random", "seed": 7}, "04", "fold 04 (random, seed 7)"),
        ({"protocol": "group_kfold", "fold_count": 3}, "02", "fold 02 (group_kfold of 3)"),
        ({"protocol": "published", "seed": 7}, "10", "fold 10 (published)"),
        ({"protocol": "random", "emotions": ["anger", "neutral"]}, "01", "fold 01 (random, seed 0)"),
    ],
)
def test_a_fold_is_that_of_the_run_in_whose_folder_the_file_is(shared_data, tmp_path, settings, fold, what):
    file = run_of(tmp_path / "run", corpus="EMO-DB", **settings)
    found = benchmark.recordings_of(CorpusPart("emo-db", shared_data), fold=fold, files=[file])
    corpus = load("EMO-DB", shared_data, emotions=settings.get("emotions", ()))
    folds = protocols.propose_folds(
        settings["protocol"],
        corpus.utterances,
        seed=settings.get("seed", 0),
        n_folds=settings.get("fold_count", 5),
    )
    (chosen,) = [each for each in folds if each.name == fold]
    expected = tuple(corpus.utterances[i] for i in sorted(chosen.test))
    assert found.utterances == expected
    assert found.what == f"the test recordings of {what} of EMO-DB"
    # Emotions that are named leave the fold as it is, and choose within.
    anger = benchmark.recordings_of(
        CorpusPart("EMO-DB", shared_data, emotions=("anger", "neutral")), fold=fold, files=[file]
    )
    assert anger.utterances == tuple(each for each in expected if each.emotion in ("anger", "neutral"))
    # A protocol that is named is taken.
    named = benchmark.recordings_of(
        CorpusPart("EMO-DB", shared_data), fold="03", protocol="loso", files=[file]
    )
    assert {each.speaker for each in named.utterances} == {"03"}


def test_a_file_that_is_in_no_run_of_this_corpus_has_folds_of_one_speaker(shared_data, tmp_path):
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "config.json").write_text('{"model_type": "bert"}')
    for file in (
        tmp_path / "alone.tflite",
        foreign / "x.tflite",
        run_of(tmp_path / "other", corpus="RAVDESS", protocol="random"),
        run_of(tmp_path / "across", corpus="EMO-DB", test_on="RAVDESS", protocol="cross_corpus"),
    ):
        found = benchmark.recordings_of(CorpusPart("EMO-DB", shared_data), fold="08", files=[file])
        assert {each.speaker for each in found.utterances} == {"08"}
        assert found.what == "the test recordings of fold 08 (loso) of EMO-DB"


def test_runs_with_other_folds_are_refused_and_a_damaged_config_too(shared_data, tmp_path):
    one, other, same = (
        run_of(tmp_path / name, corpus="EMO-DB", protocol="random", seed=seed)
        for name, seed in (("one", 1), ("other", 2), ("same", 1))
    )
    assert benchmark.recordings_of(CorpusPart("EMO-DB", shared_data), fold="01", files=[one, same]).utterances
    with pytest.raises(UserError, match=r"folds differ: fold 01 \(random, seed 1\) and fold 01 \(random, se"):
        benchmark.recordings_of(CorpusPart("EMO-DB", shared_data), fold="01", files=[one, other])
    # Of one speaker they are alike, whatever the seed.
    assert benchmark.recordings_of(
        CorpusPart("EMO-DB", shared_data), fold="03", protocol="loso", files=[one, other]
    ).utterances
    (tmp_path / "one" / "config.json").write_text("{")
    with pytest.raises(UserError, match=r"config\.json is damaged"):
        benchmark.recordings_of(CorpusPart("EMO-DB", shared_data), fold="01", files=[one])


def test_more_threads_than_cores_are_not_promised(files, monkeypatch, capsys):
    monkeypatch.setattr(measuring, "core_count", lambda: 4)
    assert cli.main(["benchmark", str(files["int8"]), "--threads", "1,8", "--rounds", "1"]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert "8 threads cannot be measured: this machine has 4 cores, and no file" in err
    for cores, chosen in ((4, (1, 2)), (2, (1, 2)), (1, (1,))):
        monkeypatch.setattr(measuring, "core_count", lambda cores=cores: cores)
        assert benchmark.checked_threads(None) == chosen
    with pytest.raises(UserError, match=r"^2 threads cannot be measured: this machine has 1 core,"):
        benchmark.checked_threads((2,))


def test_what_no_file_can_be_scored_on_is_refused(files, shared_data):
    rows = benchmark.recordings_of(CorpusPart("EMO-DB", shared_data))
    others = benchmark.Recordings("x", "y", tuple(u for u in rows.utterances if u.emotion not in CLASSES))
    with pytest.raises(UserError, match="tells apart anger, boredom, neutral, and y have none"):
        benchmark.accuracy(files["float32"], others)
    with pytest.raises(UserError, match="unknown fold '3x'"):
        benchmark.recordings_of(CorpusPart("EMO-DB", shared_data), fold="3x")


def broken(files, tmp_path, kind):
    path = tmp_path / "broken.tflite"
    content = bytearray(files["int8"].read_bytes())
    if kind == "cut":
        content = content[:1000]
    elif kind == "damaged":
        content[5000] ^= 0xFF
    elif kind == "other":
        content = bytearray(b"RIFF and more")
    if kind != "missing":
        path.write_bytes(content)
    return path


@pytest.mark.parametrize("kind", ["cut", "damaged", "other", "missing"])
def test_a_broken_file_is_one_line_and_exit_code_2(files, tmp_path, kind, capsys):
    path = broken(files, tmp_path, kind)
    assert cli.main(["benchmark", str(files["int8"]), str(path), "--rounds", "1"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert str(path) in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--threads", "0"], "expected whole numbers from 1"),
        (["--threads", "two"], "expected whole numbers from 1"),
        (["--rounds", "0"], "--rounds must be at least 1"),
        (["--fold", "03"], "--fold needs --on"),
        (["--on", "demo", "--protocol", "loso"], "--protocol needs --fold"),
    ],
)
def test_a_wrong_option_is_one_line_and_exit_code_2(files, arguments, message, capsys):
    assert cli.main(["benchmark", str(files["int8"]), *arguments]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1


def test_a_folder_without_files_is_refused(tmp_path, capsys):
    assert cli.main(["benchmark", str(tmp_path)]) == 2
    assert "holds no .tflite files" in capsys.readouterr().err


def test_the_command_prints_json_of_every_file_of_a_run(files, tmp_path, capsys):
    folder = files["int8"].parent
    out = tmp_path / "out"
    options = ["--rounds", "1", "--threads", "1", "--json", "--out", str(out)]
    assert cli.main(["benchmark", str(folder), *options]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert [row["precision"] for row in printed["files"]] == ["float16", "float32", "int8"]
    assert printed == json.loads((out / "benchmark.json").read_text())
