"""What degrades a recording, measured back from the result by other means."""

import math

import numpy as np
import pytest
import scipy.signal
import soundfile

from light_sernet_kd.analysis import degradations
from light_sernet_kd.analysis.degradations import DegradationContext
from light_sernet_kd.registries.degradations import CLEAN, CONDITIONS, SPEECHLESS

RATE = 16_000


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def voice(samples: int = 2 * RATE, *, seed: int = 0, level: float = 0.1, zeros: int = 0) -> np.ndarray:
    """Harmonics and breath that come and go, with digital zeros at both ends."""
    seconds = np.arange(samples) / RATE
    sound = sum(np.sin(2 * np.pi * 140 * k * seconds + k) / k for k in range(1, 50))
    sound = sound * (1.1 + np.sin(2 * np.pi * 3 * seconds)) + 0.3 * rng(seed).standard_normal(samples)
    sound = level * sound / np.sqrt(np.mean(sound**2))
    return np.pad(sound, zeros).astype(np.float32)


def around(utterance: str = "u", seed: int = 0, talkers: int = 6) -> DegradationContext:
    return DegradationContext(seed, utterance, [voice(9000 + 100 * n, seed=50 + n) for n in range(talkers)])


def degraded(name: str, waveform: np.ndarray, **drawn) -> np.ndarray:
    return CONDITIONS[name](waveform, around(**drawn))


def power(waveform) -> float:
    return float(np.mean(np.asarray(waveform, np.float64) ** 2))


def band_power(waveform: np.ndarray, low: float, high: float) -> float:
    hz, density = scipy.signal.welch(np.asarray(waveform, np.float64), RATE, nperseg=2048)
    return float(density[(hz >= low) & (hz < high)].sum())


def lag(reference: np.ndarray, other: np.ndarray) -> int:
    found = scipy.signal.correlate(other.astype(np.float64), reference.astype(np.float64), method="fft")
    return int(found.argmax()) - (len(reference) - 1)


# Noise


@pytest.mark.parametrize("kind", ["white", "pink", "babble"])
@pytest.mark.parametrize("snr_db", [20, 10, 0])
def test_the_ratio_of_powers_over_the_active_part_is_the_snr(kind, snr_db):
    clean = voice(zeros=7000)
    noise = degraded(f"{kind} {snr_db} dB", clean).astype(np.float64) - clean
    part = slice(7000, -7000)
    assert 10 * math.log10(power(clean[part]) / power(noise[part])) == pytest.approx(snr_db, abs=0.01)
    # A room does not fall silent where the talker does.
    assert power(noise[:7000]) > 0.2 * power(noise[part])


def test_white_noise_is_flat_per_hz_and_pink_noise_per_octave():
    clean = voice(30 * RATE)
    white, pink = (degraded(f"{kind} 0 dB", clean) - clean for kind in ("white", "pink"))
    octaves = [(125 * 2**k, 250 * 2**k) for k in range(6)]
    per_hz = [band_power(white, low, high) / (high - low) for low, high in octaves]
    per_octave = [band_power(pink, low, high) for low, high in octaves]
    assert max(per_hz) / min(per_hz) < 1.15
    assert max(per_octave) / min(per_octave) < 1.15


def test_levels_of_one_noise_are_the_same_noise_and_other_utterances_and_seeds_draw_others():
    clean = voice()
    loud, quiet = (degraded(f"white {snr} dB", clean).astype(np.float64) - clean for snr in (0, 20))
    np.testing.assert_allclose(loud, 10 * quiet, atol=1e-5)
    np.testing.assert_array_equal(degraded("white 0 dB", clean), degraded("white 0 dB", clean))
    for other in ({"utterance": "v"}, {"seed": 1}):
        noise = degraded("white 0 dB", clean, **other).astype(np.float64) - clean
        assert abs(np.corrcoef(loud, noise)[0, 1]) < 0.05


def test_babble_is_the_sum_of_its_talkers_each_as_loud_as_the_others():
    # Tones that fit a whole number of times into each recording tell the talkers apart.
    tones = [
        level * np.sin(2 * np.pi * hz * np.arange(n) / RATE)
        for hz, level, n in ((400, 0.5, 8000), (1000, 0.01, 4000), (2500, 0.1, 16_000))
    ]
    mixed = degradations.babble(RATE, [np.pad(tone, 300).astype(np.float32) for tone in tones], rng())
    levels = [band_power(mixed, hz - 60, hz + 60) for hz in (400, 1000, 2500)]
    assert max(levels) / min(levels) < 1.05
    assert band_power(mixed, 60, 7900) == pytest.approx(sum(levels), rel=0.02)


# Level and overload


def test_gain_is_12_db_up_to_full_scale():
    clean = voice()
    np.testing.assert_allclose(degraded("gain -12 dB", clean), clean * 10 ** (-12 / 20), rtol=1e-6)
    louder = clean.astype(np.float64) * 10 ** (12 / 20)
    assert np.abs(louder).max() > 1.2
    np.testing.assert_allclose(degraded("gain +12 dB", clean), np.clip(louder, -1, 1), rtol=1e-5)


