"""The search: its space, its budgets, who chooses and who tests, its folder, and its Pareto table."""

import contextlib
import csv
import itertools
import json
import re
import shlex
import shutil
from dataclasses import replace
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
from small_runs import error_of, no_graphs, shallow_light_sernet
from small_searches import SPEAKERS, arguments_of, corpus_of_five, lines_of

from light_sernet_kd import cli, plugins
from light_sernet_kd.analysis import search as searches
from light_sernet_kd.analysis.search import Budget, Cost, Interval, Search, SearchFolder, Space
from light_sernet_kd.config import Settings, make_settings
from light_sernet_kd.data.selection import selected
from light_sernet_kd.errors import UserError

optuna = pytest.importorskip("optuna")

RENDERED = ("pareto.png",)
MOST_KB = 125


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    return corpus_of_five(tmp_path_factory.mktemp("five"))


def run(corpus: Path, result: Path, *more: str) -> int:
    return cli.main(arguments_of(corpus, result, *more))


BUDGET = ["--trials", "3", "--finals", "1", "--max-kb", str(MOST_KB), "--no-export"]


@contextlib.contextmanager
def quick():
    """Runs without graphs and pictures, which other tests make."""
    from light_sernet_kd.experiment.results import writing as results

    with pytest.MonkeyPatch.context() as patch, shallow_light_sernet(), no_graphs():
        patch.setattr(results, "_draw", lambda run, outcomes, metrics: False)
        yield


@pytest.fixture(scope="module")
def ran(corpus, tmp_path_factory):
    result = tmp_path_factory.mktemp("searched")
    with quick():
        assert run(corpus, result, *BUDGET) == 0
    return result / "small"


# A whole search


def test_every_trial_is_in_the_log_with_its_reason(ran):
    rows = lines_of(ran)
    assert [row["trial"] for row in rows] == [0, 1, 2]
    assert {row["decision"] for row in rows} == {"kept", "pruned"}
    for row in rows:
        assert {*row["settings"]} == {"width", "learning_rate"}
        if row["decision"] == "pruned":
            assert row["why"] == f"{row['kb']:,.1f} kB exceed --max-kb {MOST_KB}"
            assert row["inner_ua"] is None
        else:
            assert len(row["inner_folds"]) == 3


def test_a_budget_is_met_by_the_file_on_the_disk_and_what_exceeds_it_is_not_trained(ran):
    for row in lines_of(ran):
        (file,) = (ran / "untrained" / f"{row['file_of']:03d}").glob("*.tflite")
        assert file.name == "student_int8.tflite"
        assert row["kb"] == file.stat().st_size / 1000
        # which is of the first trial of its width: the learning rate changes no file
        alike = [each for each in lines_of(ran) if each["settings"]["width"] == row["settings"]["width"]]
        assert row["file_of"] == alike[0]["trial"]
        assert row["ms"] == alike[0]["ms"]
        assert (row["decision"] == "pruned") == (row["kb"] > MOST_KB)
        assert (ran / f"trial-{row['trial']:03d}").exists() == (row["decision"] == "kept")


@pytest.mark.every
def test_the_trained_file_is_as_large_as_the_untrained_one_but_for_its_scores(corpus, tmp_path):
    with quick():
        assert run(corpus, tmp_path, "--trials", "2", "--finals", "2") == 0
    tested = [row for row in lines_of(tmp_path / "small") if row["final"]]
    assert tested
    for row in tested:
        assert 0 <= row["final"]["kb"] - row["kb"] < 1
        file = tmp_path / "small" / row["final"]["run"] / "student_int8.tflite"
        assert row["final"]["kb"] == file.stat().st_size / 1000


