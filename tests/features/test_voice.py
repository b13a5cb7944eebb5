"""Voicing, pitch and energy of `robust_voice` against librosa, NumPy and the paper's formulas."""

import dataclasses

import keras
import librosa
import numpy as np
import pytest
import soundfile
from ai_edge_litert.interpreter import Interpreter
from exported_cases import made_case
from librosa_pitch import pitch_of
from voices import HANN, LENGTH, STEP, frames_of, hann_correlation, in_band, voice_reference

from light_sernet_kd import audio
from light_sernet_kd.config import SAMPLE_RATE
from light_sernet_kd.data.feature_cache import feature_key
from light_sernet_kd.export import flatbuffer
from light_sernet_kd.export.parts import front_end_part
from light_sernet_kd.features import feature_shape, front_end_model, layers, voice
from light_sernet_kd.registries.front_ends import ROBUST, ROBUST_VOICE, VOICE_CHANNELS

CLIPS = ("03a01Fa", "08b03Tc", "09a02Wb", "10a05Ld", "15a04Ac")


def channels(clips, *, on_device=False):
    """Voicing, pitch and energy without their constants, `(batch, frames)` each."""
    clips = np.atleast_2d(np.asarray(clips, np.float32))
    rows = front_end_model("robust_voice", "mfcc", clips.shape[1], on_device=on_device)(clips).numpy()[..., 0]
    return [rows[..., 37 + i] / scale for i, scale in enumerate(VOICE_CHANNELS.values())]


def f0_of(clip):
    """Voicing `(frames,)`, and F0 in Hz as the layer has it before the mean is taken out."""
    layer = voice.Voice(ROBUST_VOICE)
    spectrum = layers.Spectrogram(ROBUST_VOICE)(clip[None].astype("float32"))
    voicing, octaves = layer.voicing_and_octaves(np.square(spectrum))
    return np.squeeze(voicing), np.sqrt(65 * 400) * 2 ** np.squeeze(octaves).astype(np.float64)


def harmonics(f0_hz, *, slope=1.0, lowest_hz=0.0):
    """A voice `(samples,)` of this F0 at each sample; its harmonics fall by `slope` and end at 4 kHz."""
    phase = 2 * np.pi * np.cumsum(f0_hz) / SAMPLE_RATE
    numbers = np.arange(1, int(4000 / np.max(f0_hz)) + 1)
    turns = np.random.default_rng(0).uniform(0, 2 * np.pi, len(numbers))
    sounding = [(n, turn) for n, turn in zip(numbers, turns, strict=True) if n * np.min(f0_hz) >= lowest_hz]
    return 0.1 * sum(n**-slope * np.sin(n * phase + turn) for n, turn in sounding)


def tone(f0_hz, samples=8000, **how):
    return harmonics(np.full(samples, float(f0_hz)), **how)


def glide(low_hz, high_hz, samples=32_000):
    return harmonics(np.geomspace(low_hz, high_hz, samples))


def noise(samples=32_000, seed=0):
    return 0.1 * np.random.default_rng(seed).standard_normal(samples)


# Autocorrelation


def test_the_window_has_the_autocorrelation_of_the_paper():
    lags = np.concatenate([[0.0], voice.candidate_lags()])
    found = voice.window_correlation(ROBUST_VOICE, lags)
    np.testing.assert_allclose(found, hann_correlation(lags), atol=1e-5)


def test_correlations_are_those_of_the_frame_in_its_band():
    """NumPy's, of a frame that follows itself, as the Fourier transform of a frame takes it."""
    (frame,) = in_band(frames_of(noise(LENGTH) + tone(130, LENGTH)))
    lags = np.arange(250)
    expected = np.correlate(np.tile(frame, 2), frame)[lags]
    power = np.abs(np.fft.rfft(frames_of(noise(LENGTH) + tone(130, LENGTH)) * HANN)) ** 2
    (found,) = power @ voice.correlation_matrix(ROBUST_VOICE, lags)
    np.testing.assert_allclose(found, expected, atol=1e-5 * expected[0])


