"""Golden vectors against LiteRT itself, and the page on devices, whose Python is run."""

import ast
import base64
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import tiny_student
from ai_edge_litert.interpreter import Interpreter
from conftest import REPOSITORY
from exported_cases import CLASSES, SAMPLES, TEXT, Case, made_case, spoken, states_student

import light_sernet_kd
from light_sernet_kd import audio, cli
from light_sernet_kd.errors import UserError
from light_sernet_kd.export import golden
from light_sernet_kd.export.tflite import ExportSpec, export

PAGE = REPOSITORY / "docs" / "on-device.md"


@pytest.fixture(scope="module")
def case(tmp_path_factory) -> Case:
    folder = tmp_path_factory.mktemp("golden")
    return made_case("light_sernet", "lsn", "mfcc", SAMPLES, folder, precisions=("float32", "int8"))


@pytest.fixture(scope="module")
def right_padded(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("right")
    made = made_case("light_sernet_plus", "cubic", "mfcc", SAMPLES, folder, precisions=("float32",))
    return made.paths["float32"]


@pytest.fixture(scope="module")
def vectors(case, right_padded, tmp_path_factory) -> dict:
    out = tmp_path_factory.mktemp("out") / "golden.json"
    folder = case.paths["int8"].parent
    assert cli.main(["golden", str(folder), str(right_padded), "--out", str(out)]) == 0
    return json.loads(out.read_text())


def recording(vectors) -> np.ndarray:
    return np.frombuffer(base64.b64decode(vectors["audio"]["base64"]), "<f4")


def test_a_bare_interpreter_gives_the_probabilities_of_every_clip(vectors, case, right_padded):
    paths = [case.paths["float32"], case.paths["int8"], right_padded]
    assert [each["file"] for each in vectors["files"]] == [path.name for path in paths]
    assert [each["padding"] for each in vectors["files"]] == ["both", "both", "right"]
    for path, told in zip(paths, vectors["files"], strict=True):
        assert told["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
        assert (told["labels"], told["samples"]) == (list(CLASSES), SAMPLES)
        classify = Interpreter(model_path=str(path)).get_signature_runner("serving_default")
        assert {*told["probabilities"]} == {*vectors["clips"]} == {"fits", "short", "long"}
        for name, (start, stop) in vectors["clips"].items():
            clip = audio.fit(recording(vectors)[start:stop], SAMPLES, pad=told["padding"])
            found = classify(audio=clip[None])["probabilities"][0]
            np.testing.assert_allclose(found, told["probabilities"][name], atol=1e-6)


def test_a_port_that_pads_or_cuts_elsewhere_or_sorts_its_labels_is_found_out(vectors, case):
    """At float32's tolerance; the wrong places are those that a port is likely to take."""
    told = vectors["files"][0]
    assert (told["precision"], told["padding"]) == ("float32", "both")
    classify = Interpreter(model_path=str(case.paths["float32"])).get_signature_runner("serving_default")
    heard, clips, right = recording(vectors), vectors["clips"], told["probabilities"]
    start, stop = clips["short"]
    wrong = {
        "padded at the end": (audio.fit(heard[start:stop], SAMPLES, pad="right"), right["short"]),
        "cut at the beginning": (heard[:SAMPLES], right["long"]),
        "cut at the end": (heard[-SAMPLES:], right["long"]),
        "half the rate": (np.repeat(heard[: SAMPLES // 2], 2), right["fits"]),
        "backwards": (heard[:SAMPLES][::-1].copy(), right["fits"]),
    }
    for what, (clip, expected) in wrong.items():
        found = classify(audio=clip[None])["probabilities"][0]
        assert np.abs(found - expected).max() > 3 * told["tolerance"], what
    assert np.abs(np.roll(right["fits"], 1) - right["fits"]).max() > told["tolerance"]


def test_the_recording_is_the_same_every_time_and_fits_16_bit_wav(vectors, case):
    heard = recording(vectors)
    assert len(heard) == SAMPLES + SAMPLES // 2
    np.testing.assert_array_equal(heard, golden.voice(len(heard), sample_rate=16_000))
    np.testing.assert_array_equal(heard * 2**15, np.round(heard * 2**15))
    assert 0.4 < np.abs(heard).max() <= 0.5
    again = golden.golden([case.paths["float32"]])
    assert again["audio"] == vectors["audio"]
    assert again["files"] == [vectors["files"][0]]


def test_a_file_that_reads_text_has_its_text_and_tokens(tmp_path):
    both = spoken(hears=False).export(tmp_path, precisions=("float32",))
    told = golden.golden([both["float32"].path])
    assert "audio" not in told
    (file,) = told["files"]
    classify = Interpreter(model_path=str(both["float32"].path)).get_signature_runner("serving_default")
    given = {name: np.array([file[name]], np.int32) for name in ("token_ids", "text_mask")}
    np.testing.assert_allclose(
        classify(**given)["probabilities"][0], file["probabilities"]["text"], atol=1e-6
    )
    words = [TEXT.vocabulary[i] for i in file["token_ids"]]
    assert words[: sum(file["text_mask"])] == ["[CLS]", *file["text"].split(), "[SEP]"]
    assert {*words[sum(file["text_mask"]) :]} == {"[PAD]"}


def test_what_no_vector_can_be_made_of_is_named(case, tmp_path, capsys):
    assert cli.main(["golden", str(tmp_path), "--out", str(tmp_path / "x.json")]) == 2
    assert "no student_*.tflite in" in capsys.readouterr().err
    assert not (tmp_path / "x.json").exists()
    with pytest.raises(UserError, match="cannot read"):
        golden.golden([tmp_path / "absent.tflite"])
    other = made_case("light_sernet", "lsn", "mfcc", 9_000, tmp_path / "other", precisions=("float32",))
    with pytest.raises(UserError, match="9000 samples at 16000 Hz, 12000 samples at 16000 Hz: name files"):
        golden.golden([case.paths["float32"], other.paths["float32"]])
    student, examples = states_student(text_states=4)
    (made,) = export(
        student,
        ExportSpec(
            classes=CLASSES,
            representative=examples,
            folder=tmp_path / "states",
            card={},
            encoders={"text_states": "koelectra"},
            precisions=("float32",),
        ),
    )
    with pytest.raises(UserError, match="takes states of encoders outside of it"):
        golden.golden([made.path])


# The page.


@pytest.fixture(scope="module")
def place(case, shared_data, tmp_path_factory) -> Path:
    """A folder with what the page's programs read."""
    folder = tmp_path_factory.mktemp("place")
    for path in case.paths.values():
        shutil.copy(path, folder)
    shutil.copy(shared_data / "EMO-DB" / "wav" / "03a01Wa.wav", folder / "recording.wav")
    command = ["golden", *map(str, sorted(folder.glob("*.tflite"))), "--out", str(folder / "golden.json")]
    assert cli.main(command) == 0
    return folder


def programs() -> list[str]:
    return re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


def run(program: str, place: Path) -> subprocess.CompletedProcess:
    package = str(PAGE.parent.parent)
    environment = {**os.environ, "PYTHONPATH": package, "TF_CPP_MIN_LOG_LEVEL": "3"}
    # MediaPipe would import TensorFlow where it is installed, to no use here.
    command = [sys.executable, "-c", f"import sys\nsys.modules['tensorflow'] = None\n{program}"]
    return subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True, timeout=240)


@pytest.mark.parametrize("number", range(8))
def test_the_pages_python_runs_and_all_programs_agree(place, case, number, tmp_path):
    assert len(programs()) == 8
    program = programs()[number]
    if "dimension_range" in program:
        assert run(program, place).stdout == ""  # the file gives none
        return
    if "enrol(" in program:
        tiny_student.enrolled_student(tmp_path / "student_int8_enrolled.tflite")
        (tmp_path / "speaker").mkdir()
        for number in range(3):
            shutil.copy(place / "recording.wav", tmp_path / "speaker" / f"{number}.wav")
        place = shutil.copytree(
            place, tmp_path, dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.tflite")
        )
    done = run(program, place)
    if "mediapipe" in program and re.search(r"(ImportError|ModuleNotFoundError|OSError): ", done.stderr):
        pytest.skip(f"MediaPipe cannot be imported here: {done.stderr.splitlines()[-1]}")
    assert done.returncode == 0, done.stderr
    if "golden" in program:
        assert done.stdout == "all answers agree\n"
    elif "enrol(" in program:
        clips, shares = re.fullmatch(r"(\S+) clips: \[(.*)\]\n", done.stdout).groups()
        seconds = len(audio.read(place / "recording.wav")) / tiny_student.RATE
        assert 0.5 < float(clips) / (3 * 2 * seconds) < 1.001  # of half a second, pauses left out
        assert sum(map(float, shares.split())) == pytest.approx(1, abs=2e-3)
    elif '.classify("recording.wav")' in program:
        result = light_sernet_kd.Runner(case.paths["int8"]).classify(place / "recording.wav")
        label = "unsure" if result.unsure else result.label
        assert done.stdout == f"{label} {result.reason} {result.probabilities}\n"
    elif "zipfile" in program:
        shares = ast.literal_eval(done.stdout)
        assert [*shares] == list(CLASSES)
        expected = golden.Runner(case.paths["int8"]).probabilities(audio.read(place / "recording.wav"))
        np.testing.assert_allclose([*shares.values()], expected, atol=6e-4)
    elif "mediapipe" in program:
        assert re.fullmatch(r"(\d\.\d s: .+ 0\.\d{3}\n){3}", done.stdout)
    elif "Stream" in program:
        labels = "|".join((*CLASSES, "unsure (silent|no speech|not sure)"))
        assert re.fullmatch(rf"(\d\.\d to \d\.\d s: ({labels}) ?\n)+", done.stdout)
    else:
        assert done.stdout.strip() in (*CLASSES, "unsure")


def test_the_pages_python_finds_the_second_output(place, tmp_path):
    """By the package, and by LiteRT alone."""
    model = tiny_student.dimensions_student(tmp_path / "student_int8.tflite")
    shutil.copy(place / "recording.wav", tmp_path)
    result = light_sernet_kd.Runner(model).classify(tmp_path / "recording.wav")
    done = run(next(each for each in programs() if "dimension_range" in each), tmp_path)
    assert done.stdout.splitlines() == [
        f"{name} {value:.1f} on a scale from 1 to 5" for name, value in result.dimensions.items()
    ]
    done = run(next(each for each in programs() if "zipfile" in each), tmp_path)
    of_middle = golden.Runner(model).answer(audio.read(tmp_path / "recording.wav")).dimensions
    last = ast.literal_eval(done.stdout.splitlines()[-1])
    assert [*last.values()] == pytest.approx(of_middle.tolist(), abs=0.006)


def test_the_pages_python_takes_a_file_without_classes(tmp_path):
    """By LiteRT alone; and golden vectors of it are met, and told apart from those of another clip."""
    model = tiny_student.rated_student(tmp_path / "student_int8.tflite")
    heard = golden.voice(tiny_student.SAMPLES, sample_rate=tiny_student.RATE)
    soundfile.write(tmp_path / "recording.wav", heard, tiny_student.RATE, subtype="FLOAT")
    done = run(next(each for each in programs() if "zipfile" in each), tmp_path)
    (line,) = done.stdout.splitlines()
    expected = golden.Runner(model).answer(heard).dimensions
    assert [*ast.literal_eval(line).values()] == pytest.approx(expected.tolist(), abs=0.006)
    assert cli.main(["golden", str(model), "--out", str(tmp_path / "golden.json")]) == 0
    (program,) = [each for each in programs() if "golden" in each]
    assert run(program, tmp_path).stdout == "all answers agree\n"
    done = run(program.replace("recording[start:stop]", "recording[start:stop][::-1]"), tmp_path)
    assert "AssertionError: ('student_int8.tflite', 'fits'," in done.stderr


def test_the_pages_check_fails_on_a_port_that_is_off(place):
    (program,) = [each for each in programs() if "golden" in each]
    done = run(program.replace("recording[start:stop]", "recording[start:stop][::-1]"), place)
    assert "AssertionError: ('student_float32.tflite', 'fits'," in done.stderr


def test_the_page_names_every_fact_of_the_card(case):
    page = PAGE.read_text(encoding="utf-8")
    written = {*golden.Runner(case.paths["int8"]).card} - {"fold", "seed"}
    assert not {name for name in written if f"`{name}`" not in page}