def test_no_test_speaker_trains_selects_or_scores_in_a_trial(ran, corpus):
    stored = json.loads((ran / "search.json").read_text())
    test, others = set(stored["test_speakers"]), set(stored["search_speakers"])
    assert len(test) == 1
    assert test | others == {*SPEAKERS}
    trials = sorted(ran.glob("trial-*"))
    assert trials
    for folder in trials:
        settings = make_settings(**json.loads((folder / "config.json").read_text())["settings"])
        selection = selected(settings, corpus.parent)
        assert len(selection.folds) == 3
        for fold in selection.folds:
            used = [*fold.train, *fold.validation, *fold.test]
            assert sorted(used) == [*range(len(selection.utterances))]
            assert {selection.utterances[i].speaker for i in used} == others
            parts = [{selection.utterances[i].speaker for i in part}
                     for part in (fold.train, fold.validation, fold.test)]  # fmt: skip
            for one, other in itertools.combinations(parts, 2):
                assert not one & other
        scored = {row["id"] for row in csv.DictReader((folder / "predictions.csv").open())}
        assert not [name for name in scored if name.split("-")[0] in test]


def test_only_the_best_by_inner_score_is_tested_and_on_the_test_speakers_alone(ran):
    rows = lines_of(ran)
    tested = [row for row in rows if row["final"]]
    kept = [row for row in rows if row["decision"] == "kept"]
    assert [row["inner_ua"] for row in tested] == [max(row["inner_ua"] for row in kept)]
    folder = ran / tested[0]["final"]["run"]
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["pooled"]["ua"] == tested[0]["final"]["ua"]
    speakers = {name for fold in metrics["folds"] for name in fold["test_speakers"]}
    assert [*speakers] == json.loads((ran / "search.json").read_text())["test_speakers"]


def test_the_front_is_what_no_other_beats_with_the_command_of_each(ran):
    found = json.loads((ran / "pareto.json").read_text())
    kept = [row for row in lines_of(ran) if row["decision"] == "kept" and row["same_as"] is None]
    assert {row["trial"] for row in found["pareto"]} == front_of(kept)
    page = (ran / "pareto.md").read_text()
    for row in found["pareto"]:
        assert row["command"] in page
        given = shlex.split(row["command"])
        parsed = cli.make_parser().parse_args(given[1:])
        assert parsed.width == row["settings"]["width"]
        assert parsed.learning_rate == row["settings"]["learning_rate"]
    assert matplotlib.image.imread(ran / "pareto.png").std() > 0.05


def test_the_same_command_does_nothing_again(ran, corpus):
    before = {path: path.stat().st_mtime_ns for path in ran.rglob("*.keras")}
    choices = (ran / "choices.jsonl").read_bytes()
    with quick():
        assert run(corpus, ran.parent, *BUDGET) == 0
    assert {path: path.stat().st_mtime_ns for path in ran.rglob("*.keras")} == before
    assert (ran / "choices.jsonl").read_bytes() == choices


def test_the_command_of_a_point_goes_on_with_its_run_also_where_that_is_older(ran, tmp_path, capsys):
    shutil.copytree(ran, tmp_path / "small")
    found = json.loads((ran / "pareto.json").read_text())
    (row,) = [row for row in found["pareto"] if row["final"]]
    config = tmp_path / "small" / row["final"]["run"] / "config.json"
    stored = json.loads(config.read_text())
    for name in ("depth", "kernels", "local_pooling", "speakers"):
        del stored["settings"][name]
    config.write_text(json.dumps(stored))
    given = shlex.split(row["command"].replace(str(ran), str(tmp_path / "small")))
    with quick():
        assert cli.main([*given[1:], "-v", "0"]) == 0
    capsys.readouterr()
    assert cli.main([*given[1:], "-v", "0", "--depth", "2"]) == 2
    assert "depth was None, is 2" in error_of(capsys)


@pytest.mark.every
def test_an_interrupted_search_goes_on_with_the_same_trials(ran, corpus, tmp_path, monkeypatch, capsys):
    from light_sernet_kd.experiment.sweeps import search as trials

    conclude, calls = trials.conclude, []

    def interrupted(*arguments):
        calls.append(arguments)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return conclude(*arguments)

    with quick():
        with monkeypatch.context() as patch:
            patch.setattr(trials, "conclude", interrupted)
            assert run(corpus, tmp_path, *BUDGET) == 130
        assert "the same command continues" in error_of(capsys)
        done = [path.stat().st_mtime_ns for path in tmp_path.rglob("fold.json")]
        assert run(corpus, tmp_path, *BUDGET) == 0
    again, whole = lines_of(tmp_path / "small"), lines_of(ran)
    for name in ("trial", "settings", "decision", "kb", "inner_ua", "inner_folds"):
        assert [row[name] for row in again] == [row[name] for row in whole]
    assert {*done} <= {path.stat().st_mtime_ns for path in tmp_path.rglob("fold.json")}


