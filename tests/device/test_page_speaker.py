"""The page's switch "Learn my voice" in a real browser, against the runner."""

import contextlib
import json
import re
import threading
from pathlib import Path

import browser
import keras
import numpy as np
import pytest
from browser import status
from exported_cases import SAMPLES, Case, made_case

from light_sernet_kd import audio
from light_sernet_kd.config import PRECISIONS
from light_sernet_kd.device import serve
from light_sernet_kd.runner import Profile, Runner
from light_sernet_kd.students.enrolled import EnrolledHead
from light_sernet_kd.training.enrolled import stages

RATE = 16_000
WIDTH = 2 * (24 + 16 + 24 + 32 + 40)  # of the embeddings of a Light-SERNet of a quarter of its width


def drawn_head(student: keras.Model) -> EnrolledHead:
    rng = np.random.default_rng(0)
    shapes = tuple(tuple(each.shape[1:]) for each in stages(student))
    arrays = rng.normal(0, 0.5, WIDTH), rng.normal(0, 0.1, (WIDTH, 5)), rng.normal(0, 0.3, 5)
    mean, weights, bias = (array.astype(np.float32) for array in arrays)
    return EnrolledHead(mean, 2.5, weights, bias, shapes)


@pytest.fixture(scope="module")
def case(tmp_path_factory) -> Case:
    folder = tmp_path_factory.mktemp("run")
    return made_case("light_sernet", "lsn", "mfcc", SAMPLES, folder, head=drawn_head)


@pytest.fixture(scope="module")
def short(shared_data) -> Path:
    """1.9 s of EMO-DB, which the microphone hears over and over."""
    return shared_data / "EMO-DB" / "wav" / "03a01Fa.wav"


@pytest.fixture(scope="module")
def other(shared_data) -> Path:
    return shared_data / "EMO-DB" / "wav" / "08a01Wa.wav"


@contextlib.contextmanager
def address(case: Case, runtime: Path, profile: Profile | None = None):
    """Where the page of the case is served."""
    students = serve.students(case.enrolled_paths["int8"].parent)
    with serve.server(serve.files(students, runtime, profile), 0) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


@pytest.fixture
def tab(short):
    """An empty browser, which keeps nothing of another test."""
    with browser.hearing(short) as page:
        yield page


def text(page, selector: str) -> str:
    return page.run(f"document.querySelector({selector!r}).innerText")


def begin(page, url: str) -> None:
    page.open(url)
    page.wait_for(status("Ready"))


def given(page, path: Path) -> list[float]:
    """What the page answers to a file."""
    page.run("document.getElementById('status').textContent = ''")
    page.choose_file("#file", path)
    page.wait_for(status("Done"))
    return page.run("demo.clip.answer.probabilities")


def press(page, selector: str) -> None:
    page.run(f"document.querySelector({selector!r}).click()")


def switch(page) -> None:
    page.run("document.getElementById('status').textContent = ''")
    press(page, "#learn")
    page.wait_for(f"!demo.clip || {status('Done')}")


def record(page, seconds: int) -> dict:
    """Records the microphone; what came of it."""
    page.run("document.getElementById('status').textContent = ''")
    press(page, "#record")
    page.wait_for(status(f"Recording, {seconds}"))
    assert page.run("document.querySelector('#learn').matches(':disabled')")
    press(page, "#record")
    page.wait_for(status("Done"))
    return page.run("demo.clip")


def choose(page, precision: str) -> None:
    if page.run("demo.student") == precision:
        return
    page.run("document.getElementById('status').textContent = ''")
    press(page, f"[value={precision}]")
    page.wait_for(f"demo.student === {precision!r} && {status('Done')}")


def learnt(path: Path, clip: dict, before: Profile | None = None) -> Profile:
    """What the runner makes of the page's recording and its windows."""
    runner, sound = Runner(path), np.float32(clip["sound"])
    profile = before or Profile(runner.card["enrolled"]["embedding"], np.zeros(WIDTH), 0)
    for row in clip["rows"]:
        if row["why"] not in ("silent", "no speech", "too short"):
            part = sound[round(row["start"] * RATE) : round(row["end"] * RATE)]
            profile = profile.with_clip(runner.embedding(part), 0.5 * RATE / SAMPLES)
    return profile


def expected(path: Path, sound: np.ndarray, profile: Profile | None) -> np.ndarray:
    """What predict answers, of windows that all hold speech."""
    runner = Runner(path, profile=profile)
    windows = [window for window in runner.stream(sound) if window.why in ("", "not sure")]
    return np.mean([window.probabilities for window in windows], axis=0)


