"""The page of `demo` in a real browser, against the runner and `predict`; its server against strangers."""

import base64
import contextlib
import functools
import http.client
import http.server
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tarfile
import threading
import time
import wave
from pathlib import Path

import browser
import numpy as np
import pytest
import soundfile
from browser import LEAST_CONTRAST, OUTSIDE, status
from conftest import REPOSITORY
from exported_cases import CLASSES, Case, made_case
from recordings import make_video

from light_sernet_kd import audio, cli
from light_sernet_kd.config import PRECISIONS
from light_sernet_kd.device import serve, shipped, whole
from light_sernet_kd.errors import UserError
from light_sernet_kd.reporting import palette
from light_sernet_kd.runner import (
    NOT_SURE,
    SILENT,
    STEADY,
    UNSURE,
    Answer,
    Runner,
    Stream,
    level_dbfs,
    level_range_db,
)

SAMPLES = 3 * 16_000


@pytest.fixture(scope="module")
def case(tmp_path_factory) -> Case:
    return made_case(
        "light_sernet", "lsn", "mfcc", SAMPLES, tmp_path_factory.mktemp("run"), precisions=PRECISIONS
    )


@pytest.fixture(scope="module")
def serving(case, runtime):
    with running(serve.server(serve.files(serve.students(case.paths["int8"].parent), runtime), 0)) as server:
        yield server


@contextlib.contextmanager
def running(server):
    with server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def short(shared_data) -> Path:
    """1.9 s of EMO-DB."""
    return shared_data / "EMO-DB" / "wav" / "03a01Fa.wav"


@pytest.fixture(scope="module")
def long(shared_data, tmp_path_factory) -> Path:
    """Several recordings of EMO-DB and two seconds of nothing, 3.1 windows or more."""
    paths = sorted((shared_data / "EMO-DB" / "wav").glob("*.wav"))[::120]
    sound = np.concatenate([*(audio.read(path) for path in paths), np.zeros(56_789, np.float32)])
    path = tmp_path_factory.mktemp("long") / "several.wav"
    soundfile.write(path, sound, 16_000, subtype="PCM_16")
    return path


@pytest.fixture(scope="module")
def page(serving, short):
    """The page with the first student ready."""
    with browser.hearing(short) as page:
        page.open(f"http://127.0.0.1:{serving.server_port}/")
        page.wait_for(status("Ready"))
        yield page


@pytest.fixture(scope="module")
def tab(short):
    """A browser for pages that are opened anew."""
    with browser.hearing(short) as page:
        yield page


def text(page, selector: str) -> str:
    return page.run(f"document.querySelector({selector!r}).innerText")


def given(page, path: Path) -> dict:
    """What the page makes of a file."""
    page.run("document.getElementById('status').textContent = ''")
    page.choose_file("#file", path)
    page.wait_for(status("Done"))
    return page.run("demo.clip")


def choose(page, precision: str) -> None:
    if page.run("demo.student") != precision:
        page.run("document.getElementById('status').textContent = ''")
        page.run(f"document.querySelector('[value={precision}]').click()")
    # A recording that is there is classified anew, and says so when the next one may come.
    page.wait_for(f"demo.student === {precision!r} && (demo.clip ? {status('Done')} : {status('Ready')})")


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_page_answers_as_predict_does(page, case, short, long, precision, tmp_path, capsys):
    """Of a clip, of a longer recording as a whole, of doubt, and of silence: the file of Save as JSON."""
    choose(page, precision)
    quiet = tmp_path / "quiet.wav"
    soundfile.write(quiet, np.zeros(50_000), 8_000)
    paths = [short, long, quiet]
    assert cli.main(["predict", str(case.paths[precision]), *map(str, paths), "--json"]) == 0
    for path, expected in zip(paths, json.loads(capsys.readouterr().out), strict=True):
        given(page, path)
        found = page.run("demo.result()")
        assert {*found} - {"timeline"} == {*expected}
        named = ("label", "unsure", "reason", "windows", "corpus", "synthetic", "stamps", "speaker_clips")
        for name in named:
            assert found[name] == expected[name], name
        # The page knows a file's name alone.
        assert found["warnings"] == [each.replace(str(path), path.name) for each in expected["warnings"]]
        for name in ("probabilities", "time_shares", "unsure_shares"):
            assert found[name] == pytest.approx(expected[name], abs=1e-3), name
        assert found["seconds"] == pytest.approx(expected["seconds"])
        assert found["heard"] == pytest.approx(expected["heard"])
        assert (found["file"], found["model"]) == (path.name, case.paths[precision].name)
        assert len(found["timeline"]) == expected["windows"]


def test_the_timeline_is_that_of_predict_stream(page, case, long):
    choose(page, "float32")
    rows, sound = given(page, long)["rows"], audio.read(long)
    runner = Runner(case.paths["float32"])
    expected = [*runner.stream(sound)]
    assert [(row["start"], row["end"]) for row in rows] == [(window.start, window.end) for window in expected]
    for row, window in zip(rows, expected, strict=True):
        np.testing.assert_allclose(row["probabilities"], window.probabilities, atol=1e-3)
        np.testing.assert_allclose(row["shares"], window.smoothed, atol=1e-3)
        assert (row["label"] or UNSURE, row["why"]) == (window.label, window.why)
    assert rows[-1]["why"] == SILENT
    assert len({row["why"] for row in rows}) > 1


