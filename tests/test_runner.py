"""The runner against the exported file's promises, and against files and waveforms that break them."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import ai_edge_litert.interpreter
import numpy as np
import pytest
from conftest import HELPERS, REPOSITORY
from exported_cases import CLASSES, TEXT, Case, clips, made_case, spoken, states_student

from light_sernet_kd import audio, cli, runner
from light_sernet_kd.export.tflite import ExportSpec, export
from light_sernet_kd.runner import Runner, RunnerError, Stream, TextWarning, clean, encode_text, word_piece

SAMPLES = 12_001


@pytest.fixture(scope="module")
def case(tmp_path_factory) -> Case:
    return made_case(
        "light_sernet",
        "lsn",
        "mfcc",
        SAMPLES,
        tmp_path_factory.mktemp("runner"),
        precisions=("int8", "float32"),
    )


@pytest.fixture(scope="module")
def right_padded(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("right")
    return made_case("light_sernet_plus", "cubic", "mfcc", SAMPLES, folder, precisions=("float32",)).paths[
        "float32"
    ]


def test_the_card_tells_what_the_file_expects(case):
    opened = Runner(case.paths["int8"])
    assert opened.labels == CLASSES
    assert (opened.samples, opened.sample_rate, opened.padding) == (SAMPLES, 16_000, "both")
    assert opened.precision == "int8"
    assert opened.card["fold"] == "03"


@pytest.mark.parametrize("pad", ["both", "right"])
@pytest.mark.parametrize(
    "length", [1, 2, SAMPLES - 3, SAMPLES - 2, SAMPLES, SAMPLES + 1, SAMPLES + 4, 3 * SAMPLES]
)
def test_a_clip_is_cut_and_padded_as_in_training(length, pad):
    waveform = np.random.default_rng(length).normal(size=length).astype(np.float32)
    np.testing.assert_array_equal(
        runner._fit(waveform, SAMPLES, pad=pad), audio.fit(waveform, SAMPLES, pad=pad)
    )


@pytest.mark.parametrize("length", [SAMPLES // 2, SAMPLES + 3001])
def test_the_card_decides_where_zeros_go(case, right_padded, length):
    waveform = clips(1, length, seed=5)[0]
    for path, pad in ((case.paths["float32"], "both"), (right_padded, "right")):
        opened = Runner(path)
        expected = opened.probabilities(audio.fit(waveform, SAMPLES, pad=pad))
        np.testing.assert_array_equal(opened.probabilities(waveform), expected)


def test_float64_and_float32_samples_give_the_same(case):
    opened = Runner(case.paths["float32"], threads=2)
    waveform = clips(1, SAMPLES)[0]
    found = opened.probabilities(waveform.astype(np.float64))
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, opened.probabilities(waveform))


def test_a_result_outlives_the_next_clip(case):
    opened = Runner(case.paths["float32"])
    first, second = clips(2, SAMPLES)
    kept = opened.probabilities(first)
    copy = kept.copy()
    assert np.abs(opened.probabilities(second) - kept).max() > 1e-3
    np.testing.assert_array_equal(kept, copy)


def test_some_of_the_classes_alone_have_probabilities_that_sum_to_one(case):
    sound = np.random.default_rng(0).normal(size=SAMPLES).astype(np.float32)
    whole = dict(zip(CLASSES, Runner(case.paths["float32"]).probabilities(sound).tolist(), strict=True))
    wanted = (CLASSES[2], CLASSES[0])
    some = Runner(case.paths["float32"], labels=wanted)
    assert some.labels == (CLASSES[0], CLASSES[2])
    expected = [whole[name] / (whole[CLASSES[0]] + whole[CLASSES[2]]) for name in some.labels]
    np.testing.assert_allclose(some.probabilities(sound), expected, rtol=1e-5)
    for labels, message in (
        (["rage"], f"does not know rage: its classes are {CLASSES[0]}"),
        ([CLASSES[0]], "alone leaves nothing to choose from"),
        (CLASSES[0], "alone leaves nothing to choose from"),
    ):
        with pytest.raises(RunnerError, match=message):
            Runner(case.paths["float32"], labels=labels)


def test_threads_that_share_a_runner_get_what_each_would_alone(case):
    opened = Runner(case.paths["int8"])
    sounds = [np.random.default_rng(seed).normal(size=SAMPLES).astype(np.float32) for seed in range(4)]
    expected = [opened.probabilities(sound) for sound in sounds]
    assert len({each.tobytes() for each in expected}) == 4
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(opened.probabilities, sounds * 8))
    np.testing.assert_array_equal(found, expected * 8)


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_silence_has_probabilities_too(case, precision):
    found = Runner(case.paths[precision]).probabilities(np.zeros(100, np.float32))
    assert found.sum() == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize(
    ("waveform", "message"),
    [
        (np.zeros(0, np.float32), "n ≥ 1"),
        (np.zeros((2, 100), np.float32), r"one channel.*\(2, 100\)"),
        (np.float32(0.5), "one channel"),
        (np.zeros(100, np.int16), "int16: divide 16-bit samples by 32768"),
        (np.array([0.0, np.nan, np.inf], np.float32), "2 of 3 samples are not finite"),
        (
            np.array([0.0, -1e20], np.float32),
            r"samples reach 1e\+20, and 1e\+09 is the most: full scale is 1",
        ),
        (np.array([1e300]), "1 of 1 samples are not finite"),
    ],
)
def test_an_unusable_waveform_is_named(case, waveform, message):
    with pytest.raises(RunnerError, match=message):
        Runner(case.paths["int8"]).probabilities(waveform)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(RunnerError, match=r"cannot read .*absent.tflite: No such file"):
        Runner(tmp_path / "absent.tflite")
    with pytest.raises(RunnerError, match=r"cannot read .*: Is a directory"):
        Runner(tmp_path)


@pytest.mark.parametrize("content", [b"", b"TFL3", b"RIFF0000WAVE" * 99, b"PK\x03\x04" * 9])
def test_what_is_no_tflite_file_is_refused(tmp_path, content):
    path = tmp_path / "x.tflite"
    path.write_bytes(content)
    with pytest.raises(RunnerError, match="is not a TFLite file"):
        Runner(path)


def test_without_litert_a_line_says_what_to_install(case):
    program = (
        "import sys, no_tensorflow\n"
        "from light_sernet_kd.runner import Runner, RunnerError\n"
        "try:\n    Runner(sys.argv[1])\n"
        "except RunnerError as error:\n    print(error)"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, (REPOSITORY, HELPERS)))}
    command = [sys.executable, "-c", program, str(case.paths["int8"])]
    said = subprocess.check_output(command, env=environment, text=True)
    assert said == "exported files need LiteRT, which is not installed: pip install ai-edge-litert\n"


def test_more_threads_than_cores_are_no_use_and_are_not_started(case, monkeypatch):
    asked = []

    def interpreter(**arguments):
        asked.append(arguments["num_threads"])
        return real(**arguments)

    real = ai_edge_litert.interpreter.Interpreter
    monkeypatch.setattr(ai_edge_litert.interpreter, "Interpreter", interpreter)
    for threads in (1, 100_000):
        Runner(case.paths["int8"], threads=threads)
    assert asked == [1, os.cpu_count()]


def test_a_tflite_file_without_our_card_is_refused(case, tmp_path):
    content = case.paths["int8"].read_bytes()
    bare = tmp_path / "bare.tflite"
    bare.write_bytes(content[: Runner(case.paths["int8"]).card["model_bytes"]])
    with pytest.raises(RunnerError, match="lacks its card"):
        Runner(bare)
    with zipfile.ZipFile(bare, "a") as archive:  # as another tool's metadata
        archive.writestr("labels.txt", "a\nb\n")
        archive.writestr("card.json", json.dumps(["another tool's"]))
    with pytest.raises(RunnerError, match="lacks its card"):
        Runner(bare)


def test_a_file_cut_short_anywhere_is_refused(case, tmp_path):
    content = case.paths["int8"].read_bytes()
    path = tmp_path / "cut.tflite"
    for length in [10, 4096, *np.linspace(100, len(content) - 1, 40).astype(int)]:
        path.write_bytes(content[:length])
        with pytest.raises(RunnerError, match="lacks its card"):
            Runner(path)


def test_a_damaged_file_is_refused_or_does_the_same(case, tmp_path):
    content = case.paths["int8"].read_bytes()
    model_bytes = Runner(case.paths["int8"]).card["model_bytes"]
    waveform = clips(1, SAMPLES)[0]
    expected = Runner(case.paths["int8"]).probabilities(waveform)
    path = tmp_path / "damaged.tflite"
    refused = 0
    rng = np.random.default_rng(0)
    archive = range(model_bytes, len(content), 2)
    for position in [*rng.integers(8, model_bytes, 100), *archive]:
        damaged = bytearray(content)
        damaged[position] ^= 0x55
        path.write_bytes(damaged)
        try:
            opened = Runner(path)
        except RunnerError:
            refused += 1
            continue
        assert position >= model_bytes, "a changed weight went unnoticed"
        assert opened.labels == CLASSES
        np.testing.assert_array_equal(opened.probabilities(waveform), expected)
    assert refused > 100


def test_the_runner_alone_is_enough_and_quiet(case, tmp_path):
    shutil.copy(runner.__file__, tmp_path / "copied.py")
    program = f"""
