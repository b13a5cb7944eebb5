"""Cards and archives that break their promises: opening gives a runner, or one line that names the fault."""

import contextlib
import copy
import hashlib
import json
import os
import random
import struct
import threading
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_student import (
    CLASSES,
    EMBEDDING,
    RATE,
    SAMPLES,
    audio_student,
    card_of,
    enrolled_flatbuffer,
    enrolled_student,
    flatbuffer,
    packed,
    states_student,
    text_student,
    weights,
)

from light_sernet_kd import cli, runner
from light_sernet_kd.analysis import benchmark, stress
from light_sernet_kd.device import serve
from light_sernet_kd.errors import UserError
from light_sernet_kd.export import golden
from light_sernet_kd.runner import Runner, RunnerError


@pytest.fixture(scope="module")
def model() -> bytes:
    return flatbuffer({"audio": (SAMPLES,)})


@pytest.fixture(scope="module")
def whole(model) -> dict[str, Any]:
    """A card with every field that is read."""
    return card_of(
        model,
        front_end="lsn",
        input_type="mfcc",
        distillation="KD",
        protocol="loso",
        trained="2026-11-21",
        scored="UA of the folds' students",
        corpus_licence="CC0",
        teacher_licence="for research",
        started_from="run before on RAVDESS",
        start_licence="by request",
        light_sernet_kd="1.0",
        folds=["03", "08"],
        parameters=1000,
        parameters_without_embeddings=1000,
        ua=0.7,
        ua_low=0.6,
        ua_high=0.8,
        wa=0.7,
    )


def refusal(path: Path) -> str:
    """The one line that every way of opening a file ends in."""
    with pytest.raises(RunnerError) as caught:
        Runner(path)
    for opened in (benchmark.open_file, serve.students, stress.open_part, lambda each: golden.golden([each])):
        with pytest.raises(UserError) as other:
            opened(path)
        assert str(other.value) == str(caught.value)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 400 + len(str(path))
    return message.replace(str(path), "FILE")


def test_a_small_student_answers_as_its_weights_say(tmp_path):
    sound = np.random.default_rng(1).normal(0, 0.1, SAMPLES).astype(np.float32)
    logits = weights() @ sound
    expected = np.exp(logits) / np.exp(logits).sum()
    np.testing.assert_allclose(
        Runner(audio_student(tmp_path / "x.tflite")).probabilities(sound), expected, rtol=1e-3
    )


@pytest.mark.parametrize("extra", [{}, {"training_recordings": {"hashes": ["a"] * 9}, "note": None}])
def test_a_card_may_say_more_and_leave_out_what_is_optional(model, tmp_path, extra):
    needed = ("input", "samples", "sample_rate", "padding", "precision", "model_bytes", "model_sha256")
    card = {name: value for name, value in card_of(model).items() if name in needed}
    opened = Runner(packed(tmp_path / "x.tflite", model, {**card, **extra}))
    assert (opened.inputs, opened.labels, opened.samples) == (("audio",), CLASSES, SAMPLES)
    assert runner.unsure_threshold(opened.card) == 0.5