def test_a_budget_that_nothing_meets_is_one_line_and_the_log_stays(corpus, tmp_path, capsys):
    with shallow_light_sernet():
        # a second head, as the default recipe has one, is of a trained student alone
        more = ["--enrolment", "--trials", "2", "--max-kb", "1", "--max-params", "100000000"]
        assert run(corpus, tmp_path, *more) == 2
    rows = lines_of(tmp_path / "small")
    line = error_of(capsys)
    assert "none of 2 students met --max-kb 1.0, --max-params 100000000" in line
    least = {name: min(row[name] for row in rows) for name in ("kb", "ms", "parameters")}
    told = f"{least['kb']:,.1f} kB, {least['ms']:.2f} ms, {least['parameters']:,} parameters"
    assert told in line
    assert [row["decision"] for row in rows] == ["pruned"] * 2
    assert not [*(tmp_path / "small").glob("trial-*")]
    assert not (tmp_path / "small" / "pareto.md").exists()


def test_a_mistake_that_all_trials_share_ends_the_search_and_it_goes_on_once_mended(corpus, tmp_path, capsys):
    given = ["-kd", "KD", "--teacher", str(tmp_path / "none.npz")]
    for _ in range(2):
        assert run(corpus, tmp_path, *given, "--trials", "4") == 2
        assert "none.npz" in error_of(capsys)
    search = json.loads((tmp_path / "small" / "search.json").read_text())
    assert search["settings"]["distillation"] == "KD"
    backend = optuna.storages.journal.JournalFileBackend(str(tmp_path / "small" / "study.journal"))
    study = optuna.load_study(study_name="search", storage=optuna.storages.JournalStorage(backend))
    assert [trial.state.name for trial in study.trials] == ["RUNNING"]


def test_only_the_named_speakers_are_used(corpus):
    settings = make_settings(corpus=str(corpus), speakers=["s2", "s3", "s5"])
    selection = selected(settings, corpus.parent)
    assert {each.speaker for each in selection.utterances} == {"s2", "s3", "s5"}
    assert [fold.name for fold in selection.folds] == ["s2", "s3", "s5"]
    with pytest.raises(UserError, match=r"unknown speaker 's9'"):
        selected(replace(settings, speakers=("s9",)), corpus.parent)


# Trials and the front, without training


def search_of(space: Space, budget: Budget | None = None, seed: int = 0) -> Search:
    settings = make_settings(folds=["a"], seed=seed)
    return Search(settings, space, budget or Budget(), "int8", 3, ("a",), ("b", "c", "d"), "0" * 64)


def study_in(path: Path, search: Search) -> searches.Study:
    folder = SearchFolder(path)
    folder.begin(search)
    return searches.study_of(search, folder)


def front_of(rows) -> set[int]:
    """By the definition: nothing is at least as good in all three and better in one."""
    front = set()
    for row in rows:
        mine = (-row["inner_ua"], row["ms"], row["kb"])
        others = [(-each["inner_ua"], each["ms"], each["kb"]) for each in rows]
        if not any(each != mine and all(np.less_equal(each, mine)) for each in others):
            front.add(row["trial"])
    return front


WIDTHS = Space({"width": Interval(0.1, 1.0)})


def test_the_front_is_that_of_a_loop_over_all_pairs(tmp_path):
    rng = np.random.default_rng(0)
    study = study_in(tmp_path, search_of(WIDTHS))
    for _ in range(40):
        with study.turn(40) as trial:
            study.set_cost(trial, Cost(*rng.integers(1, 6, 3).tolist(), 10))
            study.keep(trial, {"ua": float(rng.integers(1, 6)), "folds": {}})
    rows = study.rows()
    front = searches.pareto(rows, study.best())
    assert {row["trial"] for row in front} == front_of(rows)
    assert [row["inner_ua"] for row in front] == sorted((row["inner_ua"] for row in front), reverse=True)