def test_candidates_reach_from_65_to_400_hz_and_are_evenly_spaced():
    f0 = SAMPLE_RATE / voice.candidate_lags()
    np.testing.assert_allclose(f0, np.geomspace(400, 65, 64))


@pytest.mark.parametrize("on_device", [False, True])
def test_channels_are_those_of_the_reference(shared_data, on_device):
    samples = 3 * SAMPLE_RATE
    recorded = [soundfile.read(shared_data / f"EMO-DB/wav/{name}.wav")[0] for name in CLIPS]
    clips = np.stack([audio.fit(each.astype("float32"), samples, pad="both") for each in recorded])
    found = front_end_model("robust_voice", "mfcc", samples, on_device=on_device)(clips).numpy()
    for ours, clip in zip(found[..., 37:, 0], clips, strict=True):
        np.testing.assert_allclose(ours, voice_reference(clip.astype(np.float64)), atol=2e-4)


# Voicing and pitch


@pytest.mark.parametrize(("slope", "lowest_hz"), [(0.0, 0.0), (1.0, 0.0), (2.0, 0.0), (1.0, 300.0)])
def test_f0_of_harmonic_tones_is_within_2_percent(slope, lowest_hz):
    for f0_hz in np.geomspace(70, 380, 25):
        voicing, found = f0_of(tone(f0_hz, slope=slope, lowest_hz=lowest_hz))
        np.testing.assert_allclose(found, f0_hz, rtol=0.02)
        assert voicing.min() > 0.6


GLIDES = [(80, 160), (120, 240), (350, 180)]
FRAMES = {
    "fmin": 65,
    "fmax": 400,
    "sr": SAMPLE_RATE,
    "frame_length": LENGTH,
    "hop_length": STEP,
    "center": False,
}


@pytest.fixture(scope="module")
def by_yin() -> dict[str, np.ndarray]:
    return pitch_of({f"{low} {high}": glide(low, high) for low, high in GLIDES}, "yin", **FRAMES)


@pytest.fixture(scope="module")
def by_pyin(shared_data) -> dict[str, np.ndarray]:
    clips = {name: soundfile.read(shared_data / f"EMO-DB/wav/{name}.wav")[0] for name in CLIPS}
    return pitch_of(clips, "pyin", **FRAMES)


