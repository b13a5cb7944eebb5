"""`light_sernet_kd.train` and `Run`, against the command and the folder that it leaves."""

import json
import logging

import numpy as np
import pytest
import soundfile
from sklearn.metrics import balanced_accuracy_score
from small_runs import EMOTIONS, SENTENCES, SPEAKERS, train

import light_sernet_kd
from light_sernet_kd import Run
from light_sernet_kd.config import make_settings
from light_sernet_kd.errors import UserError

pytestmark = pytest.mark.usefixtures("shallow", "eager", "undrawn")
QUICK = {
    "input_seconds": 1.2, "width": 0.15, "learning_rate": 3e-3, "batch_norm_momentum": 0.8, "batch_size": 8,
    "epochs": 1,
}  # fmt: skip


@pytest.fixture(scope="module")
def of_the_command(manifest, tmp_path_factory):
    from small_runs import no_graphs

    from light_sernet_kd.export import tflite

    result = tmp_path_factory.mktemp("command")
    with no_graphs(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(tflite, "PRECISIONS", ("float32", "int8"))
        assert train(manifest, result, "--recipe", "own", "-kd", "pure", "--epochs", "1", "--run", "one") == 0
    return result / "one"


def test_a_run_from_python_is_that_of_the_command_and_logs(
    manifest, of_the_command, tmp_path, capsys, caplog
):
    caplog.set_level(logging.INFO, "light_sernet_kd")
    run = light_sernet_kd.train(
        corpus=manifest, result=tmp_path, run="one", distillation="pure", export=False, **QUICK
    )
    assert capsys.readouterr().out == ""
    logged = [each.getMessage() for each in caplog.records if each.name == "light_sernet_kd"]
    for speaker in SPEAKERS:
        assert f"fold {speaker}, student ..." in logged
        assert any(line.startswith(f"fold {speaker}: UA ") for line in logged)
    metrics = json.loads((of_the_command / "metrics.json").read_text())
    assert {name: run.scores[name] for name in ("ua", "wa")} == {
        name: metrics["pooled"][name] for name in ("ua", "wa")
    }
    assert run.metrics["protocol"] == metrics["protocol"]
    assert run.folder == tmp_path / "one"
    assert run.report.exists()
    with pytest.raises(UserError, match=r"no student_\*.tflite in .*one: .*light-sernet-kd export"):
        run.student()


def test_a_run_is_loaded_with_its_scores_predictions_and_student(manifest, of_the_command):
    run = Run.load(str(of_the_command))
    predictions = run.predictions
    assert run.scores["ua"] == pytest.approx(
        balanced_accuracy_score(predictions.labels, predictions.predicted)
    )
    assert run.scores["stamps"] == run.metrics["stamps"]
    assert run.settings["width"] == 0.15
    path = manifest.parent / f"{SPEAKERS[0]}-{SENTENCES[0]}-{EMOTIONS[0]}.wav"
    for precision in (None, "float32"):
        student = run.student(precision)
        assert student.precision == (precision or "int8")
        assert student.labels == EMOTIONS
        waveform = soundfile.read(path, dtype="float32")[0]
        if len(waveform) <= student.samples:
            np.testing.assert_array_equal(
                [*student.classify(path).probabilities.values()], student.probabilities(waveform).tolist()
            )
    with pytest.raises(UserError, match="unknown precision 'int4'"):
        run.student("int4")


def test_what_cannot_be_is_said_before_any_training(tmp_path):
    with pytest.raises(UserError, match="unknown setting 'epoch'"):
        light_sernet_kd.train(corpus="demo", epoch=3, result=tmp_path)
    with pytest.raises(TypeError, match="not both"):
        light_sernet_kd.train(make_settings(), epochs=3)
    with pytest.raises(UserError, match="holds no finished run"):
        Run.load(tmp_path)