def test_what_exceeds_a_budget_is_never_in_the_front(tmp_path):
    study = study_in(tmp_path, search_of(WIDTHS, Budget(kb=100)))
    for kb in (150, 90, 120, 80):
        with study.turn(4) as trial:
            cost = Cost(kb, 1.0, 1.0, 10)
            study.set_cost(trial, cost)
            if over := study.search.budget.exceeded(cost):
                study.prune(trial, over[0])
            else:
                study.keep(trial, {"ua": kb / 100, "folds": {}})
    assert study.best() == [1, 3]
    # what the sampler learns from: Optuna takes a trial for infeasible where a constraint is above 0
    violations = [trial.constraints["kb"] for trial in study.optuna.trials]
    assert violations == pytest.approx([0.5, -0.1, 0.2, -0.2])


def test_trials_are_drawn_by_the_seed_whatever_was_interrupted(tmp_path):
    def drawn(name, seed=0, stops=()):
        study = study_in(tmp_path / name, search_of(WIDTHS, seed=seed))
        while True:
            with study.turn(12) as trial:
                if trial is None:
                    return [row["settings"]["width"] for row in study.rows()]
                if trial.number in stops:
                    stops = [each for each in stops if each != trial.number]
                    study = study_in(tmp_path / name, search_of(WIDTHS, seed=seed))
                    continue  # as if it had been killed: the trial is not told
                study.set_cost(trial, Cost(trial.params["width"], 1.0, 1.0, 10))
                study.keep(trial, {"ua": trial.params["width"], "folds": {}})

    whole = drawn("whole")
    assert len({*whole}) == 12
    assert drawn("stopped", stops=[0, 5, 11]) == whole
    assert drawn("other", seed=1) != whole


def test_processes_share_the_trials(tmp_path):
    search = search_of(WIDTHS)
    one, other = (study_in(tmp_path, search) for _ in range(2))
    with one.turn(3) as first, other.turn(3) as second, one.turn(3) as third, other.turn(3) as none:
        assert [first.number, second.number, third.number] == [0, 1, 2]
        assert none is None
    with other.turn(3) as again:
        assert again.number == 0  # nobody works on it any more
        assert again.params == first.params


def test_settings_that_were_drawn_before_are_not_measured_again(tmp_path):
    study = study_in(tmp_path, search_of(Space({"width": (0.5,)})))
    with study.turn(2) as trial:
        study.set_cost(trial, Cost(1.0, 1.0, 1.0, 1))
        study.keep(trial, {"ua": 0.5, "folds": {}})
    with study.turn(2) as trial:
        twin = study.same_before(trial)
        assert twin["trial"] == 0
        study.set_cost(trial, Cost(1.0, 1.0, 1.0, 1))
        study.keep(trial, {"ua": 0.5, "folds": {}, "same_as": 0})
    assert [row["trial"] for row in searches.pareto(study.rows(), study.best())] == [0]


# The space


def space_of(tmp_path: Path, text: str) -> Space:
    (tmp_path / "space.toml").write_text(text, encoding="utf-8")
    return searches.read_space(tmp_path / "space.toml")