def test_every_kind_of_file_opens(tmp_path):
    assert Runner(text_student(tmp_path / "both.tflite", hears=True)).text.tokens == 6
    assert Runner(text_student(tmp_path / "text.tflite", hears=False)).samples == 0
    assert Runner(states_student(tmp_path / "states.tflite")).inputs == ("audio_states",)
    assert Runner(enrolled_student(tmp_path / "enrolled.tflite")).card["enrolled"]["width"] == 5


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"precision": None}, "precision must be one of float32, float16, dynamic, int8, found nothing"),
        ({"precision": "int4"}, "precision must be one of float32, float16, dynamic, int8, found 'int4'"),
        ({"samples": "8000"}, "samples must be a whole number from 1 to 553,648,128, found '8000'"),
        ({"samples": True}, "samples must be a whole number from 1 to 553,648,128, found True"),
        ({"samples": 8000.0}, "samples must be a whole number from 1 to 553,648,128, found 8000.0"),
        ({"samples": None}, "samples must be a whole number from 1 to 553,648,128, found nothing"),
        (
            {"samples": SAMPLES - 1},
            "samples promises audio [1, 7999] float32, and its model takes audio [1, 8000]",
        ),
        ({"sample_rate": 0}, "sample_rate must be a whole number from 1,000 to 384,000, found 0"),
        ({"sample_rate": 10**400}, "found 1000"),
        ({"padding": "left"}, "padding must be both or right, found 'left'"),
        ({"padding": ["both"]}, "padding must be both or right, found ['both']"),
        ({"temperature": 0}, "temperature must be a number above 0, found 0"),
        ({"unsure_below": 2}, "unsure_below must be a number from 0 to 1, found 2"),
        ({"unsure_below": "0.5"}, "unsure_below must be a number from 0 to 1, found '0.5'"),
        ({"stamps": "VALIDATION IS TEST"}, "stamps must be a list of texts, found 'VALIDATION IS TEST'"),
        ({"stamps": [["x"]]}, "stamps must be a list of texts, found a list of 1"),
        ({"corpus": 5}, "corpus must be a text, found 5"),
        ({"corpus": "\ud800"}, r"corpus must be a text, found '\ud800'"),
        ({"student": "\x1b[2J"}, r"student must be a text, found '\x1b[2J'"),
        ({"synthetic": "no"}, "synthetic must be true or false, found 'no'"),
        ({"ua": "0.7"}, "ua must be a number from 0 to 1, found '0.7'"),
        ({"ccc": [0.5]}, "ccc must be an object of dimensions with numbers from -1 to 1"),
        ({"ccc": {"arousal": {"ccc": 1.5}}}, "ccc must be an object of dimensions with numbers from -1 to 1"),
        ({"ccc": {"arousal": {"ccc": 0.5, "low": 0.4}}}, "ccc must be an object of dimensions"),
        ({"folds": {"03": 1}}, "folds must be a list of texts, found an object of 1 fields"),
        (
            {"classes": ["anger", "sadness", "neutral"]},
            "classes must be the labels of its labels.txt, ['anger', 'neutral', 'sadness'], found ['anger', ",
        ),
        ({"classes": [*CLASSES, "x"]}, "classes must be the labels of its labels.txt"),
        ({"classes": ["a", "a", "b"]}, "classes must be a list of different names, each one line of text"),
        ({"input": 7}, "input must be a text, found 7"),
        ({"inputs": []}, "inputs must be a list of different names out of audio, features,"),
        ({"inputs": ["audio", "audio"]}, "inputs must be a list of different names"),
        ({"inputs": ["audio", "video"]}, "inputs must be a list of different names"),
        ({"inputs": ["audio", "features"]}, "inputs must be audio or features"),
        ({"inputs": ["audio", "text_mask"]}, "inputs must be with both token_ids and text_mask or neither"),
        ({"inputs": ["features"]}, "inputs must be the model's, ['audio'], found ['features']"),
        ({"inputs": None, "input": "mfcc"}, "input must be a list of different names out of audio"),
        ({"text": {"tokens": 5}}, "text must be left out, since the file reads none"),
        ({"inputs": ["audio", "token_ids", "text_mask"]}, "text must be an object, found nothing"),
        ({"states": {"audio_states": {}}}, "states must be left out, since the file takes none"),
        ({"states": {}}, "states must be left out, since the file takes none"),
        ({"model_bytes": 8}, "where the archive behind the model begins, found 8"),
        ({"model_bytes": "8"}, "model_bytes must be a whole number"),
        ({"model_sha256": "0" * 63}, "model_sha256 must be 64 hexadecimal digits"),
        ({"model_sha256": "0" * 64}, "is damaged: its checksum differs from its card's"),
    ],
)
def test_a_field_that_does_not_fit_is_named_with_what_was_found(model, tmp_path, facts, message):
    assert message in refusal(packed(tmp_path / "x.tflite", model, card_of(model, **facts)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"text": {"tokens": 5}}, "text.lowercase must be true or false, found nothing"),
        ({"tokens": 7}, "text.tokens promises token_ids [1, 7] int32, and its model takes token_ids [1, 6]"),
        ({"tokens": "6"}, "text.tokens must be a whole number from 2 to 1,048,576, found '6'"),
        ({"lowercase": 1}, "text.lowercase must be true or false, found 1"),
        ({"vocabulary_sha256": "0" * 64}, "holds another vocabulary than its student's"),
        ({"cleaning": None}, "text.cleaning must be a text, found nothing"),
    ],
)
def test_settings_of_text_are_checked_alike(tmp_path, change, message):
    path = text_student(tmp_path / "x.tflite", hears=False)
    text = {**runner.open_file(path)[1]["text"], **change}
    text_student(path, hears=False, text=change.get("text", text))
    with pytest.raises(RunnerError) as caught:
        Runner(path)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("states", "message"),
    [
        (
            {"audio_states": {"rows": 6, "width": 5, "encoder": "x"}},
            "states.audio_states promises audio_states",
        ),
        (
            {"audio_states": {"rows": 7, "width": 5}},
            "states.audio_states.encoder must be a text, found nothing",
        ),
        ({"audio_states": [7, 5]}, "states.audio_states must be an object, found a list of 2"),
        (
            {"text_states": {"rows": 7, "width": 5, "encoder": "x"}},
            "states must be an object of audio_states",
        ),
    ],
)
def test_states_are_checked_alike(tmp_path, states, message):
    with pytest.raises(RunnerError) as caught:
        runner.open_file(states_student(tmp_path / "x.tflite", states=states))
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("enrolled", "message"),
    [
        (None, "enrolled must be an object, since its model has the signature enrolled, found nothing"),
        (True, "enrolled must be an object, found True"),
        ({"width": 5}, "enrolled.embedding must be 64 hexadecimal digits, found nothing"),
        ({"embedding": EMBEDDING}, "enrolled.width must be a whole number from 1 to 65,536, found nothing"),
        ({"embedding": EMBEDDING, "width": 5.0}, "enrolled.width must be a whole number"),
        (
            {"embedding": EMBEDDING, "width": 6},
            "promises that its signature enrolled takes audio [1, 8000] float32, clips [1, 1] float32, "
            "speaker [1, 6] float32, and its model's takes audio [1, 8000] float32, clips [1, 1] float32, "
            "speaker [1, 5] float32.",
        ),
    ],
)
def test_what_a_card_says_of_known_speakers_is_checked_alike(tmp_path, enrolled, message):
    assert message in refusal(enrolled_student(tmp_path / "x.tflite", enrolled=enrolled))


