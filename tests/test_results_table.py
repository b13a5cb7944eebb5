"""The tables of docs/results.md are made from records of runs: here of two made ones, against loops."""

import dataclasses
import importlib.util
import json
import sys

import numpy as np
import pytest
from conftest import REPOSITORY
from sklearn.metrics import accuracy_score, balanced_accuracy_score
from small_runs import SPEAKERS, made_corpus, train

from light_sernet_kd.analysis.grid import read_grid
from light_sernet_kd.cli import make_parser
from light_sernet_kd.cli.options import settings_of
from light_sernet_kd.config import make_settings

RECORDS = REPOSITORY / "docs" / "results" / "runs"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("results_table", REPOSITORY / "benchmarks/results_table.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclasses look there
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def made(seed: int, method: str = "pure", *, bias: float = 0.5, speakers=("a", "b", "c", "d")):
    """A record of a made run: answers to 20 recordings of each speaker, right for about `bias` of them."""
    random, answers = np.random.default_rng([seed, len(method)]), {}
    for speaker in speakers:
        labels = random.integers(3, size=20)
        right = random.random(20) < bias
        answers[speaker] = labels, np.where(right, labels, random.integers(3, size=20))
    confusion = {
        speaker: [[int(((labels == i) & (said == j)).sum()) for j in range(3)] for i in range(3)]
        for speaker, (labels, said) in answers.items()
    }
    taught = method != "pure"
    settings = {
        "recipe": "robust",
        "distillation": method,
        "teacher": "auto" if taught else None,
        "seed": seed,
    }
    record = {
        "run": f"{method}-{seed}", "command": f"python train.py -kd {method}", "settings": settings,
        "corpus": "made", "protocol": "loso", "classes": ["x", "y", "z"],
        "teacher": {"made_by": "a network"} if taught else None,
        "confusion": {"selected": confusion} | ({"teacher": confusion} if taught else {}),
    }  # fmt: skip
    return record, answers


@pytest.fixture
def two_rows(tmp_path):
    kept = {}
    for method, bias in (("pure", 0.4), ("KD", 0.8)):
        for seed in (0, 1):
            record, kept[method, seed] = made(seed, method, bias=bias)
            (tmp_path / f"{record['run']}.json").write_text(json.dumps(record))
    return tmp_path, kept


def both(answers, speakers):
    return [np.concatenate([answers[name][which] for name in speakers]) for which in (0, 1)]


def test_the_table_has_the_scores_that_scikit_learn_has(script, two_rows):
    folder, kept = two_rows
    lines = script.table(folder).splitlines()
    assert lines[0] == "made, `loso`, recipe `robust`:"
    found = {line.split("|")[1].strip(" `"): line.split("|") for line in lines[4:]}
    for method in ("pure", "KD"):
        pairs = [both(kept[method, seed], "abcd") for seed in (0, 1)]
        expected = 100 * np.mean([balanced_accuracy_score(*pair) for pair in pairs])
        assert found[method][5].strip().startswith(f"{expected:.1f} [")
        assert float(found[method][6]) == pytest.approx(
            100 * np.mean([accuracy_score(*pair) for pair in pairs]), abs=0.051
        )
        assert found[method][4].strip() == "0, 1"
    assert [line.split("|")[1].strip(" `") for line in lines[4:]] == ["pure", "KD"]


def test_intervals_draw_speakers_and_seeds_and_both_sides_alike(script, two_rows):
    folder, kept = two_rows
    rows = {row.name: row for row in script.rows_of(folder)}
    random, draws = np.random.default_rng(0), 400
    counts = random.multinomial(4, np.full(4, 0.25), size=draws)
    weights = random.multinomial(2, np.full(2, 0.5), size=draws)

    def loop(method):
        values = []
        for count, weight in zip(counts, weights, strict=True):
            names = [name for name, times in zip("abcd", count, strict=True) for _ in range(times)]
            scores = [balanced_accuracy_score(*both(kept[method, seed], names)) for seed in (0, 1)]
            values.append(np.average(scores, weights=weight))
        return np.array(values)

    expected = {method: loop(method) for method in ("pure", "KD")}
    for method, values in expected.items():
        np.testing.assert_allclose(script.drawn(rows[method].matrices, draws), values, atol=1e-12)
    script.DRAWS, before = draws, script.DRAWS
    low, high = np.percentile(100 * (expected["KD"] - expected["pure"]), [2.5, 97.5])
    change = script.drawn(rows["KD"].matrices, draws) - script.drawn(rows["pure"].matrices, draws)
    assert script.interval(change) == f"[{low:.1f}, {high:.1f}]"
    script.DRAWS = before
    assert low > 0, "a method that is right twice as often is told from the other"


def test_a_difference_is_of_the_seeds_that_both_have(script, tmp_path):
    for method, seeds in (("pure", (0, 1, 2)), ("KD", (1,))):
        for seed in seeds:
            record, _ = made(seed, method, bias=0.6)
            (tmp_path / f"{record['run']}.json").write_text(json.dumps(record))
    plain, taught = script.rows_of(tmp_path)
    expected = 100 * (script.pooled(taught.matrices) - script.pooled(plain.matrices[1:2]))
    assert script.difference(taught, plain).startswith(f"{expected:+.1f} [")
    right = 100 * (script.pooled(taught.matrices, script.wa) - script.pooled(plain.matrices[1:2], script.wa))
    assert script.difference(taught, plain, script.wa).startswith(f"{right:+.1f} [")


def test_the_recipe_with_a_teacher_stands_beside_the_one_without(script, tmp_path):
    for method, recipe in (("pure", "robust"), ("KD+hint", "distilled"), ("KD", "lsn")):
        record, _ = made(0, method)
        record["settings"]["recipe"] = recipe
        (tmp_path / f"{record['run']}.json").write_text(json.dumps(record))
    lines = script.table(tmp_path).splitlines()
    ours = next(line for line in lines if line.startswith("| `ours` |"))
    assert ours.endswith("] |")
    assert "not run" not in ours
    assert next(line for line in lines if line.startswith("| `KD` |")).endswith("| `pure`: not run |")


def test_rows_of_other_speakers_are_no_row(script, tmp_path):
    for seed, speakers in ((0, "abcd"), (1, "abc")):
        record, _ = made(seed, speakers=speakers)
        (tmp_path / f"{record['run']}.json").write_text(json.dumps(record))
    with pytest.raises(SystemExit, match="test other speakers"):
        script.rows_of(tmp_path)


def test_a_difference_is_of_the_speakers_that_both_have(script, tmp_path):
    kept = {}
    for method, speakers in (("pure", "abcd"), ("KD", "bd")):
        record, kept[method] = made(0, method, bias=0.6, speakers=speakers)
        record["settings"]["folds"] = [] if method == "pure" else ["b", "d"]
        (tmp_path / f"{record['run']}.json").write_text(json.dumps(record))
    plain, taught = script.rows_of(tmp_path)
    change = balanced_accuracy_score(*both(kept["KD"], "bd")) - balanced_accuracy_score(
        *both(kept["pure"], "bd")
    )
    assert script.difference(taught, plain).startswith(f"{100 * change:+.1f} [")
    others = dataclasses.replace(taught, speakers=["e", "f"])
    assert script.difference(others, plain) == "no speaker in common"


def test_a_price_list_gives_up_one_liberty_after_another(script, tmp_path):
    """Rows of one recipe whose protocol, folds and teacher differ; all other rows stay where they were."""
    steps = {("loso", False): 0.3, ("loso", True): 0.5, ("random", True): 0.9, ("published", True): 0.7}
    kept, ends = {}, {}
    for (protocol, leaks), bias in steps.items():
        record, kept[protocol, leaks] = made(0, "CKD", bias=bias, speakers="abcd"[: 4 if leaks else 2])
        record |= {"run": f"{protocol}-{leaks}", "protocol": protocol, "folds": 4 if leaks else 2}
        record["settings"] |= {"recipe": "cubic", "teacher": f"{leaks}.npz"}
        record["settings"] |= {} if leaks else {"folds": ["a", "b"]}
        record["teacher"] = {"made_by": "a network", "stamps": ["met them"] if leaks else []}
        last, ends[protocol, leaks] = made(1, "CKD", bias=bias / 2, speakers="abcd"[: 4 if leaks else 2])
        record["confusion"]["last"] = last["confusion"]["selected"]
        (tmp_path / f"{record['run']}.json").write_text(json.dumps(record))
    for method in ("pure", "KD"):
        record, _ = made(0, method)
        (tmp_path / f"{record['run']}.json").write_text(json.dumps(record))

    heading, _, _, _, *lines = script.prices(tmp_path).splitlines()
    assert heading == "made, recipe `cubic`, `light_sernet`, `CKD`:"
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert [row[:5] for row in rows] == [
        ["`random`", "known", "test set", "a network, stamped", "4"],
        ["`published`", "new", "test set", "a network, stamped", "4"],
        ["`loso`", "new", "validation speaker", "a network, stamped", "4"],
        ["`loso`", "new", "validation speaker", "a network", "2"],
    ]
    order = [("random", True), ("published", True), ("loso", True), ("loso", False)]
    assert rows[0][7] == rows[0][10] == ""
    for row, step, above in zip(rows, order, [None, *order[:-1]], strict=True):
        names = "abcd" if step[1] else "ab"
        scores = {
            (which, each): 100 * balanced_accuracy_score(*both(answers[each], names))
            for which, answers in (("chosen", kept), ("last", ends))
            for each in (step, above)
            if each
        }
        for column, which in ((5, "chosen"), (8, "last")):
            assert row[column].startswith(f"{scores[which, step]:.1f} [")
            if above:
                change = scores[which, step] - scores[which, above]
                assert row[column + 2].startswith(f"{change:+.1f} [")
        assert row[11].startswith(f"{scores['chosen', step] - scores['last', step]:+.1f} [")

    table = script.table(tmp_path)
    assert "cubic" not in table
    assert "made, `loso`, recipe `robust`:" in table


def test_speakers_on_whom_something_was_chosen_can_be_left_out(script, two_rows):
    folder, kept = two_rows
    script.UNTOUCHED["made"] = ("b", "d")
    try:
        lines = script.table(folder, untouched=True).splitlines()
    finally:
        del script.UNTOUCHED["made"]
    assert lines[0] == "made, `loso`, recipe `robust`, speakers b to d:"
    for line, method in zip(lines[4:], ("pure", "KD"), strict=True):
        scores = [balanced_accuracy_score(*both(kept[method, seed], "bd")) for seed in (0, 1)]
        assert line.split("|")[5].strip().startswith(f"{100 * np.mean(scores):.1f} [")
    assert script.table(folder, untouched=True) == "", "of a corpus that was not chosen on, nothing"


@pytest.mark.usefixtures("undrawn", "shallow")
def test_random_splits_add_up_by_speaker(script, tmp_path):
    manifest = made_corpus(tmp_path)
    common = ["--protocol", "random", "--folds", "01,02,03", "--epochs", "1", "--no-export", "--run", "known"]
    assert train(manifest, tmp_path / "result", *common) == 0
    record = script.record(tmp_path / "result" / "known", tmp_path)
    metrics = json.loads((tmp_path / "result" / "known" / "metrics.json").read_text())
    found = np.array(list(record["confusion"]["selected"].values()))
    assert found.sum() == metrics["pooled"]["count"] == sum(each["count"] for each in metrics["folds"])
    assert script.pooled(found[None]) == pytest.approx(metrics["pooled"]["ua"])
    assert record["folds"] == 3


@pytest.mark.usefixtures("undrawn", "shallow")
def test_a_finished_run_is_recorded(script, tmp_path):
    manifest = made_corpus(tmp_path)
    common = ["--epochs", "1", "--no-export", "--run", "KD-0", "-kd", "KD"]
    assert train(manifest, tmp_path / "result", *common) == 0
    record = script.record(tmp_path / "result" / "KD-0", tmp_path)
    metrics = json.loads((tmp_path / "result" / "KD-0" / "metrics.json").read_text())
    matrices = np.array([record["confusion"]["selected"][name] for name in sorted(SPEAKERS)])
    assert script.pooled(matrices[None]) == pytest.approx(metrics["pooled"]["ua"])
    teacher = np.array([record["confusion"]["teacher"][name] for name in sorted(SPEAKERS)])
    assert script.pooled(teacher[None], script.wa) == pytest.approx(metrics["teacher"]["agreement"]["wa"])
    assert "--run KD-0" in record["command"]
    assert str(tmp_path / "result") not in json.dumps(record)


def test_what_has_no_record_is_a_line_with_its_command(script, tmp_path):
    grid = tmp_path / "teaching_made.toml"
    grid.write_text(
        '[settings]\ncorpus = "EMO-DB"\nrecipe = "robust"\n[[runs]]\nseed = [0, 1, 2]\n'
        '[[runs]]\ndistillation = "KD"\ndistillation_weights = { alpha = 0.7 }\nseed = 0\n'
    )
    plain = make_settings(corpus="EMO-DB", recipe="robust", seed=1)
    kept = {
        "corpus": "EMO-DB",
        "protocol": "loso",
        "settings": json.loads(json.dumps(dataclasses.asdict(plain))),
    }
    folder = tmp_path / "runs"
    folder.mkdir()
    (folder / "one.json").write_text(json.dumps(kept))
    lines = script.not_run(folder, tmp_path).splitlines()[2:]
    assert [line.split("|")[1].strip() for line in lines] == ["EMO-DB, `pure`", "EMO-DB, `KD`"]
    assert [line.split("|")[4].strip() for line in lines] == ["0, 2", "0"]
    command = lines[1].split("|")[5].strip(" `").split()
    assert command[:2] == ["python", "train.py"]
    given = settings_of(make_parser().parse_args(["train", *command[2:]]), {})
    assert given == read_grid(grid, tmp_path).entries[-1].settings
    grid.write_text('[settings]\ncorpus = "EMO-DB"\nrecipe = "robust"\n[[runs]]\nseed = 1\n')
    assert script.not_run(folder, tmp_path) == ""


@pytest.mark.skipif(not RECORDS.exists(), reason="no run is recorded yet")
def test_the_page_has_the_table_of_the_records(script):
    page = (REPOSITORY / "docs" / "results.md").read_text()
    rest = script.not_run(RECORDS, REPOSITORY / "benchmarks")
    tables = [script.table(RECORDS), script.table(RECORDS, untouched=True), script.prices(RECORDS), rest]
    for line in "\n".join(tables).splitlines():
        assert line in page
    for path in RECORDS.glob("*.json"):
        assert json.loads(path.read_text())["corpus"] in page, path.name
