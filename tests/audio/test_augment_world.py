"""Augmentations that model the world, against acoustics and standards: rooms, sounds, microphones, lines."""

import io
import math
import sys

import numpy as np
import pytest
import scipy.signal
import soundfile
from scipy.signal import freqz_sos

from light_sernet_kd.analysis import degradations
from light_sernet_kd.audio import augment
from light_sernet_kd.audio.augment import batch, lines, microphones, place, rooms, sounds, voice, waveform
from light_sernet_kd.errors import UserError

RATE = 16_000
SIZE, MOUTH, MICROPHONE = (5.0, 4.0, 3.0), (1.0, 1.5, 1.6), (3.5, 2.5, 1.2)


def rng(seed=0):
    return np.random.default_rng(seed)


def speech(samples=20_001, seed=1) -> np.ndarray:
    """Noise that swells, so that its parts differ in level."""
    swell = 0.05 + np.abs(np.sin(np.arange(samples) / 1500))
    return (rng(seed).normal(0, 0.05, samples) * swell).astype(np.float32)


def tone(hz, samples=RATE, level=0.5):
    return (level * np.sin(2 * np.pi * hz * np.arange(samples) / RATE)).astype(np.float32)


def power(samples) -> float:
    return float(np.mean(np.square(samples, dtype=np.float64)))


def level_db(samples, hz) -> float:
    """Of a tone, from the middle of what is heard."""
    part = samples[4000:12_000].astype(float)
    turn = np.exp(-2j * np.pi * hz * np.arange(len(part)) / RATE)
    return 20 * math.log10(2 * abs(np.mean(part * turn * np.hanning(len(part)) * 2)) + 1e-12)


# Rooms


@pytest.mark.parametrize("metres", [0.3, 1.0, 2.44])
def test_the_direct_sound_comes_after_its_way_and_falls_with_it(metres):
    microphone = np.add(MOUTH, [metres, 0, 0])
    dead = rooms.image_source(SIZE, MOUTH, microphone, reflection=0.0, seconds=0.05)
    finer = scipy.signal.resample(dead, 16 * len(dead))
    assert finer.argmax() / 16 == pytest.approx(metres / 343 * RATE, abs=0.2)
    assert finer.max() == pytest.approx(1 / (4 * math.pi * metres), rel=0.05)


def mirrored(reflection, seconds):
    """Arrivals (seconds, pressure) found by reflecting the mouth in one wall after the other."""
    reach, images, edge = seconds * 343.0, {}, [(MOUTH, 0)]
    while edge:
        place, walls = edge.pop()
        key = tuple(np.round(place, 6))
        if key in images and images[key] <= walls:
            continue
        if np.linalg.norm(np.subtract(place, MICROPHONE)) > reach + max(SIZE):
            continue
        images[key] = walls
        for axis in range(3):
            for wall in (0.0, SIZE[axis]):
                other = list(place)
                other[axis] = 2 * wall - place[axis]
                edge.append((tuple(other), walls + 1))
    ways = {place: np.linalg.norm(np.subtract(place, MICROPHONE)) for place in images}
    return [(way / 343.0, reflection ** images[place] / (4 * math.pi * way)) for place, way in ways.items()]


def test_a_room_is_the_sum_of_its_mirror_images():
    seconds = 0.025
    ours = rooms.image_source(SIZE, MOUTH, MICROPHONE, reflection=0.8, seconds=seconds)
    time = np.arange(len(ours))
    theirs = sum(p * np.sinc(time - t * RATE) for t, p in mirrored(0.8, seconds) if t < seconds - 1e-4)
    theirs = scipy.signal.sosfilt(scipy.signal.butter(2, 40.0, "highpass", fs=RATE, output="sos"), theirs)
    part = slice(0, len(ours) - 20)  # the filter's end
    assert np.corrcoef(ours[part], theirs[part])[0, 1] > 0.97
    assert power(ours[part]) == pytest.approx(power(theirs[part]), rel=0.05)