def test_labels_follow_each_other_as_those_of_a_stream(page, case):
    """Random probabilities and levels: smoothing, margin, patience, both gates and their hysteresis."""
    rng, samples, count = np.random.default_rng(0), 8_000, 400
    walk = rng.normal(0, 1, (count, len(CLASSES)))
    for step in range(1, count):
        walk[step] += 0.7 * walk[step - 1]
    shares = np.exp(walk)
    shares /= shares.sum(axis=1, keepdims=True)
    levels = rng.choice([-20, -60, -108.5, -111, -119], count, p=[0.4, 0.4, 0.1, 0.05, 0.05])
    lively = rng.random(count) < 0.9
    script = [*zip(shares.tolist(), levels.tolist(), lively.tolist(), strict=True)]
    found = page.run(
        """(async (script, samples) => {
            const facts = (await (await fetch("/students.json")).json())[0];
            let at = 0;
            const classify = async () => ({ probabilities: script[at++][0] });
            const timeline = new demo.Timeline({ ...facts, samples, classify, unsure_below: 0.3 });
            const found = [];
            for (const [, level, lively] of script) {
                const sound = Float32Array.from({ length: samples }, (_, i) => Math.sin(1.3 * i));
                if (lively) sound.fill(0, samples / 2);
                const amplitude = 10 ** (level / 20) * Math.sqrt(lively ? 4 : 2);
                const { shares, label, why } = await timeline.next(sound.map((value) => amplitude * value));
                found.push({ shares, label, why });
            }
            return found;
        })"""
        + f"({json.dumps(script)}, {samples})"
    )
    runner = Runner(case.paths["float32"])
    runner.samples, answers = samples, iter(np.float32(shares))
    runner.answer = lambda _: Answer(next(answers), np.zeros(0, np.float32))
    # The page is told of windows that begin every half second, and these ones do.
    stream = Stream(runner, hop_seconds=samples / 16_000, unsure_below=0.3)
    wave = np.sin(1.3 * np.arange(samples))
    for row, level, alive in zip(found, levels, lively, strict=True):
        sound = np.where(alive & (np.arange(samples) >= samples // 2), 0, wave)
        (window,) = stream.feed(10 ** (level / 20) * np.sqrt(4 if alive else 2) * sound)
        np.testing.assert_allclose(row["shares"], window.smoothed, atol=1e-5)
        assert (row["label"] or UNSURE, row["why"]) == (window.label, window.why)
    assert {row["why"] for row in found} == {"", SILENT, STEADY, NOT_SURE}
    sure = [(row["label"], CLASSES[int(np.argmax(row["shares"]))]) for row in found if row["label"]]
    assert any(shown != likeliest for shown, likeliest in sure), "no label was held back"


def test_levels_and_level_ranges_are_the_runners(page):
    """At three rates: noise, syllables, 16 bits, zeros in between, and clips that are too short to tell."""
    rng, script = np.random.default_rng(0), []
    for rate in (8_000, 16_000, 44_100):
        for count in (rate // 5, rate // 2, 2 * rate):
            noise = rng.standard_normal(count) * 10 ** rng.uniform(-4.5, -0.5)
            syllables = noise * np.abs(np.sin(np.arange(count) * 9 / rate))
            quantised = np.round(3 * syllables / syllables.std()) / 32768
            gated = np.where(np.arange(count) % (rate // 2) < rate // 3, noise, 0)
            script += [(rate, np.float32(each)) for each in (noise, syllables, quantised, gated, 0 * noise)]
    found = page.run(
        """(async (script) => {
            const facts = (await (await fetch("/students.json")).json())[0];
            return script.map(([sample_rate, sound]) => {
                sound = Float32Array.from(sound);
                const lively = demo.levelRangeDb(sound, { ...facts, sample_rate });
                return [demo.level(sound), lively === Infinity ? null : lively];
            });
        })"""
        + f"({json.dumps([(rate, sound.tolist()) for rate, sound in script])})"
    )
    for (level, lively), (rate, sound) in zip(found, script, strict=True):
        assert level == pytest.approx(level_dbfs(sound), abs=1e-6)
        expected = level_range_db(sound, rate)
        assert lively == (None if expected == np.inf else pytest.approx(expected, abs=1e-6))
    assert {lively is None for _, lively in found} == {True, False}


def test_what_is_shown_is_what_was_found(page, long):
    found = given(page, long)
    best = f"{100 * max(found['answer']['probabilities']):.1f}\xa0%"
    assert (text(page, "#label"), best in text(page, "#confidence")) == (
        found["answer"]["label"] or UNSURE,
        True,
    )
    shown = [line.replace("\xa0", " ") for line in text(page, "#bars").split("\n") if "%" in line]
    assert shown == [f"{100 * share:.1f} %" for share in found["answer"]["probabilities"]]
    page.run("document.querySelector('#numbers').open = true")
    table = [line.split("\t") for line in text(page, "tbody").split("\n") if line]
    assert len(table) == len(found["rows"])
    for cells, row in zip(table, found["rows"], strict=True):
        assert cells[1] == (row["label"] or f"unsure ({row['why']})")
        assert cells[2:] == [f"{100 * share:.1f}" for share in row["shares"]]
    words = page.run("document.querySelector('#timeline').getAttribute('aria-label')")
    assert words.endswith("unsure")


def test_clips_are_cut_and_padded_as_in_training(page):
    lengths = [1, 2, 7, 8, 9, 10, 11, 30]
    for pad in ("both", "right"):
        found = page.run(
            f"{json.dumps(lengths)}.map((n) => "
            f"[...demo.fit(Float32Array.from({{length: n}}, (_, i) => i + 1), 9, {pad!r})])"
        )
        expected = [audio.fit(np.arange(1, n + 1), 9, pad=pad).tolist() for n in lengths]
        assert found == expected


def test_every_sample_is_in_a_window(page):
    for total, expected in (
        (1, [[0, 1]]),
        (9, [[0, 9]]),
        (10, [[0, 9], [4, 10]]),
        (13, [[0, 9], [4, 13]]),
        (14, [[0, 9], [4, 13], [8, 14]]),
    ):
        assert page.run(f"demo.windows({total}, 9, 4)") == expected


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"])
def test_a_wav_is_read_to_the_bit(page, tmp_path, subtype):
    rng = np.random.default_rng(0)
    path = tmp_path / "noise.wav"
    kind = "WAVEX" if subtype == "PCM_24" else "WAV"
    soundfile.write(path, rng.uniform(-1, 1, (2_000, 2)), 16_000, subtype=subtype, format=kind)
    np.testing.assert_allclose(given(page, path)["sound"], audio.read(path), atol=1e-7)


@pytest.mark.parametrize(("rate", "kind"), [(8_000, "wav"), (44_100, "wav"), (48_000, "flac")])
def test_other_rates_and_channels_are_heard_as_predict_hears_them(page, case, short, tmp_path, rate, kind):
    choose(page, "float32")
    sound = audio.resample(audio.read(short), 16_000, rate)
    path = tmp_path / f"stereo.{kind}"
    soundfile.write(path, np.stack([sound, 0.5 * sound], axis=1), rate, subtype="PCM_24")
    expected, found = audio.read(path), given(page, path)
    assert len(found["sound"]) == len(expected)
    # Two good filters differ where the band ends.
    assert np.std(found["sound"] - expected) < 5e-3 * np.std(expected)
    np.testing.assert_allclose(
        found["answer"]["probabilities"], Runner(case.paths["float32"]).probabilities(expected), atol=0.02
    )


@pytest.mark.parametrize(
    ("rate", "kind"), [(16_000, "mp3"), (44_100, "mp3"), (16_000, "ogg"), (22_050, "flac")]
)
def test_compressed_files_are_answered_as_predict_does(page, case, short, tmp_path, rate, kind):
    choose(page, "float32")
    path = tmp_path / f"compressed.{kind}"
    soundfile.write(path, audio.resample(audio.read(short), 16_000, rate), rate)
    found, expected = given(page, path), audio.read(path)
    assert len(found["sound"]) == len(expected)
    np.testing.assert_allclose(
        found["answer"]["probabilities"], Runner(case.paths["float32"]).probabilities(expected), atol=2e-3
    )


# How many pixels of a canvas are drawn.
INKED = """(() => {{ const canvas = document.getElementById('{}');
    const {{ data }} = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
    return data.filter((value, at) => at % 4 === 3 && value > 0).length; }})()"""


def test_the_microphone_is_heard_with_the_keyboard_alone(page, case, short):
    choose(page, "float32")
    page.run("document.getElementById('record').focus()")
    page.press("Enter", 13, "\r")
    page.wait_for(status("Recording, 2"))
    assert "%" in text(page, "#bars"), "bars while recording"
    meter = page.run("document.getElementById('meter').getAttribute('aria-valuenow')")
    assert -60 < float(meter) < 0
    assert text(page, "#loudness") in ("good", "quiet", "very quiet", "too loud")
    assert page.run(INKED.format("live")) > 500, "no level and no answers so far"
    phone = {"width": 390, "height": 640, "deviceScaleFactor": 1, "mobile": False}
    page.send("Emulation.setDeviceMetricsOverride", **phone)
    page.run("document.getElementById('label').scrollIntoView({ block: 'start' })")
    at_hand = "document.elementFromPoint(195, 595).closest('button')?.id"
    assert page.run(at_hand) == "record", "nothing to stop with beside the answer"
    page.send("Emulation.clearDeviceMetricsOverride")
    page.press(" ", 32, " ")
    page.wait_for(status("Done"))
    clip = page.run("demo.clip")
    sound = np.array(clip["sound"], np.float32)
    assert 1.9 * 16_000 < len(sound) < 10 * 16_000
    # The device plays the file over and over: a second of it is found in the recording of 1.9 s, looped.
    original = audio.read(short)
    looped = np.tile(original, 3)
    second = sound[8_000:24_000]
    matches = np.correlate(looped, second - second.mean(), "valid")
    at = np.abs(matches).argmax()
    part = looped[at : at + len(second)]
    assert abs(np.corrcoef(part, second)[0, 1]) > 0.9
    # On a busy machine it may be longer than a window.
    expected = whole.Runner(case.paths["float32"]).classify(sound).probabilities
    assert clip["answer"]["probabilities"] == pytest.approx([*expected.values()], abs=1e-3)


def test_a_recording_ends_at_the_longest_and_is_answered(page, case, short):
    choose(page, "float32")
    given(page, short)
    page.run("demo.longest.seconds = 1")
    try:
        page.run("document.getElementById('record').click()")
        page.wait_for(status("Recording"))
        page.send(
            "Emulation.setDeviceMetricsOverride", width=700, height=740, deviceScaleFactor=1, mobile=False
        )
        page.wait_for("innerWidth === 700")
        page.run("new Promise((drawn) => requestAnimationFrame(() => setTimeout(drawn)))")
        assert page.run("document.getElementById('sound').hidden"), "the recording before is shown again"
        page.wait_for(status("Done"))
    finally:
        page.run("demo.longest.seconds = 300")
        page.send("Emulation.clearDeviceMetricsOverride")
    clip = page.run("demo.clip")
    assert (clip["name"], len(clip["sound"])) == ("Recording", 16_000)
    assert text(page, "#error") == "The recording ends at 1 s, the longest that the page takes."
    assert "All 1.0 s were heard." in text(page, "#reason")
    expected = Runner(case.paths["float32"]).probabilities(np.float32(clip["sound"]))
    np.testing.assert_allclose(clip["answer"]["probabilities"], expected, atol=1e-3)


# Presses Stop as soon as there is one: no block has come by then.
STOP_AT_ONCE = """{
    const text = document.getElementById("record-text");
    const stop = new MutationObserver(() => { stop.disconnect(); text.click(); });
    stop.observe(text, { childList: true });
    text.click();
}"""


def test_a_recording_of_nothing_leaves_what_was_there(page, short):
    found = given(page, short)
    label = text(page, "#label")
    page.run(f"(() => {STOP_AT_ONCE})()")
    page.wait_for("!document.getElementById('error').hidden")
    assert text(page, "#error") == "Nothing was recorded: let it run for a second or more."
    assert text(page, "#status").startswith("Done")
    assert (text(page, "#label"), text(page, "#record")) == (label, "Record")
    assert page.run("demo.clip")["sound"] == found["sound"]
    assert not page.run("document.getElementById('sound').hidden")


def test_the_student_stays_while_the_microphone_is_asked_for(page, short):
    choose(page, "float32")
    given(page, short)
    asked = "new Promise((_, refuse) => { globalThis.refuse = refuse; })"
    page.run(f"navigator.mediaDevices.getUserMedia = () => {asked}")
    page.run("document.getElementById('record').click()")
    page.wait_for("Boolean(globalThis.refuse)")
    page.run("document.querySelector('[value=int8]').click()")
    assert page.run("document.querySelector('[value=int8]').matches(':disabled')")
    assert page.run("document.querySelector('[value=float32]').checked")
    page.run("refuse(new DOMException('', 'NotAllowedError'))")
    page.run("delete navigator.mediaDevices.getUserMedia")
    page.wait_for("!document.getElementById('error').hidden")
    assert "was not allowed to use the microphone" in text(page, "#error")
    assert text(page, "#status").startswith("Done")
    choose(page, "int8")


def test_a_student_that_fails_says_so(page, short):
    choose(page, "float32")
    given(page, short)
    # A clock is what it asks for first; compiled code throws numbers.
    page.run("performance.now = () => { throw 12345; }")
    try:
        page.choose_file("#file", short)
        page.wait_for("!document.getElementById('error').hidden")
        told = text(page, "#error")
        page.run("document.getElementById('record').click()")
        page.wait_for("document.getElementById('error').textContent.includes('failed on Recording')")
    finally:
        page.run("delete performance.now")
    assert told.startswith(f"The model (float32) failed on {short.name}: 12345.")
    assert text(page, "#error").startswith("The model (float32) failed on Recording: 12345.")
    assert (text(page, "#status"), text(page, "#label")) == ("", "No answer")
    assert page.run("document.getElementById('sound').hidden")
    assert text(page, "#record") == "Record"
    assert len(given(page, short)["rows"]) == 1


def test_a_runtime_that_did_not_load_is_tried_again(tab, serving):
    tab.send("Network.setBlockedURLs", urls=["*/litert/wasm/*"])
    tab.open(f"http://127.0.0.1:{serving.server_port}/")
    tab.wait_for("!document.getElementById('error').hidden")
    assert "(int8) does not run in this browser" in text(tab, "#error")
    tab.send("Network.setBlockedURLs", urls=[])
    tab.run("document.querySelector('[value=float32]').click()")
    tab.wait_for(status("Ready"))
    assert tab.run("demo.student") == "float32"
    assert text(tab, "#error") == ""
    label = text(tab, "#label")
    tab.run(f"(() => {STOP_AT_ONCE})()")
    tab.wait_for("!document.getElementById('error').hidden")
    assert text(tab, "#error").startswith("Nothing was recorded")
    assert (text(tab, "#label"), text(tab, "#status")) == (label, "Ready, float32.")
    assert tab.run("demo.clip") is None


def test_the_program_for_browsers_of_the_documents_answers_as_the_runner_does(
    tab, case, runtime, short, tmp_path
):
    document = (REPOSITORY / "docs" / "on-device.md").read_text(encoding="utf-8")
    (program,) = (
        block for block in re.findall(r"```js\n(.*?)```", document, re.DOTALL) if "@litertjs/core" in block
    )
    (tmp_path / "program.js").write_text(program, encoding="utf-8")
    (tmp_path / "student_int8.tflite").write_bytes(case.paths["int8"].read_bytes())
    clip = audio.fit(audio.read(short), SAMPLES)
    (tmp_path / "clip").write_bytes(clip.astype("<f4").tobytes())
    with tarfile.open(runtime) as archive:
        archive.extractall(tmp_path, filter="data")
    (tmp_path / "package" / "wasm").rename(tmp_path / "wasm")
    (tmp_path / "wasm-utils.js").write_bytes(
        (Path(serve.__file__).parent / "page" / "wasm-utils.js").read_bytes()
    )
    modules = {"@litertjs/core": "./package/dist/index.js", "@litertjs/wasm-utils": "./wasm-utils.js"}
    (tmp_path / "index.html").write_text(
        f'<script type="importmap">{json.dumps({"imports": modules})}</script>'
    )
    handler = type("Quiet", (http.server.SimpleHTTPRequestHandler,), {"log_message": lambda *_: None})
    place = functools.partial(handler, directory=str(tmp_path))
    with running(http.server.ThreadingHTTPServer(("127.0.0.1", 0), place)) as server:
        tab.open(f"http://127.0.0.1:{server.server_port}/")
        tab.wait_for("document.readyState === 'complete' && document.scripts.length")
        found = tab.run(
            """(async () => {
                const { probabilities } = await import("./program.js");
                const clip = new Float32Array(await (await fetch("clip")).arrayBuffer());
                await probabilities(clip.slice().reverse()); // a second clip gets its own answer
                return Array.from(await probabilities(clip));
            })()"""
        )
    np.testing.assert_allclose(found, Runner(case.paths["int8"]).probabilities(clip), atol=1e-3)


@pytest.mark.parametrize(
    ("amplitude", "why", "words"),
    [
        (0, SILENT, "This is silence. There is nothing to classify."),
        (1e-3, STEADY, "The sound is as steady as noise. No speech was found in it."),
        (0.3, STEADY, "The sound is as steady as noise. No speech was found in it."),
    ],
)
def test_silence_and_noise_are_unsure(page, tmp_path, amplitude, why, words):
    noise = np.random.default_rng(0).normal(0, amplitude, 40_000)
    soundfile.write(tmp_path / "room.wav", noise, 16_000, subtype="FLOAT")
    found = given(page, tmp_path / "room.wav")
    assert (found["answer"]["label"], found["answer"]["why"]) == (None, why)
    assert (text(page, "#label"), text(page, "#confidence")) == (UNSURE, words)


def test_the_answer_is_saved_as_a_picture(page, short):
    given(page, short)
    found = page.run(
        """demo.picture().then(async (blob) => {
            const { width, height } = await createImageBitmap(blob);
            return [blob.type, width, height, blob.size];
        })"""
    )
    assert found[:2] == ["image/png", 1200]
    assert found[2] > 600
    assert found[3] > 10_000
    assert text(page, "#save").split("\n") == ["Save as JSON", "Save as picture"]


def test_examples_are_those_of_the_package_and_are_classified(page):
    assert text(page, "#example-list").split("\n") == ["anger", "happiness", "sadness"]
    assert "EMO-DB" in text(page, "#example-note")
    page.run("document.getElementById('status').textContent = ''")
    page.run("document.querySelector('.example').click()")
    page.wait_for(status("Done"))
    expected, _ = soundfile.read(shipped.examples()[0], dtype="float32")
    np.testing.assert_allclose(page.run("demo.clip.sound"), expected, atol=1e-4)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_words_have_a_contrast_of_at_least_4_5(page, short, theme):
    given(page, short)
    page.run("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
    page.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": theme}])
    try:
        contrast, words = page.run(LEAST_CONTRAST)
    finally:
        page.send("Emulation.setEmulatedMedia", features=[])
    assert contrast >= 4.5, words


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_bars_have_the_colours_of_the_palette(page, case, short, theme):
    given(page, short)
    page.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": theme}])
    try:
        found = page.run(
            "[...document.querySelectorAll('#bars .fill')]"
            ".map((each) => getComputedStyle(each).backgroundColor)"
        )
    finally:
        page.send("Emulation.setEmulatedMedia", features=[])
    expected = [getattr(each, theme) for each in palette.colours(CLASSES).values()]
    assert [
        "#" + "".join(f"{int(part):02x}" for part in re.findall(r"\d+", each)) for each in found
    ] == expected


def test_the_keyboard_goes_through_the_page_in_its_order(page, short):
    given(page, short)
    page.run("document.querySelectorAll('details').forEach((each) => { each.open = false; })")
    page.run("document.activeElement.blur(), scrollTo(0, 0)")
    page.run("document.getElementById('record').focus()")
    order = []
    for _ in range(9):
        order.append(page.run("document.activeElement.id || document.activeElement.textContent"))
        page.press("Tab", 9)
    assert order[:7] == ["record", "choose", "anger", "happiness", "sadness", "save-json", "save-png"]
    assert order[7] == "audio"


def test_the_page_runs_from_any_folder_of_a_web_server_of_files(tab, case, short, tmp_path):
    folder = tmp_path / "web" / "some page"
    file = str(case.paths["int8"])
    assert cli.main(["demo", file, "--out", str(folder)]) == 0
    assert "https://" in (folder / "README.txt").read_text()
    handler = type("Quiet", (http.server.SimpleHTTPRequestHandler,), {"log_message": lambda *_: None})
    place = functools.partial(handler, directory=str(folder.parent))
    with running(http.server.ThreadingHTTPServer(("127.0.0.1", 0), place)) as server:
        own = f"http://127.0.0.1:{server.server_port}/"
        tab.open(f"{own}some%20page/index.html")
        tab.wait_for(status("Ready, int8"))
        begun = len(tab.requests)
        found = given(tab, short)["answer"]["probabilities"]
        np.testing.assert_allclose(
            found, Runner(case.paths["int8"]).probabilities(audio.read(short)), atol=1e-3
        )
        refused = tab.run(
            "new Promise((refused) => { addEventListener('securitypolicyviolation', (event) => "
            "refused(event.blockedURI), {once: true}); fetch('http://127.0.0.1:9/').catch(() => 0); })"
        )
        assert refused.startswith("http://127.0.0.1:9/")
        assert all(url.startswith((own, "data:", f"blob:{own}")) for url in tab.requests[begun:])
    # From the disk, without a server, it says what is missing.
    tab.open((folder / "index.html").as_uri())
    tab.wait_for("!document.getElementById('error').hidden")
    assert "python -m http.server" in text(tab, "#error")
    # What was written before is replaced, anything else is left alone.
    assert cli.main(["demo", file, "--out", str(folder)]) == 0
    assert [path.name for path in folder.parent.iterdir()] == ["some page"]


def test_a_folder_that_holds_something_else_is_left_alone(capsys, case, runtime, tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    file = str(case.paths["int8"])
    assert "holds other files: name a new folder with --out" in refusal(capsys, file, "--out", str(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
    said = refusal(capsys, file, "--out", str(tmp_path / "new"), "--profile", "x.json")
    assert "leave --profile out, which is of one speaker" in said


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "cannot be read: this browser finds no sound in it"),
        (b"RIFF\0\0\0\0WAVEfmt no sound", "cannot be read: this browser finds no sound in it"),
        (np.full(16_000 * 301, 0.1, np.float32), "lasts 301 s, and the page takes up to 300 s"),
        (np.array([0.1, np.nan], np.float32), "not finite"),
    ],
    ids=["empty", "no wav", "too long", "NaN"],
)
def test_a_file_that_cannot_be_used_is_named(page, tmp_path, content, message):
    path = tmp_path / "bad.wav"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        soundfile.write(path, content, 16_000, subtype="FLOAT")
    page.run("document.getElementById('error').hidden = true")
    page.choose_file("#file", path)
    page.wait_for("!document.getElementById('error').hidden")
    assert text(page, "#error").startswith("bad.wav")
    assert message in text(page, "#error")
    assert text(page, "#status") == ""


def test_a_file_far_too_long_is_refused_at_once(page, tmp_path):
    path = tmp_path / "hour.wav"
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(1)
        file.setframerate(8_000)
        file.writeframes(bytes(3600 * 8_000))
    page.run("document.getElementById('error').hidden = true")
    began = time.monotonic()
    page.choose_file("#file", path)
    page.wait_for("!document.getElementById('error').hidden")
    assert time.monotonic() - began < 3, "it was resampled first"
    assert "hour.wav lasts 3600 s, and the page takes up to 300 s" in text(page, "#error")


@pytest.mark.parametrize(
    ("name", "rate"),
    [
        ("a.flac", 16_000),
        ("a.ogg", 22_050),
        ("a.opus", 48_000),
        ("a.mp3", 44_100),
        ("a.mp3", 16_000),
        ("a.mp4", 0),
    ],
)
def test_compressed_files_say_how_long_they_last(page, short, tmp_path, name, rate):
    path = tmp_path / name
    if rate:
        sound = np.tile(audio.resample(audio.read(short), 16_000, rate), 3)
        soundfile.write(path, sound, rate, **({"format": "OGG", "subtype": "OPUS"} if "opus" in name else {}))
        seconds = len(sound) / rate
    else:
        make_video(path, seconds=2)
        seconds = 2
    content = base64.b64encode(path.read_bytes()).decode()
    found, of_a_part = page.run(
        f"""import("/headers.js").then(({{leastSeconds}}) => {{
            const all = Uint8Array.from(atob("{content}"), (letter) => letter.charCodeAt(0));
            return [all, all.slice(0, 30)].map(({{buffer}}) => leastSeconds(new DataView(buffer)));
        }})"""
    )
    # An Ogg file has a page a second, and of its first one the length is not told.
    assert seconds - 1.1 < found < seconds + 0.06
    assert found == pytest.approx(seconds) or name != "a.flac"
    assert of_a_part < 0.1 or name == "a.flac"


@pytest.mark.parametrize("kind", ["flac", "mp3", "ogg"])
def test_a_compressed_file_too_long_or_too_large_is_refused_before_it_is_decoded(page, tmp_path, kind):
    path = tmp_path / f"long.{kind}"
    with soundfile.SoundFile(path, "w", 16_000, 1) as file:
        for _ in range(310):  # libsndfile takes no more than some seconds of Ogg at a time
            file.write(np.zeros(16_000, np.float32))
    page.run("document.getElementById('error').hidden = true")
    page.run("globalThis.decodings = 0")
    page.run("globalThis.decoder = OfflineAudioContext.prototype.decodeAudioData")
    page.run("OfflineAudioContext.prototype.decodeAudioData = () => { decodings++; }")
    try:
        page.choose_file("#file", path)
        page.wait_for("!document.getElementById('error').hidden")
        assert "the page takes up to 300 s: cut it" in text(page, "#error")
        page.run("document.getElementById('error').hidden = true, demo.longest.bytes = 1000")
        page.choose_file("#file", path)
        page.wait_for("!document.getElementById('error').hidden")
        assert "MB, and the page takes up to 1 MB: cut it" in text(page, "#error")
        assert page.run("decodings") == 0
    finally:
        page.run("OfflineAudioContext.prototype.decodeAudioData = decoder, demo.longest.bytes = 256e6")


def test_nothing_but_this_server_is_asked(page, serving, long):
    given(page, long)
    own = f"http://127.0.0.1:{serving.server_port}/"
    assert own + "litert/wasm/litert_wasm_internal.wasm" in page.requests
    # The player's icons are the browser's own, the blob is the recording.
    strangers = [url for url in page.requests if not url.startswith((own, "data:", f"blob:{own}"))]
    assert strangers == []
    for attempt in (
        "fetch('http://127.0.0.1:9/')",
        "new Promise((yes, no) => { const i = new Image(); i.onload = yes; i.onerror = no; "
        "i.src = 'http://127.0.0.1:9/i.png'; })",
    ):
        refused = page.run(
            "new Promise((refused) => { addEventListener('securitypolicyviolation', (event) => "
            f"refused(event.blockedURI), {{once: true}}); {attempt}.catch(() => 0); }})"
        )
        assert refused.startswith("http://127.0.0.1:9/")


def test_everything_has_a_name_and_fits_a_phone(page, long):
    given(page, long)
    page.run("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
    for width in (360, 390, 768, 979, 980, 1280):
        page.send(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=740, deviceScaleFactor=2, mobile=width < 500,
        )  # fmt: skip
        assert page.run("document.documentElement.scrollWidth") <= width
        assert page.run(OUTSIDE) == [], width
        columns = page.run(
            "getComputedStyle(document.querySelector('main')).gridTemplateColumns.split(' ').length"
        )
        assert columns == (2 if width >= 980 else 1)
    page.send("Emulation.clearDeviceMetricsOverride")
    page.send("Accessibility.enable")
    nodes = page.send("Accessibility.getFullAXTree")["nodes"]
    page.send("Accessibility.disable")
    named = {}
    for node in nodes:
        role, name = node.get("role", {}).get("value"), node.get("name", {}).get("value", "")
        if role in ("button", "radio", "image", "region", "slider", "heading") and not node["ignored"]:
            assert name, f"a {role} without a name"
        named.setdefault(role, []).append(name)
    assert {"Try an example", "Precision of the model's numbers"} <= {*named["group"]}
    assert {"Record", "Choose a file…"} <= {*named["button"]}
    assert [name.split()[0] for name in named["radio"]] == ["int8", "float32", "float16", "dynamic"]
    assert len([name for name in named["image"] if name]) == 3
    assert page.run("[...document.querySelectorAll('[role=status], [role=alert], [aria-live]')].length") == 3


def answer(serving, path: str, *, method: str = "GET", **headers: str) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection("127.0.0.1", serving.server_address[1], timeout=5)
    connection.putrequest(method, path, skip_host="Host" in headers)
    for name, value in headers.items():
        connection.putheader(name, value)
    connection.endheaders()
    response = connection.getresponse()
    response.content = response.read()
    return response


def test_the_server_gives_its_own_files_with_their_kinds(serving, case):
    for path, kind in (
        ("/", "text/html; charset=utf-8"),
        ("/app.js", "text/javascript; charset=utf-8"),
        ("/litert/wasm/litert_wasm_compat_internal.wasm", "application/wasm"),
        ("/students/int8.tflite", "application/octet-stream"),
    ):
        found = answer(serving, path)
        assert (found.status, found.getheader("Content-Type")) == (200, kind)
        assert "default-src 'none'" in found.getheader("Content-Security-Policy")
        assert "unsafe-inline" not in found.getheader("Content-Security-Policy")
    assert found.content == case.paths["int8"].read_bytes()
    only_head = answer(serving, "/students/int8.tflite", method="HEAD")
    assert (only_head.getheader("Content-Length"), only_head.content) == (str(len(found.content)), b"")
    assert serving.server_address[0] == "127.0.0.1"


@pytest.mark.parametrize(
    "path",
    [
        "/../demo.py",
        "/%2e%2e/demo.py",
        "//etc/passwd",
        "/page/",
        "/students/",
        "/demo.py",
        "/students/../app.js",
    ],
)
def test_nothing_else_is_served(serving, path):
    found = answer(serving, path)
    assert (found.status, found.content) == (404, b"not here\n")


def test_strangers_are_refused(serving):
    assert answer(serving, "/", Host="evil.example").status == 403
    assert answer(serving, "/", Host=f"evil.example:{serving.server_port}").status == 403
    assert answer(serving, "/", Host=f"localhost:{serving.server_port}").status == 200
    assert answer(serving, "/", Host="127.0.0.1").status == 403
    assert answer(serving, "/", method="POST").status == 501


def test_port_80_goes_without_saying(serving, monkeypatch):
    def bind(self):
        super(serve._Server, self).server_bind()
        self.server_port = 80  # as if: not everyone may have it

    monkeypatch.setattr(serve._Server, "server_bind", bind)
    with running(serve.server(serving.served, 0)) as as_if:
        for host in ("127.0.0.1", "localhost", "127.0.0.1:80"):
            assert answer(as_if, "/", Host=host).status == 200
        for host in ("evil.example", "127.0.0.1:8237"):
            assert answer(as_if, "/", Host=host).status == 403


def test_the_card_is_told(case):
    card = {
        **serve.students(case.paths["int8"])["student_int8.tflite"][0],
        **{"corpus": "EMO-DB", "synthetic": False, "ua": 0.7123, "ua_low": 0.65, "ua_high": 0.77},
        **{
            "protocol": "loso",
            "stamps": ["VALIDATION IS TEST"],
            "trained": "2026-01-02",
            "unsure_below": 0.6,
        },
    }
    told = serve.described(card, "/x.tflite", 1_234_567)
    # as `predict` has them, whose windows leave nothing out
    for samples, hop in ((48_000, 0.5), (6_400, 0.4)):
        assert serve.described({**card, "samples": samples}, "/x.tflite", 1)["hop_seconds"] == hop
    assert (told["unsure_below"], told["stamps"], told["size"]) == (0.6, ["VALIDATION IS TEST"], "1.23 MB")
    assert [*told["colours"]] == told["labels"] == [*card["classes"]]
    facts = dict(told["facts"])
    assert facts["Unweighted accuracy (UA)"] == "71.2 % [65.0, 77.0], leave one speaker out"
    assert facts["Trained on"] == "EMO-DB, 2026-01-02"
    assert facts["Input"] == "3 s at 16,000 Hz; shorter clips get zeros at both ends"
    assert any(
        "synthetic" in stamp for stamp in serve.described({**card, "synthetic": True}, "/x", 1)["stamps"]
    )


@pytest.mark.parametrize(
    ("card", "message"),
    [
        ({"input": "mfcc", "inputs": ["mfcc"]}, "takes mfcc, not audio: export it with the front end inside"),
        ({"inputs": ["audio", "token_ids", "text_mask"], "text": {}}, "the page takes audio only"),
        ({"inputs": ["text_states"], "states": {}}, "takes text_states, and the page takes audio only"),
    ],
)
def test_a_student_of_something_else_is_refused(monkeypatch, tmp_path, card, message):
    monkeypatch.setattr(serve.runner, "open_file", lambda path: (None, {"input": "audio", **card}, ()))
    with pytest.raises(UserError, match=message):
        serve.students(tmp_path / "student.tflite")


def refusal(capsys, *arguments: str) -> str:
    assert cli.main(["demo", *arguments]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    return said


def test_mistakes_are_one_line(capsys, tmp_path, case, runtime):
    assert f"no student_*.tflite in {tmp_path}" in refusal(capsys, str(tmp_path))
    (tmp_path / "x.tflite").write_bytes(b"no model at all")
    assert "is not a TFLite file" in refusal(capsys, str(tmp_path / "x.tflite"))
    assert "cannot read" in refusal(capsys, str(tmp_path / "absent"))
    file = str(case.paths["int8"])
    assert "--port must be from 0 to 65535, found 65536" in refusal(capsys, file, "--port", "65536")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = refusal(capsys, file, "--port", str(port), "--no-browser")
    assert f"port {port} cannot be used (Address already in use): name another with --port" in said


@pytest.mark.skipif(os.name == "nt", reason="Ctrl-C is sent as a signal")
def test_ctrl_c_ends_it_quietly(case, runtime):
    command = [sys.executable, "-m", "light_sernet_kd", "demo", str(case.paths["int8"]), "--port", "0"]
    with subprocess.Popen(
        [*command, "--no-browser"],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Into a pipe, which Python fills before it sends anything, unless told otherwise.
        env={name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"},
        # What a shell starts in the background ignores it, and all that such a process starts.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        end = threading.Timer(30, process.kill)  # after which it reads as ended
        end.start()
        try:
            line = process.stdout.readline()
            found = re.match(r"student_int8.tflite at http://127.0.0.1:(\d+)/ ", line)
            assert found, f"said {line!r}"
            # Once it answers, it waits for Ctrl-C.
            connection = http.client.HTTPConnection("127.0.0.1", int(found[1]), timeout=10)
            connection.request("HEAD", "/")
            connection.getresponse()
            process.send_signal(signal.SIGINT)
            assert process.communicate(timeout=10) == ("ended\n", "")
        finally:
            end.cancel()
            process.kill()
    assert process.returncode == 0


def test_without_a_network_it_is_said_how_to_get_the_runtime(monkeypatch, tmp_path, runtime):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with socket.create_server(("127.0.0.1", 0)) as closed:
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/core.tgz"
    monkeypatch.setattr(serve, "RUNTIME_URL", url)
    with pytest.raises(UserError) as caught:
        serve.fetch_runtime()
    by_hand = tmp_path / "light-sernet-kd" / "litert-web-2.5.3.tgz"
    assert f"{url} cannot be reached" in str(caught.value)
    assert str(caught.value).endswith(f"put it there as {by_hand}.")
    by_hand.write_bytes(runtime.read_bytes())
    assert serve.fetch_runtime() == by_hand
    by_hand.write_bytes(b"damaged")
    with pytest.raises(UserError, match="cannot be reached"):
        serve.fetch_runtime()
