"""Streams against cutting by hand, bad input, timelines, and a microphone whose place a recording takes."""

import dataclasses
import functools
import io
import itertools
import json
import math
import os
import subprocess
import sys
import tracemalloc
import types
from pathlib import Path

import numpy as np
import pytest
import soundfile
from drawings import shown
from exported_cases import CLASSES, clips, made_case
from fake_microphone import plugged
from rich.console import Console

from light_sernet_kd import audio, cli, runner
from light_sernet_kd.cli import entry
from light_sernet_kd.device import formats, listen, timeline
from light_sernet_kd.reporting import figures
from light_sernet_kd.runner import (
    NOT_FINITE,
    NOT_SURE,
    SILENT,
    UNSURE,
    Runner,
    RunnerError,
    Stream,
    level_dbfs,
)

RENDERED = (".",)
SAMPLES = 8_001
RATE = 16_000


@pytest.fixture(scope="module")
def file(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("stream")
    return made_case("light_sernet", "lsn", "mfcc", SAMPLES, folder, precisions=("int8",)).paths["int8"]


@pytest.fixture(scope="module")
def opened(file) -> Runner:
    return Runner(file)


@pytest.fixture(scope="module")
def voices() -> np.ndarray:
    """Ten voices, one after another, 3 s each, the fourth of them silent."""
    parts = clips(10, 3 * RATE, seed=3)
    parts[3] *= 1e-5
    return parts.reshape(-1)


@pytest.fixture
def scripted(opened, monkeypatch):
    """A stream whose windows get the given probabilities; `play` returns the windows."""

    def play(shares, *, levels=None, **settings):
        shares = [np.float32([p, *rest, *[0] * (len(CLASSES) - 1 - len(rest))]) for p, *rest in shares]
        answers = iter(shares)
        given = lambda samples: runner.Answer(next(answers), np.zeros(0, np.float32))  # noqa: E731
        monkeypatch.setattr(opened, "answer", given)
        stream = Stream(
            opened, hop_seconds=SAMPLES / RATE, **{"smoothing_seconds": 0, "steady_db": 0, **settings}
        )
        noise = np.random.default_rng(0).normal(size=SAMPLES).astype(np.float32)
        noise = (noise - noise.mean()) / noise.std()
        return [
            window
            for level in levels or [-20] * len(shares)
            for window in stream.feed(noise * np.float32(10 ** (level / 20)))
        ]

    return play


def by_hand(waveform: np.ndarray, hop: int, length: int) -> list[tuple[int, int]]:
    """Where windows begin and end, by the definition."""
    places = []
    start = 0
    while start + length <= len(waveform):
        places.append((start, start + length))
        start += hop
    heard = places[-1][1] if places else 0
    if heard < len(waveform) and start < len(waveform):
        places.append((start, len(waveform)))
    return places


def random_blocks(waveform: np.ndarray, seed: int, most: int):
    rng = np.random.default_rng(seed)
    at = 0
    while at < len(waveform):
        size = int(rng.choice([0, 1, int(rng.integers(1, most))]))
        yield waveform[at : at + size]
        at += size


@pytest.mark.parametrize("padding", ["both", "right"])
@pytest.mark.parametrize(
    ("length", "hop"),
    [
        (1, 1000),
        (SAMPLES - 1, 1000),
        (SAMPLES, 1000),
        (SAMPLES + 1, 1000),
        (SAMPLES + 1000, 1000),
        (SAMPLES + 1001, 1000),
        (3 * SAMPLES + 17, 777),
        (4 * SAMPLES, SAMPLES),
        (4 * SAMPLES + 5, SAMPLES),
        (7 * SAMPLES, 2 * SAMPLES + 3),  # ends in sound that is not heard
        (8 * SAMPLES, 3 * SAMPLES + 3),  # ends in a window
    ],
)
def test_windows_of_any_blocks_are_those_cut_by_hand(file, voices, padding, length, hop):
    opened = Runner(file)
    opened.padding = padding
    waveform = voices[:length]
    places = by_hand(waveform, hop, SAMPLES)
    expected = [opened.probabilities(waveform[start:end]) for start, end in places]
    for seed, most in ((0, 300), (1, 5 * SAMPLES), (2, None)):
        blocks = random_blocks(waveform, seed, most) if most else waveform
        windows = [*opened.stream(blocks, hop_seconds=hop / RATE)]
        assert [(window.start, window.end) for window in windows] == [(a / RATE, b / RATE) for a, b in places]
        np.testing.assert_array_equal([window.probabilities for window in windows], expected)


def test_a_window_does_not_wait_for_the_next_block(opened, voices):
    stream = Stream(opened, hop_seconds=1000 / RATE)
    assert stream.feed(voices[: SAMPLES - 1]) == []
    assert len(stream.feed(voices[SAMPLES - 1 : SAMPLES])) == 1
    assert len(stream.feed(voices[SAMPLES : SAMPLES + 2000])) == 2
    assert stream.received == SAMPLES + 2000
    assert stream.finish() == []
    with pytest.raises(RunnerError, match="is finished"):
        stream.feed(voices[:5])


def test_an_hour_takes_no_more_memory_than_a_second(opened):
    block = np.random.default_rng(0).normal(0, 0.1, RATE).astype(np.float32)
    tracemalloc.start()
    try:
        windows = sum(1 for _ in opened.stream((block for _ in range(3600)), hop_seconds=30))
        one_block = [*opened.stream(np.broadcast_to(block[:1], (600 * RATE,)), hop_seconds=50)]
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (windows, len(one_block)) == (120, 12)
    assert peak < 40 * SAMPLES  # bytes; an hour has 230 million


def test_settings_have_their_documented_defaults(opened, voices):
    stream = Stream(opened)
    assert (stream.hop_samples, stream.unsure_below, stream.silence_dbfs) == (8000, 0.5, -110)
    opened.card["unsure_below"] = 0.7
    try:
        assert Stream(opened).unsure_below == 0.7
        assert Stream(opened, unsure_below=0.2).unsure_below == 0.2
    finally:
        del opened.card["unsure_below"]


# Level and silence.


def test_levels_are_root_mean_square_about_the_mean():
    sine = np.sin(2 * np.pi * np.arange(1600) / 16)
    assert level_dbfs(sine) == pytest.approx(10 * math.log10(0.5))
    assert level_dbfs(0.1 * sine + 0.7) == pytest.approx(10 * math.log10(0.5) - 20)
    assert level_dbfs(np.resize([1.0, -1.0], 100)) == 0
    assert level_dbfs(np.zeros(5, np.float32)) == level_dbfs(np.full(3, 0.5)) == -120
    assert math.isnan(level_dbfs(np.array([0, np.inf])))


def test_silence_begins_below_the_threshold_and_ends_three_db_above(scripted):
    levels = [-49, -51, -48, -46, -49, -120]
    windows = scripted([(0.9, 0.1)] * 6, levels=levels, silence_dbfs=-50)
    assert [window.why for window in windows] == ["", SILENT, SILENT, "", "", SILENT]
    assert [window.label for window in windows] == [
        UNSURE if window.why else CLASSES[0] for window in windows
    ]
    np.testing.assert_allclose([window.level for window in windows], levels, atol=1e-3)
    assert not any(window.why for window in scripted([(0.9, 0.1)] * 6, levels=levels, silence_dbfs=-math.inf))


GAINS_DB = (0, -10, -20, -30, -40)


def coloured(samples: int, exponent: float, random: np.random.Generator) -> np.ndarray:
    """Noise whose power falls with frequency to the `exponent`, from 20 Hz on; standard deviation 1."""
    frequencies = np.fft.rfftfreq(samples, 1 / RATE)
    gains = np.where(frequencies > 20, np.maximum(frequencies, 20) ** (-exponent / 2), 0)
    noise = np.fft.irfft(np.fft.rfft(random.standard_normal(samples)) * gains, samples)
    return noise / noise.std()


def hum(samples: int, mains: float, random: np.random.Generator) -> np.ndarray:
    at = np.arange(samples) / RATE
    return np.sum([np.sin(2 * np.pi * (mains * k * at + random.random())) / k for k in range(1, 16)], axis=0)


def room(samples: int, random: np.random.Generator) -> np.ndarray:
    """A fan: coloured noise and a little hum, which rise and fall by 3 dB in all within some seconds."""
    drift = 1.5 * np.sin(2 * np.pi * (0.3 * np.arange(samples) / RATE + random.random()))
    noise = coloured(samples, 1.5, random) + 0.3 * hum(samples, 50, random)
    return noise * 10 ** (drift / 20)


def clicks(samples: int, random: np.random.Generator) -> np.ndarray:
    """Two keystrokes a second, each 40 dB above a room's noise and gone within some milliseconds."""
    sound = 0.01 * coloured(samples, 1.2, random)
    for at in random.integers(0, samples - 500, 2 * samples // RATE):
        sound[at : at + 500] += random.standard_normal(500) * np.exp(-np.arange(500) / 50)
    return sound


NO_SPEECH = {
    "white": lambda samples, random: random.standard_normal(samples),
    "pink": lambda samples, random: coloured(samples, 1, random),
    "brown": lambda samples, random: coloured(samples, 2, random),
    "hum of 50 Hz": lambda samples, random: hum(samples, 50, random),
    "hum of 60 Hz": lambda samples, random: hum(samples, 60, random),
    "room": room,
    "clicks": clicks,
    "offset": lambda samples, random: 10 + random.standard_normal(samples),
    "gated": lambda samples, random: random.standard_normal(samples) * (np.arange(samples) % 12_000 < 8_000),
}


def sixteen_bits(sound: np.ndarray) -> np.ndarray:
    return np.clip(np.round(sound * 32768), -32768, 32767) / 32768


@pytest.mark.parametrize("kind", NO_SPEECH)
def test_what_is_as_steady_as_noise_is_no_speech_at_any_level(kind):
    random = np.random.default_rng(0)
    for seconds in (1.2, 3):
        for dbfs in (-90, -60, -30, -3):
            sound = NO_SPEECH[kind](round(seconds * RATE), random)
            sound = 0.3 * 10 ** (dbfs / 20) * sound / (sound - sound.mean()).std()
            assert runner.unheard(sound.astype(np.float32), RATE) == "no speech"
            assert runner.unheard(sixteen_bits(sound), RATE) != ""


def test_zeros_are_silent_and_what_rounding_leaves_is_no_speech():
    random = np.random.default_rng(0)
    assert runner.unheard(np.zeros(RATE), RATE) == runner.unheard(np.full(RATE, 0.3), RATE) == "silent"
    dither = random.integers(-1, 2, 3 * RATE) / 32768
    assert runner.unheard(dither, RATE) == "no speech"
    # A quiet room in 16 bits: zeros and a few samples of the smallest step.
    for level in (0.2, 0.4, 0.8):
        room_tone = sixteen_bits(level / 32768 * coloured(3 * RATE, 1.5, random))
        assert runner.unheard(room_tone, RATE) != ""
    assert runner.unheard(np.full(RATE, np.nan), RATE) == "not finite"
    # Too short to tell.
    assert runner.unheard(0.1 * random.standard_normal(7 * 400), RATE) == ""


def test_every_recording_of_emo_db_is_speech_at_any_gain(shared_data):
    for path in sorted((shared_data / "EMO-DB" / "wav").glob("*.wav"))[::8]:
        speech = audio.read(path)[: 3 * RATE]
        for gain in GAINS_DB:
            quiet = 10 ** (gain / 20) * speech
            assert runner.unheard(quiet, RATE) == runner.unheard(sixteen_bits(quiet), RATE) == ""


def test_emo_db_in_noise_as_loud_as_it_is_remains_speech(shared_data):
    random = np.random.default_rng(0)
    found = {0.0: [], 1.0: []}
    for path in sorted((shared_data / "EMO-DB" / "wav").glob("*.wav"))[::8]:
        speech = audio.read(path)[: 3 * RATE]
        for exponent, heard in found.items():
            noise = speech.std() * coloured(len(speech), exponent, random)
            assert runner.unheard(speech + noise / math.sqrt(10), RATE) == ""
            heard.append(runner.unheard(0.01 * (speech + noise), RATE) == "")
    assert np.mean(found[0.0]) >= 0.98
    assert np.mean(found[1.0]) >= 0.95


def test_a_word_between_zeros_is_speech_and_a_click_is_not(voices):
    word = voices[6_000:12_000]
    for gain in GAINS_DB:
        sound = np.zeros(3 * RATE, np.float32)
        sound[20_000:26_000] = 10 ** (gain / 20) * word
        assert runner.unheard(sound, RATE) == ""
    clicked = np.zeros(3 * RATE)
    clicked[20_000:20_160] = 0.5
    assert runner.unheard(clicked, RATE) == "no speech"


def test_a_gain_changes_the_level_range_by_nothing(voices):
    for at in range(0, 3 * RATE, 8000):
        sound = voices[at : at + 2 * RATE].astype(np.float64)
        quiet = runner.level_range_db(2.0**-10 * sound, RATE)
        assert quiet == pytest.approx(runner.level_range_db(sound, RATE), abs=1e-6)


def test_both_gates_are_the_callers():
    sound = 1e-3 * np.random.default_rng(0).standard_normal(RATE)
    assert runner.unheard(sound, RATE) == "no speech"
    assert runner.unheard(sound, RATE, steady_db=0) == ""
    assert runner.unheard(sound, RATE, steady_db=0, silence_dbfs=-50) == "silent"
    assert runner.unheard(np.zeros(RATE), RATE, steady_db=0, silence_dbfs=-math.inf) == ""


@pytest.mark.parametrize("rate", [8000, 16_000, 44_100])
def test_the_level_range_is_from_the_level_of_a_tenth_of_frames_to_that_of_a_twentieth(rate):
    levels = np.linspace(-60, 0, 101)  # in order, so that frames across two levels are between them
    width, count = round(rate / 2000), round(0.005 * rate / round(rate / 2000))
    # A square wave of the frequency that the filters pass best, held for two frames at each level.
    hold = 2 * runner.FRAME_BLOCKS * count
    wave = np.repeat((-1.0) ** np.arange(101 * hold), width)
    sound = wave * np.repeat(10 ** (levels / 20), hold * width)
    # Of 101 levels in steps of 0.6 dB, those at 10 and 95 % are 85 steps apart.
    assert runner.level_range_db(sound, rate) == pytest.approx(51, abs=0.6)


def test_a_stream_is_unsure_of_noise_between_words(opened, voices):
    length = opened.samples
    noise = (0.05 * np.random.default_rng(0).standard_normal(length)).astype(np.float32)
    found = list(opened.stream(np.concatenate([voices[:length], noise]), hop_seconds=length / 16_000))
    assert [window.why == "no speech" for window in found] == [False, True]
    assert found[1].label == "unsure"
    ungated = opened.stream(noise, steady_db=0, unsure_below=0)
    assert [window.why for window in ungated] == [""]


def test_a_short_clips_level_is_of_its_sound_without_the_padding(opened):
    (window,) = opened.stream(np.resize(np.float32([0.1, -0.1]), 100))
    assert window.level == pytest.approx(-20, abs=1e-5)
    assert (window.start, window.end) == (0, 100 / RATE)


# Smoothing and labels.


@pytest.mark.parametrize("tau", [0, 0.3, 5.0])
def test_smoothing_is_exponential_in_time_and_begins_anew_after_silence(opened, voices, tau):
    hop = 4000
    settings = {"silence_dbfs": -50, "steady_db": 0}
    windows = [*opened.stream(voices, hop_seconds=hop / RATE, smoothing_seconds=tau, **settings)]
    assert {SILENT, ""} < {window.why for window in windows} | {""}
    stretch: list[np.ndarray] = []
    for window in windows:
        assert (window.why == SILENT) == (window.level < -50)  # levels here are far from it
        if window.why == SILENT:
            np.testing.assert_array_equal(window.smoothed, window.probabilities)
            stretch = []
            continue
        stretch.append(window.probabilities)
        # The closed form: weights fall by exp(-hop / tau), the first window has what is left.
        ages = np.arange(len(stretch))[::-1]
        fall = math.exp(-hop / RATE / tau) if tau else 0.0
        weights = (1 - fall) * fall**ages
        weights[0] = fall ** ages[0]
        np.testing.assert_allclose(window.smoothed, weights @ np.array(stretch), atol=1e-5)
        assert (window.why == NOT_SURE) == (window.smoothed.max() < 0.5)


def test_a_label_gives_way_to_a_lead_by_the_margin(scripted):
    shares = [(0.6, 0.4), (0.46, 0.54), (0.44, 0.56), (0.5, 0.5), (0.52, 0.48)]
    windows = scripted(shares, margin=0.1, patience=9)
    assert [window.label for window in windows] == [CLASSES[i] for i in (0, 0, 1, 1, 1)]


def test_a_label_gives_way_to_one_that_leads_for_several_windows_on_end(scripted):
    ahead, behind = (0.46, 0.54), (0.54, 0.46)
    windows = scripted([behind, ahead, ahead, behind, ahead, ahead, ahead], margin=0.2, patience=3)
    assert [window.label for window in windows] == [CLASSES[i] for i in (0, 0, 0, 0, 0, 0, 1)]
    # Two challengers in turn are no run of either.
    second, third = (0.3, 0.36, 0.34), (0.3, 0.34, 0.36)
    windows = scripted([behind, second, third, second, third], margin=0.2, patience=2, unsure_below=0)
    assert {window.label for window in windows} == {CLASSES[0]}
    assert [w.label for w in scripted([behind, ahead, behind], patience=1)] == [CLASSES[i] for i in (0, 1, 0)]


def test_unsure_is_where_no_class_reaches_the_threshold(scripted):
    windows = scripted([(0.5, 0.3), (0.49, 0.3), (0.1, 0.8)], unsure_below=0.5)
    assert [(window.label, window.why) for window in windows] == [
        (CLASSES[0], ""),
        (UNSURE, NOT_SURE),
        (CLASSES[1], ""),
    ]
    # An unsure window shows no label, yet it counts: the one before it is not begun anew.
    windows = scripted([(0.9, 0.1), (0.4, 0.3), (0.45, 0.5)], margin=0.1, patience=3)
    assert [window.label for window in windows] == [CLASSES[0], UNSURE, CLASSES[0]]


def test_after_silence_no_label_is_held(scripted):
    windows = scripted([(0.9, 0.1), (0.9, 0.1), (0.48, 0.52)], levels=[-20, -115, -20], margin=0.2)
    assert [window.label for window in windows] == [CLASSES[0], UNSURE, CLASSES[1]]


# Bad input.


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e300, -1e10])
def test_samples_that_are_not_finite_spoil_their_windows_alone(opened, voices, bad):
    hop, at = 2000, 3 * SAMPLES + 123
    whole = voices[: 6 * SAMPLES].astype(np.float64)
    broken = whole.copy()
    broken[at] = bad
    settings = {"hop_seconds": hop / RATE, "smoothing_seconds": 0.5}
    expected = [*opened.stream(whole, **settings)]
    windows = [*opened.stream(random_blocks(broken, 4, 900), **settings)]
    assert len(windows) == len(expected)
    hit = 0
    for k, (window, sound) in enumerate(zip(windows, expected, strict=True)):
        if k * hop <= at < k * hop + SAMPLES:
            hit += 1
            assert (window.label, window.why) == (UNSURE, NOT_FINITE)
            assert np.isnan(window.probabilities).all()
            assert np.isnan(window.smoothed).all()
            assert math.isnan(window.level)
            first_after = k + 1
        else:
            np.testing.assert_array_equal(window.probabilities, sound.probabilities)
    assert hit == SAMPLES // hop or hit == SAMPLES // hop + 1
    np.testing.assert_array_equal(windows[first_after].smoothed, windows[first_after].probabilities)