import sys
import numpy as np
import copied
found = copied.Runner({str(case.paths["int8"])!r}).probabilities(np.ones(5000, np.float32))
heavy = {{"tensorflow", "keras", "light_sernet_kd", "scipy"}} & set(sys.modules)
print(len(found), sorted(heavy))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert (done.stdout, done.stderr, done.returncode) == (f"{len(CLASSES)} []\n", "", 0)


def test_importing_the_runner_imports_no_tensorflow():
    program = "import sys, light_sernet_kd.runner; print({'tensorflow', 'keras'} & set(sys.modules))"
    root = Path(__file__).resolve().parent.parent
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=root, capture_output=True, text=True, timeout=60
    )
    assert done.stdout == "set()\n"


def test_only_chatter_is_held_back(capfd):
    with runner.without_chatter():
        os.write(2, b"INFO: Created TensorFlow Lite XNNPACK delegate for CPU.\n")
        os.write(2, b"W0000 00:00:1795229872.635752   12930 flatbuffer_export.cc:1] Ignored.\n")
        os.write(2, b"E0000 00:00:1795229872.635752   12930 flatbuffer_export.cc:1] Failed.\n")
        os.write(2, b"error: no such op")
    assert capfd.readouterr().err.splitlines() == [
        "E0000 00:00:1795229872.635752   12930 flatbuffer_export.cc:1] Failed.",
        "error: no such op",
    ]


