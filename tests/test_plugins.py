"""Plug-ins are listed, checked, used and recorded, and leave nothing behind; a broken one is one line."""

import hashlib
import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest
import soundfile
from conftest import REPOSITORY
from small_runs import EMOTIONS, QUICK, SENTENCES, SPEAKERS
from test_docs import blocks

from light_sernet_kd import cli, plugins
from light_sernet_kd.config import RunOptions, make_settings
from light_sernet_kd.corpora import demo
from light_sernet_kd.errors import UserError
from light_sernet_kd.experiment.results import receipt
from light_sernet_kd.experiment.run import opened
from light_sernet_kd.registries.students import FEATURE_STUDENTS
from light_sernet_kd.reporting.display import Display

PAGE = REPOSITORY / "docs" / "plugins.md"
STUDENT = 'register("student", "{}", Student(print, "lsn", "light_sernet"))\n'
IMPORT = "from light_sernet_kd.plugins import Student, register\n"


@pytest.fixture(autouse=True)
def _nothing_is_left():
    before = {kind: dict(registry) for kind, (registry, _) in plugins.KINDS.items()}
    yield
    assert {kind: dict(registry) for kind, (registry, _) in plugins.KINDS.items()} == before
    assert plugins.files() == []


@pytest.fixture
def example(tmp_path):
    """The plug-in of the page."""
    file = tmp_path / "my.py"
    file.write_text(blocks(PAGE, "python")[0], encoding="utf-8")
    return file


@pytest.fixture
def calls(tmp_path):
    """The data folder with the corpus of the page."""
    folder = tmp_path / "data" / "calls"
    folder.mkdir(parents=True)
    for speaker in SPEAKERS:
        for number, sentence in enumerate(SENTENCES[:2]):
            for emotion in EMOTIONS[:2]:
                sound = demo.synthesise(speaker, sentence, emotion)
                soundfile.write(folder / f"{speaker}_{emotion}_{number}.wav", sound, 16000)
    return folder.parent


def test_what_a_plugin_adds_is_listed_and_checked(example, capsys):
    def help_of(*command):
        with pytest.raises(SystemExit):
            cli.main([*command, "--help"])
        return " ".join(capsys.readouterr().out.split())

    shown = help_of("train", "--plugin", str(example))
    added = ("demo, calls", "resnet18, tiny;", "CCC, gaps,", "labels: what the labels say")
    assert [name for name in added if name not in shown] == []
    assert [name for name in added if name in help_of("train")] == []
    assert "demo, calls" in help_of("audit", f"--plugin={example}")
    assert cli.main(["train", "--student", "tinny", "--plugin", str(example)]) == 2
    assert "Did you mean tiny?" in capsys.readouterr().err
    assert cli.main(["train", "--student", "tiny"]) == 2
    assert "unknown student 'tiny'" in capsys.readouterr().err
    assert cli.main(["listen", "--plugin", str(example)]) == 2
    assert "unknown option --plugin" in capsys.readouterr().err


@pytest.mark.usefixtures("undrawn", "eager")
def test_a_run_with_a_plugin_says_so_and_goes_on_with_the_same_alone(example, calls, tmp_path, capsys):
    words = ["train", *QUICK, "-dn", "calls", "--student", "tiny", "-kd", "gaps", "--teacher", "labels"]
    words += ["--epochs", "1", "--no-export", "-v", "0", "--teacher_gate", "off", "--recipe", "own"]
    words += ["--data", str(calls), "--result", str(tmp_path / "result"), "--run", "one"]
    with_plugin = [*words, "--plugin", str(example)]
    assert cli.main(with_plugin) == 0, capsys.readouterr().err
    folder = tmp_path / "result" / "one"
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (recorded,) = config["plugins"]
    digest = hashlib.sha256(example.read_bytes()).hexdigest()
    assert recorded == {"name": "my.py", "sha256": digest}
    report = (folder / "report.md").read_text(encoding="utf-8")
    assert f"- **Plug-in:** my.py (SHA-256 {digest})." in report
    metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    assert (metrics["corpus"], metrics["teacher"]["made_by"]) == ("calls", "my.py")
    assert cli.main(with_plugin) == 0
    capsys.readouterr()
    assert cli.main(["explain", str(folder), "--worst", "1", "--data", str(calls)]) == 2
    assert "was made with the plug-in my.py (SHA-256 " in capsys.readouterr().err
    example.write_text(example.read_text(encoding="utf-8") + "# another\n", encoding="utf-8")
    assert cli.main(with_plugin) == 2
    error = capsys.readouterr().err
    assert re.search(r"one began with the plug-in my\.py .* and would go on with the plug-in my\.py", error)
    assert error.count("\n") == 1


