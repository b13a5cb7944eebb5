"""The page's plane of arousal and valence in a real browser, against the runner and `predict`."""

import contextlib
import json
import re
import threading
from pathlib import Path

import browser
import numpy as np
import pytest
import soundfile
from browser import LEAST_CONTRAST, OUTSIDE, status
from exported_cases import RATED, SAMPLES, Case, clips, rated_case
from tiny_student import rated_student

from light_sernet_kd import audio, cli
from light_sernet_kd.device import serve, shipped, site
from light_sernet_kd.registries.dimensions import DIMENSIONS
from light_sernet_kd.runner import Runner

RATE = 16_000
# Edges of the plane in the picture's units.
LEFT, TOP, SIDE = 30, 4, 282


@pytest.fixture(scope="module")
def case(tmp_path_factory) -> Case:
    return rated_case(SAMPLES, tmp_path_factory.mktemp("rated"), precisions=("float32", "int8"))


@pytest.fixture(scope="module")
def recording(tmp_path_factory) -> Path:
    """Five voices with a second of nothing behind them, and the level of speech that comes and goes."""
    voices = clips(5, SAMPLES, seed=9).reshape(-1)
    syllables = np.arange(len(voices)) % 4000 < 2000
    path = tmp_path_factory.mktemp("voice") / "voices.wav"
    soundfile.write(path, np.concatenate([voices * syllables, np.zeros(RATE)]), RATE, subtype="PCM_16")
    return path


@contextlib.contextmanager
def address(folder: Path, runtime: Path):
    with serve.server(serve.files(serve.students(folder), runtime), 0) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def tab(recording):
    with browser.hearing(recording) as page:
        yield page


@pytest.fixture(scope="module")
def page(tab, case, runtime, recording):
    """The page with int8's answer to the recording."""
    with address(case.paths["int8"].parent, runtime) as url:
        tab.open(url)
        tab.wait_for(status("Ready"))
        given(tab, recording)
        yield tab


def given(page, path: Path) -> dict:
    page.run("document.getElementById('status').textContent = ''")
    page.choose_file("#file", path)
    page.wait_for(status("Done"))
    return page.run("demo.result()")


def numbers(text: str) -> list[float]:
    return [float(each) for each in re.findall(r"(?:arousal|valence|dominance) (\d\.\d)", text)]


def test_the_page_gives_the_dimensions_of_predict_and_of_a_stream(page, case, recording, capsys):
    found = page.run("demo.result()")
    assert cli.main(["predict", str(case.paths["int8"]), str(recording), "--json"]) == 0
    (expected,) = json.loads(capsys.readouterr().out)
    assert found["dimensions"] == pytest.approx(expected["dimensions"], abs=0.02)
    assert found["dimension_range"] == expected["dimension_range"] == [1, 5]
    windows = [*Runner(case.paths["int8"]).stream(audio.read(recording))]
    assert len(windows) == len(found["timeline"])
    for row, window in zip(found["timeline"], windows, strict=True):
        for name, values in (
            ("dimensions", window.dimensions),
            ("smoothed_dimensions", window.smoothed_dimensions),
        ):
            assert [*row[name]] == [*RATED.names]
            np.testing.assert_allclose([*row[name].values()], values, atol=0.02)


def test_the_point_is_where_the_values_are_and_words_say_so(page):
    values = page.run("demo.result()")["dimensions"]
    shown = {name: round((min(max(value, 1), 5)), 1) for name, value in values.items()}
    x, y = page.run("['cx', 'cy'].map((name) => +document.querySelector('#plane .point').getAttribute(name))")
    assert x == pytest.approx(LEFT + SIDE * (min(max(values["valence"], 1), 5) - 1) / 4, abs=0.1)
    assert y == pytest.approx(TOP + SIDE * (1 - (min(max(values["arousal"], 1), 5) - 1) / 4), abs=0.1)
    dot = page.run("document.querySelector('#values .dot').style.left")
    assert float(dot.rstrip("%")) == pytest.approx(100 * (values["dominance"] - 1) / 4, abs=0.1)
    sentence = page.run("document.getElementById('tone-words').textContent")
    assert numbers(sentence) == pytest.approx([*shown.values()], abs=0.051)
    described = page.run("document.getElementById('plane').getAttribute('aria-label')")
    assert numbers(described)[:2] == pytest.approx([shown["arousal"], shown["valence"]], abs=0.051)
    assert "from negative to positive" in described
    assert "from calm to excited" in described
    ends = page.run("[...document.querySelectorAll('#plane .end')].map((each) => each.textContent)")
    assert ends == ["negative (1)", "positive (5)", "calm (1)", "excited (5)"]