@pytest.mark.parametrize(("low_hz", "high_hz"), GLIDES)
def test_a_glide_has_its_f0(low_hz, high_hz):
    clip = glide(low_hz, high_hz)
    voicing, found = f0_of(clip)
    middle = np.geomspace(low_hz, high_hz, len(clip))[LENGTH // 2 :: STEP][: len(found)]
    np.testing.assert_allclose(found, middle, rtol=0.03)
    assert voicing.min() > 0.9


@pytest.mark.every  # numba compiles for twenty seconds
@pytest.mark.parametrize(("low_hz", "high_hz"), GLIDES)
def test_a_glide_has_the_f0_that_yin_finds(by_yin, low_hz, high_hz):
    _, found = f0_of(glide(low_hz, high_hz))
    theirs = by_yin[f"{low_hz} {high_hz}"]
    count = min(len(theirs), len(found))
    # yin compares halves of the frame: what it finds is of half a frame earlier or later, 1 % of a glide.
    assert np.median(np.abs(found[:count] / theirs[:count] - 1)) < 0.03


@pytest.mark.every  # numba compiles for twenty seconds
@pytest.mark.parametrize("name", CLIPS)
def test_f0_of_recordings_is_that_of_pyin(shared_data, by_pyin, name):
    clip, _ = soundfile.read(shared_data / f"EMO-DB/wav/{name}.wav")
    voicing, found = f0_of(clip)
    count = min(len(by_pyin[name]), len(found))
    theirs, voicing, found = by_pyin[name][:count], voicing[:count], found[:count]
    is_voiced = np.isfinite(theirs)
    confident = is_voiced & (voicing > 0.5)
    assert confident.sum() > 0.65 * is_voiced.sum() > 30
    octaves = np.abs(np.log2(found / theirs))[confident]
    assert 2 ** np.median(octaves) - 1 < 0.03
    assert (octaves > 0.4).mean() < 0.1


def test_pitch_is_octaves_about_the_mean_of_voiced_frames():
    clip = np.concatenate([tone(100, 16_000), np.zeros(8000), tone(200, 16_000)])
    voicing, pitch, _ = (each[0] for each in channels(clip))
    voiced = voicing > 0.9
    np.testing.assert_allclose(pitch[voiced][[0, -1]] / voicing[voiced][[0, -1]], [-0.5, 0.5], atol=0.02)
    assert voicing.max() <= 1
    pause = slice(16_000 // STEP + 1, 24_000 // STEP - LENGTH // STEP)
    assert not voicing[pause].any()
    assert not pitch[pause].any()


def test_a_higher_voice_with_the_same_melody_has_the_same_pitch():
    _, low, _ = channels(glide(90, 150))
    _, high, _ = channels(glide(180, 300))
    np.testing.assert_allclose(high, low, atol=0.03)


def test_noise_is_unvoiced_and_a_tone_is_voiced():
    (noisy,), _, _ = channels(noise())
    (voiced,), _, _ = channels(tone(150, 32_000))
    assert noisy.mean() < 0.02
    assert noisy.max() < 0.25
    assert voiced.min() > 0.95


def test_an_offset_and_rumble_are_no_voice():
    seconds = np.arange(32_000) / SAMPLE_RATE
    for sound in (
        np.full(32_000, 0.5),
        0.5 + 0.02 * noise(),
        0.3 * np.sin(2 * np.pi * 15 * seconds) + noise(),
    ):
        (voicing,), _, _ = channels(sound)
        assert voicing.mean() < 0.02


def test_a_telephone_keeps_the_pitch_of_a_low_voice():
    clip = glide(105, 135)
    spectrum = np.fft.rfft(clip)
    hertz = np.fft.rfftfreq(len(clip), 1 / SAMPLE_RATE)
    heard = np.fft.irfft(np.where((hertz > 300) & (hertz < 3400), spectrum, 0))
    voicing, found = f0_of(heard)
    np.testing.assert_allclose(found, f0_of(clip)[1], rtol=0.03)
    assert voicing.min() > 0.8


def test_a_voice_20_db_above_noise_keeps_its_pitch():
    clip = glide(100, 200)
    noisy = clip + noise() * np.sqrt(np.mean(clip**2) / np.mean(noise() ** 2) / 100)
    np.testing.assert_allclose(f0_of(noisy)[1], f0_of(clip)[1], rtol=0.03)


# Energy


def test_energy_is_the_rms_of_librosa_in_the_band():
    clip = (glide(100, 200) + 0.1 * noise()) * np.geomspace(1, 1e-3, 32_000)
    spectrum = np.abs(librosa.stft(clip, n_fft=LENGTH, hop_length=STEP, center=False))
    hertz = librosa.fft_frequencies(sr=SAMPLE_RATE, n_fft=LENGTH)
    spectrum[(hertz < 250) | (hertz > 3600)] = 0
    (rms,) = librosa.feature.rms(S=spectrum, frame_length=LENGTH)
    expected = np.log(np.maximum(rms**2 / rms.max() ** 2, 1e-4))
    _, _, (energy,) = channels(clip)
    assert expected.min() == pytest.approx(np.log(1e-4))
    np.testing.assert_allclose(energy, expected - expected.mean(), atol=1e-4)


# What does not matter


@pytest.mark.parametrize("gain", [0.01, 0.1, 0.5, 1.0])
def test_level_does_not_matter(gain):
    clip = glide(100, 200) + noise() * 0.1
    for plain, scaled in zip(channels(clip), channels(gain * clip), strict=True):
        np.testing.assert_allclose(scaled, plain, atol=1e-4)


@pytest.mark.parametrize("on_device", [False, True])
def test_batch_mates_do_not_matter(on_device):
    clip, loud, high = glide(100, 200), 100 * tone(80, 32_000), glide(300, 390)
    first, second = (
        channels(np.stack([mate, clip, np.zeros(32_000)]), on_device=on_device) for mate in (loud, high)
    )
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one[1], other[1])
        assert not one[2].any()


@pytest.mark.parametrize("on_device", [False, True])
def test_a_short_clip_has_zeros_where_it_is_padded(on_device):
    sound = glide(110, 180, 16_384)
    clips = np.stack([np.pad(sound, (before, 32_768 - 16_384 - before)) for before in (4096, 12_288)])
    first, last = 4096 // STEP, (4096 + 16_384) // STEP
    for early, late in channels(clips, on_device=on_device):
        assert not early[: first - LENGTH // STEP + 1].any()
        assert not early[last:].any()
        inside = slice(first - LENGTH // STEP + 1, last)
        shift = (12_288 - 4096) // STEP
        np.testing.assert_allclose(early[inside], late[inside.start + shift : inside.stop + shift], atol=1e-5)


# Settings and files


def test_columns_are_as_many_as_those_of_robust():
    assert feature_shape("robust_voice", "mfcc", 48_000) == feature_shape("robust", "mfcc", 48_000)
    clip = (glide(100, 200) + noise() * 0.1)[None].astype("float32")
    with_voice, without = (front_end_model(name, "mfcc", 32_000)(clip) for name in ("robust_voice", "robust"))
    np.testing.assert_allclose(with_voice[:, :, :37], without[:, :, :37], atol=1e-5)


def test_layers_that_were_saved_before_there_were_voices_load():
    saved = keras.saving.serialize_keras_object(layers.MFCC(ROBUST))
    del saved["config"]["settings"]["voice"]
    assert keras.saving.deserialize_keras_object(saved).settings == ROBUST


def test_the_cache_knows_whether_there_is_a_voice():
    assert dataclasses.replace(ROBUST_VOICE, voice=False, coefficients=40) == ROBUST
    keys = {feature_key(name, "mfcc", 48_000, []) for name in ("robust", "robust_voice")}
    assert len(keys) == 2


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """Student files of both front ends, by the front end's name."""
    return {
        name: made_case(
            "light_sernet",
            name,
            "mfcc",
            48_000,
            tmp_path_factory.mktemp(name),
            precisions=("float32", "int8"),
        )
        for name in ("robust", "robust_voice")
    }


def test_exported_files_are_those_of_keras(exported):
    case = exported["robust_voice"]
    content = case.paths["float32"].read_bytes()
    assert all(flatbuffer.is_builtin(name) for name in flatbuffer.operator_names(content))
    run = Interpreter(model_path=str(case.paths["float32"])).get_signature_runner()
    expected = case.keras_probabilities(case.clips[:8])
    found = np.concatenate([run(audio=clip[None])["probabilities"] for clip in case.clips[:8]])
    assert np.ptp(expected, axis=0).max() > 0.3
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_exported_features_are_those_of_keras():
    samples = 48_000
    interpreter = Interpreter(model_content=front_end_part("robust_voice", "mfcc", samples))
    interpreter.allocate_tensors()
    ((taken,), (given,)) = interpreter.get_input_details(), interpreter.get_output_details()
    clips = [glide(100, 200, samples) + 0.1 * noise(samples), noise(samples), np.zeros(samples)]
    clips.append(audio.fit(glide(300, 100).astype("float32"), samples, pad="both"))
    clips = np.array(clips, np.float32)
    expected = front_end_model("robust_voice", "mfcc", samples)(clips).numpy()
    for clip, theirs in zip(clips, expected, strict=True):
        interpreter.set_tensor(taken["index"], clip[None])
        interpreter.invoke()
        np.testing.assert_allclose(interpreter.get_tensor(given["index"])[0], theirs, atol=1e-4)


def test_a_voice_makes_a_file_less_than_35_kb_larger(exported):
    for precision in ("float32", "int8"):
        without, with_voice = (case.paths[precision].stat().st_size for case in exported.values())
        assert 25_000 < with_voice - without < 35_000