def decay_seconds(response) -> float:
    """Seconds per 60 dB by a line through the logarithm of the energy of blocks of 5 ms."""
    blocks = response[: len(response) // 80 * 80].reshape(-1, 80)
    energy = 10 * np.log10(np.mean(blocks.astype(float) ** 2, axis=1) + 1e-30)
    first = int(energy.argmax())
    late = energy[first : first + int(np.argmax(energy[first:] < energy[first] - 40) or len(energy))]
    return -60 / (np.polyfit(np.arange(len(late)) * 0.005, late, 1)[0])


@pytest.mark.parametrize("number", [20, 40, 60, 90, 110])
def test_a_room_of_the_bank_has_its_reverberation_time(number):
    nominal = np.linspace(0.1, 1.0, 200)[number]
    response = rooms.response(number)
    assert decay_seconds(response) == pytest.approx(nominal, rel=0.25)
    assert rooms.reverberation_time(response) == pytest.approx(nominal, rel=0.15)
    assert len(response) == pytest.approx(nominal * RATE, abs=200)
    peak = np.abs(response[:9]).max()
    assert 0.5 < peak <= 1.05, "the direct sound, at the response's beginning"


def test_reverberation_time_is_that_of_an_exponential_decay():
    time = np.arange(RATE) / RATE
    decay = rng().normal(size=RATE) * np.exp(-3 * math.log(10) * time / 0.4)
    assert rooms.reverberation_time(decay) == pytest.approx(0.4, rel=0.05)


def test_eyrings_formula_is_sabines_where_walls_absorb_little():
    size = np.array(SIZE)
    volume, surface = 60.0, 94.0
    assert rooms.absorption_of(size, 8.0) == pytest.approx(0.161 * volume / (surface * 8.0), rel=0.02)


@pytest.mark.every
@pytest.mark.parametrize("reflection", [0.8, 0.95])
def test_rooms_are_those_of_pyroomacoustics(reflection):
    pra = pytest.importorskip("pyroomacoustics")
    ours = rooms.image_source(SIZE, MOUTH, MICROPHONE, reflection=reflection, seconds=0.5)
    box = pra.ShoeBox(
        SIZE, fs=RATE, materials=pra.Material(1 - reflection**2), max_order=80, air_absorption=False
    )
    box.add_source(MOUTH)
    box.add_microphone(MICROPHONE)
    box.compute_rir()
    theirs = box.rir[0][0][40:8040] / (
        4 * math.pi
    )  # it leaves 4π out, and its filter begins 40 samples early
    assert np.corrcoef(ours, theirs)[0, 1] > 0.95
    assert np.linalg.norm(ours) == pytest.approx(np.linalg.norm(theirs), rel=0.03)
    assert rooms.reverberation_time(ours) == pytest.approx(rooms.reverberation_time(theirs), rel=0.02)


def test_a_recording_in_a_room_is_its_convolution_at_its_level_and_place():
    clip, response = speech(5000), rooms.response(30)
    heard = rooms.convolved(clip, response, delay=8)
    expected = np.convolve(clip.astype(float), response)[8:5008]
    np.testing.assert_allclose(heard, expected * math.sqrt(power(clip) / power(expected)), atol=1e-5)
    click = np.zeros(4000, np.float32)
    click[1000] = 1
    found = augment.augmented_clip(
        click,
        augment.parse("room:chance=1:t60_high=0.3"),
        samples=4000,
        pad="both",
        seed=0,
        epoch=0,
        utterance=1,
    )
    assert 997 <= np.flatnonzero(np.abs(found) > 0.3 * np.abs(found).max())[0] <= 1001


def test_rooms_are_drawn_from_the_range_of_reverberation_times(monkeypatch):
    drawn = []
    monkeypatch.setattr(rooms, "response", lambda number: drawn.append(number) or np.ones(1, np.float32))
    for seed in range(300):
        rooms.room(np.ones(9, np.float32), rng(seed), chance=1, t60_low=0.3, t60_high=0.5)
    times = np.linspace(0.1, 1.0, 200)[drawn]
    assert 0.3 <= times.min() < 0.31
    assert 0.49 < times.max() <= 0.5
    rooms.room(np.ones(9, np.float32), rng(), chance=1, t60_low=0.3001, t60_high=0.3001)
    assert np.linspace(0.1, 1.0, 200)[drawn[-1]] == pytest.approx(0.3, abs=0.006), "the nearest one"


def test_rooms_of_training_are_not_those_of_the_stress_test():
    # Decaying noise there, reflections of a box here: the correlation of whole responses is that of chance.
    tested = degradations.room(rng(), t60_seconds=0.3)[1:]
    for number in (20, 45):
        trained = rooms.response(number)[9 : 9 + len(tested)]
        part = min(len(trained), len(tested))
        assert abs(np.corrcoef(trained[:part], tested[:part])[0, 1]) < 0.1


# Sounds beside the voice


def snr_db(clip, heard):
    return 10 * math.log10(power(clip) / power(heard.astype(float) - clip))


@pytest.mark.parametrize("kind", ["hum", "music"])
def test_hum_and_music_have_the_snr_that_was_drawn(kind):
    clip = speech()
    found = [snr_db(clip, sounds.noise(clip, rng(seed), chance=1, pink=0, **{kind: 1})) for seed in range(40)]
    assert 5 - 1e-3 <= min(found) < 7
    assert 18 < max(found) <= 20 + 1e-3


def test_each_kind_of_noise_has_its_share():
    clip, kinds = np.ones(64, np.float32), []
    shares = {"pink": 0.4, "hum": 0.3, "music": 0.2}
    for seed in range(400):
        draw = rng(seed)
        draw.random(), draw.uniform()
        kinds.append(np.searchsorted([0.4, 0.7, 0.9], draw.random(), side="right"))
        made = (sounds.pink_noise, sounds.mains_hum, sounds.chords, sounds.white_noise)[kinds[-1]](64, draw)
        added = sounds.noise(clip, rng(seed), chance=1, **shares) - clip
        assert np.abs(np.corrcoef(added, made)[0, 1]) > 0.999
    np.testing.assert_allclose(np.bincount(kinds) / 400, [0.4, 0.3, 0.2, 0.1], atol=0.08)


def test_hum_is_of_the_mains_and_its_multiples():
    for seed in range(6):
        hum = sounds.mains_hum(RATE * 2, rng(seed))
        spectrum = np.abs(np.fft.rfft(hum * np.hanning(len(hum)))) ** 2
        hz = np.fft.rfftfreq(len(hum), 1 / RATE)
        shares = [
            spectrum[np.abs(hz / base - np.rint(hz / base)) * base < 3][:2000].sum() / spectrum.sum()
            for base in (50, 60)
        ]
        assert max(shares) > 0.95
        assert spectrum[hz > 1100].sum() < 1e-3 * spectrum.sum()


def test_music_has_lines_and_onsets_that_noise_has_not():
    def flatness(sound):
        _, _, spectra = scipy.signal.stft(sound, RATE, nperseg=1024)
        cells = np.abs(spectra[4:200]) ** 2 + 1e-12
        return float(np.median(np.exp(np.mean(np.log(cells), axis=0)) / np.mean(cells, axis=0)))

    music = [sounds.chords(RATE * 2, rng(seed)) for seed in range(5)]
    assert max(map(flatness, music)) < 0.1 < 0.4 < flatness(sounds.white_noise(RATE * 2, rng()))
    for played in music:
        blocks = np.sqrt(np.mean(played.reshape(-1, 400) ** 2, axis=1))
        rises = np.flatnonzero(np.diff(blocks) > 0.3 * blocks.max())
        assert 1 <= len(rises) <= 20
        assert np.isfinite(played).all()


def test_babble_has_the_snr_that_was_drawn_and_equally_loud_voices():
    clip = speech(RATE, seed=4)
    hz = [400, 700, 1100, 1700]
    others = [tone(each, RATE - 1000 * i, level=0.1 + 0.2 * i) for i, each in enumerate(hz)]
    for seed in range(12):
        heard = sounds.babble(clip, rng(seed), others, chance=1, voices_low=2, voices_high=2)
        added = heard.astype(float) - clip
        assert 5 - 0.01 <= snr_db(clip, heard) <= 20 + 0.01
        spectrum = np.abs(np.fft.rfft(added)) ** 2
        levels = np.array([spectrum[each - 20 : each + 21].sum() for each in hz]) / spectrum.sum()
        assert levels.sum() > 0.9, "nothing but the others"
        chosen = levels[levels > 0.05]
        assert len(chosen) in (1, 2), "one may be drawn twice"
        if len(chosen) == 2:
            np.testing.assert_allclose(chosen / chosen.sum(), 0.5, atol=0.05)


def test_babble_of_silence_and_in_silence_changes_nothing():
    silence, clip = np.zeros(800, np.float32), speech(800)
    np.testing.assert_array_equal(sounds.babble(clip, rng(), [silence], chance=1), clip)
    np.testing.assert_array_equal(sounds.babble(silence, rng(), [clip], chance=1), silence)


# Microphones


@pytest.mark.parametrize(("hz", "db", "octaves"), [(300, 6, 1.0), (2000, -4, 0.5), (6900, 3, 2.0)])
def test_a_bell_has_its_gain_in_its_middle_and_half_of_it_at_its_edges(hz, db, octaves):
    section = microphones.bell(hz, db, octaves=octaves)[None]
    below = hz * 2 ** (-octaves / 2)
    _, response = freqz_sos(section, [1e-3, below, hz, RATE / 2 - 1e-3], fs=RATE)
    found = 20 * np.log10(np.abs(response))
    np.testing.assert_allclose(found[[0, 2, 3]], [0, db, 0], atol=0.01)
    if hz < 3000:  # beyond, the bilinear transform narrows it
        assert found[1] == pytest.approx(db / 2, abs=0.25)


@pytest.mark.parametrize("db", [6.0, -3.0])
def test_a_shelf_tilts_by_its_gain(db):
    _, response = freqz_sos(microphones.shelf(1000, db)[None], [1e-3, 1000, RATE / 2 - 1e-3], fs=RATE)
    np.testing.assert_allclose(20 * np.log10(np.abs(response)), [-db / 2, 0, db / 2], atol=0.01)


def test_a_microphones_response_is_that_of_its_sections_and_gentle():
    clip = np.zeros(8000, np.float32)
    clip[0] = 1
    for seed in range(8):
        heard = microphones.microphone(clip, rng(seed), chance=1, most_db=6, peaks=3, device=0)
        draw = rng(seed)
        draw.random()
        sections = microphones.sections(draw, most_db=6, peaks=3)
        hz = np.geomspace(50, 7900, 60)
        _, expected = freqz_sos(sections, hz, fs=RATE)
        found = np.array([abs(np.sum(heard * np.exp(-2j * np.pi * f / RATE * np.arange(8000)))) for f in hz])
        ratio = found / np.abs(expected)
        np.testing.assert_allclose(ratio, ratio.mean(), rtol=0.02)
        above = 20 * np.log10(np.abs(expected[hz > 300]))
        assert above.max() < 6 * 3 + 3
        assert np.mean(np.abs(above)) < 7


@pytest.mark.parametrize("device", [0, 1])
def test_a_microphone_keeps_level_and_length(device):
    clip = speech(6000)
    for seed in range(10):
        heard = microphones.microphone(clip, rng(seed), chance=1, device=device)
        assert heard.dtype == np.float32
        assert heard.shape == clip.shape
        assert power(heard) == pytest.approx(power(clip), rel=1e-4)


def test_a_device_colours_what_its_filter_leaves():
    spread = []
    for seed in range(20):
        response = microphones.device_response(rng(seed))
        assert len(response) == 64
        spectrum = 20 * np.log10(np.abs(np.fft.rfft(response, 512)) + 1e-9)
        spread.append(np.ptp(spectrum[3:250]))
    assert 2 < np.median(spread) < 25


# Overload


def test_clipping_cuts_the_drawn_share_of_the_samples_whatever_their_level():
    clip = speech()
    shares = []
    for seed in range(60):
        cut = waveform.clipping(clip, rng(seed), chance=1, most=0.2)
        louder = waveform.clipping(clip * 4, rng(seed), chance=1, most=0.2)
        np.testing.assert_allclose(louder, cut * 4, rtol=1e-5)
        most = np.abs(cut).max()
        shares.append(np.mean(np.abs(cut) >= most * (1 - 1e-6)))
        kept = np.abs(clip) < most
        np.testing.assert_array_equal(cut[kept], clip[kept])
    assert min(shares) < 0.02
    assert 0.18 < max(shares) <= 0.201
    silence = np.zeros(50, np.float32)
    np.testing.assert_array_equal(waveform.clipping(silence, rng(), chance=1), silence)


# Lines


def g711(sample: int, law: str) -> int:
    """A 16-bit sample as G.711 gives it back, worked segment by segment as the recommendation's tables."""
    sign, size = (-1, -sample) if sample < 0 else (1, sample)
    if law == "ULAW":
        size = min(size >> 2, 8158) + 33  # 14 bits and the bias
        segment = max(0, size.bit_length() - 6)
        step = (size >> (segment + 1)) & 15
        return sign * 4 * (((2 * step + 33) << segment) - 33)
    size = (-sample - 1 if sample < 0 else sample) >> 3  # 12 bits
    segment = max(0, size.bit_length() - 5)
    step = (size >> max(segment, 1)) & 15
    value = (2 * step + 1 + (32 if segment else 0)) << max(segment - 1, 0)
    return sign * 8 * value


@pytest.mark.parametrize("law", ["ULAW", "ALAW"])
def test_companding_is_g711s(law):
    samples = np.concatenate([np.arange(-2000, 2000, 7), np.arange(-32_700, 32_700, 331)])
    expected = np.array([g711(int(each), law) for each in samples])
    found = lines.companded(samples / 32767, law) * 32768
    # A sample that is a decision value itself may belong to either side.
    beyond = np.array([g711(int(each) + (1 if each > 0 else -1), law) for each in samples])
    assert np.all((found == expected) | (found == beyond))
    assert np.mean(found == expected) > 0.98


def test_a_telephone_line_has_its_band():
    for seed in range(10):
        levels = {
            hz: level_db(lines.telephone(tone(hz), rng(seed), chance=1, a_law=0, linear=1), hz)
            - level_db(tone(hz), hz)
            for hz in (60, 1000, 2500, 3950, 5000)
        }
        assert abs(levels[1000]) < 0.5
        assert abs(levels[2500]) < 1.5
        assert levels[60] < -18
        assert levels[3950] < -15
        assert levels[5000] < -60


def test_a_telephone_line_delays_by_less_than_half_a_millisecond_and_keeps_the_length():
    clip = scipy.signal.sosfilt(
        scipy.signal.butter(2, [500, 2500], "bandpass", fs=RATE, output="sos"), speech(9001)
    ).astype(np.float32)
    for seed in range(6):
        heard = lines.telephone(clip, rng(seed), chance=1)
        assert heard.shape == clip.shape
        assert heard.dtype == np.float32
        lags = np.correlate(heard, clip[100:-100], "valid")
        assert abs(int(lags.argmax()) - 100) <= 8


def test_a_line_cuts_what_exceeds_full_scale():
    heard = lines.telephone(tone(1000, level=3.0), rng(), chance=1, a_law=0, linear=0)
    assert np.abs(heard).max() < 1.4, "with what the resampling overshoots"


def voiced(samples=24_000) -> np.ndarray:
    """Something that codecs of speech are made for: pulses through formants, 130 Hz, swelling."""
    pulses = np.zeros(samples)
    pulses[np.cumsum(rng(3).integers(115, 131, samples // 131))] = 1
    for hz, width in ((600, 90), (1100, 110), (2500, 160)):
        radius = math.exp(-math.pi * width / RATE)
        pulses = scipy.signal.lfilter(
            [1], [1, -2 * radius * math.cos(2 * math.pi * hz / RATE), radius**2], pulses
        )
    swell = np.abs(np.sin(np.arange(samples) / 2500))
    return (0.4 * pulses * swell / np.abs(pulses).max()).astype(np.float32)


CODED = [("mp3", 24), ("mp3", 40), ("mp3", 48), ("mp3", 96), ("opus", 12), ("opus", 32), ("gsm", 0),
         ("amr", 4.75), ("amr", 12.2)]  # fmt: skip


@pytest.mark.parametrize(("name", "kilobits"), CODED)
def test_a_codec_keeps_the_length_and_the_place_of_speech(name, kilobits):
    if name == "amr":
        pytest.importorskip("av")
    clip = voiced(16_003)
    heard = lines.coded(clip, name, kilobits)
    assert heard.shape == clip.shape
    assert heard.dtype == np.float32
    lags = scipy.signal.correlate(heard, clip, "full")
    assert abs(int(lags.argmax()) - (len(clip) - 1)) <= 3
    correlation = np.corrcoef(heard, clip)[0, 1]
    assert 0.5 < correlation < 1 - 1e-7, "changed, but the same speech"


@pytest.mark.parametrize(("name", "rates"), lines._RATES.items())
def test_more_bits_change_less(name, rates):
    if name == "amr":
        pytest.importorskip("av")
    clip = voiced()
    slow, fast = (np.corrcoef(lines.coded(clip, name, rate), clip)[0, 1] for rate in (rates[0], rates[-1]))
    assert slow < fast


def test_codecs_are_what_ffmpeg_makes_of_the_same_bits():
    av = pytest.importorskip("av")
    clip = voiced(16_000)

    def decoded(file, codec=None):
        file.seek(0)
        with av.open(file) as container:
            return np.concatenate([f.to_ndarray().reshape(-1) for f in container.decode(audio=0)])

    line = scipy.signal.resample_poly(clip, 1, 2).astype(np.float32)
    gsm = io.BytesIO()
    soundfile.write(gsm, line, 8000, format="WAV", subtype="GSM610")
    theirs = decoded(gsm)[:8000] / 32768
    np.testing.assert_allclose(lines._through_gsm(line)[:8000], theirs, atol=3e-4)
    amr = io.BytesIO()
    with av.open(amr, "w", format="amr") as container:
        stream = container.add_stream("libopencore_amrnb", rate=8000, layout="mono")
        stream.bit_rate = 12_200
        for start in range(0, 8000, 160):
            part = np.rint(line[None, start : start + 160] * 32767).astype(np.int16)
            frame = av.AudioFrame.from_ndarray(part, "s16", "mono")
            frame.sample_rate, frame.pts = 8000, start
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    theirs = decoded(amr)[40:7960]
    np.testing.assert_allclose(lines._through_amr(line, 12.2)[: len(theirs)], theirs, atol=2e-3)


def test_mp3_is_that_of_the_stress_test_but_never_at_its_rate():
    clip = voiced(9000)
    np.testing.assert_array_equal(lines.coded(clip, "mp3", 48), degradations.mp3(clip, None, kilobits=48))
    assert 64 not in lines._RATES["mp3"]
    assert 7.4 not in lines._RATES["amr"]


def test_codecs_are_drawn_by_their_weights(monkeypatch):
    drawn = []
    monkeypatch.setattr(lines, "coded", lambda clip, name, kilobits: drawn.append((name, kilobits)) or clip)
    for seed in range(400):
        lines.codec(np.ones(9, np.float32), rng(seed), chance=1, mp3=3, opus=0, gsm=1, amr=0)
    names = [name for name, _ in drawn]
    assert set(names) == {"mp3", "gsm"}
    assert names.count("mp3") / 400 == pytest.approx(0.75, abs=0.07)
    assert {rate for name, rate in drawn if name == "mp3"} == set(map(float, lines._RATES["mp3"]))


def test_a_codec_that_is_missing_is_refused_and_not_left_out(monkeypatch):
    augment.check_installed(augment.parse("codec,room"))
    monkeypatch.setitem(sys.modules, "av", None)
    augment.check_installed(augment.parse("codec"))
    with pytest.raises(UserError, match=r"amr of codec needs PyAV: .*\[media\]"):
        augment.check_installed(augment.parse("codec:amr=1"))
    monkeypatch.setattr(soundfile, "available_formats", lambda: {"WAV": "", "OGG": ""})
    with pytest.raises(UserError, match="encodes no mp3: take soundfile's own wheel, or ask for codec:mp3=0"):
        augment.check_installed(augment.parse("codec"))
    augment.check_installed(augment.parse("codec:mp3=0"))


def test_ffmpeg_without_amr_is_told(monkeypatch):
    av = pytest.importorskip("av")
    monkeypatch.setattr(av, "codecs_available", av.codecs_available - {"libopencore_amrnb"})
    with pytest.raises(UserError, match="no encoder of AMR"):
        augment.check_installed(augment.parse("codec:amr=1"))


# The voice


@pytest.mark.parametrize("semitones", [-2.0, 0.0, 1.0, 4.0])
def test_pitch_moves_every_tone_and_keeps_length_and_level(semitones):
    clip = tone(300, level=0.2) + tone(1700, level=0.1)
    moved = voice.pitch(clip, rng(), chance=1, low=semitones, high=semitones)
    assert moved.shape == clip.shape
    assert moved.dtype == np.float32
    middle = moved[2000:-2000]
    spectrum = np.abs(np.fft.rfft(middle * np.hanning(len(middle)), 2**18))
    hz = np.fft.rfftfreq(2**18, 1 / RATE)
    for before in (300, 1700):
        after = before * 2 ** (semitones / 12)
        near = np.abs(hz - after) < 100
        assert hz[near][spectrum[near].argmax()] == pytest.approx(after, rel=0.002)
    assert power(middle) == pytest.approx(power(clip), rel=0.15)


@pytest.mark.parametrize("factor", [0.8, 1.25])
def test_what_is_stretched_lasts_longer_at_the_same_pitch(factor):
    clip = np.concatenate([np.zeros(8000, np.float32), tone(500, 4000), np.zeros(8000, np.float32)])
    longer = voice.stretched(clip, factor)
    assert len(longer) == round(20_000 * factor)
    loud = np.flatnonzero(np.abs(longer) > 0.2)
    assert loud[0] == pytest.approx(8000 * factor, abs=400)
    assert loud[-1] == pytest.approx(12_000 * factor, abs=400)
    part = longer[int(9000 * factor) : int(11_000 * factor)]
    spectrum = np.abs(np.fft.rfft(part * np.hanning(len(part)), 2**17))
    assert spectrum.argmax() * RATE / 2**17 == pytest.approx(500, abs=3)


def test_pitches_are_drawn_from_all_of_the_range():
    hz = []
    for seed in range(40):
        moved = voice.pitch(tone(1000, 6000), rng(seed), chance=1)[1000:-1000]
        spectrum = np.abs(np.fft.rfft(moved * np.hanning(len(moved)), 2**16))
        hz.append(spectrum.argmax() * RATE / 2**16)
    semitones = 12 * np.log2(np.array(hz) / 1000)
    assert -2.05 < semitones.min() < -1.6
    assert 1.6 < semitones.max() < 2.05


def test_copypaste_joins_two_recordings_in_either_order():
    one, others = speech(300), [tone(500, 200), tone(700, 100)]
    expected = {
        (len(other), first): np.concatenate([other, one] if first else [one, other])
        for other in others
        for first in (False, True)
    }
    seen = set()
    for seed in range(60):
        found = voice.copypaste(one, rng(seed), others, chance=1)
        matches = [key for key, joined in expected.items() if np.array_equal(joined, found)]
        assert len(matches) == 1
        seen.add(matches[0])
    assert seen == set(expected)
    np.testing.assert_array_equal(voice.copypaste(one, rng(), [], chance=1), one)


@pytest.mark.parametrize(("text", "longest"), [("copypaste:chance=1", 100), ("copypaste:chance=1,crop", 300)])
def test_of_joined_recordings_only_what_a_clip_can_need_goes_on(text, longest, monkeypatch):
    one, other = speech(200), speech(230, seed=5)
    seen = []
    monkeypatch.setattr(sounds, "with_added", lambda clip, added, snr_db: seen.append(clip) or clip)
    clip = augment.augmented_clip(
        one, augment.parse(text + ",noise:chance=1"), samples=100, pad="both", seed=0, epoch=0, utterance=0,
        material={"twins": [other]},
    )  # fmt: skip
    assert [len(each) for each in seen] == [longest]
    joined = [np.concatenate(pair) for pair in ((one, other), (other, one))]
    start = (430 - longest) // 2
    parts = [both[start : start + longest] for both in joined]
    (part,) = [each for each in parts if np.array_equal(each[:9], seen[0][:9])]
    np.testing.assert_array_equal(seen[0], part)
    if longest == 100:
        np.testing.assert_array_equal(clip, part)


# Place


def test_a_crop_reaches_all_of_a_recording_and_leaves_a_short_one_where_it_is():
    def places(recorded, start, most=1.0):
        return {place.crop(start, rng(seed), recorded=recorded, samples=10, most=most) for seed in range(300)}

    assert places(25, -7) == set(range(-15, 1))
    assert places(60, -25, most=0.5) == set(range(-30, -19))
    assert places(10, 0) == {0}
    assert places(6, 2) == {2}


def test_crops_of_up_to_three_clip_lengths_hold_every_part_of_the_recording():
    recording, asked = np.arange(1, 301, dtype=np.float32), augment.parse("crop")
    assert augment.samples_needed(asked, 100) == 300
    heard = set()
    for epoch in range(300):
        clip = augment.augmented_clip(
            recording, asked, samples=100, pad="both", seed=0, epoch=epoch, utterance=0
        )
        np.testing.assert_array_equal(np.diff(clip), 1)
        heard |= {int(clip[0]), int(clip[-1])}
    assert {1, 300} <= heard


# Statistics of features


def test_freqmixstyle_is_the_published_formula_for_each_band():
    clips = rng().normal(0, 1, (5, 30, 8, 1)).astype(np.float32) * np.arange(1, 9, dtype=np.float32)[:, None]
    clips += np.arange(5, dtype=np.float32)[:, None, None, None]
    order, share = np.array([2, 0, 1, 4, 3]), np.array([0.3, 1.0, 0.5, 0.0, 0.9], np.float32)
    found = batch.restyled(clips, clips[order], share)
    assert found.dtype == np.float32
    for one, (mate, weight) in enumerate(zip(order, share, strict=True)):
        for band in range(8):
            own, other = (clips[who, :, band, 0].astype(float) for who in (one, mate))
            deviations = [np.sqrt(values.var(ddof=1) + 1e-6) for values in (own, other)]
            expected = (own - own.mean()) / deviations[0]
            expected = expected * (weight * deviations[0] + (1 - weight) * deviations[1])
            expected += weight * own.mean() + (1 - weight) * other.mean()
            np.testing.assert_allclose(found[one, :, band, 0], expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(found[1], clips[1])


def test_freqmixstyle_of_constant_features_stays_finite():
    flat = np.ones((2, 6, 3, 1), np.float32)
    found = batch.restyled(flat, flat[::-1] * 3, np.array([0.5, 0.5], np.float32))
    np.testing.assert_allclose(found, 2.0, rtol=1e-5)


def test_mates_of_style_are_drawn_by_the_batchs_first_utterance():
    utterances = np.array([3, 5, 8, 9, 11, 12])
    first = augment.style_mates(utterances, seed=1, epoch=2)
    assert sorted(first) == list(range(6))
    np.testing.assert_array_equal(first, augment.style_mates(utterances, seed=1, epoch=2))
    assert first.tolist() != augment.mates(6, seed=1, epoch=2, batch=3).tolist()
    drawn = {tuple(augment.style_mates(utterances, seed=1, epoch=epoch)) for epoch in range(20)}
    assert len(drawn) > 15


@pytest.mark.parametrize("name", ["pitch", "room", "microphone", "clipping", "telephone", "codec", "crop"])
@pytest.mark.parametrize("samples", [1, 2, 50])
def test_the_shortest_recordings_stay_finite_and_as_long(name, samples):
    for clip in (np.full(samples, 0.5, np.float32), np.zeros(samples, np.float32)):
        found = augment.augmented_clip(
            clip, augment.parse(f"{name}:chance=1"), samples=64, pad="both", seed=1, epoch=0, utterance=0
        )
        assert np.isfinite(found).all()
        assert found.dtype == np.float32
