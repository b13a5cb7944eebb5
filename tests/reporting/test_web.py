"""The page says what metrics.json says: read back by a parser of HTML, then opened in a browser."""

import base64
import contextlib
import copy
import io
import json
from html.parser import HTMLParser

import browser
import numpy as np
import pytest
import soundfile
from report_facts import CONFIG, EXPORT, METRICS, STAMP

from light_sernet_kd.reporting import figures, palette, web

RENDERED = (".svg",)
NASTY = '<script>alert("1")</script>&amp;\'ärger 怒り'
_VOID = {"meta", "link", "br", "hr", "img", "input"}


class Read(HTMLParser):
    """Elements with their attributes and text; `tables` as rows of (shown, data-sort)."""

    def __init__(self, content):
        super().__init__()
        self.elements, self.texts, self.values, self.tables = [], [], [], []
        self.open = []
        self.feed(content)
        assert self.open == [], "every element is closed"

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in _VOID:
            self.open.append(tag)
        if tag == "table":
            self.tables.append((dict(attrs)["aria-label"], []))
        elif tag == "tr":
            self.tables[-1][1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][1][-1].append(["", dict(attrs).get("data-sort")])
        elif tag == "data":
            self.values.append(float(dict(attrs)["value"]))

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not {"script", "style"} & set(self.open):
            self.texts.append(data)
        if {"td", "th"} & set(self.open[-4:]):
            self.tables[-1][1][-1][-1][0] += data

    def table(self, label):
        (found,) = [rows for name, rows in self.tables if name == label]
        return found

    def count(self, tag):
        return sum(name == tag for name, _ in self.elements)


def facts(**changes):
    """What metrics.json holds of a run, with all that only the page shows."""
    speakers = [
        {"speaker": name, **{key: fold[key] for key in ("count", "ua", "wa", "recall_per_class")}}
        for name, fold in zip(("00", "01", "02"), METRICS["folds"], strict=True)
    ]
    mistake = {
        "id": "a1",
        "fold": "fold_0",
        "speaker": "00",
        "label": "fear",
        "predicted": "anger",
        "probability": 0.987,
        "label_probability": 0.011,
    }
    gains = {
        "taught_less_alone": {"ua": 0.034, "ci95": [-0.011, 0.072]},
        "taught_less_teacher": {"ua": -0.105, "ci95": [-0.2, -0.05]},
        "teacher_less_alone": {"ua": 0.139, "ci95": None},
    }
    pooled = {"name": "pooled", "ua": {"teacher": 0.958, "alone": 0.819, "taught": 0.853}, "gains": gains}
    beside = {"run": "other", "command": "train", "folds": [{**pooled, "name": "fold_0"}], "pooled": pooled}
    return copy.deepcopy(
        {
            **METRICS,
            "confusion": [[110, 10, 7], [2, 4, 0], [0, 0, 0]],
            "per_speaker": speakers,
            "mistakes": [mistake],
            "teacher": {**METRICS["teacher"], "beside": beside},
            **changes,
        }
    )


def page(metrics, **more):
    return web.page("a-run", metrics, CONFIG, export=EXPORT, **more)


def test_the_scores_come_first_with_their_intervals_unrounded():
    read = Read(page(facts()))
    ua, wa = METRICS["pooled"]["ua"], METRICS["pooled"]["wa"]
    ci = METRICS["ci95"]
    assert read.values[:7] == [ua, *ci["ua"], 1 / 2, wa, *ci["wa"]]  # two classes have a recall
    assert read.values[7:10] == [0.958, 0.819, 0.853]
    assert read.values[10:17] == [0.034, -0.011, 0.072, -0.105, -0.2, -0.05, 0.139]
    assert "No stamp: an honest score." in " ".join(read.texts)


