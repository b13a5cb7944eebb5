"""How many places a newcomer touches: additions are written into a copy of the package, counted, and used."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import corpus_trees
import numpy as np
import pytest
from conftest import REPOSITORY

from light_sernet_kd.config import Settings


class Place(NamedTuple):
    """A text that is written into a file: behind the line that begins with `behind`, or at the file's end."""

    file: str
    text: str
    behind: str = ""


CORPUS = '''"""Scratch: <speaker>_<emotion>_<n>.wav."""

from light_sernet_kd.corpora.reading import Findings, recordings
from light_sernet_kd.corpora.types import Origin, Published, Utterance

ORIGIN = Origin("CC0 1.0", page="https://example.org", layout="<speaker>_<emotion>_<n>.wav")
PUBLISHED = Published()


def utterances(root, *, skip_bad=False):
    findings = Findings("scratch", skip_bad)
    named = [(path, *path.stem.split("_")) for path in recordings(root)]
    return findings.corpus(
        [Utterance(path.stem, path, emotion, speaker) for path, speaker, emotion, _ in named]
    )
'''
STUDENT = """

def scratch(input_shape, classes, *, width=1.0):
    inputs = keras.Input(input_shape, name="features")
    vector = keras.layers.Flatten(name="embedding")(keras.layers.AveragePooling2D(8)(inputs))
    return keras.Model(inputs, keras.layers.Dense(classes, name="logits")(vector))
"""
LOSS = """

def scratch(label_loss, labels, teacher, student, *, weight=1.0):
    gaps = ops.mean(ops.abs(student - teacher), axis=-1)
    return label_loss + weight * gaps, ops.zeros((), dtype=gaps.dtype)
"""
AUGMENTATION = """

def scratch(waveform, rng, *, chance=1.0):
    return -waveform if rng.random() < chance else waveform
"""
DEGRADATION = """

def scratch(waveform, context):
    return waveform[::-1]
"""
TEACHER = '''

def scratch_teacher(argument, selection, settings, workplace):
    """Says what the labels say; for this test alone."""
    folds = tuple(fold.name for fold in [*selection.folds, selection.final_fold])
    logits = 4.0 * np.eye(len(selection.classes), dtype=np.float32)[selection.labels]
    ids = tuple(each.id for each in selection.utterances)
    card = {"made_by": "scratch", "train_speakers": {name: [] for name in folds}}
    return Teacher(ids, selection.classes, np.stack([logits] * len(folds)), folds, card)
'''
PROTOCOL = """

def scratch_folds(utterances, seed, n_folds):
    return leave_one_speaker_out(utterances, seed, n_folds)[:1]
"""
PLACES: dict[str, list[Place]] = {
    "corpus": [
        Place("light_sernet_kd/corpora/scratch.py", CORPUS),
        Place(
            "light_sernet_kd/registries/corpora.py",
            '    "scratch": CorpusSource(Lazy("corpora.scratch:utterances")),\n',
            "CORPORA:",
        ),
        Place("tests/helpers/corpus_trees.py", "\n# a tree of the corpus for the conformance tests\n"),
        Place("data/README.md", "| `scratch/` | a row of the table | |\n"),
    ],
    "student": [
        Place("light_sernet_kd/students/cnn.py", STUDENT),
        Place(
            "light_sernet_kd/registries/students.py",
            '    "scratch": Student(Lazy("students.cnn:scratch"), "lsn", "light_sernet"),\n',
            "STUDENTS:",
        ),
    ],
    "loss": [
        Place("light_sernet_kd/distillation/losses/logits.py", LOSS),
        Place(
            "light_sernet_kd/registries/losses.py",
            '    "scratch": _on_logits(Lazy("distillation.losses.logits:scratch"), "absolute error"),\n',
            "DISTILLATIONS:",
        ),
    ],
    "augmentation": [
        Place("light_sernet_kd/audio/augment/waveform.py", AUGMENTATION),
        Place(
            "light_sernet_kd/registries/augmentations.py",
            '    "scratch": AugmentationKind(\n'
            '        Lazy("audio.augment.waveform:scratch"), "waveform", 99, {"chance": _SHARE}\n    ),\n',
            "AUGMENTATIONS:",
        ),
    ],
    "degradation": [
        Place("light_sernet_kd/analysis/degradations.py", DEGRADATION),
        Place(
            "light_sernet_kd/registries/degradations.py",
            '    Condition("scratch", "scratch", "backwards", Lazy("analysis.degradations:scratch")),\n',
            "_CONDITIONS",
        ),
    ],
    "teacher source": [
        Place("light_sernet_kd/teachers/sources.py", "\n\nimport numpy as np  # noqa: E402\n" + TEACHER),
        Place(
            "light_sernet_kd/registries/teachers.py",
            '    "scratch_source": TeacherSource(\n'
            '        "made", "the labels", make=Lazy("teachers.sources:scratch_teacher")\n    ),\n',
            "TEACHER_SOURCES:",
        ),
    ],
    "protocol": [
        Place("light_sernet_kd/data/protocols.py", PROTOCOL),
        Place(
            "light_sernet_kd/registries/protocols.py",
            '    "scratch": Protocol("one fold", Lazy("data.protocols:scratch_folds")),\n',
            "PROTOCOLS:",
        ),
    ],
    "front end": [
        Place(
            "light_sernet_kd/registries/front_ends.py",
            '    "scratch": FrontEnd({"mel_spectrogram": _CUBIC_MEL}, padding="right"),\n',
            "FRONT_ENDS:",
        ),
    ],
    "setting": [
        Place(
            "light_sernet_kd/config/settings/declared.py",
            '    scratch: int = setting(\n        3, "--scratch", group=DATA, metavar="N", range=POSITIVE, '
            'help="of this test"\n    )\n',
            '    """What decides a run',
        ),
    ],
}
MOST_PLACES = {"corpus": 4, "setting": 1}  # of all others 2