@pytest.mark.parametrize("share", [5, 20])
def test_clipping_cuts_the_largest_samples_of_the_active_part(share):
    clean = voice(zeros=40_000)
    cut = degraded(f"clipped {share} %", clean)
    ordered = np.sort(np.abs(clean[40_000:-40_000]))
    peak = ordered[round(len(ordered) * (100 - share) / 100)]
    assert np.abs(cut).max() == pytest.approx(peak, rel=1e-3)
    touched = np.mean(cut[40_000:-40_000] != clean[40_000:-40_000])
    assert touched == pytest.approx(share / 100, abs=0.001)
    np.testing.assert_array_equal(cut[np.abs(clean) < 0.99 * peak], clean[np.abs(clean) < 0.99 * peak])


# Lines and codecs


def test_a_telephone_passes_300_to_3400_hz_alone():
    noise = (0.1 * rng().standard_normal(20 * RATE)).astype(np.float32)
    heard = degraded("telephone", noise)
    inside = band_power(heard, 350, 3350) / band_power(noise, 350, 3350)
    assert inside == pytest.approx(1, rel=0.03)
    # What is left outside is the codec's own noise, about 38 dB below the speech.
    assert band_power(heard, 0, 180) / band_power(noise, 0, 180) < 10**-3
    assert band_power(heard, 3750, 4000) / band_power(noise, 3750, 4000) < 10**-3
    assert band_power(heard, 4300, 8000) / band_power(noise, 4300, 8000) < 10**-6


@pytest.mark.parametrize("dbfs", [-10, -25, -40])
def test_a_telephone_has_the_noise_of_mu_law_at_any_level(dbfs):
    # 8 bits per sample, spaced by a logarithm: about 38 dB at every level, where equal steps have 13 at -40.
    seconds = np.arange(4 * RATE) / RATE
    tone = (math.sqrt(2) * 10 ** (dbfs / 20) * np.sin(2 * np.pi * 1013.7 * seconds)).astype(np.float32)
    heard = degraded("telephone", tone)[RATE:-RATE].astype(np.float64)
    basis = np.stack([np.sin(2 * np.pi * 1013.7 * seconds), np.cos(2 * np.pi * 1013.7 * seconds)], 1)
    basis = basis[RATE:-RATE]
    fitted = basis @ np.linalg.lstsq(basis, heard, rcond=None)[0]
    assert 34 < 10 * math.log10(power(fitted) / power(heard - fitted)) < 42


def mpeg_frames(content: bytes) -> list[tuple[int, int, int]]:
    """Kilobits per second, sample rate and channels of each frame, by the headers' bits (ISO 13818-3)."""
    kilobits = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
    rates = (22_050, 24_000, 16_000)
    frames, position = [], 0
    while position < len(content):
        header = int.from_bytes(content[position : position + 4], "big")
        assert header >> 21 == 0x7FF, position
        assert (header >> 19 & 3, header >> 17 & 3) == (0b10, 0b01)  # MPEG-2, layer III
        rate, sample_rate = kilobits[header >> 12 & 15], rates[header >> 10 & 3]
        frames.append((rate, sample_rate, 1 if header >> 6 & 3 == 3 else 2))
        position += 72 * 1000 * rate // sample_rate + (header >> 9 & 1)
    assert position == len(content)
    return frames


@pytest.mark.parametrize("kilobits", [48, 64, 96])
def test_an_mp3_has_its_bit_rate_in_every_frame(kilobits):
    content = degradations.mp3_bytes(voice(5 * RATE), kilobits=kilobits)
    assert set(mpeg_frames(content)) == {(kilobits, RATE, 1)}
    # The encoder's delay and its header take a few of the frames of 36 ms.
    assert 8 * len(content) / 5 / 1000 == pytest.approx(kilobits, rel=0.05)


def test_a_rate_that_loses_the_delay_is_refused():
    with pytest.raises(ValueError, match="from 48 to 160 kbit/s, found 32"):
        degradations.mp3_bytes(voice(), kilobits=32)


def test_an_mp3_comes_back_in_time_and_with_loss():
    clean = voice(zeros=0)
    heard = degraded("MP3 64", clean)
    assert len(heard) == len(clean)
    assert lag(clean, heard) == 0
    ratio = 10 * math.log10(power(clean) / power(heard.astype(np.float64) - clean))
    assert 10 < ratio < 40
    # LAME's own low-pass at this rate.
    assert band_power(heard, 7600, 8000) < 1e-3 * band_power(clean, 7600, 8000)