def test_a_signature_is_there_where_the_card_says_so_and_takes_what_it_should(model, tmp_path):
    facts = {"enrolled": {"embedding": EMBEDDING, "width": 5}}
    message = refusal(packed(tmp_path / "x.tflite", model, card_of(model, **facts)))
    assert "enrolled must be left out, since its model has no signature enrolled" in message
    wrong = enrolled_flatbuffer(clips=5)
    message = refusal(packed(tmp_path / "x.tflite", wrong, card_of(wrong, **facts)))
    assert "clips [1, 1] float32, speaker" in message
    assert "its model's takes audio [1, 8000] float32, clips [1, 5] float32" in message
    path = text_student(tmp_path / "x.tflite", hears=True, **facts)
    with pytest.raises(RunnerError, match="enrolled must be left out of a file that takes more than audio"):
        Runner(path)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (
            "anger\nneutral\n",
            "its card's classes are 2, so that its model must give [1, 2] float32; it gives [1, 3]",
        ),
        ("a\nb\nc\nd\n", "it gives [1, 3] float32"),
        ("", "labels.txt must be different names, one a line; found []"),
        ("a\na\nb\n", "labels.txt must be different names"),
        ("a\n\nb\n", "labels.txt must be different names"),
    ],
)
def test_labels_are_as_many_as_the_model_gives(model, tmp_path, labels, message):
    card = card_of(model, classes=None)
    assert message in refusal(packed(tmp_path / "x.tflite", model, card, labels=labels))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[" * 2_000_000, "card.json cannot be read as JSON (it is nested too deeply)"),
        (b'{"a":' * 200_000, "card.json cannot be read as JSON (it is nested too deeply)"),
        (b'{"samples": ' + b"9" * 5000 + b"}", "cannot be read as JSON (a number in it is none, or has too"),
        (b'{"ua": NaN}', "cannot be read as JSON (a number in it is none"),
        (b"\xff{}", "cannot be read as JSON (it is not UTF-8)"),
        (b"{", "cannot be read as JSON (Expecting property name"),
        (b"[]", "lacks its card: card.json holds [], not an object"),
        (b"5", "lacks its card: card.json holds 5, not an object"),
        (b"null", "lacks its card: card.json holds nothing, not an object"),
    ],
)
def test_what_is_no_json_object_is_named(model, tmp_path, content, message):
    assert message in refusal(packed(tmp_path / "x.tflite", model, content))