def test_the_trail_has_a_place_for_each_window_of_speech(page):
    rows = page.run("demo.result()")["timeline"]
    speech = [row["smoothed_dimensions"] for row in rows if row["reason"] != "silent"]
    assert 2 < len(speech) < len(rows)
    trail = page.run("document.querySelector('#plane .trail').getAttribute('points')")
    places = np.array([each.split(",") for each in trail.split()], float)
    values = np.clip([[each["valence"], each["arousal"]] for each in speech], 1, 5)
    np.testing.assert_allclose(places[:, 0], LEFT + SIDE * (values[:, 0] - 1) / 4, atol=0.1)
    np.testing.assert_allclose(places[:, 1], TOP + SIDE * (1 - (values[:, 1] - 1) / 4), atol=0.1)
    table = page.run("document.querySelector('#numbers thead').textContent")
    assert table.endswith("arousalvalencedominance")
    assert "on a scale from 1 to 5" in page.run("document.querySelector('#numbers p').textContent")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_it_fits_every_width_and_is_seen_in_both_themes(page, theme):
    page.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": theme}])
    try:
        for width in (360, 390, 820, 980, 1280):
            page.send(
                "Emulation.setDeviceMetricsOverride",
                width=width, height=740, deviceScaleFactor=1, mobile=width < 500,
            )  # fmt: skip
            assert page.run("document.documentElement.scrollWidth") <= width
            assert page.run(OUTSIDE) == [], width
            left, right, edge, most = page.run(
                """["plane", "answer"].flatMap((id) => {
                    const { left, right } = document.getElementById(id).getBoundingClientRect();
                    return [left, right];
                })"""
            )
            assert edge < left < right < most
        contrast, words = page.run(LEAST_CONTRAST)
        assert contrast >= 4.5, words
        for mark, look in (("frame", "stroke"), ("trail", "stroke"), ("step", "fill"), ("point", "stroke")):
            colours = page.run(
                f"""[getComputedStyle(document.querySelector('#plane .{mark}')).{look},
                getComputedStyle(document.getElementById('answer')).backgroundColor]"""
            )
            assert ratio(*colours) >= 3, mark
    finally:
        page.send("Emulation.setEmulatedMedia", features=[])
        page.send("Emulation.clearDeviceMetricsOverride")


def ratio(one: str, other: str) -> float:
    """The contrast of two colours as WCAG 2.1 defines it."""

    def luminance(colour: str) -> float:
        shares = np.array([float(each) for each in re.findall(r"[\d.]+", colour)[:3]]) / 255
        return float(
            np.where(shares <= 0.04045, shares / 12.92, ((shares + 0.055) / 1.055) ** 2.4)
            @ [0.2126, 0.7152, 0.0722]
        )

    low, high = sorted(map(luminance, (one, other)))
    return (high + 0.05) / (low + 0.05)


def test_silence_has_no_place(page, recording, tmp_path):
    soundfile.write(tmp_path / "quiet.wav", np.zeros(2 * RATE), RATE)
    given(page, tmp_path / "quiet.wav")
    assert page.run("document.querySelector('#plane .point, #plane .trail')") is None
    assert page.run("document.getElementById('tone-words').textContent").startswith("No speech was found")
    assert page.run("document.querySelector('#values .number').textContent") == "–"
    given(page, recording)
    assert page.run("document.querySelectorAll('#plane .point').length") == 1