def test_lines_cut_what_exceeds_full_scale(monkeypatch):
    given = []
    write = soundfile.write
    monkeypatch.setattr(
        soundfile, "write", lambda file, data, *a, **k: given.append(data) or write(file, data, *a, **k)
    )
    loud = 30 * voice()
    for name in ("telephone", "MP3 64"):
        heard = degraded(name, loud)
        assert np.isfinite(heard).all()
        assert np.abs(heard).max() < 2
    # Beyond it libsndfile reads past its table of µ-law, which may end the process.
    assert np.abs(given[0]).max() == 1


# Rooms


@pytest.mark.parametrize("t60_seconds", [0.3, 0.8])
def test_the_reverberation_time_by_schroeder_integration(t60_seconds):
    # Schroeder 1965: the energy yet to come, whose slope is read from -5 to -35 dB (ISO 3382's T30).
    found = []
    for seed in range(8):
        response = degradations.room(rng(seed), t60_seconds=t60_seconds).astype(np.float64)
        tail = response[1:] ** 2
        assert tail.sum() == pytest.approx(1, rel=0.05)  # as strong as the direct sound
        decay_db = 10 * np.log10(np.cumsum(tail[::-1])[::-1] / tail.sum())
        (chosen,) = np.nonzero((decay_db <= -5) & (decay_db >= -35))
        slope = np.polyfit(chosen / RATE, decay_db[chosen], 1)[0]
        found.append(-60 / slope)
    assert np.mean(found) == pytest.approx(t60_seconds, rel=0.03)
    assert np.max(np.abs(np.array(found) / t60_seconds - 1)) < 0.12


def test_a_room_is_a_convolution_at_the_level_of_the_recording():
    clean = voice(zeros=500)
    response = degradations.room(rng(1), t60_seconds=0.3)
    heard = degradations.reverberated(clean, response)
    expected = scipy.signal.fftconvolve(clean.astype(np.float64), response)[: len(clean)]
    scale = (heard @ expected) / (expected @ expected)
    np.testing.assert_allclose(heard, scale * expected, atol=1e-5)
    assert len(heard) == len(clean)
    level = [10 * math.log10(power(np.trim_zeros(each))) for each in (clean, heard)]
    assert level[1] == pytest.approx(level[0], abs=0.01)
    assert lag(clean, heard) == 0


def test_every_utterance_has_a_room_of_its_own():
    clean = voice()
    one, other = (degraded("room 0.8 s", clean, utterance=name) for name in "ab")
    assert np.corrcoef(one, other)[0, 1] < 0.95


# Speed


@pytest.mark.parametrize(("name", "factor"), [("speed +5 %", 1.05), ("speed -5 %", 0.95)])
def test_speed_changes_the_duration_and_the_pitch(name, factor):
    tone = np.sin(2 * np.pi * 1000 * np.arange(2 * RATE) / RATE).astype(np.float32)
    heard = degraded(name, tone)
    assert len(heard) == pytest.approx(2 * RATE / factor, abs=1)
    spectrum = np.abs(np.fft.rfft(heard * np.hanning(len(heard)), 2**18))
    assert spectrum.argmax() * RATE / 2**18 == pytest.approx(1000 * factor, abs=0.2)


# All of them


@pytest.mark.parametrize("name", CONDITIONS)
def test_a_condition_leaves_its_input_alone_and_is_drawn_from_the_seed(name):
    clean = voice(zeros=100)
    before = clean.copy()
    heard = degraded(name, clean)
    np.testing.assert_array_equal(clean, before)
    assert heard.dtype == np.float32
    assert np.isfinite(heard).all()
    assert np.array_equal(heard, clean) == (name == CLEAN)
    np.testing.assert_array_equal(heard, degraded(name, clean))
    if not name.startswith(("speed", "zeros", "crop")):
        assert len(heard) == len(clean)


@pytest.mark.parametrize("name", CONDITIONS)
@pytest.mark.parametrize("samples", [1, 2, 3, 100])
def test_a_condition_takes_any_recording(name, samples):
    for waveform in (np.zeros(samples, np.float32), voice(samples)):
        heard = degraded(name, waveform)
        assert len(heard) >= 1
        assert np.isfinite(heard).all()
        if name != "MP3 64" and not waveform.any():
            # µ-law has no zero but a step beside it
            assert np.abs(heard).max() < 1e-3


@pytest.mark.parametrize(
    ("name", "dbfs"), [("faint noise", -70), ("white noise", -20), ("pink noise", -20), ("zeros", -math.inf)]
)
def test_clips_without_speech_have_their_level(name, dbfs):
    clip = SPEECHLESS[name](3 * RATE, rng())
    assert len(clip) == 3 * RATE
    found = 10 * math.log10(power(clip)) if clip.any() else -math.inf
    assert found == pytest.approx(dbfs, abs=0.01)


def test_the_power_of_a_sine_is_3_db_below_full_scale():
    tone = np.sin(2 * np.pi * 1000 * np.arange(RATE) / RATE)
    assert degradations.power_dbfs(tone) == pytest.approx(-3.0103, abs=1e-4)
    assert degradations.power_dbfs(np.zeros(3)) == degradations.power_dbfs(np.zeros(0)) == -math.inf