# Bombs, and what is no regular file.


def refused(path: Path) -> None:
    with pytest.raises(RunnerError):
        Runner(path)


def peak_of(action) -> int:
    tracemalloc.start()
    try:
        action()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("member", ["card.json", "labels.txt", "vocab.txt"])
def test_a_member_that_unpacks_to_much_is_not_unpacked(model, tmp_path, member):
    path = text_student(tmp_path / "x.tflite", hears=False)
    contents = {}
    with zipfile.ZipFile(path) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    start = json.loads(contents["card.json"])["model_bytes"]
    path.write_bytes(path.read_bytes()[:start])
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, content in contents.items():
            if name != member:
                archive.writestr(name, content)
        with archive.open(member, "w") as bomb:
            for _ in range(40):
                bomb.write(bytes(2**20))
    peak = peak_of(lambda: refused(path))
    assert peak < 4e6
    with pytest.raises(
        RunnerError, match=rf"holds {member} of 41,943,040 bytes, and at most [\d,]+ are read"
    ):
        Runner(path)


def test_a_size_that_is_understated_unpacks_no_more(model, tmp_path):
    path = packed(tmp_path / "x.tflite", model, b" " * 5_000_000)
    content = bytearray(path.read_bytes())
    at = content.rfind(b"PK\1\2", 0, content.rfind(b"card.json"))
    assert struct.unpack_from("<I", content, at + 24) == (5_000_000,)
    struct.pack_into("<I", content, at + 24, 1000)
    path.write_bytes(content)
    assert peak_of(lambda: refused(path)) < 1e6


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_methods_that_unpack_without_a_bound_are_refused(model, tmp_path, method):
    path = tmp_path / "x.tflite"
    path.write_bytes(model)
    with zipfile.ZipFile(path, "a", method) as archive:
        archive.writestr("card.json", json.dumps(card_of(model)))
        archive.writestr("labels.txt", "\n".join(CLASSES))
    assert "holds card.json packed by a method that exports do not use" in refusal(path)


def test_an_archive_of_very_many_members_is_not_listed(model, tmp_path):
    path = tmp_path / "x.tflite"
    path.write_bytes(model)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("card.json", json.dumps(card_of(model)))
        archive.writestr("labels.txt", "\n".join(CLASSES))
        for number in range(2000):
            archive.writestr(f"{number:0600}", b"")
    assert peak_of(lambda: refused(path)) < 2e6
    assert "an archive of far more than an export's few members" in refusal(path)


def test_a_vocabulary_of_very_many_lines_is_refused(tmp_path):
    path = text_student(tmp_path / "x.tflite", hears=False)
    _, card, _ = runner.open_file(path)
    lines = "\n" * (2**20 + 1)
    card["text"]["vocabulary_sha256"] = hashlib.sha256(lines.encode()).hexdigest()
    packed(path, path.read_bytes()[: card["model_bytes"]], card, vocabulary=lines)
    with pytest.raises(RunnerError, match=r"vocab.txt has 1,048,577 lines, expected 1 to 1,048,576"):
        Runner(path)