def test_the_saved_picture_has_a_line_for_them(page, recording):
    with_tone = page.run("demo.picture().then(async (blob) => (await createImageBitmap(blob)).height)")
    labels, stamps = page.run(
        "[demo.result().probabilities, demo.result().stamps].map((each) => Object.keys(each).length)"
    )
    assert stamps == 0
    assert with_tone > 72 + 260 + 52 * labels + 90 + 36


def test_a_folder_for_any_server_has_them_too(case, runtime, tmp_path):
    site.write(serve.files(serve.students(case.paths["int8"]), runtime), tmp_path / "site")
    (student,) = json.loads((tmp_path / "site" / "students.json").read_text())
    ends = {name: [DIMENSIONS[name].low, DIMENSIONS[name].high] for name in RATED.names}
    assert student["dimensions"] == {"names": [*RATED.names], "range": [1.0, 5.0], "ends": ends}
    assert ["Tone", "arousal, valence, dominance, on a scale from 1 to 5"] in student["facts"]
    assert (tmp_path / "site" / "plane.js").is_file()


def test_the_facts_have_the_concordance_that_the_card_tells(tmp_path):
    told = {"arousal": {"ccc": 0.514, "low": 0.4, "high": 0.6}, "valence": {"ccc": -0.001}}
    file = rated_student(tmp_path / "student_int8.tflite", ccc=told)
    ((card, _),) = serve.students(file).values()
    facts = serve._facts(card)
    assert ("Concordance (CCC) of arousal", "0.51 [0.40, 0.60]") in facts
    assert ("Concordance (CCC) of valence", "0.00") in facts


def test_a_student_without_them_has_the_page_as_it_was(tab, runtime, recording):
    with address(shipped.default().folder, runtime) as url:
        tab.open(url)
        tab.wait_for(f"document.getElementById('facts').children.length && {status('Ready')}")
        found = given(tab, recording)
        assert tab.run("document.getElementById('tone').hidden")
        assert "dimension" not in json.dumps(found)
        heads = tab.run("[...document.querySelectorAll('#numbers th[scope=col]')].length")
        assert heads == 2 + len(found["probabilities"])


# A student without classes.


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> Path:
    return rated_student(tmp_path_factory.mktemp("alone") / "student_float32.tflite", names=RATED.names)


@pytest.fixture(scope="module")
def rated(tab, alone, runtime, recording):
    """The page with the answer of a student of dimensions alone."""
    with address(alone, runtime) as url:
        tab.open(url)
        tab.wait_for(f"document.body.classList.contains('rated') && {status('Ready')}")
        given(tab, recording)
        yield tab


def test_without_classes_the_page_gives_the_answer_of_predict(rated, alone, recording, capsys):
    found = rated.run("demo.result()")
    assert cli.main(["predict", str(alone), str(recording), "--json"]) == 0
    (expected,) = json.loads(capsys.readouterr().out)
    assert found["dimensions"] == pytest.approx(expected["dimensions"], abs=1e-3)
    assert found["unsure_shares"] == pytest.approx(expected["unsure_shares"], abs=1e-6)
    for name in ("label", "probabilities", "time_shares", "unsure", "reason", "windows", "dimension_range"):
        assert found[name] == expected[name], name
    assert (found["label"], found["probabilities"], found["time_shares"]) == (None, {}, {})
    windows = [*Runner(alone).stream(audio.read(recording))]
    assert [row["label"] for row in found["timeline"]] == [each.label or None for each in windows]
    np.testing.assert_allclose(
        [[*row["smoothed_dimensions"].values()] for row in found["timeline"]],
        [each.smoothed_dimensions for each in windows],
        atol=1e-3,
    )