def test_every_table_has_the_numbers_of_the_metrics():
    read = Read(page(facts()))
    folds = read.table("Folds")
    assert [row[0][0] for row in folds] == ["fold", "fold_0", "fold_1", "fold_2", "pooled"]
    for row, fold in zip(folds[1:], METRICS["folds"], strict=False):
        shown = [float(cell[1]) for cell in row[5:9]]
        expected = [fold[name] for name in ("ua", "wa", "macro_f1", "weighted_f1")]
        assert shown == pytest.approx([100 * each for each in expected])
    per_fold = read.table("Recall % per fold and class")
    for row, fold in zip(per_fold[1:], METRICS["folds"], strict=True):
        assert [cell[1] for cell in row[1:5]] == [
            str(fold[name]) if name in fold else str(fold["recall_per_class"][name])
            for name in ("count", "ua", "wa", "anger")
        ]
    speakers = read.table("Recall % per test speaker and class")
    assert [row[0][0] for row in speakers[1:]] == ["02", "01", "00"]  # the lowest first
    confusion = next(rows for name, rows in read.tables if name.startswith("Confusion matrix"))
    assert [[int(cell[1]) for cell in row[1:4]] for row in confusion[1:]] == facts()["confusion"]
    recall = [row[3] for row in read.table("On the device")[1:]]
    assert [float(value) for _, value in recall] == pytest.approx([100 * EXPORT["rows"][0]["ua"]])


def test_one_test_speaker_is_not_compared_with_itself():
    metrics = facts()
    assert "The lowest stand first." in page(metrics)
    content = page(metrics | {"per_speaker": metrics["per_speaker"][:1]})
    assert "The lowest stand first." not in content
    assert len(Read(content).table("Recall % per test speaker and class")) == 2


def test_stamps_and_warnings_stand_beside_the_scores():
    read = Read(page(facts(stamps=[STAMP], warnings=["never predicted: fear"], synthetic=True)))
    classes = [attributes.get("class") for tag, attributes in read.elements if tag == "li"]
    assert [each for each in classes if each in ("stamp", "warning", "synthetic", "honest")] == [
        "synthetic",
        "stamp",
        "warning",
    ]
    text = " ".join(read.texts)
    assert STAMP in text
    assert "honest" not in text


def test_a_name_is_shown_as_it_is_and_can_add_nothing_to_the_page():
    metrics = facts()
    plain = Read(page(metrics))
    nasty = json.loads(
        json.dumps(metrics).replace('"fear"', json.dumps(NASTY)).replace('"a1"', json.dumps(NASTY))
    )
    nasty |= {"corpus": NASTY, "warnings": [NASTY]}
    for each in (*nasty["folds"], *nasty["per_speaker"]):
        each["name"] = each["speaker"] = NASTY
    content = web.page(NASTY, nasty, CONFIG, export=EXPORT)
    read = Read(content)
    assert content.count("<script>") == 1
    assert [tag for tag, _ in read.elements].count("script") == 1
    warned = len(nasty["warnings"]) - 1  # it takes the place of the line on honesty
    assert len(read.elements) == len(plain.elements) + warned
    assert sum(text == NASTY for text in read.texts) >= 12


def test_what_an_older_run_lacks_is_left_out():
    read = Read(page(METRICS))
    headings = [attributes["id"] for tag, attributes in read.elements if tag == "h2"]
    assert not {"speakers", "surest-mistakes", "teacher-and-student"} & set(headings)
    assert {"scores", "classes", "folds", "calibration", "how-to-repeat-it"} <= set(headings)
    assert len(headings) == len(set(headings))


def sound(seconds=0.5):
    content = io.BytesIO()
    soundfile.write(content, [0.1] * int(16_000 * seconds), 16_000, format="FLAC")
    return web.Sound(content.getvalue(), "audio/flac")