def test_a_space_is_lists_and_ranges_and_its_points_are_settings(tmp_path):
    space = space_of(
        tmp_path,
        """
        [space]
        width = { low = 0.2, high = 0.8, step = 0.2 }
        depth = { low = 2, high = 4 }
        kernels = [["3x3"], ["11x1", "1x9"]]
        distillation = ["pure", "KD"]
        distillation_weights = [{}]
        """,
    )
    base = Settings(distillation="KD", teacher="auto")
    sampler = optuna.samplers.RandomSampler(seed=0)
    study = optuna.create_study(sampler=sampler)
    points = []
    for _ in range(60):
        drawn = study.ask(space.distributions()).params
        points.append(space.point(base, space.decoded(drawn)))
    assert {point.width for point in points} == {0.2, 0.4, 0.6, 0.8}
    assert {point.depth for point in points} == {2, 3, None}  # 4 is as published
    assert {point.kernels for point in points} == {("3x3",), ("11x1", "1x9")}
    assert {(point.distillation, point.teacher) for point in points} == {("pure", None), ("KD", "auto")}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[spaec]\nwidth = [1.0]", "unknown key of a space 'spaec'. Did you mean space?"),
        ("", "no settings to choose"),
        ("[space]\nwidht = [1.0]", "unknown setting 'widht'. Did you mean width?"),
        ("[space]\nwidth = 1.0", "width must be a list of values or a range"),
        ("[space]\nwidth = []", "width must be a list of values or a range"),
        ("[space]\nwidth = [0.5, 0.5]", "width has a value twice"),
        ("[space]\nwidth = [0.5, -1.0]", "width must be above 0"),
        ('[space]\nwidth = ["wide"]', "width must be a number, found 'wide'"),
        ("[space]\nwidth = { low = 1.0 }", "width's range has no high"),
        ("[space]\nwidth = { low = 1.0, high = 0.5 }", "low must be below high"),
        ("[space]\nwidth = { low = 0.5, high = 99.0 }", "width must be above 0 and at most 16"),
        ("[space]\nwidth = { low = 0.5, high = 1.0, stpe = 1 }", "unknown key of width's range 'stpe'"),
        ("[space]\nwidth = { low = 0.5, high = 1.0, step = 0 }", "step must be a number above 0"),
        ("[space]\nwidth = { low = 0.5, high = 1.0, step = 0.1, log = true }", "the range has no step"),
        ('[space]\nwidth = { low = 0.5, high = 1.0, log = "yes" }', "log must be true or false"),
        ("[space]\nfront_end = { low = 1, high = 2 }", "front_end is no number"),
        ('[space]\nkernels = ["3x3"]', "kernels is a list itself"),
        ("[space]\nseed = [0, 1]", "seed is the same in all of a search"),
        ('[space]\nspeakers = [["03"]]', "speakers is the same in all of a search"),
        ('[space]\nunlabelled = ["speech"]', "a search takes no unlabelled"),
        ('[space]\nstart_from = ["result/demo"]', "a search takes no start_from"),
        ('[space]\nstudent = ["light_sernet", "nanobert_vggish"]', "students of features alone"),
        ("[space\n", "is no TOML"),
    ],
)  # fmt: skip
def test_a_mistake_in_the_space_is_one_line_and_nothing_is_written(corpus, tmp_path, capsys, text, message):
    (tmp_path / "space.toml").write_text(text)
    given = ["--space", str(tmp_path / "space.toml"), "--result", str(tmp_path / "result")]
    assert cli.main(["search", "-dn", str(corpus), *given]) == 2
    assert message in error_of(capsys)
    assert not (tmp_path / "result").exists()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--trials", "0"], "--trials must be at least 1, found 0"),
        (["--finals", "-1"], "--finals must be at least 0, found -1"),
        (["--inner", "2"], "--inner must be at least 3"),
        (["--max-kb", "0"], "--max-kb must be above 0, found 0"),
        (["--max-ms", "nan"], "--max-ms must be above 0, found nan"),
        (["--precision", "int4"], "unknown precision 'int4'"),
        (["--protocol", "random"], "take --protocol loso, session or group_kfold"),
        (["--protocol", "published"], "take --protocol loso, session or group_kfold"),
        (["--width", "0.5"], "the space chooses width, and it is given too"),
        (["--inner", "5"], "5 speakers less 1 that test leave 4, and 5 inner folds need 5"),
        (["--folds", "nobody"], "unknown fold 'nobody'"),
        (["--space", "none.toml"], "no file none.toml"),
        (["--engine", "jax"], "leave out --engine jax"),
        (["-kd", "KD", "--unlabelled", "speech"], "a search takes no --unlabelled"),
        (["--student", "nanobert_vggish"], "a search is for students of features alone"),
    ],
)
def test_a_mistake_on_the_command_line_is_one_line_and_nothing_is_written(
    corpus, tmp_path, capsys, given, message
):
    assert run(corpus, tmp_path / "result", *given) == 2
    assert message in error_of(capsys)
    assert not (tmp_path / "result").exists()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--max-kb", "200"], f"kb was {MOST_KB}.0, is 200.0"),
        (["--seed", "3", "--folds", SPEAKERS[0]], "seed was 0, is 3"),
        (["--inner", "4"], "inner was 3, is 4"),
        (["--precision", "float32"], 'precision was "int8", is "float32"'),
    ],
)
def test_the_folder_of_another_search_is_refused(ran, corpus, capsys, given, message):
    before = (ran / "study.journal").read_bytes()
    test = json.loads((ran / "search.json").read_text())["settings"]["folds"]
    assert run(corpus, ran.parent, *BUDGET, "--folds", *test, *given) == 2
    line = error_of(capsys)
    assert "holds another search" in line
    assert "Name another --run" in line
    if "--folds" not in given:
        assert message in line
    assert (ran / "study.journal").read_bytes() == before