def test_the_page_learns_what_the_microphone_hears_and_answers_for_that_voice(tab, case, runtime, other):
    sound = audio.read(other)
    with address(case, runtime) as url:
        begin(tab, url)
        assert tab.run("document.querySelector('#learn').checked") is False
        unknown = given(tab, other)
        np.testing.assert_allclose(unknown, expected(case.enrolled_paths["int8"], sound, None), atol=1e-3)

        switch(tab)
        assert "Nothing leaves this browser" in text(tab, "#known")
        # Whoever is not known is answered as before, and a file teaches nothing.
        np.testing.assert_allclose(given(tab, other), unknown, atol=1e-5)
        assert tab.run("demo.speaker.clips") == 0

        clip = record(tab, 3)
        assert "learnt" in text(tab, "#status")
        profile = learnt(case.enrolled_paths["int8"], clip)
        found = tab.run("demo.speaker")
        assert found["clips"] == pytest.approx(profile.clips)
        assert profile.clips > 1
        assert tab.run("demo.result().speaker_clips") == 0, "it was answered before it was learnt"
        np.testing.assert_allclose(found["mean"], profile.mean, atol=1e-3)
        assert f"known by {round(profile.clips, 1):g} clips" in text(tab, "#known")

        for precision in PRECISIONS:
            choose(tab, precision)
            assert tab.run("demo.speaker") == found, "a recording is learnt once"
            answer = given(tab, other)
            assert tab.run("demo.result().speaker_clips") == pytest.approx(profile.clips)
            known = expected(case.enrolled_paths[precision], sound, profile)
            np.testing.assert_allclose(answer, known, atol=2e-3)
            assert np.abs(known - expected(case.enrolled_paths[precision], sound, None)).max() > 0.02

        switch(tab)
        assert "answers are for anyone" in text(tab, "#known")
        anyone = tab.run("demo.clip.answer.probabilities")
        np.testing.assert_allclose(anyone, expected(case.enrolled_paths["int8"], sound, None), atol=1e-3)
        record(tab, 1)
        assert tab.run("demo.speaker") == found, "what is not to be learnt is not"

        begin(tab, url)  # which is kept
        assert tab.run("demo.speaker") == found
        assert tab.run("document.querySelector('#learn').checked")
        press(tab, "#forget")
        assert tab.run("demo.speaker") == {"mean": [0] * WIDTH, "clips": 0}
        assert tab.run("localStorage.length") == 0
        assert tab.run("document.activeElement.id") == "learn"
        np.testing.assert_allclose(given(tab, other), unknown, atol=1e-5)
        begin(tab, url)
        assert tab.run("demo.speaker.clips") == 0
        strangers = [each for each in tab.requests if not each.startswith((url, "data:", f"blob:{url}"))]
        assert strangers == []
        assert not [line for line in tab.console if re.match(r"\w*Error:", line)]


def test_the_page_goes_on_with_a_profile_that_it_was_given_and_keeps_nothing(tab, case, runtime, other):
    path, sound = case.enrolled_paths["int8"], audio.read(other)
    name = Runner(path).card["enrolled"]["embedding"]
    profile = Profile(name, np.random.default_rng(1).normal(0, 1, WIDTH), 4.5)
    with address(case, runtime, profile) as url:
        begin(tab, url)
        assert tab.run("demo.speaker") == {"mean": profile.mean.tolist(), "clips": 4.5}
        assert "known by 4.5 clips" in text(tab, "#known")
        np.testing.assert_allclose(given(tab, other), expected(path, sound, profile), atol=1e-3)
        clip = record(tab, 2)
        found, more = tab.run("demo.speaker"), learnt(path, clip, profile)
        np.testing.assert_allclose(found["mean"], more.mean, atol=1e-3)
        assert found["clips"] == pytest.approx(more.clips)
        assert "forgotten when this page is closed" in text(tab, "#known")
        assert tab.run("localStorage.length") == 0


@pytest.mark.parametrize(
    "stored", ["{", "5", "null", '{"mean": [1], "clips": 3}', '{"mean": null, "clips": 1}', "CLIPS"]
)
def test_what_is_stored_and_is_no_profile_is_as_nothing(tab, case, runtime, stored):
    name = Runner(case.enrolled_paths["int8"]).card["enrolled"]["embedding"]
    if stored == "CLIPS":
        stored = json.dumps({"mean": [0.0] * WIDTH, "clips": -1})
    with address(case, runtime) as url:
        begin(tab, url)
        tab.run(f"localStorage.setItem('light-sernet-kd speaker {name}', {json.dumps(stored)})")
        begin(tab, url)
        assert tab.run("demo.speaker.clips") == 0
        assert tab.run("document.querySelector('#learn').checked") is False


def test_the_switch_has_a_name_and_fits_a_phone(tab, case, runtime):
    profile = Profile(
        Runner(case.enrolled_paths["int8"]).card["enrolled"]["embedding"],
        np.zeros(WIDTH),
        2,
    )
    with address(case, runtime, profile) as url:
        begin(tab, url)
        for width in (360, 1280):
            tab.send(
                "Emulation.setDeviceMetricsOverride",
                width=width, height=740, deviceScaleFactor=2, mobile=width < 500,
            )  # fmt: skip
            assert tab.run("document.documentElement.scrollWidth") <= width
        tab.send("Accessibility.enable")
        nodes = tab.send("Accessibility.getFullAXTree")["nodes"]
        named = {
            (node.get("role", {}).get("value"), node.get("name", {}).get("value", ""))
            for node in nodes
            if not node["ignored"]
        }
        assert {("checkbox", "Learn my voice"), ("button", "Forget it"), ("group", "Your voice")} <= named
