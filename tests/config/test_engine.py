"""Which engine trains a run, by what is installed and what is said."""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import HELPERS, REPOSITORY
from small_runs import error_of, train

from light_sernet_kd import cli
from light_sernet_kd.config import Settings, make_settings
from light_sernet_kd.config.engine import engine_here
from light_sernet_kd.errors import UserError
from light_sernet_kd.registries.engines import ENGINES

# `engine_of` in a process that has not imported Keras, by cases of settings.
PROGRAM = """
import json, sys
if "without" in sys.argv:
    import no_tensorflow
from light_sernet_kd.config import make_settings
from light_sernet_kd.config.engine import engine_of, one_engine
from light_sernet_kd.errors import UserError

def answer(function):
    try:
        return function()
    except UserError as error:
        return str(error)

audio, text = make_settings(), make_settings(student="bert_vggish")
print(json.dumps({
    "auto": answer(lambda: engine_of(audio)),
    "text": answer(lambda: engine_of(text)),
    "taught": answer(lambda: engine_of(make_settings(distillation="KD", teacher="bert_vggish"))),
    "qat": answer(lambda: engine_of(make_settings(qat=1))),
    "tf": answer(lambda: engine_of(make_settings(engine="tf"))),
    "jax": answer(lambda: engine_of(make_settings(engine="jax"))),
    "jax text": answer(lambda: engine_of(make_settings(engine="jax", student="bert_vggish"))),
    "jax clips": answer(lambda: engine_of(make_settings(engine="jax", distillation="KD", unlabelled="d"))),
    "jax qat": answer(lambda: engine_of(make_settings(engine="jax", qat=1))),
    "one": answer(lambda: one_engine([audio, audio], remedy="")),
    "both": answer(
        lambda: one_engine([audio, make_settings(qat=1)], remedy="give all one `engine`")
    ),
    "imported": [name for name in ("tensorflow", "jax", "keras") if name in sys.modules],
}))
"""


def answers(*packages: Path, tensorflow: bool = True, backend: str | None = None) -> dict:
    environment = {name: value for name, value in os.environ.items() if name != "KERAS_BACKEND"}
    environment |= {"KERAS_BACKEND": backend} if backend else {}
    paths = [REPOSITORY, HELPERS, *packages]
    environment["PYTHONPATH"] = os.pathsep.join(map(str, paths))
    command = [sys.executable, "-c", PROGRAM, "with" if tensorflow else "without"]
    return json.loads(subprocess.check_output(command, env=environment, text=True, timeout=60))


@pytest.fixture
def cuda_plugin(tmp_path) -> Path:
    """A folder in which JAX's CUDA plugin seems to be installed."""
    folder = tmp_path / "jax_cuda13_plugin-0.10.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: jax-cuda13-plugin\nVersion: 0.10.0\n")
    return tmp_path


JAX_QAT = "--engine jax does not train with --qat: leave it out, or take --engine tf."


def test_auto_is_tensorflow_without_jax_for_a_gpu():
    told = answers()
    assert {name: told[name] for name in ("auto", "text", "taught", "qat", "tf", "jax", "one", "both")} == {
        **dict.fromkeys(("auto", "text", "taught", "qat", "tf", "one", "both"), "tf"),
        "jax": "jax",
    }
    assert told["jax text"] == "jax"
    assert told["jax qat"] == JAX_QAT
    assert told["jax clips"] == JAX_QAT.replace("--qat", "--unlabelled")
    assert told["imported"] == []


def test_auto_is_jax_for_a_gpu_where_it_can_train_the_settings(cuda_plugin):
    told = answers(cuda_plugin)
    assert [told[name] for name in ("auto", "text", "taught", "qat", "one")] == [
        "jax",
        "jax",
        "jax",
        "tf",
        "jax",
    ]
    assert told["both"] == (
        "the runs have engines jax and tf, and a process has one Keras backend: give all one `engine`."
    )