@pytest.mark.parametrize(
    ("block", "message"),
    [
        (np.zeros((100, 2), np.float32), r"one channel.*\(100, 2\): take the mean of channels"),
        (np.float32(0.5), r"one channel"),
        (np.zeros(100, np.int16), "found int16: divide 16-bit samples by 32768"),
        (np.array(["a"]), "expected floating-point samples"),
    ],
)
def test_blocks_that_are_no_samples_are_refused(opened, block, message):
    with pytest.raises(RunnerError, match=message):
        Stream(opened).feed(block)
    with pytest.raises(RunnerError, match=message):
        opened.probabilities(block)
    with pytest.raises(RunnerError, match=message):
        [*opened.stream([block])]


def test_a_stream_without_a_sample_has_no_window(opened):
    stream = Stream(opened)
    assert stream.feed(np.zeros(0, np.float32)) == stream.finish() == []
    for nothing in (np.zeros(0, np.float32), [], [np.zeros(0)]):
        with pytest.raises(RunnerError, match="at least one sample, found none"):
            [*opened.stream(nothing)]


def test_a_stated_wrong_rate_is_refused(opened, voices):
    message = "expected sound at 16000 Hz, found 44100 Hz: resample it first"
    with pytest.raises(RunnerError, match=message):
        opened.probabilities(voices[:SAMPLES], sample_rate=44_100)
    with pytest.raises(RunnerError, match=message):
        Stream(opened, sample_rate=44_100)
    opened.probabilities(voices[:SAMPLES], sample_rate=RATE)
    Stream(opened, sample_rate=RATE)


