"""The runner against the exported file's promises, and against files and waveforms that break them."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import ai_edge_litert.interpreter
import numpy as np
import pytest
from test_export import CLASSES, Case, clips, made_case

from light_sernet_kd import audio, runner
from light_sernet_kd.runner import Runner, RunnerError, clean, encode_text, word_piece

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


def test_more_threads_than_cores_are_no_use_and_are_not_started(case, monkeypatch):
    asked = []

    def interpreter(**arguments):
        asked.append(arguments["num_threads"])
        return ai_edge_litert.interpreter.Interpreter(**arguments)

    monkeypatch.setattr(runner, "Interpreter", interpreter)
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
    """tensorflow-text's is an implementation of its own, in C++ on ICU."""
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
        "日本語 and mixed-up naïve Ørsted x\u0301 ﬁ",
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