def test_what_was_written_before_an_error_is_passed_on(capfd):
    def fails():
        with runner.without_chatter():
            os.write(2, b"loc: op is neither custom nor flex\n")
            raise ValueError("conversion failed")

    with pytest.raises(ValueError, match="conversion failed"):
        fails()
    assert capfd.readouterr().err == "loc: op is neither custom nor flex\n"


# Text.

VOCABULARY = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", *"aouüs,(.", "null", "##s", "##o", "grus", "日", "本")


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("Well, (uh) yes.", "Well, yes."),
        ("[LAUGHTER]No[BREATHING]no", "No no"),
        ("she (he [they]) said", "she said"),
        ("(a (b) c) d", "d"),
        ("a) b [c (d]", "a) b"),
        (" one\u00a0two\u2028\tthree\n", "one two three"),
        ("[LAUGHTER]", "NULL"),
        ("", "NULL"),
        ("NULL", "NULL"),
        ("日本 (笑)", "日本"),
        ("((" * 5000, "((" * 5000),
    ],
)
def test_cleaning_leaves_the_spoken_words(text, cleaned):
    assert clean(text) == cleaned
    assert clean(cleaned) == cleaned


def test_a_text_lies_between_cls_and_sep_and_pads_follow():
    tokenizer = word_piece(VOCABULARY, lowercase=True, strip_accents=True)
    ids, mask, was_cut = encode_text(tokenizer, "As, Grüs  日本 x [laughs]", 12)
    expected = ["[CLS]", "a", "##s", ",", "grus", "日", "本", "[UNK]", "[SEP]", "[PAD]", "[PAD]", "[PAD]"]
    assert [VOCABULARY[i] for i in ids] == expected
    assert [*mask] == [1] * 9 + [0] * 3
    assert (ids.dtype, mask.dtype, was_cut) == (np.int32, np.int32, False)