def test_a_clip_of_an_hour_is_heard_in_its_middle(opened):
    block = np.random.default_rng(0).normal(0, 0.1, 60 * RATE).astype(np.float32)
    hour = np.tile(block, 60)
    start = (len(hour) - SAMPLES) // 2
    np.testing.assert_array_equal(
        opened.probabilities(hour), opened.probabilities(hour[start : start + SAMPLES])
    )


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"hop_seconds": 0}, "hop_seconds must be from 1/16000 on, found 0"),
        ({"hop_seconds": math.nan}, "hop_seconds must be from 1/16000 on, found nan"),
        ({"hop_seconds": math.inf}, "found inf"),
        ({"unsure_below": 1.1}, "unsure_below must be from 0 to 1, found 1.1"),
        ({"silence_dbfs": math.nan}, "silence_dbfs must be in dB of full scale, so at most 0, found nan"),
        ({"silence_dbfs": 50}, "found 50"),
        ({"smoothing_seconds": -1}, "smoothing_seconds must be from 0 on"),
        ({"margin": 2}, "margin must be from 0 to 1"),
        ({"patience": 0}, "patience must be at least 1"),
    ],
)
def test_settings_out_of_range_are_named(opened, setting, message):
    with pytest.raises(RunnerError, match=message):
        Stream(opened, **setting)