def test_a_large_file_that_is_no_tflite_is_not_read(tmp_path):
    path = tmp_path / "x.tflite"
    with open(path, "wb") as file:
        file.write(b"RIFF0000WAVE")
        file.truncate(20 * 2**30)  # no room is taken
    assert peak_of(lambda: refused(path)) < 1e6
    assert "is not a TFLite file" in refusal(path)
    with open(path, "r+b") as file:
        file.write(b"0000TFL3")
    assert peak_of(lambda: refused(path)) < 1e6
    assert "has 21,474,836,480 bytes, and a TFLite file has 2,214,592,512 at most" in refusal(path)


def test_a_whole_file_is_not_held_while_it_is_checked(tmp_path):
    path = tmp_path / "x.tflite"
    model = flatbuffer({"audio": (SAMPLES,)}) + bytes(30 * 2**20)
    packed(path, model, card_of(model))
    assert peak_of(lambda: Runner(path)) < 4e6


@pytest.mark.skipif(os.name == "nt", reason="there are no such files")
def test_pipes_and_devices_are_refused_at_once(tmp_path):
    pipe = tmp_path / "pipe.tflite"
    os.mkfifo(pipe)
    for path in (pipe, Path("/dev/zero"), Path("/dev/null")):
        ended = threading.Event()

        def opens(path=path, ended=ended) -> None:
            with contextlib.suppress(RunnerError):
                Runner(path)
            ended.set()

        threading.Thread(target=opens, daemon=True).start()
        assert ended.wait(5), f"{path} is waited for"
        assert "it is a pipe or a device, not a regular file" in refusal(path)


def test_a_name_that_no_file_can_have_is_one_line(capsys):
    with pytest.raises(RunnerError, match="cannot read"):
        Runner("a\0b.tflite")
    with pytest.raises(RunnerError, match="File name too long"):
        Runner("x" * 5000)


# Many crafted cards.

_VALUES: tuple[Any, ...] = (
    *(
        None,
        True,
        False,
        0,
        -1,
        1,
        2.5,
        1e308,
        -1e308,
        10**30,
        -(10**300),
        "",
        "x",
        "audio",
        "\ud800",
        "\0\x1b",
    ),
    *([], {}, [[]], [None], ["a", "a"], {"a": {"b": [1, {"c": None}]}}, [1] * 1000, "y" * 100_000),
)


def _deep(rng: random.Random) -> Any:
    value: Any = 1
    for _ in range(rng.randrange(1, 300)):
        value = [value] if rng.random() < 0.5 else {"a": value}
    return value


def _crafted(card: dict[str, Any], rng: random.Random) -> bytes:
    """The card as JSON with one to three of its values, at any depth, gone, exchanged, nested or renamed."""
    card = copy.deepcopy(card)
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        place: Any = card
        while True:
            if not place:
                break
            key = rng.choice([*place] if isinstance(place, dict) else range(len(place)))
            if isinstance(place[key], dict | list) and place[key] and rng.random() < 0.6:
                place = place[key]
                continue
            kind = rng.randrange(6)
            if kind == 0:
                del place[key]
            elif kind == 1:
                place[key] = rng.choice(_VALUES)
            elif kind == 2:
                place[key] = rng.choice(
                    [[place[key]], {"value": place[key]}, [place[key]] * 2, str(place[key])]
                )
            elif kind == 3 and isinstance(place, dict):
                place[rng.choice([*card, "x"])] = place.pop(key)
            elif kind == 4 and isinstance(place[key], int | float):
                place[key] = rng.choice([place[key] + 1, -place[key], place[key] * 10**9, float(place[key])])
            else:
                place[key] = _deep(rng)
            break
    text = json.dumps(card)
    if rng.random() < 0.1:
        at = rng.randrange(len(text))
        text = text[:at] + rng.choice(["", "NaN", "[" * 5000, "9" * 5000, "\u2028", '"']) + text[at + 1 :]
    return text.encode()


