"""What the certificate does to recordings, measured back by other means."""

import math

import numpy as np
import pytest
import scipy.signal
from scipy import stats

from light_sernet_kd.analysis.degradations import DegradationContext
from light_sernet_kd.analysis.disturbances import phone, places, small, sounds
from light_sernet_kd.audio.augment import rooms
from light_sernet_kd.registries.degradations import CONDITIONS

RATE = 16_000


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def voice(samples: int = 2 * RATE, *, level: float = 0.1, zeros: int = 0) -> np.ndarray:
    seconds = np.arange(samples) / RATE
    sound = sum(np.sin(2 * np.pi * 140 * k * seconds + k) / k for k in range(1, 50))
    sound = sound * (1.1 + np.sin(2 * np.pi * 3 * seconds)) + 0.3 * rng().standard_normal(samples)
    sound = level * sound / np.sqrt(np.mean(sound**2))
    return np.pad(sound, zeros).astype(np.float32)


def context(utterance: str = "u", **noises) -> DegradationContext:
    return DegradationContext(0, utterance, noises=noises)


def degraded(name: str, waveform: np.ndarray, utterance: str = "u", **noises) -> np.ndarray:
    return CONDITIONS[name](waveform, context(utterance, **noises)).astype(np.float64)


def decibels(waveform) -> float:
    return 10 * math.log10(np.mean(np.asarray(waveform, np.float64) ** 2))


def share_above(sound: np.ndarray, hz: float) -> float:
    """Of the power, by a periodogram."""
    at, density = scipy.signal.periodogram(np.asarray(sound, np.float64), RATE)
    return float(density[at >= hz].sum() / density.sum())


# Sounds


@pytest.mark.parametrize("kind", ["cough", "sneeze"])
def test_an_event_is_10_db_below_the_speech_over_its_own_length_and_nowhere_else(kind):
    clean, starts = voice(zeros=3000), set()
    for utterance in "abcd":
        added = degraded(f"{kind} 10 dB", clean, utterance) - clean
        (heard,) = np.nonzero(added)
        event = added[heard[0] : heard[-1] + 1]
        assert decibels(clean[3000:-3000]) - decibels(event) == pytest.approx(10, abs=0.05)
        assert len(event) < RATE
        starts.add(int(heard[0]))
    assert len(starts) == 4