def damaged_file(kind: str, good: Path, folder: Path, shared_data: Path) -> Path:
    if kind == "another's model":
        return shared_data / "models" / "yamnet_audio_classifier_with_metadata.tflite"
    path = folder / "bad.tflite"
    if kind == "folder":
        path.mkdir()
    elif kind != "absent":
        content = good.read_bytes()
        path.write_bytes({"empty": b"", "cut": content[: len(content) // 2], "text": b"hello " * 99}[kind])
    return path


@pytest.mark.parametrize("command", ["predict", "listen"])
@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("another's model", "lacks its card: it is no export of light-sernet-kd, or was cut short"),
        ("cut", "lacks its card"),
        ("empty", "is not a TFLite file"),
        ("text", "is not a TFLite file"),
        ("folder", "no student_*.tflite in"),
        ("absent", "No such file or directory"),
    ],
)
def test_a_file_that_cannot_be_used_is_one_line(file, shared_data, tmp_path, capsys, command, kind, message):
    path = damaged_file(kind, file, tmp_path, shared_data)
    assert cli.main([command, str(path), *(["x.wav", "--stream"] if command == "predict" else [])]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert str(path) in line
    assert message in line


# The timeline.


def window(start, end, label, why="", level=-20.0, shares=(0.9, 0.1)):
    shares = np.float32(shares)
    return runner.Window(start, end, shares, shares, level, label, why)


def test_segments_meet_between_the_middles_of_their_windows():
    windows = [
        window(0, 3, "a", shares=(0.9, 0.1)),
        window(1, 4, "a", shares=(0.7, 0.3), level=-30.0),
        window(2, 5, "b", shares=(0.2, 0.8)),
        window(3, 6, UNSURE, SILENT, -70.0),
        window(4, 6.5, UNSURE, NOT_FINITE, math.nan, (math.nan, math.nan)),
    ]
    found = [*timeline.segments(iter(windows), ("a", "b"))]
    assert [(each.start, each.end, each.label, each.why, each.windows) for each in found] == [
        (0, 3, "a", "", 2),
        (3, 4, "b", "", 1),
        (4, 4.875, UNSURE, SILENT, 1),
        (4.875, 6.5, UNSURE, NOT_FINITE, 1),
    ]
    assert [each.probability for each in found] == [pytest.approx(0.8), pytest.approx(0.8), None, None]
    assert [each.level for each in found] == [-25, -20, -70, None]
    assert [*timeline.segments([], ("a", "b"))] == []


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0:00.0"), (59.96, "1:00.0"), (61.25, "1:01.2"), (3599.99, "1:00:00.0"), (7384.5, "2:03:04.5")],
)
def test_a_clock_carries(seconds, text):
    assert formats.clock(seconds) == text


@pytest.mark.parametrize("length", [1, 31, 32, 33, 40 * 32, 32 * 40 + 1, 700_001])
def test_an_envelope_is_the_extremes_of_equal_stretches(monkeypatch, length):
    monkeypatch.setattr(timeline.Envelope, "MOST", 40)
    waveform = np.random.default_rng(length).normal(size=length).astype(np.float32)
    envelope = timeline.Envelope(RATE)
    passed = [*envelope.passed(random_blocks(waveform, 1, 20_000))]
    np.testing.assert_array_equal(np.concatenate(passed), waveform)
    stretch = round(envelope.stretch_seconds * RATE)
    pairs = envelope.pairs()
    assert len(pairs) == -(-length // stretch) <= 41
    assert stretch == 32 or length > 20 * stretch
    for k, pair in enumerate(pairs):
        part = waveform[k * stretch : (k + 1) * stretch]
        assert (*pair,) == (part.min(), part.max())


@pytest.fixture
def talk(shared_data, tmp_path) -> Path:
    """Two sentences of EMO-DB at 44.1 kHz in stereo, with 2 s of silence between them."""
    names = ("03a01Fa.wav", "03a02Nc.wav")
    sentences = [audio.read(shared_data / "EMO-DB" / "wav" / name) for name in names]
    joined = np.concatenate([sentences[0], np.zeros(2 * RATE, np.float32), sentences[1]])
    path = tmp_path / "talk.wav"
    soundfile.write(path, np.repeat(audio.resample(joined, RATE, 44_100)[:, None], 2, axis=1) / 2, 44_100)
    return path


def streamed(capsys, *arguments) -> list[dict]:
    assert cli.main(["predict", *map(str, arguments), "--stream", "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_predict_streams_what_the_runner_streams(file, talk, capsys):
    opened = Runner(file)
    waveform = audio.read(talk)
    answers = streamed(capsys, file, talk, talk, "--hop", "0.2", "--threshold", "0.3")
    assert answers[0] == answers[1]
    answer = answers[0]
    windows = [*opened.stream(waveform, hop_seconds=0.2, unsure_below=0.3)]
    assert answer["windows"] == [formats.window_dict(each, CLASSES) for each in windows]
    for each, told in zip(windows, answer["windows"], strict=True):
        assert [*told["probabilities"].values()] == each.probabilities.tolist()
        assert [*told["probabilities"]] == [*CLASSES]
    assert answer["seconds"] == len(waveform) / RATE
    assert (answer["hop_seconds"], answer["unsure_below"], answer["silence_dbfs"]) == (0.2, 0.3, -110)
    assert {SILENT, None} <= {each["why"] for each in answer["segments"]}
    ends = [each["end"] for each in answer["segments"]]
    assert [each["start"] for each in answer["segments"]] == [0, *ends[:-1]]
    assert ends[-1] == answer["seconds"]
    assert sum(each["windows"] for each in answer["segments"]) == len(windows)


def test_predict_prints_a_line_per_segment_and_with_v_per_window(file, talk, capsys):
    (answer,) = streamed(capsys, file, talk)
    assert cli.main(["predict", str(file), str(talk), "--stream"]) == 0
    head, *lines = capsys.readouterr().out.splitlines()
    assert head == f"{talk}:"
    assert len(lines) == len(answer["segments"])
    for line, segment in zip(lines, answer["segments"], strict=True):
        span = f"{formats.clock(segment['start'])} - {formats.clock(segment['end']):>9}  {segment['label']}"
        assert line.strip().startswith(span)
        share = segment["probability"]
        assert (f"{100 * share:.0f} %" if share is not None else segment["why"]) in line
    assert cli.main(["predict", str(file), str(talk), "--stream", "-v"]) == 0
    _, titles, *rows = capsys.readouterr().out.splitlines()
    assert titles.split()[:4] == ["start", "end", "dBFS", "label"]
    assert rows[len(answer["windows"])] == ""
    assert rows[len(answer["windows"]) + 1 :] == lines


def test_predict_streams_an_hour_in_constant_memory(file, tmp_path, capsys):
    path = tmp_path / "hour.wav"
    minute = np.random.default_rng(0).integers(-99, 99, 60 * 8000).astype(np.int16) * 99
    with soundfile.SoundFile(path, "w", 8000, 1, subtype="PCM_U8") as hour:
        for _ in range(60):
            hour.write(minute)
    tracemalloc.start()
    try:
        assert cli.main(["predict", str(file), str(path), "--stream", "--hop", "60"]) == 0
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # At 16 kHz, an hour of float32 is 230 MB.
    assert peak < 5e6
    captured = capsys.readouterr()
    assert "the hop of 60 s is longer than a window of 0.500062 s" in captured.err
    assert captured.out.splitlines()[-1].split()[:3] == ["0:00.0", "-", "59:00.5"]


def test_predict_answers_from_all_of_hours_in_constant_memory(file, opened, tmp_path, capsys):
    path = tmp_path / "long.wav"
    minutes = np.random.default_rng(0).normal(0, 0.1, (7, 60 * 8000)).astype(np.float32)
    soundfile.write(path, minutes.reshape(-1), 8000, subtype="FLOAT")
    whole = audio.read(path)
    tracemalloc.start()
    try:
        assert cli.main(["predict", str(file), str(path), "--json", "--hop=5", "--steady=0"]) == 0
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 10e6 < whole.nbytes
    (answer,) = json.loads(capsys.readouterr().out)
    windows = [*opened.stream(whole, hop_seconds=5, steady_db=0)]
    assert (answer["seconds"], answer["windows"]) == (len(whole) / RATE, len(windows))
    mean = np.mean([window.probabilities for window in windows], axis=0)
    np.testing.assert_allclose(list(answer["probabilities"].values()), mean, atol=1e-3)


def test_predict_works_without_a_place_for_temporary_files(file, tmp_path, monkeypatch, capsys):
    def full(*_args, **_kwargs):
        raise FileNotFoundError(2, "No usable temporary directory found")

    monkeypatch.setattr(runner.tempfile, "TemporaryFile", full)
    soundfile.write(tmp_path / "a.wav", np.random.default_rng(0).normal(0, 0.1, RATE), RATE)
    assert cli.main(["predict", str(file), str(tmp_path / "a.wav")]) == 0
    assert "a.wav: " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["golden", "result"], "interrupted."),
        (["fetch", "EMO-DB"], "interrupted; the same command continues."),
    ],
)
def test_only_what_goes_on_is_said_to(monkeypatch, capsys, arguments, said):
    def interrupted(arguments, context):
        raise KeyboardInterrupt

    command = dataclasses.replace(entry.COMMANDS[arguments[0]], run=interrupted)
    monkeypatch.setitem(entry.COMMANDS, arguments[0], command)
    assert cli.main(arguments) == 130
    assert capsys.readouterr().err == f"light-sernet-kd: {said}\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a.wav", "-v"], "--picture and -v go with --stream"),
        (["a.wav", "--hop", "-1"], "--hop must be from 1/16000 on, found -1"),
        (["a.wav", "--silence", "3"], "--silence must be in dB of full scale, so at most 0, found 3"),
        (["a.wav", "--picture", "x.png"], "go with --stream"),
        (["a.wav", "--stream", "--text", "ja"], "--stream answers windows, and a text is of a whole clip"),
        (["a.wav", "--stream", "--hop", "-1"], "--hop must be from 1/16000 on, found -1"),
        (["a.wav", "--stream", "--hop", "1e305"], "--hop must be from 1/16000 on, found 1e+305"),
        (["a.wav", "--stream", "--steady", "-1"], "--steady must be from 0 on, found -1"),
        (["a.wav", "--stream", "--threshold", "50"], "--threshold must be from 0 to 1, found 50"),
        (["a.wav", "--stream", "--picture", "x.jpg"], "ends in .png, .svg or .pdf: found 1 and x.jpg"),
        (["a.wav", "b.wav", "--stream", "--picture", "x.png"], "is for one recording"),
        (["--stream"], "there is no recording: name one"),
        (["absent.wav", "--stream"], "no such recording: absent.wav"),
    ],
)
def test_predict_says_in_one_line_what_does_not_go(file, capsys, arguments, message):
    assert cli.main(["predict", str(file), *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


def test_a_recording_that_breaks_off_is_told_behind_what_was_heard(file, talk, tmp_path, capsys):
    samples, rate = soundfile.read(talk, dtype="float32")
    samples[-1] = np.nan
    bad = tmp_path / "bad.wav"
    soundfile.write(bad, samples, rate, subtype="FLOAT")
    assert cli.main(["predict", str(file), str(bad), str(talk), "--stream"]) == 2
    captured = capsys.readouterr()
    assert captured.err == f"light-sernet-kd: {bad} holds 2 values that are not finite (NaN or infinity)\n"
    assert f"{talk}:" in captured.out
    assert cli.main(["predict", str(file), str(bad), str(talk), "--stream", "--json"]) == 2
    failed, answered = json.loads(capsys.readouterr().out)
    assert failed["file"] == str(bad)
    assert failed["error"] == f"{bad} holds 2 values that are not finite (NaN or infinity)"
    assert (answered["file"], "error" in answered) == (str(talk), False)


def test_a_picture_shows_every_class_and_names_its_segments(drawn, file, talk, capsys):
    assert cli.main(["predict", str(file), str(talk), "--stream", "--picture", "x.png"]) == 0
    (figure,) = drawn
    capsys.readouterr()
    strip, wave, lines = figure.axes
    assert [each.get_label() for each in lines.patches] == [*CLASSES]
    (answer,) = streamed(capsys, file, talk)
    assert sum(len(each.get_paths()) for each in strip.collections) == len(answer["segments"])
    for k, name in enumerate(CLASSES):
        shown = lines.patches[k].get_data().values
        expected = [np.nan if each["why"] == SILENT else each["smoothed"][name] for each in answer["windows"]]
        np.testing.assert_array_equal(shown, expected)
    assert wave.get_xlim() == lines.get_xlim() == (0, answer["seconds"])


@pytest.mark.parametrize(("count", "end"), [(1, 0.5), (5, 9.0), (400, 7000.0)])
def test_no_text_of_a_picture_is_clipped_or_overlaps(drawn, count, end):
    classes = [f"overwhelmed by something {k}" for k in range(10)]
    borders = np.linspace(0, end, count + 1)
    spans = [
        (start, stop, *(("unsure", ("silent", "not sure")[k % 2]) if k % 3 else (classes[k % 10], "")))
        for k, (start, stop) in enumerate(itertools.pairwise(borders))
    ]
    shares = np.random.default_rng(0).dirichlet(np.ones(10), count)
    envelope = np.random.default_rng(1).normal(size=(50, 1)) * [[-1, 1]]
    heard = figures.Timeline(envelope, end / 50, shares, borders, spans, classes)
    figures.timeline(heard, "x.png", unsure_below=0.5, title="a recording " * 12)
    (figure,) = drawn
    texts = shown(figure)
    for text, box, _ in texts:
        assert figure.bbox.x0 <= box.x0 <= box.x1 <= figure.bbox.x1, text
        assert figure.bbox.y0 <= box.y0 <= box.y1 <= figure.bbox.y1, text
    strip = figure.axes[0]
    places = [box for _, box, text in texts if text in strip.texts]
    assert places or count == 400
    for one, other in itertools.pairwise(sorted(places, key=lambda box: box.x0)):
        assert one.x1 <= other.x0


# The microphone, of which `fake_microphone` plays a recording.


@pytest.fixture
def microphone(monkeypatch):
    return functools.partial(plugged, monkeypatch)


@pytest.fixture(scope="module")
def spoken_words(shared_data) -> np.ndarray:
    return audio.read(shared_data / "EMO-DB" / "wav" / "03a01Fa.wav")


def test_listen_hears_what_predict_reads(file, microphone, spoken_words, capsys):
    world = microphone(spoken_words)
    seconds = len(spoken_words) / RATE
    arguments = ["listen", str(file), "--json", "--hop", "0.2", "--seconds", str(seconds)]
    assert cli.main([*arguments, "--device", "tap"]) == 0
    captured = capsys.readouterr()
    windows = [*Runner(file).stream(spoken_words, hop_seconds=0.2)]
    assert [json.loads(line) for line in captured.out.splitlines()] == [
        formats.window_dict(each, CLASSES) for each in windows
    ]
    assert f"Heard 0:0{seconds:.1f} in {len(windows)} windows: " in captured.err
    assert "lost" not in captured.err
    (settings,) = world.opened
    assert (settings["samplerate"], settings["channels"], settings["dtype"]) == (RATE, 1, "float32")
    assert (settings["device"], settings["blocksize"], world.closed) == ("tap", 800, 1)


def test_a_device_that_refuses_the_files_rate_is_resampled(file, microphone, spoken_words, capsys):
    own = audio.resample(spoken_words, RATE, 44_100)
    world = microphone(own, rate=44_100, refused=[RATE])
    assert cli.main(["listen", str(file), "--json", "--seconds", "1.5"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    expected = [*Runner(file).stream(audio.resample(own, 44_100, RATE)[: 3 * RATE // 2])]
    assert lines == [formats.window_dict(each, CLASSES) for each in expected]
    assert [settings["samplerate"] for settings in world.opened] == [RATE, 44_100]


def test_lost_sound_is_told(file, microphone, spoken_words, capsys):
    microphone(spoken_words, overflows=(3, 7))
    assert cli.main(["listen", str(file), "--seconds", "1"]) == 0
    out = capsys.readouterr().out
    heard = [*Runner(file).stream(spoken_words[:RATE])]
    changes = [b for a, b in itertools.pairwise([None, *heard]) if a is None or a.label != b.label]
    first, *lines = out.splitlines()[:-2]
    assert first == "Listening to Tape; Ctrl-C ends."
    for line, each in zip(lines, changes, strict=True):
        shown = f"{100 * each.smoothed[CLASSES.index(each.label)]:.0f} %" if not each.why else each.why
        expected = [formats.clock(each.end), each.label, shown, f"{each.level:.0f} dBFS"]
        assert line.strip() == "  ".join(expected)
    assert out.splitlines()[-1] == "Sound was lost 2 times: this machine was too slow. A longer --hop helps."


def test_blocks_that_find_the_queue_full_are_counted_as_lost(file, microphone, spoken_words, monkeypatch):
    microphone(spoken_words)
    monkeypatch.setattr(listen, "_HELD_BLOCKS", 2)
    with listen._Microphone(None, RATE) as opened:
        opened._input.thread.join()
        assert opened.lost == -(-len(spoken_words) // 800) - 2
        np.testing.assert_array_equal(next(opened.blocks()), spoken_words[:800])


def test_ctrl_c_ends_with_a_summary(file, microphone, spoken_words, monkeypatch, capsys):
    world = microphone(spoken_words)
    heard = Stream.feed
    fed = []

    def interrupted(stream, block):
        fed.append(len(block))
        if sum(fed) > RATE:
            raise KeyboardInterrupt
        return heard(stream, block)

    monkeypatch.setattr(Stream, "feed", interrupted)
    assert cli.main(["listen", str(file)]) == 0
    captured = capsys.readouterr()
    assert captured.out.splitlines()[-1].startswith("Heard 0:01.0 in 2 windows: ")
    assert captured.err == ""
    assert world.closed == 1


def test_interrupted_before_the_first_block(file, microphone, monkeypatch, capsys):
    microphone(np.zeros(0, np.float32))

    def interrupted(self):
        raise KeyboardInterrupt
        yield

    monkeypatch.setattr(listen._Microphone, "blocks", interrupted)
    assert cli.main(["listen", str(file)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "Heard 0:00.0 in 0 windows."


def test_the_live_display_shows_label_bars_and_level(opened):
    console = Console(width=100, force_terminal=True, color_system=None, record=True, file=io.StringIO())
    tape = types.SimpleNamespace(name="Tape [x]", lost=0)
    display = listen._LiveDisplay(console, opened, -50.0, tape)
    shares = np.float32([0.82, 0.1, 0.05, 0.03, 0])
    console.print(display.drawn(runner.Window(1, 4, shares, shares, -33.4, CLASSES[0], "")))
    told = console.export_text()
    for part in ("0:04.0  ANGER", "anger", "82 %", "-33 dBFS (silent below -50)", "Tape [x]; Ctrl-C ends"):
        assert part in told
    nothing = np.full(5, np.nan, np.float32)
    console.print(display.drawn(runner.Window(1, 4, nothing, nothing, math.nan, UNSURE, NOT_FINITE)))
    assert "UNSURE  not finite" in console.export_text()


def test_a_device_that_goes_away_loses_nothing_that_was_heard(
    file, microphone, spoken_words, monkeypatch, capsys
):
    microphone(spoken_words[: RATE + 100])
    monkeypatch.setattr(listen, "_PATIENCE_SECONDS", 0.1)
    assert cli.main(["listen", str(file)]) == 2
    captured = capsys.readouterr()
    assert captured.out.splitlines()[-1].startswith("Heard 0:01.0 in 3 windows: ")  # the last one is padded
    assert "Tape gave no sound for 0.1 s" in captured.err


@pytest.mark.parametrize(
    ("world", "arguments", "message"),
    [
        ({"devices": 0}, [], "no input device here (Error querying device -1). Connect a microphone, or"),
        ({}, ["--device", "radio"], "no input device radio (No input device matching 'radio'). `python -m"),
        (
            {"refused": [RATE, 48_000]},
            [],
            "Tape records neither at 16000 Hz nor at its own 48000 Hz (Invalid sample rate [PaErrorCode",
        ),
        ({"start_fails": True}, [], "Tape does not record (Device unavailable [PaErrorCode -9985]). `python"),
        ({}, [], "Tape gave no sound for 0.1 s: is it plugged in and allowed?"),
        ({}, ["--seconds", "0"], "--seconds must be positive, found 0."),
        ({}, ["--hop", "0"], "--hop must be from 1/16000 on"),
        ({}, ["--threads", "0"], "--threads must be at least 1, found 0."),
    ],
)
def test_what_hinders_listening_is_one_line(file, microphone, monkeypatch, capsys, world, arguments, message):
    microphone(np.zeros(0, np.float32), **world)
    monkeypatch.setattr(listen, "_PATIENCE_SECONDS", 0.1)
    assert cli.main(["listen", str(file), *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


def test_without_sounddevice_the_install_line_is_given(file, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    assert cli.main(["listen", str(file)]) == 2
    assert '-m pip install "light-sernet-kd[listen]"' in capsys.readouterr().err


def test_without_portaudio_the_library_is_named(file, monkeypatch, tmp_path, capsys):
    # As sounddevice itself fails where it finds no PortAudio.
    (tmp_path / "sounddevice.py").write_text("raise OSError('PortAudio library not found')")
    monkeypatch.delitem(sys.modules, "sounddevice", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    assert cli.main(["listen", str(file)]) == 2
    assert "needs the library PortAudio (PortAudio library not found): apt" in capsys.readouterr().err


@pytest.fixture
def sounddevice():
    """The package with the system's PortAudio, which its Linux wheel does not bring along."""
    try:
        import sounddevice
    except (ImportError, OSError) as error:
        pytest.skip(f"no microphone can be opened here: {error}")
    return sounddevice


def test_a_machine_without_an_input_device_says_so(sounddevice, file, capsys):
    if any(device["max_input_channels"] for device in sounddevice.query_devices()):
        pytest.skip("there is an input device")
    assert cli.main(["listen", str(file)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("light-sernet-kd: no input device here (")
    assert cli.main(["listen", str(file), "--device", "3"]) == 2
    assert "no input device 3 (" in capsys.readouterr().err


def test_a_real_portaudio_plays_a_recording_into_listen(sounddevice, file, spoken_words, tmp_path):
    """ALSA's file plugin is an input device; it gives samples faster than they were spoken."""
    if "ALSA" not in {api["name"] for api in sounddevice.query_hostapis()}:
        pytest.skip("PortAudio has no ALSA here")
    (tmp_path / "tape.raw").write_bytes(spoken_words.tobytes())
    (tmp_path / "asound.conf").write_text(
        "</usr/share/alsa/alsa.conf>\n"
        'pcm.tape { type file slave { pcm { type null } } file "/dev/null" format "raw" '
        f'infile "{tmp_path / "tape.raw"}" }}\n'
    )
    seconds = len(spoken_words) / RATE
    done = subprocess.run(
        [
            *(sys.executable, "-m", "light_sernet_kd", "listen", str(file)),
            *("--device", "tape", "--json", "--seconds", str(seconds)),
        ],
        env={**os.environ, "ALSA_CONFIG_PATH": str(tmp_path / "asound.conf")},
        capture_output=True,
        text=True,
        timeout=60,
    )
    if "no input device" in done.stderr:
        pytest.skip(f"no such plugin of ALSA here: {done.stderr}")
    assert done.returncode == 0, done.stderr
    assert [json.loads(line) for line in done.stdout.splitlines()] == [
        formats.window_dict(each, CLASSES) for each in Runner(file).stream(spoken_words)
    ]