def test_a_search_does_not_go_on_with_other_code(ran, corpus, tmp_path, capsys):
    shutil.copytree(ran, tmp_path / "small")
    test = json.loads((ran / "search.json").read_text())["settings"]["folds"]
    file = tmp_path / "mine.py"
    file.write_text("from light_sernet_kd.plugins import Recipe, register\n"
                    "register('recipe', 'mine', Recipe('many epochs', {'width': 0.3}))\n")  # fmt: skip
    given = [*BUDGET, "--folds", *test, "--plugin", str(file), "--dry-run"]
    assert run(corpus, tmp_path, *given) == 0  # nothing of it is named
    path = tmp_path / "small" / "search.json"
    stored = json.loads(path.read_text())
    assert "plugins" not in stored
    with plugins.loaded([file]):
        behind = tuple(plugins.behind({"recipe": "mine"}))
    search = replace(search_of(Space({"recipe": ("mine",)})), plugins=behind)
    assert len(behind) == 1
    path.write_text(json.dumps(search.as_dict()))
    assert SearchFolder.of(search, path.parent).stored
    edited = replace(search, plugins=("0" * 64,))
    assert edited.name == search.name
    with pytest.raises(UserError, match="holds another search: the code of a plug-in is another now"):
        SearchFolder.of(edited, path.parent)


def test_a_folder_that_holds_something_else_is_refused(corpus, tmp_path, capsys):
    (tmp_path / "small").mkdir()
    (tmp_path / "small" / "metrics.json").write_text("{}")
    assert run(corpus, tmp_path) == 2
    assert "holds no search, but metrics.json" in error_of(capsys)
    (tmp_path / "small" / "search.json").write_text('{"settings": ')
    assert run(corpus, tmp_path) == 2
    assert "search.json" in error_of(capsys)


def test_a_dry_run_says_space_budget_and_speakers_and_writes_nothing(corpus, tmp_path, capsys):
    assert run(corpus, tmp_path / "result", "--dry-run", "--folds", "s2", "--max-ms", "0.5") == 0
    said = capsys.readouterr().out
    assert "width: 0.1 | 0.6" in said
    assert "--max-ms 0.5" in said
    assert re.search(r"Chosen by: 3 inner folds of 4 speakers \(s1, s3, s4, s5\)", said)
    assert "folds s2 of loso (speakers s2)" in said
    assert not (tmp_path / "result").exists()


def test_the_default_space_leaves_out_what_is_given_and_what_the_student_lacks():
    whole = searches.default_space(Settings())
    assert {"width", "depth", "kernels", "local_pooling", "front_end", "learning_rate"} <= {*whole.values}
    given = searches.default_space(Settings(width=0.5, front_end="cubic"))
    assert {*whole.values} - {*given.values} == {"width", "front_end"}
    assert "depth" not in searches.default_space(Settings(student="resnet18")).values
    assert "front_end" not in searches.default_space(Settings(input_type="spectrogram")).values
    for student in ("light_sernet", "light_sernet_plus", "resnet18"):
        base = replace(Settings(), student=student)
        space = searches.default_space(base)
        sampler = optuna.samplers.RandomSampler(seed=1)
        study = optuna.create_study(sampler=sampler)
        for _ in range(20):
            space.point(base, space.decoded(study.ask(space.distributions()).params))


def test_without_optuna_the_extra_is_named(corpus, tmp_path, capsys, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(UserError, match=r"light-sernet-kd\[search\]"):
        searches.require_optuna()
    assert run(corpus, tmp_path / "result") == 2
    assert "search needs Optuna" in error_of(capsys)
    assert not (tmp_path / "result").exists()