def test_without_classes_the_answer_is_the_point_and_its_numbers(rated):
    values = rated.run("demo.result()")["dimensions"]
    shown = {name: f"{min(max(value, 1), 5):.1f}" for name, value in values.items()}
    hero = rated.run("document.getElementById('label').textContent")
    assert hero == ", ".join(f"{name} {value}" for name, value in shown.items())
    words = rated.run("document.getElementById('tone-words').textContent")
    assert words == (
        f"Arousal {shown['arousal']}, from calm (1) to excited (5). "
        f"Valence {shown['valence']}, from negative (1) to positive (5). "
        f"Dominance {shown['dominance']}, from submissive (1) to dominant (5)."
    )
    x, y = rated.run(
        "['cx', 'cy'].map((name) => +document.querySelector('#plane .point').getAttribute(name))"
    )
    assert x == pytest.approx(LEFT + SIDE * (float(shown["valence"]) - 1) / 4, abs=4)
    assert y == pytest.approx(TOP + SIDE * (1 - (float(shown["arousal"]) - 1) / 4), abs=4)
    assert rated.run("document.getElementById('question').textContent") == "How does this voice sound?"
    for nothing in ("ring", "bars", "threshold"):
        assert rated.run(f"document.getElementById('{nothing}').getClientRects().length") == 0, nothing
    assert rated.run("document.getElementById('confidence').textContent") == ""
    heads = rated.run(
        "[...document.querySelectorAll('#numbers th[scope=col]')].map((each) => each.textContent)"
    )
    assert heads == ["Window", "Answer", *RATED.names]
    assert "per cent" not in rated.run("document.querySelector('#caption').innerText")
    reason = rated.run("document.getElementById('reason').textContent")
    assert re.search(r"speech \d+\s%, unsure \(silent\) \d+\s% of the time", reason)
    facts = rated.run("document.getElementById('facts').textContent")
    assert "accuracy" not in facts
    assert not rated.run(
        "document.body.innerText.includes('undefined') || document.body.innerText.includes('NaN')"
    )


def test_without_classes_it_fits_and_is_seen_and_saved(rated):
    try:
        for width in (390, 1280):
            rated.send(
                "Emulation.setDeviceMetricsOverride",
                width=width, height=740, deviceScaleFactor=1, mobile=width < 500,
            )  # fmt: skip
            assert rated.run("document.documentElement.scrollWidth") <= width
            assert rated.run(OUTSIDE) == [], width
        contrast, words = rated.run(LEAST_CONTRAST)
        assert contrast >= 4.5, words
    finally:
        rated.send("Emulation.clearDeviceMetricsOverride")
    width, height, marks = rated.run(
        """demo.picture().then(createImageBitmap).then((image) => {
            const draw = new OffscreenCanvas(image.width, image.height).getContext("2d");
            draw.drawImage(image, 0, 0);
            const probe = document.createElement("i");
            probe.style.color = "var(--accent)";
            document.body.append(probe);
            const wanted = getComputedStyle(probe).color.match(/\\d+/g).map(Number);
            probe.remove();
            const { data } = draw.getImageData(0, 0, image.width, image.height);
            let count = 0;
            for (let i = 0; i < data.length; i += 4)
                count += wanted.every((value, k) => value === data[i + k]);
            return [image.width, image.height, count];
        })"""
    )
    assert width == 1200
    assert height > 480 + 96
    # Two discs of 13 pixels' radius inside their edges: the point, and dominance on its line.
    assert marks == pytest.approx(2 * np.pi * 13**2, rel=0.2)


def test_without_classes_silence_has_no_place(rated, recording, tmp_path):
    soundfile.write(tmp_path / "quiet.wav", np.zeros(2 * RATE), RATE)
    found = given(rated, tmp_path / "quiet.wav")
    assert (found["label"], found["unsure"], found["reason"]) == (None, True, "silent")
    assert rated.run("document.getElementById('label').textContent") == "unsure"
    assert "nothing to rate" in rated.run("document.getElementById('confidence').textContent")
    assert rated.run("document.querySelector('#plane .point, #plane .trail')") is None
    assert rated.run("demo.picture().then((blob) => blob.type)") == "image/png"
    given(rated, recording)