def test_an_edited_plugin_is_no_unchanged_run(manifest, tmp_path):
    file, options = tmp_path / "mine.py", RunOptions(result=tmp_path, run="one")
    settings = make_settings(corpus=str(manifest))

    def is_unchanged(text):
        file.write_text(text, encoding="utf-8")
        with plugins.loaded([file]):
            return receipt.unchanged(settings, options) is not None

    file.write_text("", encoding="utf-8")
    with plugins.loaded([file]), opened(settings, options, Display(verbose=0)) as run:
        receipt.write_receipt(run)
    assert is_unchanged("")
    assert not is_unchanged("# a loss with another sign")
    assert receipt.unchanged(settings, options) is None  # nor one without it


BROKEN = {
    "syntax": ("x = 1\nif:\n", r"broken\.py, line 2: SyntaxError: invalid syntax\.$"),
    "import": (
        "\nimport not_there\n",
        r"broken\.py, line 2: ModuleNotFoundError: No module named 'not_there'",
    ),
    "exit": ("import sys\nsys.exit(3)\n", r"broken\.py, line 2: SystemExit: 3"),
    "within": ("def f():\n    return 1 / 0\n\nf()\n", r"broken\.py, line 2: ZeroDivisionError"),
    "several lines": ("raise ValueError('a\\nb')\n", r"broken\.py, line 1: ValueError: a b"),
    "taken": (
        IMPORT + STUDENT.format("mine") + STUDENT.format("ResNet18"),
        r"broken\.py, line 3: there is a student 'ResNet18' already: choose another name",
    ),
    "a name that sums read": (
        IMPORT + STUDENT.format("a+b"),
        r"line 2: the name of a student is of letters.*'a\+b'",
    ),
    "another class": (
        IMPORT + 'register("corpus", "x", Student(print, "lsn", "cubic"))',
        r"line 2: a corpus is a CorpusSource, found Student",
    ),
    "no such kind": (IMPORT + 'register("corpora", "x", 1)', r"line 2: unknown kind .* Did you mean corpus"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_plugin_is_one_line_and_adds_nothing(kind, tmp_path, capsys):
    text, message = BROKEN[kind]
    file = tmp_path / "broken.py"
    file.write_text(text, encoding="utf-8")
    assert cli.main(["audit", "demo", "--plugin", str(file)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert re.search(message, error), error
    assert str(file) in error
    assert "mine" not in FEATURE_STUDENTS


def test_a_plugin_that_is_not_there_is_named(tmp_path, capsys):
    assert cli.main(["train", "--plugin", str(tmp_path / "none.py")]) == 2
    assert "none.py: No such file or directory." in capsys.readouterr().err
    assert cli.main(["train", "--plugin="]) == 2
    assert "the value after --plugin is empty" in capsys.readouterr().err


def test_a_file_is_loaded_once_and_not_in_two_versions(tmp_path):
    file = tmp_path / "twice.py"
    file.write_text(IMPORT + STUDENT.format("twice"), encoding="utf-8")
    with plugins.loaded([file]):
        assert plugins.load(file) is plugins.load(str(file))
        assert plugins.spelled() == ["--plugin", str(file)]
        assert [each["name"] for each in plugins.used({"student": "resnet18"})] == ["twice.py"]
        file.write_text(file.read_text(encoding="utf-8") + "\n", encoding="utf-8")
        with pytest.raises(UserError, match="has changed since it was loaded"):
            plugins.load(file)


OF_FEATURES = """
from light_sernet_kd.plugins import FrontEnd, TeacherSource, register
from light_sernet_kd.registries.front_ends import LSN

def layers(spectrum, input_type, *, on_device=False):
    import keras
    from light_sernet_kd.features.model import spectral_layers

    return [*spectral_layers(spectrum, input_type), keras.layers.Rescaling({scale})]

register("front end", "scaled", FrontEnd({{"mfcc": LSN}}, "both", layers=layers))
register("teacher", "asked", TeacherSource("made", "a probe", make=lambda *given: given[-1]))
"""


def test_what_is_kept_of_an_edited_plugin_is_not_used(tmp_path):
    from light_sernet_kd.audio import fingerprint
    from light_sernet_kd.corpora import Utterance
    from light_sernet_kd.data import feature_cache
    from light_sernet_kd.encoders import front_end
    from light_sernet_kd.registries.teachers import TEACHER_SOURCES
    from light_sernet_kd.teachers import sources

    sound, file = tmp_path / "a.wav", tmp_path / "mine.py"
    soundfile.write(sound, demo.synthesise(SPEAKERS[0], SENTENCES[0], EMOTIONS[0]), 16_000)
    cache = feature_cache.Cache(tmp_path / "cache")
    workplace = sources.Workplace(tmp_path, tmp_path / "embeddings", tmp_path)

    def features(name):
        heard, hashes = [Utterance("a", sound, "fear", "s")], {"a": fingerprint(sound)}
        options = {"front_end": name, "input_type": "mfcc", "samples": 16_000, "cache": cache}
        return feature_cache.features(heard, hashes, **options)

    plain, scaled, identities, caches = features("lsn"), [], [], []
    for scale in (2, 3):
        file.write_text(OF_FEATURES.format(scale=scale), encoding="utf-8")
        with plugins.loaded([file]):
            (digest,) = plugins.behind({"front_end": "scaled"})
            assert digest == plugins.sha256_of("front end", "scaled")
            assert plugins.sha256_of("front end", "lsn") == plugins.sha256_of("teacher", "scaled") == ""
            assert plugins.behind({"front_end": "lsn"}) == []
            scaled.append(features("scaled"))
            identities.append(front_end.encoder("scaled", "mfcc", 16_000).identity)
            caches.append(sources._of_plugin(workplace, TEACHER_SOURCES["asked"]).cache)
    np.testing.assert_allclose(scaled[0], 2 * plain, rtol=1e-5)
    np.testing.assert_allclose(scaled[1], 3 * plain, rtol=1e-5)
    assert identities[0] != identities[1]
    assert caches[0] != caches[1]
    # What is this package's own is kept as it was before there were plug-ins in the keys.
    assert "plugin" not in front_end.encoder("lsn", "mfcc", 16_000).identity
    assert sources._of_plugin(workplace, TEACHER_SOURCES["yamnet"]) is workplace


def installed(folder, name, module, entry):
    """A package as pip leaves it."""
    (folder / f"{name}.py").write_text(module, encoding="utf-8")
    about = folder / f"{name}-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n", encoding="utf-8")
    (about / "entry_points.txt").write_text(f"[{plugins.GROUP}]\nx = {entry}\n", encoding="utf-8")


def test_plugins_of_packages_are_found_and_recorded_where_a_run_names_them(tmp_path):
    added = IMPORT + "def add():\n    " + STUDENT.format("packaged")
    installed(tmp_path, "good_plugin", added, "good_plugin:add")
    installed(tmp_path, "bad_plugin", "\n1 / 0\n", "bad_plugin")
    code = (
        "import json, sys\n"
        "from light_sernet_kd import plugins\n"
        "from light_sernet_kd.cli import main\n"
        "try:\n"
        "    main(['train', '--help'])\n"
        "except SystemExit:\n"
        "    runs = [plugins.used({'student': name}) for name in ('packaged', 'resnet18')]\n"
        "    uses = [[each['name'] for each in run] for run in runs]\n"
        "    print(json.dumps([uses, sorted(sys.modules)]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(REPOSITORY), str(tmp_path)])},
        capture_output=True,
        text=True,
        check=True,
    )
    uses, modules = json.loads(done.stdout.splitlines()[-1])
    assert "resnet18, packaged;" in " ".join(done.stdout.split())
    assert uses == [["good_plugin"], []]
    assert not {"tensorflow", "keras", "jax", "numpy"} & {*modules}
    (error,) = done.stderr.splitlines()
    assert re.search(
        r"bad_plugin\.py, line 2: ZeroDivisionError: division by zero\. pip uninstall bad_plugin", error
    )