def test_case_and_accents_are_kept_when_told():
    def words(text, **how):
        ids, mask, _ = encode_text(word_piece(VOCABULARY, **how), text, 8)
        return [VOCABULARY[i] for i in ids[mask == 1]][1:-1]

    assert words("A ü", lowercase=False, strip_accents=False) == ["[UNK]", "ü"]
    assert words("A ü", lowercase=False, strip_accents=True) == ["[UNK]", "u"]
    assert words("A ü", lowercase=True, strip_accents=False) == ["a", "ü"]


def test_a_long_text_is_cut_before_its_sep_and_that_is_reported():
    tokenizer = word_piece(VOCABULARY, lowercase=True, strip_accents=True)
    whole, _, was_cut = encode_text(tokenizer, "a o u s", 6)
    assert not was_cut
    assert VOCABULARY[whole[-1]] == "[SEP]"
    ids, mask, was_cut = encode_text(tokenizer, "a o u s", 5)
    assert was_cut
    assert [VOCABULARY[i] for i in ids] == ["[CLS]", "a", "o", "u", "[SEP]"]
    assert mask.all()


def test_what_a_text_says_is_never_a_special_token():
    tokenizer = word_piece(VOCABULARY, lowercase=True, strip_accents=True)
    ids = tokenizer.encode("[SEP] [PAD]").ids[1:-1]
    assert not {VOCABULARY.index("[SEP]"), VOCABULARY.index("[PAD]")} & {*ids}


def test_the_same_tokens_as_tensorflow_texts_bert_tokenizer(shared_data):
    """tensorflow-text's is an implementation of its own, in C++ on ICU.

    It also folds ß to ss and ﬁ to fi, which BERT's own code does not: they are left out here.
    """
    text = pytest.importorskip("tensorflow_text")
    import tensorflow as tf

    path = shared_data / "models" / "bert_uncased_vocab.txt"
    if not path.exists():
        pytest.skip(f"no {path}")
    vocabulary = path.read_text(encoding="utf-8").split("\n")[:-1]
    sentences = [
        "Das will sie am Mittwoch abgeben.",
        "Heute abend könnte ich es ihm sagen: 7,5 % (naja)!",
        "I'm  SO\tunbelievably antidisestablishmentarian...",
        "日本語 and mixed-up naïve Ørsted x\u0301",
    ]
    ours = word_piece(vocabulary, lowercase=True, strip_accents=True)
    table = tf.lookup.StaticVocabularyTable(
        tf.lookup.KeyValueTensorInitializer(vocabulary, tf.range(len(vocabulary), dtype=tf.int64)), 1
    )
    theirs = text.BertTokenizer(table, lower_case=True, unknown_token="[UNK]")
    for sentence in sentences:
        ids, mask, _ = encode_text(ours, sentence, 64)
        expected = theirs.tokenize([clean(sentence)]).merge_dims(-2, -1)[0].numpy()
        np.testing.assert_array_equal(ids[mask == 1][1:-1], expected)


@pytest.mark.parametrize(
    ("vocabulary", "message"),
    [
        ((), "of 0 tokens lacks .PAD., .UNK., .CLS., .SEP."),
        (VOCABULARY[1:], r"lacks \[PAD\]: it is not BERT's kind"),
        ((*VOCABULARY, "a"), "has 'a' twice, as tokens 4 and 18"),
        ((*VOCABULARY, ""), "token 18 of the vocabulary must be one line of text, found ''"),
        ((*VOCABULARY, "x\ny"), r"must be one line of text, found 'x\\ny'"),
    ],
)
def test_a_vocabulary_that_is_none_is_refused(vocabulary, message):
    with pytest.raises(RunnerError, match=message):
        word_piece(vocabulary, lowercase=True, strip_accents=True)