def test_a_recording_is_in_the_page_or_the_page_says_that_it_is_not():
    read = Read(page(facts(), extras=web.Extras(sounds={"a1": sound()})))
    (audio,) = [attributes for tag, attributes in read.elements if tag == "audio"]
    assert {"controls", "preload", "aria-label"} < set(audio)
    kind, _, content = audio["src"].partition(";base64,")
    assert kind == "data:audio/flac"
    samples, rate = soundfile.read(io.BytesIO(base64.b64decode(content)))
    assert (len(samples), rate) == (8000, 16_000)
    assert "1 recording of the corpus" in " ".join(read.texts)
    silent = Read(page(facts()))
    assert silent.count("audio") == 0
    assert "without their sound" in " ".join(silent.texts)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    folder = tmp_path_factory.mktemp("drawn")
    histories = {"a": {"loss": [2.0, 1.0, 0.5]}, "b": {"loss": [1.9, 1.1, 0.6]}}
    figures.curves(histories, folder / "curves.svg", selected_epochs={"a": 2})
    rows = [{"name": "int8", "bytes": 600_000, "ua": 0.7}]
    figures.size_against_ua(rows, folder / "precision_costs.svg", title=NASTY)
    classes = list(palette.EMOTIONS)
    points = np.random.default_rng(0).normal(size=(2 * len(classes), 2))
    twice = np.arange(2 * len(classes)) % len(classes)
    groups = ["right"] * len(classes) + ["wrong"] * len(classes)
    panel = figures.Panel("fold a", points, twice, groups, ("x", "y"))
    figures.embeddings([panel], classes, folder / "embeddings.svg", title="a")
    (folder / "reliability.svg").touch()
    return web.drawings(folder, web.DRAWN)


def test_pictures_stand_in_the_page_with_names_of_their_own_and_its_colours(drawn):
    assert set(drawn) == {"curves", "precision_costs", "embeddings"}
    read = Read(page(facts(), embeddings=True, extras=web.Extras(drawn)))
    ids = [attributes["id"] for _, attributes in read.elements if "id" in attributes]
    assert len(ids) == len(set(ids)) > 20
    used = [attributes["xlink:href"][1:] for tag, attributes in read.elements if "xlink:href" in attributes]
    assert used
    assert set(used) <= set(ids)
    pictures = [attributes for tag, attributes in read.elements if tag == "svg"]
    assert [each["role"] for each in pictures] == ["img"] * 3
    assert all(each["aria-label"] for each in pictures)
    joined = "".join(drawn.values()).lower()
    assert "var(--ink)" in joined
    assert not {"#1a1a1a", "#ffffff", "<style", "<metadata", "<!--"} & {
        each for each in ("#1a1a1a", "#ffffff", "<style", "<metadata", "<!--") if each in joined
    }


@pytest.fixture(scope="module")
def opened(tmp_path_factory, drawn):
    if browser.CHROMIUM is None:
        pytest.skip("no Chromium: install it, or Google Chrome")
    path = tmp_path_factory.mktemp("page") / "report.html"
    metrics = facts()
    metrics["mistakes"] *= 2
    metrics["mistakes"][1] = {**metrics["mistakes"][0], "id": "a2"}
    sounds = {"a1": sound(5), "a2": sound(5)}
    content = page(metrics, embeddings=True, extras=web.Extras(drawn, sounds))
    path.write_text(content, encoding="utf-8")
    with browser.opened() as tab:
        tab.open(path.as_uri())
        tab.wait_for("document.readyState === 'complete' && document.querySelectorAll('.play').length === 2")
        yield tab


FOLDS = "document.querySelector('table[aria-label=\"Recall % per fold and class\"]')"


def test_the_browser_asks_for_nothing_and_has_nothing_to_complain_of(opened):
    assert [url for url in opened.requests if not url.startswith(("file:", "data:"))] == []
    assert sum(url.startswith("file:") for url in opened.requests) == 1
    assert opened.console == []


def test_a_table_sorts_by_mouse_and_by_keyboard_and_says_so(opened):
    head = f"{FOLDS}.tHead.rows[0].cells[2]"
    names = f"[...{FOLDS}.tBodies[0].rows].map((row) => row.cells[0].textContent)"
    assert opened.run(f"{head}.getAttribute('aria-sort')") == "none"
    opened.run(f"{head}.querySelector('button').click()")
    assert opened.run(names) == ["fold_2", "fold_1", "fold_0"]
    assert opened.run(f"{head}.getAttribute('aria-sort')") == "ascending"
    assert "ascending" in opened.run("document.getElementById('said').textContent")
    opened.run(f"{head}.querySelector('button').focus()")
    opened.press("Enter", 13, "\r")
    assert opened.run(names) == ["fold_0", "fold_1", "fold_2"]
    assert opened.run(f"{head}.getAttribute('aria-sort')") == "descending"
    folds = "document.querySelector('table[aria-label=\"Folds\"]')"
    opened.run(f"{folds}.tHead.rows[0].cells[5].querySelector('button').click()")
    assert opened.run(f"{folds}.tFoot.rows[0].cells[0].textContent") == "pooled"  # stays at the end