@pytest.mark.parametrize("kind", ["music", "environment"])
def test_a_background_is_20_db_below_the_speech_all_along(kind):
    clean = voice(zeros=3000)
    for utterance in "abc":
        added = degraded(f"{kind} 20 dB", clean, utterance) - clean
        assert decibels(clean[3000:-3000]) - decibels(added[3000:-3000]) == pytest.approx(20, abs=0.01)
        assert min(decibels(part) for part in np.split(added[: 37_000 // 8 * 8], 8)) > decibels(added) - 25


def test_a_cough_explodes_and_a_sneeze_hisses_above_2_khz():
    for seed in range(20):
        cough, sneeze = sounds.cough(rng(seed)), sounds.sneeze(rng(seed))
        assert 0.15 < len(cough) / RATE < 0.47
        assert 0.39 < len(sneeze) / RATE < 0.86
        # The first 60 ms are the loudest of a cough, and the last 100 ms of a sneeze not its softest.
        assert decibels(cough[:960]) > decibels(cough[960:]) + 5
        assert decibels(sneeze[-5000:]) > decibels(sneeze[:3000]) + 6
        assert share_above(cough, 2000) < 0.45
        assert share_above(sneeze[-2400:], 2000) > 0.7


def test_music_has_notes_of_equal_temperament_and_onsets_in_a_steady_beat():
    played = sounds.music(20 * RATE, rng(3))
    at, density = scipy.signal.welch(played, RATE, nperseg=2**15)
    peaks, _ = scipy.signal.find_peaks(density, prominence=density.max() / 100)
    peaks = peaks[(at[peaks] > 100) & (at[peaks] < 1000)]
    assert len(peaks) >= 5
    # Fifths and octaves of harmonics lie on the scale too, thirds within 14 cents.
    semitones = 12 * np.log2(at[peaks] / 440)
    assert np.median(np.abs(semitones - np.round(semitones))) < 0.1
    # Every other beat has a snare: it comes back after two beats of 80 to 140 per minute, and not before one.
    high = scipy.signal.sosfilt(scipy.signal.butter(4, 5000, "highpass", fs=RATE, output="sos"), played)
    power = np.array([np.mean(part**2) for part in np.split(high, 2000)])  # frames of 10 ms
    power -= power.mean()
    again = np.correlate(power, power, "full")[len(power) - 1 :] / (power @ power)
    assert again[84:152].max() > 0.4
    assert again[10:40].max() < 0.2


def test_rain_hisses_wind_and_traffic_rumble():
    for seed in range(5):
        assert share_above(sounds.rain(5 * RATE, rng(seed)), 1500) > 0.6
        assert share_above(sounds.wind(5 * RATE, rng(seed)), 1000) < 0.05
        assert share_above(sounds.traffic(5 * RATE, rng(seed)), 3000) < 0.1
        # Drops: far more sudden than noise, whose excess kurtosis is 0.
        assert stats.kurtosis(sounds.rain(5 * RATE, rng(seed))) > 0.5
    kinds = {round(share_above(sounds.environment(RATE, rng(seed)), 1000), 1) for seed in range(20)}
    assert len(kinds) > 2


@pytest.mark.parametrize("kind", ["cough 10 dB", "sneeze 10 dB", "music 20 dB", "environment 20 dB"])
def test_a_users_recording_takes_the_place_of_what_is_synthesised(kind):
    clean, name = voice(), kind.split()[0]
    tone = np.sin(2 * np.pi * 3000 * np.arange(RATE) / RATE).astype(np.float32)
    added = degraded(kind, clean, **{name: [tone]}) - clean
    at, density = scipy.signal.periodogram(added, RATE)
    near = np.abs(at - 3000) < 20
    assert density[near].sum() / density.sum() > 0.98
    assert decibels(clean) - decibels(np.trim_zeros(added)) == pytest.approx(int(kind.split()[1]), abs=0.1)


# The phone


def test_the_compressors_gain_curve_by_tones():
    # A constant has the level of its magnitude: no ripple, so the curve is exact.
    for db, expected in ((-40, -36), (-30, -26), (-20, -16), (-10, -8), (0, 0)):
        level = np.full(4000, 10 ** (db / 20), np.float32)
        out = phone.compressed(level)[-1]
        assert 20 * math.log10(out) == pytest.approx(expected, abs=0.01)


def test_the_compressor_attacks_in_10_ms_and_releases_in_20():
    loud, soft = np.full(RATE, 1.0, np.float32), np.full(RATE, 0.01, np.float32)
    out = phone.compressed(np.concatenate([loud, soft]))
    # The envelope falls from 1 to 0.01 as exp(-t / 20 ms); the gain follows above -20 dB.
    for milliseconds in (10, 20, 40):
        envelope = 0.01 + 0.99 * math.exp(-milliseconds / 20)
        gain = out[RATE + 16 * milliseconds] / 0.01
        assert 20 * math.log10(gain) == pytest.approx(-0.2 * max(-20, 20 * math.log10(envelope)), abs=0.05)
    up = phone.compressed(np.concatenate([np.zeros(RATE, np.float32), np.full(RATE, 0.5, np.float32)]))
    for milliseconds in (5, 10, 30):
        envelope = 0.5 * (1 - math.exp(-milliseconds / 10))
        gain = up[RATE + 16 * milliseconds - 1] / 0.5
        assert 20 * math.log10(gain) == pytest.approx(-0.2 * max(-20, 20 * math.log10(envelope)), abs=0.05)


def test_a_phone_has_a_narrow_band_noise_above_it_and_the_level_of_the_recording():
    pytest.importorskip("av")
    if why := phone.unavailable_reason():
        pytest.skip(why)
    # A voice that rises: no period later it looks the same.
    turn = 2 * np.pi * np.cumsum(np.linspace(100, 200, 3 * RATE)) / RATE
    clean = np.sum([0.02 * np.cos(k * turn) for k in range(1, 16)], axis=0).astype(np.float32)
    heard = degraded("phone", clean)
    assert len(heard) == len(clean)
    assert decibels(heard) == pytest.approx(decibels(clean), abs=0.01)
    lag = np.argmax(scipy.signal.correlate(heard, clean.astype(float), method="fft")) - (len(clean) - 1)
    assert abs(lag) < 16, "an AMR frame is 20 ms, its delay is taken out"
    # AMR has nothing above 4 kHz: what is there is the noise, which falls by 3 dB per octave.
    at, density = scipy.signal.welch(heard, RATE, nperseg=1024)
    low, high = (density[(at >= edge) & (at < edge + 500)].mean() for edge in (4750, 7250))
    assert low / high == pytest.approx(7500 / 5000, rel=0.3)
    noise = np.sqrt(density[at > 4500].sum() * (at[1] - at[0]))
    # Its peak was 25 dB below the speech's, which was 1 before the level was restored.
    assert -60 < 20 * math.log10(noise / np.abs(heard).max()) < -35


def test_without_pyav_there_is_no_phone_and_the_reason_is_the_install_line(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "av", None)
    assert "needs PyAV" in phone.unavailable_reason()
    assert "pip install" in phone.unavailable_reason()


# Places


@pytest.mark.parametrize("name", ["booth", *places.ROOMS])
def test_a_room_has_its_reverberation_time_and_its_distance(name):
    room = places.BOOTH if name == "booth" else places.ROOMS[name]
    assert all(0.2 < at < length - 0.2 for at, length in zip(room.mouth, room.size, strict=True))
    assert room.distance_metres == pytest.approx(1.02, abs=0.04)
    found = places.response(room)
    assert rooms.reverberation_time(found) == pytest.approx(room.t60_seconds, rel=0.06)
    assert np.argmax(np.abs(found)) in (7, 8, 9)


def test_positions_are_those_of_the_geometry():
    assert len(places.POSITIONS) == 8
    for name, room in places.POSITIONS.items():
        metres, side = int(name[0]), name.split()[2]
        across, along = room.mouth[0] - room.microphone[0], room.mouth[1] - room.microphone[1]
        assert math.hypot(across, along) == pytest.approx(metres)
        angle = math.degrees(math.atan2(across, along))
        assert angle == pytest.approx({"left": -45, "centre": 0, "right": 45}[side])
        assert all(0.2 < at < length - 0.2 for at, length in zip(room.mouth, room.size, strict=True))
    # Direct sound to the rest falls with the distance.
    ratios = []
    for metres in (1, 2, 3):
        name = f"{metres} m centre"
        found = places.response(places.POSITIONS.get(name, places.CENTRE))
        ratios.append(decibels(found[:24]) - decibels(found[24:]))
    assert ratios == sorted(ratios, reverse=True)


def test_every_utterance_is_in_one_of_the_other_rooms_and_all_occur():
    clean = voice(RATE // 2)
    heard = [degraded("other room", clean, str(n)) for n in range(16)]
    expected = [
        scipy.signal.fftconvolve(clean, places.response(room))[: len(clean)] for room in places.ROOMS.values()
    ]
    chosen = [int(np.argmax([np.corrcoef(each, one)[0, 1] for one in expected])) for each in heard]
    assert {*chosen} == {0, 1, 2, 3}
    for each, place in zip(heard, chosen, strict=True):
        assert np.corrcoef(each, expected[place])[0, 1] > 0.9999
        assert decibels(each) == pytest.approx(decibels(clean), abs=0.01)


# Small changes


def test_a_tone_is_at_its_frequency_and_its_peak_below_the_speechs():
    clean, found = voice(), set()
    for number in range(12):
        added = degraded("tone", clean, str(number)) - clean
        below = 20 * math.log10(np.abs(clean).max() / np.abs(added).max())
        assert min(abs(below - each) for each in small.TONE_DB) < 0.1
        at, density = scipy.signal.periodogram(added, RATE)
        assert 5000 <= at[density.argmax()] <= 7000
        found.add(round(below / 5))
    assert found == {8, 9, 10}


@pytest.mark.parametrize(("name", "before"), [("zeros before", True), ("zeros after", False)])
def test_zeros_are_added_and_nothing_else(name, before):
    clean = voice()
    counts = set()
    for number in range(12):
        heard = degraded(name, clean, str(number))
        count = len(heard) - len(clean)
        counts.add(count)
        np.testing.assert_array_equal(heard[count:] if before else heard[:-count], clean)
        assert not heard[:count].any() if before else not heard[-count:].any()
    assert counts == {100, 500, 1000}


@pytest.mark.parametrize(("name", "before"), [("crop start", True), ("crop end", False)])
def test_a_crop_leaves_the_rest_as_it_was(name, before):
    clean = voice()
    counts = set()
    for number in range(12):
        heard = degraded(name, clean, str(number))
        count = len(clean) - len(heard)
        counts.add(count)
        np.testing.assert_array_equal(heard, clean[count:] if before else clean[:-count])
    assert counts == {100, 500, 1000}
    assert len(degraded(name, clean[:50])) == 1


def test_small_clips_and_gains_have_their_sizes():
    clean, shares, gains = voice(), set(), set()
    for number in range(30):
        cut = degraded("small clip", clean, str(number))
        shares.add(round(1000 * float(np.mean(cut != clean))))
        gain = degraded("small gain", clean, str(number))
        gains.add(round(float(np.median(20 * np.log10(np.abs(gain / clean)))), 3))
    assert shares == {1, 2, 3}
    assert gains == {-2, -1, 1, 2}


def transfer(name: str, utterance: str, hz: np.ndarray) -> np.ndarray:
    """Gain in dB at some frequencies, by an impulse."""
    impulse = np.zeros(2 * RATE, np.float32)
    impulse[RATE] = 1.0
    spectrum = np.abs(np.fft.rfft(degraded(name, impulse, utterance)))
    return 20 * np.log10(spectrum[np.round(2 * hz).astype(int)])


@pytest.mark.parametrize(("name", "kind"), [("high-pass", "highpass"), ("low-pass", "lowpass")])
def test_filters_are_of_first_order_with_their_corners(name, kind):
    hz, corners = np.array([20.0, 50, 100, 150, 500, 1000, 3000, 6500, 7000, 7500]), set()
    for number in range(12):
        gain = transfer(name, str(number), hz)
        # The bilinear transform of a first-order section: 1 / (1 + (tan / tan)^2).
        errors = {}
        for corner in small.CORNERS_HZ[kind]:
            ratio = np.tan(np.pi * hz / RATE) / math.tan(math.pi * corner / RATE)
            power = 1 + (ratio**2 if kind == "lowpass" else ratio**-2)
            errors[corner] = float(np.abs(gain + 10 * np.log10(power)).max())
        best = min(errors, key=errors.get)
        assert errors[best] < 0.05
        corners.add(best)
    assert corners == {*small.CORNERS_HZ[kind]}


@pytest.mark.parametrize(("name", "db"), [("tilt up", 12), ("tilt down", -12)])
def test_a_tilt_is_a_line_in_decibels_per_hz(name, db):
    hz = np.arange(50.0, 7950, 50)
    gain = transfer(name, "u", hz)
    slope, _ = np.polyfit(hz, gain, 1)
    assert slope * 8000 == pytest.approx(db, rel=0.01)
    assert np.abs(gain - np.polyval(np.polyfit(hz, gain, 1), hz)).max() < 0.1
    clean = voice(zeros=500)
    assert decibels(np.trim_zeros(degraded(name, clean))) == pytest.approx(decibels(clean[500:-500]), abs=0.2)


def test_faint_noise_has_one_of_its_ratios():
    clean, found = voice(), set()
    for number in range(12):
        ratio = decibels(clean) - decibels(degraded("faint white", clean, str(number)) - clean)
        found.add(round(ratio))
    assert found == {35, 40, 45}