def test_text_that_is_no_unicode_is_named():
    tokenizer = word_piece(VOCABULARY, lowercase=True, strip_accents=True)
    with pytest.raises(RunnerError, match="Unicode characters, found 'a\\\\udcff'"):
        encode_text(tokenizer, "a\udcff", 8)


def test_without_tokenizers_the_install_line_is_given(monkeypatch):
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(RunnerError, match="pip install tokenizers"):
        word_piece(VOCABULARY, lowercase=True, strip_accents=True)


@pytest.fixture(scope="module")
def both(tmp_path_factory) -> Path:
    """A file that takes audio and text."""
    folder = tmp_path_factory.mktemp("both")
    return spoken().export(folder, precisions=("float32",))["float32"].path


@pytest.fixture(scope="module")
def reader(tmp_path_factory) -> Path:
    """A file that takes text alone."""
    folder = tmp_path_factory.mktemp("reader")
    return spoken(hears=False).export(folder, precisions=("dynamic",))["dynamic"].path


@pytest.fixture(scope="module")
def of_states(tmp_path_factory) -> Path:
    """A file that takes what an encoder has made of audio."""
    student, examples = states_student(audio_states=6)
    (exported,) = export(
        student,
        ExportSpec(
            classes=CLASSES,
            representative=examples,
            folder=tmp_path_factory.mktemp("states"),
            card={},
            encoders={"audio_states": "facebook/wav2vec2-large"},
            precisions=("float32",),
        ),
    )
    return exported.path


VOICE = clips(1, 3_000)[0]


@pytest.mark.parametrize(
    ("file", "given", "message"),
    [
        ("both", {"waveform": VOICE}, "also takes the transcript, and there is none: give it"),
        ("both", {"text": "ja"}, "takes audio, and there is no recording: name one"),
        ("both", {}, "takes audio, and there is no recording"),
        ("reader", {"waveform": VOICE, "text": "ja"}, "takes no audio: leave the recording out"),
        ("reader", {}, "takes text, and there is none: give it"),
        ("case", {"waveform": VOICE, "text": "ja"}, "takes no text: leave it out"),
        ("case", {}, "takes audio, and there is no recording"),
        ("of_states", {"waveform": VOICE}, "takes audio_states made by facebook/wav2vec2-large, not audio"),
        ("of_states", {}, "give their states to Runner.probabilities_of_states"),
    ],
)
def test_a_file_is_given_what_it_takes_and_nothing_else(request, file, given, message):
    path = request.getfixturevalue(file)
    opened = Runner(path.paths["float32"] if file == "case" else path)
    with pytest.raises(RunnerError, match=message):
        opened.probabilities(**given)


def test_a_runner_says_what_it_takes(both, reader, of_states):
    assert sorted(Runner(both).inputs) == ["audio", "text_mask", "token_ids"]
    assert Runner(both).text == Runner(reader).text == TEXT
    assert sorted(Runner(reader).inputs) == ["text_mask", "token_ids"]
    assert Runner(of_states).inputs == ("audio_states",)
    assert Runner(of_states).text is None


def test_a_file_from_before_text_was_known_still_runs(case, tmp_path):
    content = case.paths["float32"].read_bytes()
    _, card, labels = runner.open_file(case.paths["float32"])
    old = {name: fact for name, fact in card.items() if name not in ("inputs", "parameters")}
    path = tmp_path / "old.tflite"
    path.write_bytes(content[: card["model_bytes"]])
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("labels.txt", "\n".join(labels))
        archive.writestr("card.json", json.dumps(old))
    opened = Runner(path)
    assert opened.inputs == ("audio",)
    np.testing.assert_array_equal(
        opened.probabilities(VOICE), Runner(case.paths["float32"]).probabilities(VOICE)
    )


