"""What `predict` answers of whole recordings, of short ones, of failures, and of students to be wary of."""

import csv
import io
import json
import os
import signal
import subprocess
import sys
import time
import tracemalloc
import warnings
from pathlib import Path

import fake_microphone
import numpy as np
import pytest
import soundfile
from conftest import REPOSITORY
from tiny_student import (
    CLASSES,
    RATE,
    SAMPLES,
    audio_student,
    card_of,
    flatbuffer,
    packed,
    text_student,
    weights,
)

from light_sernet_kd import audio, cli
from light_sernet_kd.analysis import stress
from light_sernet_kd.device import in_parallel, timeline
from light_sernet_kd.export import golden
from light_sernet_kd.runner import NOT_SURE, SILENT, STEADY, TOO_SHORT, UNSURE, Runner, Stream, Window

VOICE = golden.voice(8 * RATE, sample_rate=RATE)


def voice(seconds: float, seed: int) -> np.ndarray:
    """Another part of the made voice for each seed."""
    return np.resize(np.roll(VOICE, -seed * RATE // 2), round(seconds * RATE))


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    return str(audio_student(tmp_path_factory.mktemp("student") / "student_float32.tflite"))


@pytest.fixture
def recording(tmp_path):
    """Writes a waveform to a file of that name."""

    def write(name: str, waveform: np.ndarray, rate: int = RATE) -> str:
        path = tmp_path / f"{name}.wav"
        soundfile.write(path, waveform, rate, subtype="FLOAT")
        return str(path)

    return write


def answers(capsys, *arguments: str, code: int = 0) -> list[dict]:
    assert cli.main(["predict", *arguments, "--json"]) == code
    return json.loads(capsys.readouterr().out)


# Whole recordings.


def test_a_long_recording_is_answered_from_all_of_it(model, recording, capsys):
    sound = np.concatenate([voice(3.2, 1), np.zeros(2 * RATE, np.float32), voice(2.3, 2)])
    path = recording("talk", sound)
    (answer,) = answers(capsys, model, path)
    windows = [*Runner(model).stream(sound)]
    speech = [window for window in windows if window.why in ("", NOT_SURE)]
    assert 5 < len(speech) < len(windows) - 2
    mean = np.mean([window.probabilities for window in speech], axis=0)
    assert [*answer["probabilities"]] == [*CLASSES]
    np.testing.assert_allclose([*answer["probabilities"].values()], mean, atol=1e-6)
    assert answer["label"] == CLASSES[int(mean.argmax())]
    assert answer["reason"] == (NOT_SURE if mean.max() < 0.5 else None)
    assert (answer["seconds"], answer["windows"]) == (7.5, len(windows))
    assert answer["heard"] == [0, 7.5]
    # The time of each label, counted at every millisecond: that of the window whose middle is nearest.
    middles = np.array([(window.start + window.end) / 2 for window in windows])
    nearest = np.abs((np.arange(7500) + 0.5)[:, None] / 1000 - middles).argmin(axis=1)
    labels = [windows[at].why or windows[at].label for at in nearest]
    for name, share in {**answer["time_shares"], **answer["unsure_shares"]}.items():
        assert share == pytest.approx(labels.count(name) / 7500, abs=0.002), name
    assert sum(answer["time_shares"].values()) + sum(answer["unsure_shares"].values()) == pytest.approx(1)
    assert answer["unsure_shares"][SILENT] > 0.1


@pytest.mark.parametrize("place", ["begin", "end"])
def test_speech_beside_a_silent_middle_is_heard(model, recording, capsys, place):
    nothing = np.zeros(20 * RATE, np.float32)
    parts = [voice(2, 3), nothing] if place == "begin" else [nothing, voice(2, 3)]
    (answer,) = answers(capsys, model, recording("cry", np.concatenate(parts)))
    assert answer["reason"] in (None, NOT_SURE)
    assert 0.8 < answer["unsure_shares"][SILENT] < 0.95


def test_the_line_of_a_long_recording_tells_length_windows_and_times(model, recording, capsys):
    path = recording("talk", np.concatenate([voice(2, 1), np.zeros(2 * RATE, np.float32)]))
    (answer,) = answers(capsys, model, path)
    assert cli.main(["predict", model, path]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith(f"{path}: {answer['label']}")
    assert f"; 4.0 s in {answer['windows']} windows: " in line
    assert f"unsure ({SILENT}) {100 * answer['unsure_shares'][SILENT]:.0f} %" in line
    assert line.endswith(" of the time")


@pytest.mark.parametrize("samples", [SAMPLES, SAMPLES - 1, SAMPLES // 2])
def test_a_recording_that_fits_has_the_answer_of_its_clip(model, recording, capsys, samples):
    sound = voice(1, 4)[:samples]
    path = recording("short", sound)
    (answer,) = answers(capsys, model, path)
    expected = Runner(model).probabilities(sound)
    assert [*answer["probabilities"].values()] == expected.tolist()
    assert answer["label"] == CLASSES[int(expected.argmax())]
    assert answer["reason"] == (None if expected.max() >= 0.5 else NOT_SURE)
    assert (answer["windows"], answer["seconds"]) == (1, samples / RATE)
    assert cli.main(["predict", model, path]) == 0
    assert capsys.readouterr().out.endswith("%)\n")


@pytest.mark.parametrize(("rest", "windows"), [(0, 1), (1, 2)])
def test_windows_begin_where_a_recording_is_longer_by_a_sample(model, recording, capsys, rest, windows):
    # The tiny student's windows are as long as the hop: a second one begins with what is left.
    (answer,) = answers(capsys, model, recording("x", voice(1, 5)[: SAMPLES + rest]))
    assert answer["windows"] == windows


def test_noise_and_silence_all_along_are_unsure_for_the_reason_of_most_of_the_time(model, recording, capsys):
    noise = np.random.default_rng(0).normal(0, 0.1, 3 * RATE).astype(np.float32)
    found = answers(
        capsys,
        model,
        recording("noise", noise),
        recording("silence", np.zeros(3 * RATE)),
        recording("both", np.concatenate([noise, np.zeros(5 * RATE, np.float32)])),
    )
    assert [answer["reason"] for answer in found] == [STEADY, SILENT, SILENT]
    assert all(sum(answer["probabilities"].values()) == pytest.approx(1) for answer in found)


def test_a_summary_is_of_means_and_times():
    def window(start: float, why: str, shares: tuple[float, float]) -> Window:
        numbers = np.float32(shares)
        label = UNSURE if why else "ab"[int(numbers.argmax())]
        return Window(start, start + 2, numbers, numbers, -20.0, label, why)

    nan = (np.nan, np.nan)
    found = timeline.summary(
        [
            window(0, "", (0.9, 0.1)),
            window(1, "", (0.7, 0.3)),
            window(2, NOT_SURE, (0.4, 0.6)),
            window(3, SILENT, (0, 1)),
            window(4, "not finite", nan),
        ],
        ("a", "b"),
        unsure_below=0.5,
    )
    np.testing.assert_allclose(found.probabilities, [2 / 3, 1 / 3], rtol=1e-6)
    assert (found.label, found.why, found.windows, found.seconds) == ("a", "", 5, 6)
    assert found.time_shares == {"a": pytest.approx(2.5 / 6), "b": 0}
    shares = {NOT_SURE: 1 / 6, SILENT: 1 / 6, "not finite": 1.5 / 6}
    assert found.unsure_shares == {name: pytest.approx(share) for name, share in shares.items()}
    silent = timeline.summary([window(0, SILENT, (0.2, 0.8))], ("a", "b"), unsure_below=0.5)
    assert (silent.label, silent.why, silent.unsure_shares) == ("b", SILENT, {SILENT: 1})


def test_an_hour_is_answered_in_constant_memory(model, tmp_path, capsys):
    path = tmp_path / "hour.wav"
    minute = (voice(60, 6)[::2] * 99).astype(np.int16) * 99
    with soundfile.SoundFile(path, "w", 8000, 1, subtype="PCM_U8") as file:
        for _ in range(60):
            file.write(minute)
    tracemalloc.start()
    try:
        (answer,) = answers(capsys, model, str(path), "--hop", "20")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 8e6  # at 16 kHz, an hour of float32 is 230 MB
    assert (answer["seconds"], answer["windows"]) == (3600, 180)
    assert answer["warnings"] == [
        "the hop of 20 s is longer than a window of 0.5 s: the sound between windows is left out.",
        f"{path} is narrow-band: recorded at 8,000 Hz, it holds nothing above 4,000 Hz.",
    ]


def test_a_hop_longer_than_the_recording_is_said_too(model, recording, capsys):
    path = recording("long", voice(4.2, 7))
    gap = "the hop of 20 s is longer than a window of 0.5 s: the sound between windows is left out"
    (answer,) = answers(capsys, model, path, "--hop", "20")
    assert (answer["windows"], answer["heard"], answer["warnings"]) == (1, [0, 0.5], [f"{gap}."])
    assert cli.main(["predict", model, path, "--hop", "20"]) == 0
    assert capsys.readouterr().out.endswith(f"; {gap}\n")


def test_a_student_that_reads_text_hears_the_middle_and_says_so(tmp_path, recording, capsys):
    model = str(text_student(tmp_path / "x.tflite", hears=True))
    sound = voice(4.2, 7)
    long, short = recording("long", sound), recording("short", sound[:SAMPLES])
    (answer,) = answers(capsys, model, long, "--text", "ja")
    first = (len(sound) - SAMPLES) // 2
    expected = Runner(model).probabilities(sound, "ja")
    np.testing.assert_allclose([*answer["probabilities"].values()], expected, atol=1e-6)
    assert answer["heard"] == [first / RATE, (first + SAMPLES) / RATE]
    (note,) = answer["warnings"]
    assert note.startswith("answered the middle 0.5 s of 4.2 s: this student reads a text")
    assert (answer["text"], answer["text_warnings"], answer["seconds"]) == ("ja", [], len(sound) / RATE)
    assert cli.main(["predict", model, long, "--text", "ja"]) == 0
    assert capsys.readouterr().out.endswith(f"; {note}\n")
    (answer,) = answers(capsys, model, short, "--text", "ja")
    assert answer["warnings"] == []


# Settings without --stream.


def test_gates_may_be_set_without_stream(model, recording, capsys):
    short, long = recording("short", voice(0.5, 8)), recording("long", voice(3, 8))
    quiet = recording("quiet", 1e-4 * voice(0.5, 8))

    def reasons(*arguments: str) -> list[str | None]:
        return [answer["reason"] for answer in answers(capsys, model, short, long, quiet, *arguments)]

    assert reasons("--unsure-below", "0", "--silence=-60") == [None, None, SILENT]
    assert reasons("--unsure-below", "0", "--silence=-120") == [None, None, None]
    assert reasons("--unsure-below", "0", "--silence=-5") == [SILENT] * 3
    assert reasons("--steady", "90", "--silence=-60") == [STEADY, STEADY, SILENT]
    assert reasons("--threshold", "1", "--silence=-120") == [NOT_SURE] * 3


@pytest.mark.parametrize(
    ("hears", "arguments", "message"),
    [
        (
            True,
            ["--hop", "1"],
            "--hop cannot be used with this student, which reads a text of the whole clip.",
        ),
        (True, ["--silence", "5"], "--silence must be in dB of full scale, so at most 0, found 5."),
        (True, ["--steady", "nan"], "--steady must be from 0 on, found nan."),
        (True, ["--threshold", "2"], "--threshold must be from 0 to 1, found 2."),
        (False, ["--silence=-5", "--smoothing", "1"], "--silence and --smoothing cannot be used with this"),
    ],
)
def test_settings_that_a_reader_of_text_has_not_are_refused(tmp_path, capsys, hears, arguments, message):
    model = str(text_student(tmp_path / "x.tflite", hears=hears))
    assert cli.main(["predict", model, *(["a.wav"] if hears else []), "--text", "ja", *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


def test_a_reader_of_text_has_gates_of_its_own_kind(tmp_path, recording, capsys):
    model = str(text_student(tmp_path / "x.tflite", hears=True))
    (answer,) = answers(capsys, model, recording("x", voice(0.5, 8)), "--text", "ja", "--silence=-5")
    assert answer["reason"] == SILENT
    reader = str(text_student(tmp_path / "y.tflite", hears=False))
    (answer,) = answers(capsys, reader, "--text", "ja", "--unsure-below", "1")
    assert answer["reason"] == NOT_SURE


# Too little sound.


def test_less_than_a_fifth_of_a_second_is_too_short(model, recording, capsys):
    paths = [recording(f"{n}", voice(1, 9)[:n]) for n in (1, 800, 3199, 3200)]
    loud = recording("loud", 0.5 * np.ones(800) * (-1.0) ** np.arange(800))
    silent = recording("silent", np.zeros(800))
    ungated = ("--unsure-below=0", "--steady=0", "--silence=-inf")
    found = answers(capsys, model, *paths, loud, silent, *ungated)
    assert [answer["reason"] for answer in found] == [TOO_SHORT] * 3 + [None] + [TOO_SHORT] * 2
    streamed = answers(capsys, model, *paths, loud, "--stream", *ungated)
    reasons = [[window["why"] for window in answer["windows"]] for answer in streamed]
    assert reasons == [[TOO_SHORT]] * 3 + [[None]] + [[TOO_SHORT]]
    assert [streamed[0]["windows"][0]["label"], streamed[0]["segments"][0]["why"]] == [UNSURE, TOO_SHORT]


def test_the_short_end_of_a_longer_stream_is_not_too_short(model):
    stream = Stream(Runner(model), unsure_below=0)
    windows = [*stream.feed(voice(0.55, 9)), *stream.finish()]
    assert [round(window.end - window.start, 3) for window in windows] == [0.5, 0.05]
    assert TOO_SHORT not in {window.why for window in windows}


def test_fifty_milliseconds_as_they_were_sent_are_too_short(model, shared_data, capsys):
    path = shared_data.parent / "cases" / "audio" / "short50.wav"
    if not path.exists():
        pytest.skip(f"no {path}")
    (answer,) = answers(capsys, model, str(path))
    assert answer["reason"] == TOO_SHORT
    assert cli.main(["predict", model, str(path)]) == 0
    assert ", unsure: too short (" in capsys.readouterr().out


def test_stress_leaves_out_what_is_too_short():
    assert stress.is_unheard(voice(1, 9)[:3199], samples=SAMPLES)
    assert not stress.is_unheard(voice(1, 9)[:3200], samples=SAMPLES)


# What is given, and the forms of answers.


@pytest.fixture
def folder(tmp_path, recording):
    """A folder of three recordings, one of them below, and what is none."""
    for name, at in (("b", 1), ("a", 2)):
        recording(name, voice(0.6, at))
    below = tmp_path / "below"
    below.mkdir()
    soundfile.write(below / "c.flac", voice(2.2, 3), RATE)
    (below / ".hidden.wav").write_text("")
    (tmp_path / "notes.txt").write_text("")
    return tmp_path


def files(found: list[dict]) -> list[str]:
    return [answer["file"] for answer in found]


def test_folders_and_lists_stand_for_the_recordings_in_them(model, folder, tmp_path, capsys, monkeypatch):
    a, b, c = (str(folder / name) for name in ("a.wav", "b.wav", "below/c.flac"))
    whole = answers(capsys, model, str(folder))
    assert files(whole) == [a, b, c]
    listed = folder / "list.txt"
    listed.write_text(f"{c}\n\n{a}\n", encoding="utf-8-sig")
    assert files(answers(capsys, model, b, f"@{listed}")) == [b, c, a]
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{a}\n{folder / 'below'}\n"))
    assert answers(capsys, model, "-") == [whole[0], whole[2]]
    odd = folder / "@home.wav"
    (folder / "a.wav").rename(odd)
    monkeypatch.chdir(folder)
    assert files(answers(capsys, model, "@home.wav")) == ["@home.wav"]


@pytest.mark.parametrize("more", [[], ["--format", "jsonl"]])
def test_names_on_standard_input_need_not_be_utf_8(model, folder, capsys, monkeypatch, more):
    path = os.fsencode(folder) + b"/\xfc.wav"
    listed = io.TextIOWrapper(io.BytesIO(path + b"\n"), encoding="utf-8", errors="strict")
    monkeypatch.setattr(sys, "stdin", listed)
    sys.stderr.reconfigure(errors="backslashreplace")  # as Python's own is
    assert cli.main(["predict", model, "-", *more]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "no such recording" in line
    try:
        (folder / "a.wav").rename(os.fsdecode(path))
    except OSError:  # a Mac takes names in UTF-8 only
        return
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(path + b"\n"), encoding="utf-8"))
    assert cli.main(["predict", model, "-", *more]) == 0
    assert "\\udcfc.wav" in capsys.readouterr().out


@pytest.mark.parametrize("wrong", ["empty folder", "no list", "empty list", "empty input", "a Latin list"])
def test_a_folder_or_a_list_without_recordings_is_one_line(model, tmp_path, capsys, monkeypatch, wrong):
    (tmp_path / "none").mkdir()
    (tmp_path / "none" / "list.txt").write_bytes(b"\xfc.wav" if wrong == "a Latin list" else b"\n")
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    given, message = {
        "empty folder": (str(tmp_path / "none"), f"no recordings in {tmp_path / 'none'} or below it"),
        "no list": (f"@{tmp_path / 'list'}", f"cannot read the list {tmp_path / 'list'}: No such file"),
        "empty list": (f"@{tmp_path / 'none/list.txt'}", "lists no recordings: expected a path per line"),
        "empty input": ("-", "standard input lists no recordings"),
        "a Latin list": (f"@{tmp_path / 'none/list.txt'}", "it is not UTF-8"),
    }[wrong]
    assert cli.main(["predict", model, given]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


def test_all_forms_say_the_same(model, folder, capsys):
    given = [str(folder), str(folder / "absent.wav")]
    expected = answers(capsys, model, *given, code=2)
    assert cli.main(["predict", model, *given, "--format", "jsonl"]) == 2
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert lines == expected
    assert cli.main(["predict", model, *given, "--format", "csv"]) == 2
    table = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["file"] for row in table] == files(expected)
    for row, answer in zip(table[:-1], expected, strict=False):
        assert (row["label"], row["unsure"], row["reason"]) == (
            answer["label"], str(answer["unsure"]), answer["reason"] or "",
        )  # fmt: skip
        assert {name: float(row[name]) for name in CLASSES} == answer["probabilities"]
        assert (float(row["seconds"]), int(row["windows"]), row["error"]) == (
            answer["seconds"], answer["windows"], "",
        )  # fmt: skip
    assert (table[-1]["label"], table[-1]["error"]) == ("", expected[-1]["error"])


@pytest.mark.parametrize("form", ["json", "jsonl", "csv"])
def test_each_answer_is_written_before_the_next_recording_is_read(model, folder, capsys, monkeypatch, form):
    seen, blocks = [], audio.blocks

    def reading(path, **settings):
        out, _ = capsys.readouterr()
        seen.append(out)
        return blocks(path, **settings)

    monkeypatch.setattr(audio, "blocks", reading)
    assert cli.main(["predict", model, str(folder), "--format", form]) == 0
    assert "a.wav" in seen[1]
    assert "b.wav" in seen[2]


def test_several_processes_say_what_one_does_in_the_same_order(model, folder, recording, capsys):
    recording("broken", np.full(2 * RATE, np.nan))
    given = [str(folder / "absent.wav"), str(folder)]
    assert cli.main(["predict", model, *given, "--json"]) == 2
    alone = capsys.readouterr()
    assert cli.main(["predict", model, *given, "--json", "--jobs", "2"]) == 2
    together = capsys.readouterr()
    assert together == alone
    assert len(json.loads(alone.out)) == 5
    assert alone.err.count("light-sernet-kd: ") == 2


def test_a_process_that_dies_is_one_line(model, folder, capsys, monkeypatch):
    # In the other process the file is opened anew.
    monkeypatch.setattr(in_parallel, "_begin", os._exit)
    assert cli.main(["predict", model, str(folder), "--format", "jsonl", "--jobs", "2"]) == 2
    assert "a process of --jobs ended without an answer" in capsys.readouterr().err


def test_some_classes_alone_are_chosen_from_and_it_is_said(model, folder, capsys):
    whole = answers(capsys, model, str(folder))
    kept = CLASSES[1:]
    assert cli.main(["predict", model, str(folder), "--labels", ",".join(kept), "--json"]) == 0
    captured = capsys.readouterr()
    assert captured.err == (
        f"light-sernet-kd: chosen among {', '.join(kept)} alone: their probabilities sum to 1.\n"
    )
    for before, answer in zip(whole, json.loads(captured.out), strict=True):
        assert answer["labels"] == [*kept] == [*answer["probabilities"]]
        assert answer["label"] == max(answer["probabilities"], key=answer["probabilities"].get)
        if answer["windows"] == 1:
            rest = 1 - before["probabilities"][CLASSES[0]]
            for name in kept:
                assert answer["probabilities"][name] == pytest.approx(before["probabilities"][name] / rest)


def test_a_runs_folder_stands_for_its_smallest_good_file(tmp_path, folder, capsys):
    run = tmp_path / "run"
    run.mkdir()
    for precision in ("float32", "dynamic"):
        audio_student(run / f"student_{precision}.tflite")
    assert answers(capsys, str(run), str(folder / "a.wav"))[0]["model"] == str(run / "student_dynamic.tflite")
    assert cli.main(["predict", str(run), str(folder / "a.wav"), "--json", "--embedding"]) == 2
    assert f"no student_*_enrolled.tflite in {run}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--format", "csv", "--stream"], "--stream prints text, json or jsonl"),
        (["--jobs", "0"], "--jobs is at least 1"),
        (["--jobs", "2", "--stream"], "--jobs is at least 1, and 1 with --stream"),
        (["--embedding"], "--embedding goes with --format json or jsonl"),
        (["--embedding", "--json"], "take the file named …_enrolled.tflite"),
        (["--labels", "rage"], "does not know rage: its classes are"),
        (["--format", "xml"], "xml"),
        (["--json", "--format", "csv"], "not allowed with"),
    ],
)
def test_options_that_do_not_go_together_are_one_line(model, folder, capsys, arguments, message):
    assert cli.main(["predict", model, str(folder / "a.wav"), *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


# Failures.


def test_each_failed_file_has_an_entry_in_its_place(model, recording, tmp_path, capsys):
    (tmp_path / "notes.wav").write_text("no audio")
    good = recording("good", voice(0.5, 1))
    broken = recording("broken", np.full(2 * RATE, np.nan))
    silent = str(tmp_path / "empty.wav")
    open(silent, "wb").close()
    paths = [str(tmp_path / "absent.wav"), good, str(tmp_path / "notes.wav"), broken, good, silent]
    for more in ([], ["--stream"]):
        assert cli.main(["predict", model, *paths, "--json", *more]) == 2
        captured = capsys.readouterr()
        found = json.loads(captured.out)
        assert [answer["file"] for answer in found] == paths
        assert ["error" in answer for answer in found] == [True, False, True, True, False, True]
        told = [line.removeprefix("light-sernet-kd: ") for line in captured.err.splitlines()]
        assert [answer["error"] for answer in found if "error" in answer] == told
        assert found[0]["error"] == f"no such recording: {paths[0]}"


def test_where_all_fail_the_list_is_whole(model, tmp_path, capsys):
    paths = [str(tmp_path / name) for name in ("a.wav", "b.wav")]
    found = answers(capsys, model, *paths, code=2)
    assert found == [{"file": path, "error": f"no such recording: {path}"} for path in paths]


def test_a_text_that_fails_has_an_entry(tmp_path, recording, capsys):
    model = str(text_student(tmp_path / "x.tflite", hears=True))
    table = tmp_path / "texts.csv"
    table.write_text("path,transcript\nother.wav,ja\n")
    path = recording("x", voice(0.5, 1))
    (answer,) = answers(capsys, model, path, "--text-file", str(table), code=2)
    assert (answer["file"], "has no text for it" in answer["error"]) == (path, True)
    reader = str(text_student(tmp_path / "y.tflite", hears=False))
    (answer,) = answers(capsys, reader, "--text", "\udcff", code=2)
    assert "expected a text of Unicode characters" in answer["error"]


def test_a_student_whose_answer_is_no_number_fails(tmp_path, recording, capsys):
    kernel = np.full((len(CLASSES), SAMPLES), np.nan, np.float32)
    model = str(audio_student(tmp_path / "x.tflite", kernel=kernel))
    for seconds in (0.5, 2):
        (answer,) = answers(capsys, model, recording("x", voice(seconds, 1)), code=2)
        assert answer["error"].startswith("this student's probabilities are not finite")


@pytest.mark.parametrize("more", [[], ["--stream"]])
def test_interrupted_the_list_is_whole(model, recording, monkeypatch, capsys, more):
    paths = [recording(name, voice(2, 1)) for name in "abc"]
    blocks = audio.blocks

    def interrupted(path, **settings):
        if str(path) == paths[1]:
            raise KeyboardInterrupt
        return blocks(path, **settings)

    monkeypatch.setattr(audio, "blocks", interrupted)
    assert cli.main(["predict", model, *paths, "--json", *more]) == 130
    captured = capsys.readouterr()
    found = json.loads(captured.out)
    assert [answer["file"] for answer in found] == paths
    assert [answer.get("error") for answer in found] == [None, "interrupted", "interrupted"]
    assert captured.err == "light-sernet-kd: interrupted.\n"


@pytest.mark.skipif(os.name == "nt", reason="Ctrl-C is sent as a signal")
def test_a_real_ctrl_c_leaves_a_list(tmp_path, recording):
    model = str(audio_student(tmp_path / "x.tflite", synthetic=True))
    first = recording("first", voice(0.5, 1))
    long = recording("long", np.zeros(400 * RATE, np.float32))
    command = [sys.executable, "-m", "light_sernet_kd", "predict", model, first, long, "--json"]
    with subprocess.Popen(
        [*command, "--hop", "0.0002"],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        assert "SYNTHETIC" in process.stderr.readline()  # it has begun
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)
    assert (process.returncode, err) == (130, "light-sernet-kd: interrupted.\n")
    found = json.loads(out)
    assert [answer["file"] for answer in found] == [first, long]
    assert found[1]["error"] == "interrupted"


# Notes and caveats.


@pytest.mark.parametrize("more", [[], ["--stream"]])
def test_a_recording_of_8_khz_is_said_to_be_narrow_band(model, recording, capsys, more):
    wide, narrow = recording("wide", voice(1, 1)), recording("narrow", voice(1, 1)[::2], 8000)
    assert cli.main(["predict", model, wide, narrow, "--json", *more]) == 0
    captured = capsys.readouterr()
    said = f"{narrow} is narrow-band: recorded at 8,000 Hz, it holds nothing above 4,000 Hz."
    assert [answer["warnings"] for answer in json.loads(captured.out)] == [[], [said]]
    assert captured.err == f"light-sernet-kd: {said}\n"


@pytest.mark.parametrize("more", [[], ["--stream"]])
def test_a_recording_that_breaks_off_is_said_to_be_narrow_band_before(model, recording, capsys, more):
    path = recording("broken", np.append(voice(1, 1)[::2], np.nan), 8000)
    assert cli.main(["predict", model, path, "--json", *more]) == 2
    note, failure = capsys.readouterr().err.splitlines()
    assert "narrow-band" in note
    assert "not finite" in failure


def test_a_warning_of_the_reader_is_one_line_and_in_the_list(model, recording, monkeypatch, capsys):
    path = recording("x", voice(2, 1))
    blocks = audio.blocks

    def noting(path, **settings):
        warnings.warn(
            f"{path}: its header is 16 bytes\ntoo large; all of it was read.", UserWarning, stacklevel=2
        )
        yield from blocks(path, **settings)

    monkeypatch.setattr(audio, "blocks", noting)
    expected = f"{path}: its header is 16 bytes too large; all of it was read."
    for more in ([], ["--stream"]):
        assert cli.main(["predict", model, path, "--json", *more]) == 0
        captured = capsys.readouterr()
        assert json.loads(captured.out)[0]["warnings"] == [expected]
        assert captured.err == f"light-sernet-kd: {expected}\n"


@pytest.mark.parametrize("more", [[], ["--stream"]])
def test_a_synthetic_or_stamped_student_says_so_in_one_line_and_in_the_list(
    tmp_path, recording, capsys, more
):
    stamps = ["VALIDATION IS TEST", "TEACHER KNOWS\nTHE TEST SPEAKERS"]
    model = str(audio_student(tmp_path / "x.tflite", synthetic=True, corpus="demo", stamps=stamps))
    path = recording("x", voice(0.5, 1))
    assert cli.main(["predict", model, path, path, "--json", *more]) == 0
    captured = capsys.readouterr()
    for answer in json.loads(captured.out):
        facts = {name: answer[name] for name in ("model", "corpus", "synthetic", "stamps")}
        assert facts == {"model": model, "corpus": "demo", "synthetic": True, "stamps": stamps}
    assert captured.err == (
        "light-sernet-kd: this student: trained on SYNTHETIC recordings (demo), not on real voices; its "
        "scores carry the stamp: VALIDATION IS TEST; its scores carry the stamp: TEACHER KNOWS THE TEST "
        "SPEAKERS.\n"
    )


def test_an_honest_student_has_no_such_line(model, recording, capsys):
    assert cli.main(["predict", model, recording("x", voice(0.5, 1))]) == 0
    assert capsys.readouterr().err == ""


def test_a_text_is_for_one_recording_also_of_a_folder_and_a_list(tmp_path, recording, monkeypatch, capsys):
    model = str(text_student(tmp_path / "x.tflite", hears=True))
    folder = Path(recording("a", voice(0.5, 1))).parent / "clips"
    folder.mkdir()
    for name in "ab":
        soundfile.write(folder / f"{name}.wav", voice(0.5, 1), RATE)
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{folder / 'a.wav'}\n"))
    for given, count in ((str(folder), "2"), ("-", "a list of them")):
        assert cli.main(["predict", model, given, "--text", "ja"]) == 2
        assert f"--text is for one recording, found {count}: take --text-file." in capsys.readouterr().err
    (folder / "b.wav").unlink()
    (answer,) = answers(capsys, model, str(folder), "--text", "ja")
    assert answer["text"] == "ja"


@pytest.mark.parametrize("synthetic", [False, True])
def test_a_picture_says_of_the_student_what_the_page_says(drawn, tmp_path, recording, synthetic):
    model = str(audio_student(tmp_path / "x.tflite", synthetic=synthetic, stamps=["all speakers"]))
    path = recording("a (synthetic) voice", voice(2, 1))
    assert cli.main(["predict", model, path, "--stream", "--picture", "x.png"]) == 0
    said = " ".join(text.get_text() for text in drawn[0].texts)
    assert "SYNTHETIC RECORDINGS" not in said
    assert "all speakers" in said
    assert ("This model is synthetic" in said) == synthetic


def test_listen_says_where_its_windows_leave_sound_out(tmp_path, monkeypatch, capsys):
    fake_microphone.plugged(monkeypatch, voice(2, 1))
    model = str(audio_student(tmp_path / "x.tflite"))
    assert cli.main(["listen", model, "--hop", "5", "--seconds", "2"]) == 0
    assert "the hop of 5 s is longer than a window" in capsys.readouterr().err
    assert cli.main(["listen", model, "--hop", "0.5", "--seconds", "2"]) == 0
    assert "is longer" not in capsys.readouterr().err


def test_windows_of_a_short_input_follow_each_other_without_a_gap(tmp_path, recording, monkeypatch, capsys):
    samples = RATE // 4
    content = flatbuffer({"audio": (samples,)}, kernel=weights(samples))
    model = str(packed(tmp_path / "x.tflite", content, card_of(content, samples=samples)))
    path, sound = recording("a", voice(2, 1)), voice(2, 1)
    (answer,) = answers(capsys, model, path, "--stream")
    assert (answer["hop_seconds"], answer["warnings"]) == (0.25, [])
    assert [window["start"] for window in answer["windows"]] == [0.25 * k for k in range(8)]
    fake_microphone.plugged(monkeypatch, sound)
    assert cli.main(["listen", model, "--seconds", "2", "--json"]) == 0
    heard = capsys.readouterr()
    assert [json.loads(line)["start"] for line in heard.out.splitlines()] == [0.25 * k for k in range(8)]
    assert "left out" not in heard.err


def test_listen_says_of_its_student_what_predict_says(tmp_path, monkeypatch, capsys):
    model = str(audio_student(tmp_path / "x.tflite", synthetic=True))
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    assert cli.main(["listen", model]) == 2
    caveat, missing = capsys.readouterr().err.splitlines()
    assert "trained on SYNTHETIC recordings (EMO-DB), not on real voices" in caveat
    assert "needs the package sounddevice" in missing
