"""A folder of recordings without labels: what is taken, what no test may meet, and whose turn it is."""

import dataclasses
import hashlib
import shutil

import numpy as np
import pytest
import soundfile

from light_sernet_kd import audio
from light_sernet_kd.audio import augment
from light_sernet_kd.corpora import Utterance, demo
from light_sernet_kd.data import batches as batching
from light_sernet_kd.data import feature_cache, signatures
from light_sernet_kd.data.augmenter import Augmenter
from light_sernet_kd.data.batches import Examples, TeacherOutputs, UnlabelledClips, batches
from light_sernet_kd.data.protocols import Fold
from light_sernet_kd.data.unlabelled import Clips, leaking, leaks_named, sentence, survey, surveys, windows
from light_sernet_kd.encoders import front_end
from light_sernet_kd.encoders.embedding_cache import OneEach, embed_by_key
from light_sernet_kd.errors import UserError

RATE, SAMPLES = 16_000, 12_000
VOICES, TEXTS = list(demo.SPEAKERS), list(demo.SENTENCES)


def speech(number=0, emotion="anger"):
    return demo.synthesise(VOICES[number % 4], TEXTS[number // 4 % 4], emotion)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Speech, one recording of it long, in several formats, with copies, silence and what is none."""
    place = tmp_path_factory.mktemp("speech")
    (place / "more" / ".hidden").mkdir(parents=True)
    for number in range(4):
        soundfile.write(place / "more" / f"{number}.wav", speech(number)[:SAMPLES], RATE)
    long = np.concatenate([speech(number) for number in range(4, 8)])
    soundfile.write(place / "long.flac", long, RATE)
    soundfile.write(place / "long again.wav", soundfile.read(place / "long.flac")[0], RATE)
    soundfile.write(place / "pause.wav", np.concatenate([long[:SAMPLES] / 2, np.zeros(SAMPLES)]), RATE)
    soundfile.write(place / "silence.wav", np.zeros(3 * SAMPLES), RATE)
    steady = np.random.default_rng(0).normal(0, 0.1, SAMPLES)
    soundfile.write(place / "noise.wav", steady, RATE)
    soundfile.write(place / "click.wav", speech()[:1000], RATE)
    (place / "broken.wav").write_bytes(b"RIFF")
    (place / "notes.txt").write_text("no recording")
    shutil.copy(place / "more" / "0.wav", place / "more" / ".hidden" / "x.wav")
    shutil.copy(place / "more" / "0.wav", place / ".y.wav")
    return place


def contents(found):
    return {row.tobytes() for row in found.clips["content"]}


def test_windows_lie_end_to_end_and_the_rest_counts_from_a_half_on():
    whole = np.arange(26, dtype=np.float32)
    parts = [whole[:3], whole[3:14], whole[14:]]
    for samples, lengths in ((10, [10, 10, 6]), (12, [12, 12]), (26, [26]), (40, [26]), (13, [13, 13])):
        made = list(windows(parts, samples))
        assert [len(each) for each in made] == lengths
        np.testing.assert_array_equal(np.concatenate(made), whole[: sum(lengths)])


def test_what_has_speech_is_taken_once_and_the_rest_is_counted_and_named(folder):
    found = survey(folder, SAMPLES)
    long = len(soundfile.read(folder / "long.flac")[0])
    in_long = long // SAMPLES + (2 * (long % SAMPLES) >= SAMPLES)
    facts = found.facts()
    assert len(found) == facts["clips"] == 4 + in_long + 1
    # Of the two of equal content, the first by name has the clips.
    assert facts["recordings"] == 6
    assert facts["duplicates"] == in_long
    assert facts["silent_windows"] == 1
    assert facts["broken"] == {"count": 1, "names": ["broken.wav"]}
    assert facts["silent"] == {"count": 2, "names": ["noise.wav", "silence.wav"]}
    assert facts["short"] == {"count": 1, "names": ["click.wav"]}
    assert found.left_out["broken.wav"].startswith(str(folder / "broken.wav"))
    told = sentence(facts)
    for words in (
        "6 recordings in",
        "1 unreadable (broken.wav)",
        "2 without speech (noise.wav, silence.wav)",
    ):
        assert words in told
    found = sentence({**facts, "recordings": 1, "clips": 1, "duplicates": 1})
    assert found.startswith("1 recording in ")
    assert " gives 1 clip of up to " in found
    assert "1 clip of equal content, 1 part without speech" in found


def test_names_and_places_decide_nothing(folder, tmp_path):
    elsewhere = tmp_path / "moved"
    shutil.copytree(folder, elsewhere)
    (elsewhere / "long.flac").rename(elsewhere / "zzz.flac")
    (elsewhere / "more" / "0.wav").rename(elsewhere / "0 of another name.wav")
    assert survey(elsewhere, SAMPLES).digest == survey(folder, SAMPLES).digest
    assert survey(folder, SAMPLES + 1).digest != survey(folder, SAMPLES).digest


def read_again(monkeypatch):
    """The names of the recordings that are examined from now on."""
    read, examined = [], surveys._recording
    monkeypatch.setattr(surveys, "_recording", lambda path, n: read.append(path.name) or examined(path, n))
    monkeypatch.setattr(surveys, "PART", 3)
    return read


def test_a_survey_that_was_killed_goes_on_behind_its_last_part(folder, tmp_path, monkeypatch):
    read = read_again(monkeypatch)

    def kill(done, total):
        if done == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        survey(folder, SAMPLES, tmp_path, progress=kill)
    assert len(read) == 6
    whole = survey(folder, SAMPLES, tmp_path)
    # What could not be read is tried again: a decoder may have been installed.
    assert sorted(read) == sorted([*set(read), "broken.wav"])
    alone = survey(folder, SAMPLES)
    assert (whole.digest, whole.left_out) == (alone.digest, alone.left_out)
    for name in ("clips", "sounds", "files"):
        np.testing.assert_array_equal(getattr(whole, name), getattr(alone, name))


def test_only_what_changed_is_read_again_and_a_damaged_part_anew(folder, tmp_path, monkeypatch, caplog):
    place, cache = tmp_path / "speech", tmp_path / "cache"
    shutil.copytree(folder, place)
    before = survey(place, SAMPLES, cache)
    read = read_again(monkeypatch)
    soundfile.write(place / "more" / "0.wav", speech(9), RATE)
    (place / "noise.wav").unlink()
    soundfile.write(place / "more" / "new.wav", speech(10)[:SAMPLES], RATE)
    after = survey(place, SAMPLES, cache)
    assert sorted(read) == ["0.wav", "broken.wav", "new.wav"]
    assert after.digest == survey(place, SAMPLES).digest != before.digest
    assert "noise.wav" not in after.left_out
    plain = {path: path.read_bytes().replace(b"\0", b"") for path in cache.rglob("*.npz")}
    (part,) = [path for path, content in plain.items() if b"silence.wav" in content]
    part.write_bytes(part.read_bytes()[:-40])
    read.clear()
    assert survey(place, SAMPLES, cache).digest == after.digest
    assert "silence.wav" in read
    assert "made anew" in caplog.text


@pytest.mark.parametrize("what", ["missing", "empty", "silent"])
def test_a_folder_with_nothing_to_learn_from_is_refused(tmp_path, what):
    place = tmp_path / "speech"
    if what != "missing":
        place.mkdir()
        (place / "notes.txt").write_text("x")
    if what == "silent":
        soundfile.write(place / "s.wav", np.zeros(9000), RATE)
    words = {"missing": "no folder", "empty": "no recordings in", "silent": "1 without speech (s.wav)"}[what]
    with pytest.raises(UserError, match=words.replace("(", r"\(").replace(")", r"\)")):
        survey(place, SAMPLES)


def test_clips_are_the_windows_that_were_found_whole_recordings_read_once(folder, monkeypatch):
    from light_sernet_kd.data.unlabelled import clips as module

    monkeypatch.setattr(module, "BLOCK_BYTES", 4 * SAMPLES * 4)
    monkeypatch.setattr(module, "_MOST_AT_ONCE", 3)  # the long one is read window after window
    clips = Clips(survey(folder, SAMPLES))
    got = {}
    for keys, waveforms, count in clips.blocks(clips.keys):
        assert len(keys) == len(waveforms) == count <= 4
        got |= dict(zip(keys, waveforms, strict=True))
    assert set(got) == set(clips.keys)
    for key, row in zip(clips.keys, clips.survey.clips, strict=True):
        whole = audio.read(folder / clips.survey.names[row["recording"]])
        start = row["window"] * SAMPLES
        np.testing.assert_array_equal(got[key], whole[start : start + SAMPLES])
    some = clips.keys[::3]
    assert sorted(key for keys, *_ in clips.blocks(some) for key in keys) == some


def test_a_recording_that_changes_under_the_run_is_told(folder, tmp_path):
    place = tmp_path / "speech"
    shutil.copytree(folder, place)
    clips = Clips(survey(place, SAMPLES))
    soundfile.write(place / "more" / "1.wav", speech(11)[:SAMPLES], RATE)
    with pytest.raises(UserError, match=r"1\.wav changed while it was read"):
        list(clips.blocks(clips.keys))
    (place / "more" / "1.wav").unlink()
    with pytest.raises(UserError, match="it could be read before"):
        list(clips.blocks(clips.keys))


def test_features_of_clips_are_those_of_a_corpus(folder, tmp_path):
    clips = Clips(survey(folder, SAMPLES))
    encoder = front_end.encoder("lsn", "mfcc", SAMPLES)
    rows = OneEach(embed_by_key(clips.keys, clips.blocks, encoder, cache=tmp_path))
    short = [n for n, row in enumerate(clips.survey.clips) if "more" in clips.survey.names[row["recording"]]]
    names = [clips.survey.names[row] for row in clips.survey.clips["recording"][short]]
    utterances = [Utterance(name, folder / name, "anger", "s") for name in names]
    expected = feature_cache.features(
        utterances, dict.fromkeys(names, ""), front_end="lsn", input_type="mfcc", samples=SAMPLES,
        cache=feature_cache.Cache(tmp_path, "ram"),
    )  # fmt: skip
    assert rows.shape == (len(clips), *expected.shape[1:])
    np.testing.assert_allclose(rows[np.array(short)], expected, atol=1e-5)


def test_a_view_of_a_clip_is_what_the_augmentation_draws_by_its_content(folder, tmp_path):
    clips, kinds = Clips(survey(folder, SAMPLES)), augment.parse("gain:chance=1,noise:chance=1")

    def rows(number, seed=5):
        encoder = front_end.encoder("lsn", "mfcc", SAMPLES, front_end.View(kinds, number, seed))
        return OneEach(embed_by_key(clips.keys, clips.blocks, encoder, cache=tmp_path))[np.arange(len(clips))]

    one, other = rows(0), rows(1)
    assert not np.isclose(one, other).all(axis=(1, 2, 3)).any()
    np.testing.assert_array_equal(rows(0), one)  # of the cache
    assert not np.isclose(rows(0, seed=6), one).all()
    ((key, *_), (waveform, *_), _) = next(clips.blocks(clips.keys))
    draw = int.from_bytes(hashlib.blake2b(waveform.tobytes(), digest_size=4).digest(), "little")
    changed = augment.augmented_clip(
        waveform, kinds, samples=SAMPLES, pad="both", seed=5, epoch=1, utterance=draw
    )
    compute = feature_cache.front_end_of("lsn", "mfcc", SAMPLES).predict_on_batch
    expected = np.asarray(compute(changed[None]))[0]
    np.testing.assert_allclose(other[clips.keys.index(key)], expected, atol=1e-4)


# What a test must not meet


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Six utterances of three speakers, two of whom test."""
    place = tmp_path_factory.mktemp("corpus")
    made = []
    for number in range(6):
        path = place / f"u{number}.wav"
        soundfile.write(path, speech(number, "sadness"), RATE)
        made.append(Utterance(path.stem, path, "sadness", f"s{number % 3}"))
    prints = audio.fingerprints(made)
    folds = [Fold("s0", (1, 2, 4, 5), (), (0, 3)), Fold("x", (2, 5), (4,), (0,))]
    return made, prints, folds, signatures.measure(made, prints)


def test_copies_of_test_and_validation_recordings_are_found_and_no_others(folder, corpus, tmp_path):
    utterances, prints, folds, measured = corpus
    place = tmp_path / "speech"
    shutil.copytree(folder, place)
    assert leaking(survey(place, SAMPLES), folds, utterances, prints, measured) == {}
    shutil.copy(utterances[0].path, place / "same.wav")
    waveform = soundfile.read(utterances[3].path)[0]
    soundfile.write(place / "quieter.flac", waveform / 4, RATE)
    soundfile.write(place / "other rate.wav", audio.resample(waveform, RATE, 22_050), 22_050)
    shutil.copy(utterances[4].path, place / "validates.wav")
    shutil.copy(utterances[1].path, place / "trains.wav")
    found = survey(place, SAMPLES)
    leaks = leaking(found, folds, utterances, prints, measured)
    expected = {"same.wav": "u0", "quieter.flac": "u3", "other rate.wav": "u3", "validates.wav": "u4"}
    assert leaks == expected
    assert (
        leaks_named(leaks, 1)
        == "4 unlabelled recordings test or validate too: other rate.wav is u3 and 3 more"
    )
    without = found.without_tested(leaks)
    assert leaking(without, folds, utterances, prints, measured) == {}
    assert len(without.recordings) == len(found.recordings) - 4
    assert without.facts()["tested"]["count"] == 4
    # Window by window what is left is what was there before, and the one that trains.
    (place / "trains.wav").unlink()
    for name in expected:
        (place / name).unlink()
    assert contents(survey(place, SAMPLES)) < contents(without)


def test_what_tests_is_left_out_of_a_longer_recording_of_equal_content_too(corpus, tmp_path):
    utterances, prints, folds, measured = corpus
    waveform = np.asarray(audio.read(utterances[0].path))
    more = speech(14)
    for name, parts in (("a long one.wav", [waveform[:SAMPLES], more]), ("b.wav", [waveform])):
        soundfile.write(tmp_path / name, np.concatenate(parts), RATE, subtype="FLOAT")
    found = survey(tmp_path, SAMPLES)
    leaks = leaking(found, folds, utterances, prints, measured)
    assert leaks == {"b.wav": "u0"}
    without = found.without_tested(leaks)
    assert not contents(survey_of(waveform, tmp_path)) & contents(without)
    assert {found.names[number] for number in without.recordings} == {"a long one.wav"}


def survey_of(waveform, tmp_path):
    place = tmp_path / "alone"
    place.mkdir()
    soundfile.write(place / "x.wav", waveform, RATE, subtype="FLOAT")
    return survey(place, SAMPLES)


def test_a_folder_of_nothing_but_tests_is_refused(corpus):
    utterances, prints, folds, measured = corpus
    found = survey(utterances[0].path.parent, SAMPLES)
    with pytest.raises(UserError, match="every recording is a test or validation recording"):
        found.without_tested(found.names)
    assert set(leaking(found, folds, utterances, prints, measured)) == {"u0.wav", "u3.wav", "u4.wav"}


# Batches

COUNT, CLIPS, SIZE = 10, 7, 4
SHAPE = np.ones((1, 2, 3, 1), np.float32)
FEATURES = np.arange(COUNT, dtype=np.float32)[:, None, None, None] * SHAPE
CLIP_FEATURES = -1 - np.arange(CLIPS, dtype=np.float32)[:, None, None, None] * SHAPE
EXAMPLES = Examples(FEATURES, np.arange(COUNT, dtype=np.int32) % 2, ("anger", "fear"))
LOGITS = np.arange(2 * COUNT, dtype=np.float32).reshape(COUNT, 2)
CLIP_LOGITS = -100 - np.arange(2 * CLIPS, dtype=np.float32).reshape(CLIPS, 2)


def drawn(steps, *, share=0.5, clips=True, views=(), **given):
    beside = UnlabelledClips(CLIP_FEATURES, share, CLIP_LOGITS, 10 * CLIP_LOGITS, views) if clips else None
    teacher = TeacherOutputs(LOGITS, 10 * LOGITS, unlabelled=beside)
    made = batches(EXAMPLES, range(COUNT), batch_size=SIZE, seed=3, teacher=teacher, **given)
    return [batch for _, batch in zip(range(steps), made.as_numpy_iterator(), strict=False)]


def clips_of(inputs):
    """Which clips a batch holds, by their features."""
    return (-1 - inputs["features"][inputs["labelled"] == 0][:, 0, 0, 0]).astype(int).tolist()


@pytest.mark.parametrize(("share", "sizes"), [(0.5, [4, 4, 2]), (0.75, [12, 12, 6]), (0.2, [1, 1, 0])])
def test_the_labelled_part_is_the_usual_batch_and_clips_are_added_to_their_share(share, sizes):
    usual = drawn(6, clips=False)
    for (inputs, labels), (plain, plain_labels), count in zip(
        drawn(6, share=share), usual, sizes * 2, strict=True
    ):
        is_labelled = inputs["labelled"] == 1
        assert len(clips_of(inputs)) == count
        assert labels.dtype == plain_labels.dtype
        np.testing.assert_array_equal(labels[is_labelled], plain_labels)
        assert "labelled" not in plain
        for name, values in plain.items():
            np.testing.assert_array_equal(inputs[name][is_labelled], values)
        for name, values in (("teacher", CLIP_LOGITS), ("teacher_embedding", 10 * CLIP_LOGITS)):
            np.testing.assert_array_equal(inputs[name][~is_labelled], values[clips_of(inputs)])


def test_no_clip_comes_again_before_all_have_come():
    order = [clip for inputs, _ in drawn(21) for clip in clips_of(inputs)]
    assert len(order) == 70
    for start in range(0, 70, CLIPS):
        assert sorted(batching._permutation(CLIPS, start // CLIPS, 3)) == list(range(CLIPS))
    assert {order.count(clip) for clip in range(CLIPS)} == {10}
    assert len({tuple(order[start : start + 4]) for start in range(0, 40, 10)}) > 1


def test_each_pass_over_the_clips_hears_the_next_view():
    views = [CLIP_FEATURES - 100, CLIP_FEATURES - 200, CLIP_FEATURES - 300]
    position = 0
    for (inputs, _), (plain, _) in zip(drawn(21, views=views), drawn(21), strict=True):
        clips = clips_of(plain)
        heard = inputs["features"][inputs["labelled"] == 0]
        np.testing.assert_array_equal(heard, views[position // CLIPS % 3][clips])
        np.testing.assert_array_equal(inputs["teacher"], plain["teacher"])
        position += len(clips)
    assert position > 6 * CLIPS


def test_a_run_that_goes_on_has_the_batches_that_it_would_have_had():
    whole = drawn(9)
    for (inputs, labels), (again, again_labels) in zip(whole[6:], drawn(3, first_epoch=2), strict=True):
        np.testing.assert_array_equal(labels, again_labels)
        for name, values in inputs.items():
            np.testing.assert_array_equal(values, again[name])


def test_clips_have_no_weight_of_a_class_and_are_not_augmented():
    mixup = Augmenter(augment.parse("mixup"), None, lambda clips: clips, 0, "both")
    weights = np.array([0.5, 3.0])
    plain = drawn(3, clips=False, augmenter=mixup, class_weights=weights)
    for (inputs, labels, given), (usual, _, expected) in zip(
        drawn(3, augmenter=mixup, class_weights=weights), plain, strict=True
    ):
        is_labelled = inputs["labelled"] == 1
        np.testing.assert_array_equal(given[is_labelled], expected)
        assert (given[~is_labelled] == 1).all()
        assert (inputs["share"][~is_labelled] == 1).all()
        np.testing.assert_array_equal(inputs["features"][is_labelled], usual["features"])
        np.testing.assert_array_equal(inputs["features"][~is_labelled], CLIP_FEATURES[clips_of(inputs)])
        assert len(labels) == len(given) == len(inputs["other_labels"])


def test_soft_labels_of_clips_are_of_one_form_with_the_others():
    soft = np.eye(2, dtype=np.float32)[EXAMPLES.labels]
    examples = dataclasses.replace(EXAMPLES, soft_labels=soft)
    teacher = TeacherOutputs(LOGITS, unlabelled=UnlabelledClips(CLIP_FEATURES, 0.5, CLIP_LOGITS))
    made = batches(examples, range(COUNT), batch_size=SIZE, seed=3, teacher=teacher)
    inputs, labels = next(made.as_numpy_iterator())
    np.testing.assert_array_equal(inputs["soft_labels"][:SIZE], np.eye(2)[labels[:SIZE]])
    assert inputs["soft_labels"].shape == (2 * SIZE, 2)