def test_one_recording_plays_at_a_time(opened):
    plays = "[...document.querySelectorAll('audio')].map((each) => !each.paused)"
    with contextlib.suppress(RuntimeError):
        opened.run("document.querySelectorAll('.play')[0].click()")
    opened.wait_for(f"({plays})[0]")
    opened.run("document.querySelectorAll('.play')[1].click()")
    opened.wait_for(f"!({plays})[0] && ({plays})[1]")
    label = "document.querySelectorAll('.play')[1].getAttribute('aria-label')"
    assert opened.wait_for(f"{label} === 'Stop recording a2' && {label}")
    opened.run("document.querySelectorAll('.play')[1].click()")
    opened.wait_for(f"!({plays})[1]")


def test_only_tables_and_pictures_move_sideways(opened):
    for width in (390, 820, 1280):
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        opened.send("Emulation.setDeviceMetricsOverride", **size)
        assert opened.run("document.documentElement.scrollWidth") <= width
        contents = "[...document.querySelectorAll('nav a')].map((each) => each.getBoundingClientRect().right)"
        assert width < 640 or max(opened.run(contents)) <= width


def test_the_page_is_dark_where_the_reader_is(opened):
    color = "getComputedStyle(document.body).backgroundColor"
    seen = []
    for scheme in ("light", "dark"):
        feature = {"name": "prefers-color-scheme", "value": scheme}
        opened.send("Emulation.setEmulatedMedia", features=[feature])
        seen.append(opened.run(color))
    assert seen == ["rgb(255, 255, 255)", "rgb(20, 23, 27)"]


# Of each mark of a picture: the contrast of its line or its filling, whichever is seen better, to the page.
MARKS = """(() => {
    const luminance = (colour) => colour.match(/[\\d.]+/g).slice(0, 3).map(Number)
        .map((value) => value / 255)
        .map((value) => value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4)
        .reduce((sum, value, k) => sum + value * [0.2126, 0.7152, 0.0722][k], 0);
    const paper = luminance(getComputedStyle(document.body).backgroundColor);
    const contrast = (colour) => {
        if (colour === "none") return 1;
        const [low, high] = [luminance(colour), paper].sort((a, b) => a - b);
        return (high + 0.05) / (low + 0.05);
    };
    return [...document.querySelectorAll(".drawing use")]
        .filter((each) => !each.closest("defs") && !each.closest("[id*=text_]"))
        .map((each) => getComputedStyle(each))
        .map((style) => Math.max(contrast(style.fill), contrast(style.stroke)));
})()"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_mark_of_a_picture_is_seen_on_the_page(opened, scheme):
    opened.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    marks = opened.run(MARKS)
    assert len(marks) > 2 * len(palette.EMOTIONS)
    assert min(marks) >= 3


def test_on_paper_the_page_is_light_and_has_nothing_to_press(opened):
    dark = [{"name": "prefers-color-scheme", "value": "dark"}]
    opened.send("Emulation.setEmulatedMedia", media="print", features=dark)
    try:
        assert opened.run("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        sadness = palette.colours(["sadness"])["sadness"]
        assert (
            opened.run("getComputedStyle(document.body).getPropertyValue('--sadness').trim()")
            == sadness.light
        )
        hidden = (
            "[...document.querySelectorAll('nav, .play, audio')].every((each) => !each.checkVisibility())"
        )
        assert opened.run(hidden)
    finally:
        opened.send("Emulation.setEmulatedMedia", media="", features=[])