def test_an_addition_touches_few_places():
    for kind, places in PLACES.items():
        assert len(places) <= MOST_PLACES.get(kind, 2), kind


def write(root: Path, place: Place) -> None:
    path = root / place.file
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []
    at = len(lines)
    if place.behind:
        at = next(number for number, line in enumerate(lines) if line.startswith(place.behind)) + 1
        if '"""' in place.behind:  # behind the docstring
            at = next(n for n, line in enumerate(lines[at:], at) if line.rstrip().endswith('"""')) + 1
    path.write_text("".join([*lines[:at], place.text, *lines[at:]]), encoding="utf-8")


@pytest.fixture(scope="module")
def copy(tmp_path_factory) -> Path:
    """The package, the documents of the corpora and the tests' trees, with every addition in them."""
    root = tmp_path_factory.mktemp("copy")
    skipped = shutil.ignore_patterns("__pycache__")
    shutil.copytree(REPOSITORY / "light_sernet_kd", root / "light_sernet_kd", ignore=skipped)
    for file in ("tests/helpers/corpus_trees.py", "data/README.md"):
        (root / file).parent.mkdir(parents=True)
        shutil.copy(REPOSITORY / file, root / file)
    for places in PLACES.values():
        for place in places:
            write(root, place)
    random = np.random.default_rng(0)
    for speaker in ("ann", "bob", "eve"):
        for number in (1, 2):
            for emotion in ("fear", "happiness"):
                tone = corpus_trees.tone(level=float(random.uniform(0.1, 0.3)))
                corpus_trees.put(root / "corpora" / "scratch" / f"{speaker}_{emotion}_{number}.wav", tone)
    return root


def run(copy: Path, *command: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, *command],
        cwd=copy,
        env={**os.environ, "PYTHONPATH": str(copy)},
        capture_output=True,
        text=True,
    )


def test_what_is_added_can_be_used_at_once(copy):
    options = ["-dn", "scratch", "--student", "scratch", "-kd", "scratch", "--teacher", "scratch_source"]
    options += ["--augment", "scratch", "--protocol", "scratch", "--scratch", "5", "--front_end", "scratch"]
    options += ["-it", "mel", "-id", "0.5", "--epochs", "1", "-bt", "4", "--no-export", "-v", "0"]
    done = run(copy, "-m", "light_sernet_kd", "train", *options, "--data", "corpora", "--run", "all")
    assert done.returncode == 0, done.stderr
    settings = json.loads((copy / "result" / "all" / "config.json").read_text())["settings"]
    assert settings["scratch"] == 5
    metrics = json.loads((copy / "result" / "all" / "metrics.json").read_text())
    assert (metrics["corpus"], metrics["protocol"]) == ("scratch", "scratch")
    assert metrics["teacher"]["made_by"] == "scratch"


def test_what_is_added_is_listed_and_checked(copy):
    for command, listed in {
        "train": ["demo, scratch", "scratch_source", "--scratch N", "mixup, scratch"],
        "stress": ["scratch"],
    }.items():
        done = run(copy, "-m", "light_sernet_kd", command, "--help")
        text = " ".join(done.stdout.split())
        assert all(each.split(", ")[-1] in text for each in listed), (command, text)
    done = run(copy, "-m", "light_sernet_kd", "train", "-dn", "demo", "--student", "scrach")
    assert done.returncode == 2
    assert "Did you mean scratch?" in done.stderr
    code = "from light_sernet_kd.analysis import stress; print(*stress.conditions_of(('scratch',)))"
    assert "scratch" in run(copy, "-c", code).stdout


def test_runs_that_began_before_a_setting_go_on_with_its_default(copy):
    code = (
        "import json; from light_sernet_kd.config import Settings; "
        "older = {name: value for name, value in Settings().as_dict().items() if name != 'scratch'}; "
        "told = [Settings().digest(), Settings(scratch=5).digest(), Settings.completed(older)['scratch']]; "
        "print(json.dumps(told))"
    )
    default, other, completed = json.loads(run(copy, "-c", code).stdout)
    assert default == Settings().digest() != other
    assert completed == 3