def _campaign(
    folder: Path, card: dict[str, Any], model: bytes, *, count: int, seed: int, **more: Any
) -> tuple:
    rng, opened, refused, told = random.Random(seed), 0, 0, []
    sound = np.random.default_rng(0).normal(0, 0.1, RATE).astype(np.float32)
    path = folder / "x.tflite"
    for number in range(count):
        content = _crafted(card, rng)
        packed(path, model, content, **more)
        found: list[Any] = []
        for opens in (Runner, benchmark.open_file, serve.students, lambda each: golden.golden([each])):
            try:
                found.append(opens(path))
            except (RunnerError, UserError) as error:
                told.append(str(error))
            except Exception as error:
                raise AssertionError(f"card {number}: {type(error).__name__}: {content[:2000]!r}") from error
        if not found:
            refused += 1
            continue
        opened += 1
        assert isinstance(found[0], Runner)
        names, answers = found[0].labels, []
        with contextlib.suppress(RunnerError):  # where it takes something else
            answers = found[0].probabilities(sound, "ja" if found[0].text else None)
            assert len(answers) == len(names)
        json.dumps(benchmark.folds_students(found[0].card), allow_nan=False)
        runner.caveats(found[0].card)
        for each in found[1:]:
            if isinstance(each, dict) and path.name in each:
                json.dumps(serve.described(each[path.name][0], "/x", 5), allow_nan=False).encode()
    assert not [each for each in told if "\n" in each]
    return opened, refused


def test_crafted_cards_open_or_are_refused_in_one_line(tmp_path, model, whole):
    opened, refused = _campaign(tmp_path, whole, model, count=250, seed=1)
    assert opened > 10
    assert refused > 100


def test_crafted_cards_of_other_students_likewise(tmp_path):
    path = text_student(tmp_path / "text.tflite", hears=True)
    content, (_, card, _) = path.read_bytes(), runner.open_file(path)
    with zipfile.ZipFile(path) as archive:
        vocabulary = archive.read("vocab.txt").decode()
    model = content[: card["model_bytes"]]
    assert min(_campaign(tmp_path, card, model, count=80, seed=2, vocabulary=vocabulary)) > 2
    path = states_student(tmp_path / "states.tflite")
    content, (_, card, _) = path.read_bytes(), runner.open_file(path)
    assert min(_campaign(tmp_path, card, content[: card["model_bytes"]], count=60, seed=3)) > 1
    path = enrolled_student(tmp_path / "enrolled.tflite")
    content, (_, card, _) = path.read_bytes(), runner.open_file(path)
    assert min(_campaign(tmp_path, card, content[: card["model_bytes"]], count=80, seed=5)) > 2


@pytest.mark.every
@pytest.mark.parametrize("seed", range(10, 20))
def test_many_more_crafted_cards_open_or_are_refused(tmp_path, model, whole, seed):
    assert min(_campaign(tmp_path, whole, model, count=1000, seed=seed)) > 50


def test_bytes_changed_anywhere_in_a_small_file_open_or_are_refused(tmp_path, model, whole):
    path = packed(tmp_path / "x.tflite", model, whole)
    content, rng = path.read_bytes(), np.random.default_rng(4)
    for _ in range(150):
        damaged = bytearray(content)
        for place in rng.integers(len(model), len(content), rng.integers(1, 4)):
            damaged[place] = rng.integers(256)
        path.write_bytes(damaged[: rng.choice([len(damaged), rng.integers(1, len(damaged))], p=[0.8, 0.2])])
        with contextlib.suppress(RunnerError):
            assert Runner(path).labels == CLASSES


def test_a_refused_file_is_one_line_on_the_command_line(model, tmp_path, capsys):
    path = str(packed(tmp_path / "x.tflite", model, card_of(model, samples=-5)))
    for arguments in (
        ["predict", path, "x.wav"],
        ["predict", path, "x.wav", "--stream"],
        ["listen", path],
        ["benchmark", path],
        ["demo", path],
        ["golden", path],
    ):
        assert cli.main(arguments) == 2, arguments
        captured = capsys.readouterr()
        (line,) = captured.err.splitlines()
        assert "its card's samples must be a whole number" in line