def test_auto_is_jax_where_it_is_all_that_is_installed():
    told = answers(tensorflow=False)
    assert (told["auto"], told["text"], told["jax"]) == ("jax", "jax", "jax")
    for name, what in {"tf": "with --engine tf", "qat": "with --qat"}.items():
        assert told[name].startswith(f"training {what}")
        assert "needs TensorFlow, which is not installed: " in told[name]


def test_keras_backend_decides_where_the_engine_is_auto_and_must_not_contradict_it(cuda_plugin):
    told = answers(cuda_plugin, backend="tensorflow")
    assert told["auto"] == "tf"
    assert told["jax"] == ("--engine jax needs KERAS_BACKEND=jax, found tensorflow: set it so or unset it.")
    told = answers(backend="jax")
    assert told["auto"] == "jax"
    assert told["tf"] == "--engine tf needs KERAS_BACKEND=tensorflow, found jax: set it so or unset it."
    assert told["qat"] == JAX_QAT
    told = answers(backend="torch")
    assert (
        told["auto"] == "training needs KERAS_BACKEND=tensorflow or jax, found torch: set it so or unset it."
    )


def test_a_process_trains_with_the_engine_of_its_backend():
    assert engine_here(Settings(), "jax") == "jax"
    assert engine_here(make_settings(engine="tf", qat=2), "tensorflow") == "tf"
    with pytest.raises(
        UserError, match="--engine tf needs Keras on tensorflow, found jax: set KERAS_BACKEND=te"
    ):
        engine_here(make_settings(engine="tf"), "jax")
    with pytest.raises(UserError, match="--engine jax does not train with --qat"):
        engine_here(make_settings(qat=2), "jax")
    ramped = make_settings(distillation="KD", distillation_weights={"alpha": "0.9>0.3"})
    with pytest.raises(UserError, match=r"does not train with --kd_weights alpha=0\.9>0\.3, which"):
        engine_here(ramped, "jax")
    assert engine_here(ramped, "tensorflow") == "tf"


def test_the_command_line_refuses_a_backend_that_contradicts_the_engine(
    manifest, tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    assert train(manifest, tmp_path, "--engine", "tf") == 2
    assert "--engine tf needs KERAS_BACKEND=tensorflow, found jax" in error_of(capsys)
    assert cli.main(["teach", "-dn", str(manifest)]) == 2
    assert "this command needs KERAS_BACKEND=tensorflow, found jax" in error_of(capsys)
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    assert train(manifest, tmp_path) == 2
    assert "training needs KERAS_BACKEND=tensorflow or jax, found torch" in error_of(capsys)


@pytest.mark.every
def test_beside_jax_tensorflow_says_nothing_and_takes_no_gpu():
    program = (
        "from light_sernet_kd.cli.console import heavy_imports\n"
        "heavy_imports('jax')\n"
        "import keras, tensorflow\n"
        "keras.layers.Conv2D(2, 3).get_config()\n"
        "print(keras.backend.backend(), tensorflow.config.get_visible_devices('GPU'))"
    )
    environment = {name: value for name, value in os.environ.items() if name != "KERAS_BACKEND"}
    environment |= {"PYTHONPATH": str(REPOSITORY), "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=True)
    assert (done.stdout, done.stderr) == ("jax []\n", "")


def test_runs_have_one_name_for_each_engine():
    """A run that began on auto is found again where its engine must be named."""
    assert {make_settings(engine=name).digest() for name in ("auto", "tf", "jax")} == {Settings().digest()}


def test_no_module_asks_which_engine_it_is():
    """What differs between engines is a fact of their entries."""
    asked = []
    for path in (REPOSITORY / "light_sernet_kd").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        if not any(f'"{name}"' in text for name in ENGINES):
            continue
        for node in ast.walk(ast.parse(text)):
            if not isinstance(node, ast.Compare) or "engine" not in ast.unparse(node):
                continue
            if any(getattr(each, "value", None) in ENGINES for each in [node.left, *node.comparators]):
                asked.append(f"{path.name}:{node.lineno}: {ast.unparse(node)}")
    assert asked == []