def test_what_a_student_does_not_read_is_a_warning_at_the_callers_line(both):
    opened = Runner(both)
    opened.probabilities(VOICE, "ja nein " * 5)
    with pytest.warns(TextWarning, match="longer than 12 tokens: its end was not read") as caught:
        cut = opened.probabilities(VOICE, "ja nein " * 6)
    assert caught[0].filename == __file__
    np.testing.assert_array_equal(cut, opened.probabilities(VOICE, "ja nein " * 5))
    with pytest.warns(TextWarning, match="no word outside of brackets: it was read as NULL"):
        empty = opened.probabilities(VOICE, "[lacht]")
    np.testing.assert_array_equal(empty, opened.probabilities(VOICE, " NULL "))


def test_states_may_be_shorter_than_the_file_and_fit_it_else(of_states):
    opened = Runner(of_states)
    states = np.random.default_rng(1).normal(size=(3, 6)).astype(np.float32)
    padded = np.concatenate([states, np.zeros((4, 6), np.float32)])
    found = opened.probabilities_of_states({"audio_states": states})
    np.testing.assert_array_equal(found, opened.probabilities_of_states({"audio_states": padded}))
    assert found.sum() == pytest.approx(1.0, abs=1e-5)
    for wrong, message in (
        ({"audio_states": np.ones((8, 6))}, r"shape \(n, 6\) with n from 1 to 7, found \(8, 6\)"),
        ({"audio_states": np.ones((3, 5))}, r"found \(3, 5\)"),
        ({"audio_states": np.ones((0, 6))}, r"found \(0, 6\)"),
        ({"audio_states": np.ones(6)}, r"found \(6,\)"),
        ({"audio_states": np.ones((3, 6), int)}, "floating-point numbers, found int64"),
        ({"audio_states": np.full((3, 6), np.nan)}, "finite"),
        ({"text_states": states}, "expected audio_states, which the file takes; found text_states"),
        ({}, "expected audio_states, which the file takes; found none"),
    ):
        with pytest.raises(RunnerError, match=message):
            opened.probabilities_of_states(wrong)
    with pytest.raises(RunnerError, match="takes no audio"):
        opened.probabilities_of_states({"audio_states": states}, waveform=VOICE)


def test_a_file_of_audio_takes_no_states(case):
    with pytest.raises(RunnerError, match="expected no states, which the file takes; found audio_states"):
        Runner(case.paths["float32"]).probabilities_of_states({"audio_states": np.ones((3, 6))})


def test_a_damaged_or_exchanged_vocabulary_is_refused(reader, tmp_path):
    content = reader.read_bytes()
    _, card, _ = runner.open_file(reader)
    path = tmp_path / "damaged.tflite"
    with zipfile.ZipFile(reader) as archive:
        entry = archive.getinfo("vocab.txt")
        vocabulary = archive.read(entry)
    start = entry.header_offset + 30 + len("vocab.txt")
    for position in range(start, start + entry.compress_size, 7):
        damaged = bytearray(content)
        damaged[position] ^= 0x10
        path.write_bytes(damaged)
        with pytest.raises(RunnerError, match="Export or copy it again"):
            Runner(path)
    path.write_bytes(content[: card["model_bytes"]])
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("labels.txt", "".join(f"{name}\n" for name in CLASSES))
        archive.writestr("card.json", json.dumps(card))
        archive.writestr("vocab.txt", vocabulary.replace(b"ja\nnein", b"nein\nja"))
    with pytest.raises(RunnerError, match="holds another vocabulary than its student's"):
        Runner(path)


