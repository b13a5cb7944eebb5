"""What a runner knows of a speaker: profiles and their files, against the algebra of the head."""

import json
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tiny_student import (
    CLASSES,
    EMBEDDING,
    RATE,
    SAMPLES,
    WIDTH,
    audio_student,
    enrolled_arrays,
    enrolled_student,
)

from light_sernet_kd import runner
from light_sernet_kd.export import golden
from light_sernet_kd.runner import (
    NOT_FINITE,
    NOT_SURE,
    SILENT,
    STEADY,
    TOO_SHORT,
    Profile,
    Runner,
    RunnerError,
    Stream,
)

ARRAYS = enrolled_arrays()
VOICE = golden.voice(8 * RATE, sample_rate=RATE)
NOISE = np.random.default_rng(0).normal(0, 0.1, SAMPLES).astype(np.float32)


def voice(clips: float, seed: int) -> np.ndarray:
    """Another part of the made voice for each seed."""
    return np.roll(VOICE, -seed * SAMPLES // 3)[: round(clips * SAMPLES)]


def embedding_of(sound: np.ndarray) -> np.ndarray:
    """By the layer's weights, of a sound of at most a clip, which is padded at both ends."""
    missing = SAMPLES - len(sound)
    return ARRAYS.embeds @ np.pad(sound, (missing // 2, missing - missing // 2))


def softmax(logits: np.ndarray) -> np.ndarray:
    shares = np.exp(logits - logits.max())
    return shares / shares.sum()


def by_the_head(sound: np.ndarray, mean: np.ndarray, clips: float) -> np.ndarray:
    return softmax(ARRAYS.head.logits([embedding_of(sound)], [mean], [clips])[0])


@pytest.fixture(scope="module")
def path(tmp_path_factory) -> Path:
    return enrolled_student(tmp_path_factory.mktemp("student") / "student.tflite")


@pytest.fixture
def opened(path) -> Runner:
    return Runner(path)


@pytest.fixture
def known() -> Profile:
    return Profile(EMBEDDING, np.random.default_rng(3).normal(size=WIDTH), 4.0)


# Answers.


@pytest.mark.parametrize("clips", [0.25, 1, 10, 1e9])
def test_a_known_speaker_is_answered_as_the_head_says(path, known, clips):
    profile = Profile(EMBEDDING, known.mean, clips)
    opened = Runner(path, profile=profile)
    for seed in range(3):
        sound = voice(1, seed)
        expected = by_the_head(sound, known.mean, clips)
        np.testing.assert_allclose(opened.probabilities(sound), expected, atol=1e-5)


def test_an_unknown_speaker_is_answered_by_the_first_graph(path, opened, known):
    sound = voice(1, 1)
    expected = softmax(ARRAYS.classifies @ embedding_of(sound))
    np.testing.assert_allclose(opened.probabilities(sound), expected, atol=1e-5)
    empty = Runner(path, profile=Profile(EMBEDDING, known.mean, 0))
    np.testing.assert_array_equal(empty.probabilities(sound), opened.probabilities(sound))
    assert np.abs(by_the_head(sound, known.mean, 0) - expected).max() > 0.01, "another answer was possible"


def test_both_graphs_answer_in_any_order_and_answers_stay(opened, known):
    first, second = voice(1, 1), voice(0.7, 2)
    unknown = opened.probabilities(first)
    for profile in (known, None, known, Profile(EMBEDDING, -known.mean, 9), None):
        opened.profile = profile
        answer, embedding = opened.probabilities(first), opened.embedding(first)
        kept = answer.copy(), embedding.copy()
        opened.probabilities(second)
        opened.embedding(second)
        np.testing.assert_array_equal(answer, kept[0])
        np.testing.assert_array_equal(embedding, kept[1])
        expected = by_the_head(first, profile.mean, profile.clips) if profile else unknown
        np.testing.assert_allclose(answer, expected, atol=1e-5)


@pytest.mark.parametrize("clips", [0.3, 1, 2.5])
def test_an_embedding_is_the_clips_own(opened, known, clips):
    sound = voice(clips, 2)
    start = max(0, len(sound) - SAMPLES) // 2
    expected = embedding_of(sound[start : start + SAMPLES])
    found = opened.embedding(sound, sample_rate=RATE)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-5)
    opened.profile = known
    np.testing.assert_array_equal(opened.embedding(sound), found)


# The mean.


def test_a_profile_is_the_weighted_mean_of_its_clips():
    rng = np.random.default_rng(0)
    embeddings, weights = rng.normal(size=(200, WIDTH)), rng.uniform(0.01, 1, 200)
    profile = Profile(EMBEDDING, np.full(WIDTH, 7.0), 0)  # of no meaning, since of no clips
    for embedding, weight in zip(embeddings, weights, strict=True):
        profile = profile.with_clip(embedding, weight)
    np.testing.assert_allclose(profile.mean, np.average(embeddings, axis=0, weights=weights), rtol=1e-12)
    assert profile.clips == pytest.approx(weights.sum())
    assert profile.embedding == EMBEDDING


def test_enrolling_takes_the_mean_over_recordings(path, opened):
    recordings = [voice(1, 1), voice(0.5, 2).astype(np.float64), voice(0.9, 5)]
    profile = opened.enrol(recordings, sample_rate=RATE)
    assert opened.profile is profile
    assert profile.clips == 3
    expected = np.mean([embedding_of(sound) for sound in recordings], axis=0)
    np.testing.assert_allclose(profile.mean, expected, atol=1e-5)
    np.testing.assert_allclose(
        opened.probabilities(recordings[0]), by_the_head(recordings[0], expected, 3), atol=1e-5
    )
    more = Runner(path, profile=profile).enrol([voice(1, 7)])
    assert more.clips == 4
    np.testing.assert_allclose(more.mean, (3 * expected + embedding_of(voice(1, 7))) / 4, atol=1e-5)


def test_one_waveform_and_rows_of_one_array_are_recordings_too(path):
    alone = Runner(path).enrol(voice(1, 1))
    rows = Runner(path).enrol(np.stack([voice(1, 1), voice(1, 2)]))
    assert (alone.clips, rows.clips) == (1, 2)


def test_a_long_recording_counts_as_its_windows(opened):
    sound = voice(3.6, 4)
    profile = opened.enrol([sound])
    parts = [sound[at : at + SAMPLES] for at in range(0, len(sound), SAMPLES)]
    weights = [1, 1, 1, 0.6]
    assert profile.clips == pytest.approx(3.6)
    expected = np.average([embedding_of(part) for part in parts], axis=0, weights=weights)
    np.testing.assert_allclose(profile.mean, expected, atol=1e-5)


def test_windows_of_a_long_recording_without_speech_are_left_out(opened):
    silence = np.zeros(2 * SAMPLES, np.float32)
    sound = np.concatenate([silence, voice(1, 1), NOISE, voice(1, 2), voice(1, 3)[: RATE // 10]])
    assert opened.enrol([sound]).clips == pytest.approx(2)
    expected = (embedding_of(voice(1, 1)) + embedding_of(voice(1, 2))) / 2
    np.testing.assert_allclose(opened.profile.mean, expected, atol=1e-5)


def test_blocks_are_learnt_as_the_whole_is(path):
    whole, blocks = Runner(path), Runner(path)
    sound = voice(4.6, 2)
    assert whole.learn(sound) == ""
    assert blocks.learn(iter(np.array_split(sound, 41))) == ""
    np.testing.assert_array_equal(whole.profile.mean, blocks.profile.mean)
    assert whole.profile.clips == blocks.profile.clips == pytest.approx(4.6)


BROKEN = voice(1, 1).copy()
BROKEN[100] = np.nan
NO_SPEECH = {
    SILENT: np.zeros(SAMPLES),
    STEADY: NOISE,
    TOO_SHORT: voice(1, 1)[: RATE // 5 - 1],
    NOT_FINITE: BROKEN,
}


@pytest.mark.parametrize("why", NO_SPEECH)
def test_what_holds_no_speech_is_left_out_and_nothing_else_is_an_error(opened, why):
    sound = NO_SPEECH[why]
    assert opened.learn(sound) == why
    assert opened.profile is None
    message = rf"no speech to learn from in 2 recordings: 2 {why}\."
    with pytest.raises(RunnerError, match=message):
        opened.enrol([sound, sound])
    assert opened.profile is None
    assert opened.enrol([sound, voice(1, 2), sound]).clips == 1
    np.testing.assert_allclose(opened.profile.mean, embedding_of(voice(1, 2)), atol=1e-5)


def test_the_reason_of_a_long_recording_is_that_of_most_of_it(opened):
    sound = np.concatenate([np.zeros(3 * SAMPLES, np.float32), NOISE, NOISE])
    assert opened.learn(sound) == SILENT
    tail = np.concatenate([NOISE, voice(1, 1)[: RATE // 10]])
    assert opened.learn(tail) == STEADY


@pytest.mark.parametrize(
    ("recordings", "message"),
    [
        ([], r"no speech to learn from in 0 recordings\."),
        ([voice(1, 1), np.zeros(100, np.int16)], "int16: divide 16-bit samples by 32768"),
        ([voice(1, 1), np.zeros((2, 100))], r"one channel.*\(2, 100\)"),
        ([voice(1, 1), np.zeros(0)], "at least one sample, found none"),
    ],
)
def test_a_mistake_leaves_the_profile_as_it_was(opened, known, recordings, message):
    opened.profile = known
    with pytest.raises(RunnerError, match=message):
        opened.enrol(recordings)
    assert opened.profile is known
    with pytest.raises(RunnerError, match="8000 Hz: resample it first"):
        opened.enrol([voice(1, 1)], sample_rate=8000)
    assert opened.profile is known


def test_a_recording_that_breaks_off_leaves_the_profile_as_it_was(opened, known):
    def blocks():
        yield voice(2, 1)
        raise OSError("gone")

    opened.profile = known
    with pytest.raises(OSError, match="gone"):
        opened.learn(blocks())
    assert opened.profile is known


# A stream that learns.


@pytest.mark.parametrize("hop", [0.2, 0.5, 0.9])
def test_a_stream_learns_each_window_of_speech_after_it_was_answered(path, hop):
    silence = np.zeros(SAMPLES, np.float32)
    sound = np.concatenate([voice(2.5, 1), silence, NOISE, BROKEN, voice(2.6, 4)])
    opened = Runner(path)
    hop_samples = round(hop * RATE)
    mean, clips, speech = np.zeros(WIDTH), 0.0, 0
    stream = Stream(opened, hop_seconds=hop, learn=True)

    def windows():
        for at in range(0, len(sound), hop_samples):  # so that no block ends two windows
            yield from stream.feed(sound[at : at + hop_samples])
        yield from stream.finish()

    for window in windows():
        part = sound[round(window.start * RATE) : round(window.end * RATE)]
        if window.why != NOT_FINITE:
            # With what was known before.
            expected = softmax(ARRAYS.classifies @ embedding_of(part))
            expected = by_the_head(part, mean, clips) if clips else expected
            np.testing.assert_allclose(window.probabilities, expected, atol=1e-4)
        if window.why in ("", NOT_SURE) and len(part) >= RATE / 5:
            weight = min(1, hop_samples / SAMPLES, 1 if window.start == 0 else len(part) / SAMPLES)
            mean = (clips * mean + weight * embedding_of(part)) / (clips + weight)
            clips += weight
            speech += 1
        assert (opened.profile.clips if opened.profile else 0) == pytest.approx(clips)
    assert speech > 3
    np.testing.assert_allclose(opened.profile.mean, mean, atol=1e-5)


def test_a_stream_learns_only_when_told(opened, known):
    opened.profile = known
    windows = [*opened.stream(voice(3, 1))]
    assert opened.profile is known
    np.testing.assert_allclose(
        windows[0].probabilities, by_the_head(voice(3, 1)[:SAMPLES], known.mean, known.clips), atol=1e-5
    )


def test_a_stream_learns_nothing_of_a_sound_too_short(opened):
    (window,) = opened.stream(voice(1, 1)[: RATE // 10], learn=True)
    assert window.why == TOO_SHORT
    assert opened.profile is None


# Files of profiles.


def test_a_profile_comes_back_as_it_was_saved(path, known, tmp_path):
    saved = tmp_path / "me.json"
    precise = known.with_clip(np.random.default_rng(5).normal(size=WIDTH), 1 / 3)
    precise.save(saved)
    found = Profile.load(saved)
    np.testing.assert_array_equal(found.mean, precise.mean)
    assert (found.embedding, found.clips) == (EMBEDDING, precise.clips)
    assert [*tmp_path.iterdir()] == [saved]
    # Nothing else is told of the speaker.
    facts = json.loads(saved.read_text())
    assert facts == {
        "profile_version": 1,
        "embedding": EMBEDDING,
        "clips": precise.clips,
        "mean": precise.mean.tolist(),
    }
    sound = voice(1, 3)
    np.testing.assert_array_equal(
        Runner(path, profile=saved).probabilities(sound), Runner(path, profile=precise).probabilities(sound)
    )
    if os.name != "nt":
        assert stat.S_IMODE(saved.stat().st_mode) == 0o600


@pytest.mark.parametrize("fails", ["fsync", "replace"])
def test_a_file_that_cannot_be_written_whole_stays_as_it_was(known, tmp_path, monkeypatch, fails):
    saved = tmp_path / "me.json"
    known.save(saved)
    before = saved.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, fails, full)
    with pytest.raises(RunnerError, match=r"cannot write .*me.json: No space left on device\.$"):
        known.with_clip(np.zeros(WIDTH)).save(saved)
    assert saved.read_bytes() == before
    assert [*tmp_path.iterdir()] == [saved]


def test_where_no_profile_can_be_is_one_line(known, tmp_path):
    for place, message in (
        (tmp_path / "absent" / "me.json", "No such file or directory"),
        (tmp_path, "it is not a regular file"),
        (tmp_path / ("x" * 300), "File name too long"),
        (tmp_path / "a\0b", "embedded null"),
    ):
        with pytest.raises(RunnerError, match=f"^cannot write .*: {message}"):
            known.save(place)
    assert not [*tmp_path.iterdir()]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names here")
def test_a_pipe_is_neither_read_nor_replaced(known, tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(RunnerError, match="a pipe or a device, not a regular file"):
        Profile.load(pipe)
    with pytest.raises(RunnerError, match="it is not a regular file"):
        known.save(pipe)
    assert stat.S_ISFIFO(pipe.stat().st_mode)


GOOD = {"profile_version": 1, "embedding": EMBEDDING, "clips": 2.5, "mean": [0.5] * WIDTH}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "cannot be read as JSON (Expecting value, line 1)"),
        ("{", "cannot be read as JSON"),
        (b"\xff", "cannot be read as JSON (it is not UTF-8)"),
        ("[" * 100_000, "cannot be read as JSON"),
        ('{"clips": NaN}', "cannot be read as JSON (a number in it is none"),
        ([1, 2], "holds a list of 2: it is no speaker's profile"),
        ({"samples": 5}, "profile_version must be 1, found nothing"),
        ({**GOOD, "profile_version": 2}, "profile_version must be 1, found 2"),
        ({**GOOD, "embedding": "AB" * 32}, "embedding must be 64 hexadecimal digits, found 'ABAB"),
        ({**GOOD, "clips": -1}, "clips must be a number from 0 to 1,000,000,000, found -1"),
        ({**GOOD, "clips": 1e10}, "clips must be a number from 0 to 1,000,000,000, found 10000000000.0"),
        ({**GOOD, "clips": True}, "clips must be a number from 0 to 1,000,000,000, found True"),
        ({**GOOD, "mean": []}, "mean must be a list of 1 to 65,536 numbers from -1e30 to 1e30, found []"),
        ({**GOOD, "mean": [0.0, "1"]}, "mean must be a list of 1 to 65,536 numbers"),
        ({**GOOD, "mean": [0.0, None]}, "mean must be a list of 1 to 65,536 numbers"),
        ({**GOOD, "mean": [[0.0]]}, "mean must be a list of 1 to 65,536 numbers"),
        (json.dumps(GOOD).replace("0.5", "1e999"), "mean must be a list of 1 to 65,536 numbers"),
        (json.dumps(GOOD).replace("0.5", "9" * 400), "mean must be a list of 1 to 65,536 numbers"),
        ({**GOOD, "mean": [0] * 65_537}, "found a list of 65,537"),
        (" " * (4 * 2**20 + 1), "has more than 4,194,304 bytes: it is no speaker's profile"),
    ],
)
def test_a_damaged_profile_is_one_line_that_names_the_field(path, tmp_path, content, message):
    saved = tmp_path / "me.json"
    if not isinstance(content, str | bytes):
        content = json.dumps(content)
    saved.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(RunnerError) as caught:
        Runner(path, profile=saved)
    said = str(caught.value)
    assert message in said
    assert said.startswith(str(saved))
    assert "\n" not in said
    assert len(said) < 400 + len(str(saved))


def test_a_profile_that_is_missing_is_named(path, tmp_path):
    with pytest.raises(RunnerError, match=r"cannot read .*me.json: No such file or directory"):
        Runner(path, profile=tmp_path / "me.json")


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        (("nobody", np.zeros(3), 1.0), "a profile's embedding must be 64 hexadecimal digits, found 'nobody'"),
        ((EMBEDDING, np.array([0.0, np.nan]), 1.0), "a profile's mean must be a list"),
        ((EMBEDDING, np.zeros((2, 2)), 1.0), "a profile's mean must be a list"),
        ((EMBEDDING, None, 1.0), "a profile's mean must be a list of .*, found nothing"),
        ((EMBEDDING, np.zeros(3), np.nan), "a profile's clips must be a number from 0"),
        ((EMBEDDING, np.zeros(3), None), "a profile's clips must be a number from 0"),
    ],
)
def test_a_profile_is_checked_when_it_is_made(facts, message):
    with pytest.raises(RunnerError, match=message):
        Profile(*facts)


def test_a_profile_takes_what_numpy_counts_with():
    profile = Profile(EMBEDDING, np.ones(2, np.float32), np.float32(2))
    assert (profile.mean.dtype, profile.mean.tolist(), profile.clips) == (np.float64, [1.0, 1.0], 2.0)


@pytest.mark.parametrize(
    ("embedding", "weight", "message"),
    [
        (np.zeros(WIDTH + 1), 1.0, r"embedding of shape \(5,\), found \(6,\): it is of another student"),
        (np.full(WIDTH, np.nan), 1.0, "a finite embedding and a weight above 0"),
        (np.zeros(WIDTH), 0.0, r"above 0, found a list of 5 and 0\."),
        (np.zeros(WIDTH), np.inf, "a weight above 0"),
    ],
)
def test_an_embedding_that_is_none_is_refused(known, embedding, weight, message):
    with pytest.raises(RunnerError, match=message):
        known.with_clip(embedding, weight)


def test_clips_have_an_end(known):
    assert Profile(EMBEDDING, known.mean, 1e9).with_clip(known.mean).clips == 1e9


# Files that do not go together.


def test_a_file_without_the_signature_says_how_one_is_made(known, tmp_path):
    path = audio_student(tmp_path / "plain.tflite")
    known.save(tmp_path / "me.json")
    opened = Runner(path)
    actions = (
        lambda: Runner(path, profile=known),
        lambda: Runner(path, profile=tmp_path / "me.json"),
        lambda: setattr(opened, "profile", known),
        lambda: opened.embedding(voice(1, 1)),
        lambda: opened.enrol([voice(1, 1)]),
        lambda: opened.learn(voice(1, 1)),
        lambda: Stream(opened, learn=True),
    )
    for action in actions:
        with pytest.raises(RunnerError) as caught:
            action()
        assert str(caught.value) == (
            f"{path} cannot use what is known of a speaker: take the file named …_enrolled.tflite beside it, "
            "which train.py --enrolment makes."
        )
    assert opened.profile is None
    assert len(opened.probabilities(voice(1, 1))) == len(CLASSES)


def test_a_profile_of_another_student_is_refused(path, opened, known, tmp_path):
    saved = tmp_path / "me.json"
    other = Profile("cd" * 32, known.mean, 1)
    other.save(saved)
    message = (
        f"is of another student: its embeddings are those of cdcdcdcdcdcd, and {path} expects abababababab"
    )
    with pytest.raises(RunnerError) as caught:
        Runner(path, profile=saved)
    assert str(caught.value) == f"{saved} {message}. Enrol the speaker with this file."
    with pytest.raises(RunnerError, match="the profile is of another student"):
        opened.profile = other
    with pytest.raises(RunnerError, match=r"the profile has a mean of 6 numbers, and .* expects 5\. Enrol"):
        opened.profile = Profile(EMBEDDING, np.zeros(6), 1)
    assert opened.profile is None


def test_the_runner_alone_enrols_and_is_quiet(path, tmp_path):
    shutil.copy(runner.__file__, tmp_path / "copied.py")
    np.save(tmp_path / "voice.npy", voice(2, 1))
    program = (
        "import sys, numpy as np, copied\n"
        f"opened = copied.Runner({str(path)!r})\n"
        "opened.enrol([np.load('voice.npy')]).save('me.json')\n"
        f"found = copied.Runner({str(path)!r}, profile='me.json').probabilities(np.load('voice.npy'))\n"
        "print(len(found), sorted({'tensorflow', 'keras', 'light_sernet_kd', 'scipy'} & {*sys.modules}))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True)
    assert (done.stdout, done.stderr, done.returncode) == (f"{len(CLASSES)} []\n", "", 0)