def test_reading_text_on_a_device_needs_no_tensorflow(both, tmp_path):
    shutil.copy(runner.__file__, tmp_path / "copied.py")
    program = f"""
import sys
import numpy as np
import copied
found = copied.Runner({str(both)!r}).probabilities(np.ones(5000, np.float32), "Das könnte ich")
heavy = {{"tensorflow", "keras", "light_sernet_kd", "scipy", "transformers", "huggingface_hub"}}
print(len(found), sorted(heavy & set(sys.modules)))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert (done.stdout, done.stderr, done.returncode) == (f"{len(CLASSES)} []\n", "", 0)


def test_a_student_that_reads_text_has_no_stream(both, reader):
    with pytest.raises(RunnerError, match="takes the transcript of a clip, which windows of a stream do not"):
        Stream(Runner(both))
    with pytest.raises(RunnerError, match="takes no audio"):
        Stream(Runner(reader))


# The command predict.


@pytest.fixture
def recordings(shared_data) -> list[str]:
    """Two sentences of EMO-DB."""
    return [str(shared_data / "EMO-DB" / "wav" / name) for name in ("03a01Fa.wav", "03a02Nc.wav")]


def test_predict_with_a_text_says_what_the_runner_says(both, recordings, capsys):
    text = "Das könnte sie – 日本?"
    assert cli.main(["predict", str(both), recordings[0], "--text", text, "--json"]) == 0
    (answer,) = json.loads(capsys.readouterr().out)
    waveform = audio.read(Path(recordings[0]))
    expected = Runner(both).probabilities(waveform, text)
    np.testing.assert_allclose([*answer["probabilities"].values()], expected, atol=1e-6)
    assert answer["label"] == CLASSES[expected.argmax()]
    assert (answer["file"], answer["text"], answer["text_warnings"]) == (recordings[0], text, [])
    # The text counts: another one, another answer.
    assert cli.main(["predict", str(both), recordings[0], "--text=nein", "--json"]) == 0
    (other,) = json.loads(capsys.readouterr().out)
    assert other["probabilities"] != answer["probabilities"]


@pytest.mark.parametrize("delimiter", [",", "\t", ";"])
def test_predict_takes_the_texts_of_a_manifest(both, recordings, tmp_path, capsys, delimiter):
    table = tmp_path / "manifest.csv"
    rows = [("emotion", "path", "transcript"), ("anger", "x/03a02Nc.wav", "ja ja")]
    rows += [("anger", recordings[0], "das will sie nicht " * 4), ("anger", "y/other.wav", "nein")]
    table.write_text("\ufeff" + "".join(f"{delimiter.join(row)}\n" for row in rows), encoding="utf-8")
    assert cli.main(["predict", str(both), *recordings, "--text-file", str(table), "--json"]) == 0
    captured = capsys.readouterr()
    first, second = json.loads(captured.out)
    assert (first["text"], second["text"]) == (rows[2][2].strip(), "ja ja")
    assert second["text_warnings"] == []
    assert first["text_warnings"] == ["the text is longer than 12 tokens: its end was not read."]
    assert captured.err == f"light-sernet-kd: {recordings[0]}: {first['text_warnings'][0]}\n"


def test_predict_of_a_file_name_that_is_there_twice_goes_by_the_path(both, recordings, tmp_path, capsys):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        shutil.copy(recordings[0], tmp_path / folder / "1.wav")
    table = tmp_path / "texts.tsv"
    table.write_text("path\ttranscript\na/1.wav\tja\nb/1.wav\tnein\n")
    paths = [str(tmp_path / folder / "1.wav") for folder in "ba"]
    assert cli.main(["predict", str(both), *paths, "--text-file", str(table), "--json"]) == 0
    assert [answer["text"] for answer in json.loads(capsys.readouterr().out)] == ["nein", "ja"]
    table.write_text("path\ttranscript\n1.wav\tja\n1.wav\tnein\n")
    assert cli.main(["predict", str(both), paths[0], "--text-file", str(table)]) == 2
    assert "no text for it; expected one row with its path" in capsys.readouterr().err


def test_predict_names_a_recording_without_a_text_and_answers_for_the_others(
    both, recordings, tmp_path, capsys
):
    table = tmp_path / "texts.csv"
    table.write_text("path,transcript\n03a02Nc.wav,\n")
    assert cli.main(["predict", str(both), *recordings, "--text-file", str(table)]) == 2
    captured = capsys.readouterr()
    missing, empty = captured.err.splitlines()
    assert missing.endswith(f"{recordings[0]}: {table} has no text for it; expected one row with its path.")
    assert empty.endswith("the text has no word outside of brackets: it was read as NULL.")
    assert captured.out.startswith(f"{recordings[1]}: ")


def test_predict_of_text_alone(reader, tmp_path, capsys):
    assert cli.main(["predict", str(reader), "--text", "ja nein"]) == 0
    assert capsys.readouterr().out.startswith("ja nein: ")
    table = tmp_path / "texts.csv"
    table.write_text('path,transcript\none.wav,ja\n,"nein, ja"\n')
    assert cli.main(["predict", str(reader), "--text-file", str(table), "--json"]) == 0
    answers = json.loads(capsys.readouterr().out)
    assert [(answer.get("file"), answer["text"]) for answer in answers] == [
        ("one.wav", "ja"),
        (None, "nein, ja"),
    ]
    assert {answer["reason"] for answer in answers} <= {None, "not sure"}
    np.testing.assert_allclose(
        [*answers[0]["probabilities"].values()], Runner(reader).probabilities(text="ja"), atol=1e-6
    )


@pytest.mark.parametrize(
    ("file", "arguments", "message"),
    [
        ("both", ["x.wav"], "there is none: give it (predict --text)."),
        ("both", ["--text", "ja"], "there is no recording: name one."),
        (
            "both",
            ["a.wav", "b.wav", "--text", "ja"],
            "--text is for one recording, found 2: take --text-file.",
        ),
        ("both", ["a.wav", "--text", "ja", "--text-file", "t.csv"], "not allowed with argument --text"),
        ("both", ["a.wav", "--text", ""], "the value after --text is empty"),
        ("both", ["a.wav", "--text-file", "absent.csv"], "no table of transcripts absent.csv."),
        ("reader", ["x.wav", "--text", "ja"], "takes no audio: leave the recording out."),
        ("reader", [], "there is none: give it (predict --text)."),
        ("of_states", ["x.wav"], "made by facebook/wav2vec2-large, not audio: encoders that are not in its"),
        ("of_states", [], "Runner.probabilities_of_states"),
    ],
)
def test_predict_says_in_one_line_what_is_wrong(request, capsys, file, arguments, message):
    assert cli.main(["predict", str(request.getfixturevalue(file)), *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


def test_recordings_of_predict_may_stand_before_and_after_options(both, recordings, capsys):
    first, second = recordings
    orders = (
        [str(both), "--text", "ja", "--json", first],
        [str(both), first, "--json", "--text", "ja"],
        ["--json", "--text", "ja", str(both), "--", first],
        [str(both), "--json", "--text", "ja", "--", first],
    )
    for arguments in orders:
        assert cli.main(["predict", *arguments]) == 0
        (answer,) = json.loads(capsys.readouterr().out)
        assert (answer["file"], answer["text"]) == (first, "ja")
    assert cli.main(["predict", str(both), first, "--text", "ja", second]) == 2
    assert "found 2" in capsys.readouterr().err
    assert cli.main(["predict", str(both), "--jsn", first]) == 2
    assert "unknown option --jsn. Did you mean --json?" in capsys.readouterr().err


def test_predict_with_text_for_a_file_that_takes_none(case, capsys):
    assert cli.main(["predict", str(case.paths["int8"]), "x.wav", "--text", "ja"]) == 2
    assert "takes no text: leave it out." in capsys.readouterr().err
    assert cli.main(["predict", str(case.paths["int8"])]) == 2
    assert "there is no recording: name one." in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the header lacks transcript; expected path,transcript, found nothing."),
        (b"path,text\na.wav,ja\n", "lacks transcript; expected path,transcript, found path,text."),
        (b"path,transcript\n", "lists no texts."),
        (b"path,transcript\na.wav,ja, nein\n", "line 2: 3 cells, but the header has 2."),
        (b'path,transcript\na.wav,"ja\n', "line 2: a cell opens a quote"),
        ("path,transcript\na.wav,könnte\n".encode("latin-1"), "is not UTF-8 text"),
    ],
)
def test_a_table_of_texts_that_cannot_be_read_is_named(reader, tmp_path, capsys, content, message):
    table = tmp_path / "texts.csv"
    table.write_bytes(content)
    assert cli.main(["predict", str(reader), "--text-file", str(table)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert str(table) in line
    assert message in line
