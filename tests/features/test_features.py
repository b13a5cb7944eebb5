"""The front ends against TensorFlow's signal functions and librosa, and at the edges of what audio can be."""

import dataclasses
import functools

import keras
import librosa
import numpy as np
import pytest
import scipy.fft
import soundfile
import tensorflow as tf
from voices import voice_reference

from light_sernet_kd import audio, features
from light_sernet_kd.config import SAMPLE_RATE
from light_sernet_kd.errors import UserError
from light_sernet_kd.features import filterbanks, front_end_model, layers, mel_matrix, settings_of
from light_sernet_kd.registries.front_ends import FRONT_ENDS, INPUT_TYPES, LSN, ROBUST, VGGISH, FrontEnd

SAMPLES = 16_000
KINDS = [(front_end, input_type) for front_end, known in FRONT_ENDS.items() for input_type in known.spectra]
kinds = pytest.mark.parametrize(("front_end", "input_type"), KINDS)

# One clip of each speaker and emotion group: long and short, whispered and shouted.
EMODB_CLIPS = ("03a01Fa", "08b03Tc", "09a02Wb", "10a05Ld", "15a04Ac", "16b10Wb")


@functools.cache
def cached_model(front_end, input_type, samples, on_device=False):
    return front_end_model(front_end, input_type, samples, on_device=on_device)


def compute(front_end, input_type, clips, *, on_device=False):
    """Features `(batch, *feature_shape)` of clips `(batch, samples)`."""
    clips = np.asarray(clips, np.float32)
    return cached_model(front_end, input_type, clips.shape[1], on_device)(clips).numpy()


def noise(samples=SAMPLES, seed=0, level=0.1):
    return (level * np.random.default_rng(seed).standard_normal(samples)).astype("float32")


def tone(samples=SAMPLES):
    return np.sin(2 * np.pi * 500 * np.arange(samples) / SAMPLE_RATE).astype("float32")


def chirp(samples=SAMPLES, level=0.3):
    """A sweep of the whole band that swells and fades.

    Some noise is added: without it the bands that the sweep is not in hold float32 rounding, and their
    logarithms differ between any two libraries.
    """
    seconds = np.arange(samples) / SAMPLE_RATE
    swell = np.sin(np.pi * np.arange(samples) / samples)
    phase = 2 * np.pi * (50 * seconds + 3900 * seconds**2 / seconds[-1])
    return (level * swell * np.sin(phase)).astype("float32") + noise(samples, seed=7, level=0.03 * level)


def synthetic_clips(samples=SAMPLES):
    with_pause = noise(samples, seed=1)
    with_pause[samples // 4 : samples // 2] = 0.0
    return np.stack([noise(samples), chirp(samples), with_pause])


def in_span(clip):
    """The clip from its first to its last sample that is not 0."""
    (sounding,) = np.nonzero(clip)
    return slice(sounding[0], sounding[-1] + 1)


def lsn_reference(clip, input_type):
    """Light-SERNet's front end from NumPy's percentile and TensorFlow's signal functions."""
    scale = np.percentile(np.abs(clip[in_span(clip)]), 99.9)
    normalised = np.clip(clip / scale, -1, 1).astype("float32")
    spectrum = tf.abs(tf.signal.stft(normalised, 1024, 256, 1024, window_fn=tf.signal.hann_window))
    if input_type == "spectrogram":
        return spectrum.numpy()
    mel = spectrum @ tf.signal.linear_to_mel_weight_matrix(128, 513, SAMPLE_RATE, 80.0, 7600.0)
    log_mel = tf.math.log(mel + 1e-6)
    if input_type == "mel_spectrogram":
        return log_mel.numpy()
    return np.clip(tf.signal.mfccs_from_log_mel_spectrograms(log_mel)[:, :40], -10, 10)


def cubic_reference(clip, input_type):
    """Cubic KD's front end from librosa."""
    span = in_span(clip)
    normalised = np.zeros_like(clip, np.float64)
    normalised[span] = (clip[span] - clip[span].mean(dtype="float64")) / clip[span].std(dtype="float64")
    common = {"y": normalised.astype("float32"), "sr": SAMPLE_RATE, "n_fft": 1024, "n_mels": 128}
    if input_type == "mfcc":
        return librosa.feature.mfcc(n_mfcc=40, win_length=512, hop_length=512, window="hamming", **common).T
    return librosa.power_to_db(librosa.feature.melspectrogram(hop_length=256, **common), ref=np.max).T


def vggish_reference(clip, input_type="mel_spectrogram"):
    """VGGish's patches from NumPy, frame by frame, and librosa's HTK bands; zeros where it has none."""
    shape = features.feature_shape("vggish", input_type, len(clip))
    recorded = np.trim_zeros(clip, "b").astype("float64")
    if len(recorded) < 15_600:  # 95 hops of 10 ms and a window of 25 ms
        recorded = np.pad(recorded, (0, 15_600 - len(recorded)))
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)
    frames = 1 + (len(recorded) - 400) // 160
    spectrum = [abs(np.fft.rfft(recorded[160 * t : 160 * t + 400] * window, 512)) for t in range(frames)]
    bands = librosa.filters.mel(
        sr=SAMPLE_RATE, n_fft=512, n_mels=64, fmin=125, fmax=7500, htk=True, norm=None, dtype="float64"
    )
    # librosa's triangles are straight on the axis of hertz, VGGish's on that of mel.
    mel = librosa.hz_to_mel(np.linspace(0, 8000, 257), htk=True)
    edges = np.linspace(*librosa.hz_to_mel(np.array([125, 7500]), htk=True), 66)
    for band, (low, centre, high) in zip(bands, zip(edges, edges[1:], edges[2:], strict=False), strict=True):
        band[:] = np.interp(mel, [low, centre, high], [0, 1, 0])
    log_mel = np.log(np.array(spectrum) @ bands.T + 0.01)
    patches = np.zeros(shape)
    for number in range(min(frames // 96, shape[0])):
        patches[number] = log_mel[96 * number : 96 * number + 96]
    return patches


def robust_reference(clip, input_type="mel_spectrogram"):
    """Ours from TensorFlow's signal functions, and NumPy for what is below the peak and about the mean."""
    spectrum = tf.abs(tf.signal.stft(clip, 1024, 256, 1024, window_fn=tf.signal.hann_window)).numpy()
    mel = spectrum @ tf.signal.linear_to_mel_weight_matrix(64, 513, SAMPLE_RATE, 250.0, 3600.0).numpy()
    sounding = np.flatnonzero(mel.any(axis=1))
    recorded = slice(sounding[0], sounding[-1] + 1)
    decibels = np.maximum(librosa.amplitude_to_db(mel, ref=mel.max(), amin=1e-20, top_db=None), -40.0)
    log_mel = np.zeros_like(mel)
    nepers = decibels[recorded] * np.log(10) / 20
    log_mel[recorded] = nepers - nepers.mean(axis=0)
    if input_type == "mel_spectrogram":
        return log_mel
    return scipy.fft.dct(log_mel, norm="ortho", axis=1)[:, :40]


def robust_voice_reference(clip, input_type="mfcc"):
    return np.concatenate([robust_reference(clip, input_type)[:, :37], voice_reference(clip)], axis=1)


REFERENCES = {
    "lsn": lsn_reference, "cubic": cubic_reference, "robust": robust_reference, "vggish": vggish_reference,
    "robust_voice": robust_voice_reference,
}  # fmt: skip

# Features span ±10 (the others) and hundreds of dB (cubic); float32 FFTs of two libraries differ by this.
TOLERANCE = {"lsn": 2e-4, "cubic": 2e-2, "robust": 2e-4, "robust_voice": 2e-4, "vggish": 2e-4}


def assert_is_reference(computed, clips, front_end, input_type):
    for ours, clip in zip(computed, clips, strict=True):
        theirs = REFERENCES[front_end](clip, input_type)
        np.testing.assert_allclose(np.squeeze(ours), np.squeeze(theirs), rtol=1e-4, atol=TOLERANCE[front_end])


# Against other libraries


def test_lsn_has_every_input_type():
    assert tuple(FRONT_ENDS["lsn"].spectra) == INPUT_TYPES


def test_htk_mel_bands_are_those_of_tensorflow():
    theirs = tf.signal.linear_to_mel_weight_matrix(128, 513, SAMPLE_RATE, 80.0, 7600.0, dtype=tf.float64)
    np.testing.assert_allclose(mel_matrix(LSN), theirs, atol=1e-7)


@pytest.mark.parametrize("input_type", ["mfcc", "mel_spectrogram"])
def test_slaney_mel_bands_are_those_of_librosa(input_type):
    theirs = librosa.filters.mel(sr=SAMPLE_RATE, n_fft=1024, n_mels=128).T
    np.testing.assert_allclose(mel_matrix(settings_of("cubic", input_type)), theirs, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("scale", ["htk", "slaney"])
def test_mel_scales_are_those_of_librosa(scale):
    hz = np.linspace(0, 8000, 1001)
    mel = features.hz_to_mel(hz, scale)
    np.testing.assert_allclose(mel, librosa.hz_to_mel(hz, htk=scale == "htk"), rtol=1e-9)
    np.testing.assert_allclose(features.mel_to_hz(mel, scale), hz, rtol=1e-9, atol=1e-9)


@kinds
def test_features_are_those_of_the_reference(front_end, input_type):
    clips = synthetic_clips()
    for on_device in (False, True):
        computed = compute(front_end, input_type, clips, on_device=on_device)
        assert_is_reference(computed, clips, front_end, input_type)


@kinds
def test_features_of_recordings_are_those_of_the_reference(front_end, input_type, shared_data):
    """3 s is shorter than some of the clips and longer than others."""
    samples = 3 * SAMPLE_RATE
    waveforms = [soundfile.read(shared_data / f"EMO-DB/wav/{name}.wav")[0] for name in EMODB_CLIPS]
    assert min(map(len, waveforms)) < samples < max(map(len, waveforms))
    clips = np.stack(
        [audio.fit(each.astype("float32"), samples, pad=FRONT_ENDS[front_end].padding) for each in waveforms]
    )
    for on_device in (False, True):
        computed = compute(front_end, input_type, clips, on_device=on_device)
        assert_is_reference(computed, clips, front_end, input_type)


# The front end of an exported file


# Where frames lie differs between lengths and between paddings, not between what a spectrum becomes.
ON_DEVICE = [
    (front_end, input_type, samples)
    if samples == 17_077 or (front_end, input_type) in (("lsn", "mfcc"), ("cubic", "mfcc"))
    else pytest.param(front_end, input_type, samples, marks=pytest.mark.every)
    for front_end, input_type in KINDS
    for samples in (15_600, 17_077, 20_480)
]


@pytest.mark.parametrize(("front_end", "input_type", "samples"), ON_DEVICE)
def test_on_a_device_features_are_those_of_training(front_end, input_type, samples):
    clips = [audio.fit(chirp(n), samples, pad=FRONT_ENDS[front_end].padding) for n in (40, 9_000, samples)]
    clips = np.stack([*clips, noise(samples), np.zeros(samples, np.float32)])
    expected = compute(front_end, input_type, clips)
    found = compute(front_end, input_type, clips, on_device=True)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=TOLERANCE[front_end])
    (alone,) = compute(front_end, input_type, clips[1:2], on_device=True)
    np.testing.assert_allclose(alone, found[1], rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize(
    "settings",
    [LSN, settings_of("cubic", "mfcc"), settings_of("cubic", "mel_spectrogram"), VGGISH],
    ids=["lsn", "cubic_mfcc", "cubic_mel", "vggish"],
)
def test_products_give_the_fourier_transform(settings):
    clip = noise(7_777).astype("float64")
    layer = features.SpectrogramByProducts(settings)
    (found,) = layer(clip[None].astype("float32")).numpy()
    window = filterbanks.window_of(settings).astype("float64")
    length = settings.fft_length
    early = (length if settings.centred else length - settings.frame_length) // 2
    padded = np.pad(clip, (early, length))
    starts = settings.frame_step * np.arange(features.frame_count(len(clip), settings))
    spectrum = np.array([abs(np.fft.rfft(padded[start : start + length] * window)) for start in starts])
    expected = spectrum[:, layer.bins] ** settings.power
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6 * expected.max())
    assert {*layer.bins} == {*range(length // 2 + 1)}
    # 34 after 34: neighbours.
    blocks = layer.bins.reshape(16, -1)
    assert all(np.ptp(block) == len(block) - 2 for block in blocks)


def test_hops_that_are_no_rows_are_refused():
    with pytest.raises(ValueError, match="frames of 1024 every 250 are no rows of 32"):
        features.SpectrogramByProducts(dataclasses.replace(LSN, frame_step=250))


@pytest.mark.parametrize("samples", [1, 31, 32, 33, 100, 4_000])
def test_a_recording_reaches_from_its_first_to_its_last_sound(samples):
    rng = np.random.default_rng(samples)
    clips = np.zeros((20, samples), np.float32)
    for clip in clips[1:]:
        first, last = np.sort(rng.integers(0, samples, 2))
        clip[first : last + 1] = rng.choice([0.0, -1.0, 1e-30], last + 1 - first)
        clip[[first, last]] = rng.choice([-0.5, 2.0], 2)
    expected = [samples if not clip.any() else np.ptp(np.flatnonzero(clip)) + 1 for clip in clips]
    np.testing.assert_array_equal(np.squeeze(layers._recorded_samples(clips), axis=1), expected)


# Normalisation


@pytest.mark.parametrize("samples", [1, 2, 3, 999, 1000, 1001, 1002, 2500, 16_000])
def test_percentile_is_that_of_numpy(samples):
    clip = noise(samples, seed=samples)
    expected = np.clip(clip / np.percentile(np.abs(clip), 99.9), -1, 1)
    computed = features.NormaliseByPercentile()(clip[None]).numpy()[0]
    np.testing.assert_allclose(computed, expected, rtol=1e-5)


def test_variance_normalisation_has_zero_mean_and_unit_variance():
    clip = noise() + 0.4
    computed = features.NormaliseByVariance()(clip[None]).numpy()[0]
    np.testing.assert_allclose(computed, (clip - clip.mean()) / clip.std(), atol=1e-4)


NUMPY_NORMALISERS = {
    "peak": lambda clip: clip / np.abs(clip).max(),
    "none": lambda clip: clip,
    "variance": lambda clip: (clip - clip.mean()) / clip.std(),
    "percentile": lambda clip: np.clip(clip / np.percentile(np.abs(clip), 99.9), -1, 1),
}


@pytest.mark.parametrize("on_device", [False, True])
@pytest.mark.parametrize("normalise", NUMPY_NORMALISERS)
@pytest.mark.parametrize("front_end", ["lsn", "vggish"])
def test_a_front_end_normalises_as_its_settings_say(monkeypatch, front_end, normalise, on_device):
    """Every normalisation with frames and with patches; `none` leaves the level as it is."""
    kind = "mel_spectrogram"
    settings = dataclasses.replace(settings_of(front_end, kind), normalise=normalise)
    changed = dataclasses.replace(FRONT_ENDS[front_end], spectra={kind: settings})
    monkeypatch.setitem(FRONT_ENDS, front_end, changed)
    clip = noise(level=0.03) + np.float32(0.01)
    found = front_end_model(front_end, kind, SAMPLES, on_device=on_device)(clip[None]).numpy()
    normalised = NUMPY_NORMALISERS[normalise](clip.astype(np.float64))
    length, fft = settings.frame_length, settings.fft_length
    frames = np.lib.stride_tricks.sliding_window_view(normalised, length)[:: settings.frame_step]
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / length)
    spectrum = np.abs(np.fft.rfft(frames * hann, fft))
    expected = np.log(spectrum @ mel_matrix(settings).astype(np.float64) + settings.log_offset)
    if settings.patch_frames:
        expected = expected[: settings.patch_frames]
    np.testing.assert_allclose(found.reshape(expected.shape), expected, atol=2e-4)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("normalise", "loudness"),
        ("window", "hanning"),
        ("power", 3),
        ("mel_scale", "bark"),
        ("compression", "db_to_min"),
    ],
)
def test_settings_refuse_what_no_layer_knows(field, value):
    with pytest.raises(ValueError, match=f"expected {field} of a front end to be one of .*, found {value!r}"):
        dataclasses.replace(LSN, **{field: value})


def test_a_mel_scale_that_nobody_knows_is_refused():
    for convert in (features.hz_to_mel, features.mel_to_hz):
        with pytest.raises(UserError, match=r"unknown mel scale 'bark'\. Valid: htk, slaney"):
            convert(np.ones(2), "bark")


@pytest.mark.parametrize("pad", ["both", "right"])
@pytest.mark.parametrize("samples", [700, 1500, 9000])
@pytest.mark.parametrize("layer", [features.NormaliseByPercentile, features.NormaliseByVariance])
def test_a_padded_clip_is_normalised_as_before_padding(layer, samples, pad):
    clip = noise(samples, seed=2) + 0.05
    clip[samples // 3 : samples // 2] = 0.0  # a pause belongs to the recording
    before = layer()(clip[None]).numpy()[0]
    after = layer()(audio.fit(clip, SAMPLES, pad=pad)[None]).numpy()[0]
    np.testing.assert_allclose(after, audio.fit(before, SAMPLES, pad=pad), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("level", [1e-4, 1e-2, 30.0, 32_768.0])
@pytest.mark.parametrize(("front_end", "input_type"), [kind for kind in KINDS if kind[0] != "vggish"])
def test_level_does_not_matter(front_end, input_type, level):
    plain, scaled = compute(front_end, input_type, np.stack([chirp(), level * chirp()]))
    np.testing.assert_allclose(scaled, plain, rtol=1e-4, atol=TOLERANCE[front_end])


# Batch mates and edges


@kinds
def test_batch_mates_never_matter(front_end, input_type):
    # A tone's energy is in one band: after normalisation, too, its maximum is above that of the clip.
    clip, loud, silent = chirp(), 1000 * tone(), np.zeros(SAMPLES)
    alone = compute(front_end, input_type, clip[None])[0]
    with_loud, with_silent = (
        compute(front_end, input_type, np.stack([mate, clip, *[mate] * 14]))[1] for mate in (loud, silent)
    )
    np.testing.assert_array_equal(with_loud, with_silent)
    # A batch of another size adds in another order, and rounds differently.
    np.testing.assert_allclose(with_loud, alone, rtol=1e-5, atol=1e-4)


def one_sample(value=0.5):
    clip = np.zeros(SAMPLES, "float32")
    clip[SAMPLES // 2] = value
    return clip


EDGES = {
    "silence": np.zeros(SAMPLES, "float32"),
    "one sample": one_sample(),
    "constant": np.full(SAMPLES, 0.5, "float32"),
    "full-scale square wave": np.where(np.arange(SAMPLES) // 40 % 2, -1, 1).astype("float32"),
    "very loud": 1e30 * noise(),
    "very quiet": 1e-12 * noise(),
    "subnormal": one_sample(1e-42),
}


@pytest.mark.parametrize("edge", EDGES)
@kinds
def test_features_are_finite(front_end, input_type, edge):
    computed = compute(front_end, input_type, EDGES[edge][None])
    assert np.isfinite(computed).all()


@kinds
def test_silence_is_the_lowest_value_everywhere(front_end, input_type):
    floors = {
        ("lsn", "spectrogram"): 0.0,
        ("lsn", "mel_spectrogram"): np.log(1e-6),
        ("cubic", "mel_spectrogram"): 0.0,  # dB below its own maximum
        ("robust", "mel_spectrogram"): 0.0,  # every band's mean, as padding
        ("vggish", "mel_spectrogram"): np.log(0.01),
    }
    computed = compute(front_end, input_type, EDGES["silence"][None])[0, ..., 0]
    if input_type != "mfcc":
        np.testing.assert_allclose(computed, floors[front_end, input_type], atol=1e-5)
        return
    # A flat spectrum has no coefficient but the first: log(1e-6) √256 clipped, and -100 dB √128.
    first = {"lsn": -10.0, "cubic": -100 * np.sqrt(128), "robust": 0.0, "robust_voice": 0.0}[front_end]
    np.testing.assert_allclose(computed[:, 0], first, rtol=1e-5)
    np.testing.assert_allclose(computed[:, 1:], 0.0, atol=1e-3)


@pytest.mark.parametrize("centre", ["none", "mean", "variance"])
def test_relative_levels_are_taken_about_what_the_settings_say(monkeypatch, centre):
    settings = dataclasses.replace(ROBUST, floor_db=30.0, centre=centre, power=2)
    monkeypatch.setitem(FRONT_ENDS, "robust", FrontEnd({"mel_spectrogram": settings}, padding="both"))
    clip = audio.fit(chirp(9000), SAMPLES, pad="both")
    (found,) = front_end_model("robust", "mel_spectrogram", SAMPLES)(clip[None]).numpy()[..., 0]
    frames = np.lib.stride_tricks.sliding_window_view(clip.astype(np.float64), 1024)[::256]
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(1024) / 1024)
    mel = np.abs(np.fft.rfft(frames * hann)) ** 2 @ mel_matrix(settings).astype(np.float64)
    expected = np.log(np.maximum(mel / mel.max(), 1e-3))
    inside = mel.any(axis=1)
    if centre != "none":
        expected = np.where(inside[:, None], expected - expected[inside].mean(axis=0), 0.0)
    if centre == "variance":
        expected /= expected[inside].std()
    np.testing.assert_allclose(found, expected, atol=2e-4)


def test_where_a_recording_lies_in_its_clip_does_not_change_its_features():
    """By whole frames: what is before and behind it is 0."""
    sound = chirp(6400)
    early, late = (np.pad(sound, (before, SAMPLES - 6400 - before)) for before in (1024, 5120))
    first, second = compute("robust", "mel_spectrogram", np.stack([early, late]))
    np.testing.assert_allclose(first[:30], second[16:46], atol=1e-5)
    assert not second[:10].any()


def test_decibels_are_floored_80_below_the_maximum():
    clip = noise()
    clip[4000:12_000] = 0.0
    levels = compute("cubic", "mel_spectrogram", clip[None])
    assert levels.max() == 0.0
    assert levels.min() == -80.0


def test_mfcc_of_lsn_are_clipped_at_10():
    """A tone leaves most bands near log(1e-6), so that the first coefficient is far below -10."""
    computed = compute("lsn", "mfcc", tone()[None])
    assert computed.min() == -10.0
    assert computed.max() <= 10.0


# Patches of vggish


def patches_of(clip, samples):
    return compute("vggish", "mel_spectrogram", audio.fit(clip, samples, pad="right")[None])[0]


def test_patches_of_recordings_are_those_of_the_reference(shared_data):
    samples = 64_000  # shorter than some of the clips and longer than others: the reference has zeros there
    recorded = [soundfile.read(shared_data / f"EMO-DB/wav/{name}.wav")[0] for name in EMODB_CLIPS]
    counts = []
    for waveform in recorded:
        clip = audio.fit(waveform.astype("float32"), samples, pad="right")
        computed, theirs = patches_of(clip, samples), vggish_reference(clip)
        np.testing.assert_allclose(computed, theirs, rtol=1e-4, atol=2e-4)
        counts.append(int(computed.any(axis=(1, 2)).sum()))
    assert min(counts) < max(counts) == len(computed)


@pytest.mark.parametrize(
    ("recorded", "patches"),
    [(1, 1), (399, 1), (15_599, 1), (15_600, 1), (30_959, 1), (30_960, 2), (46_319, 2), (46_320, 3),
     (50_000, 3), (61_679, 3), (61_680, 4), (70_000, 4)],
)  # fmt: skip
def test_a_patch_counts_when_it_lies_within_the_recording(recorded, patches):
    """Patch k ends with frame 96 k: 96 k hops of 160 samples, and 240 more of its window."""
    clip = noise(recorded, seed=3)
    clip[-1] = 0.1
    computed = patches_of(clip, 70_000)
    assert computed.shape == (4, 96, 64)
    assert computed.any(axis=(1, 2)).tolist() == [number < patches for number in range(4)]
    assert not computed[patches:].any()
    np.testing.assert_allclose(computed[:patches], vggish_reference(clip)[:patches], rtol=1e-4, atol=2e-4)
    assert features.patch_count(recorded, VGGISH) == patches


def test_a_pause_is_part_of_the_recording():
    clip = noise(70_000, seed=4)
    clip[10_000:60_000] = 0.0
    computed = patches_of(clip, 70_000)
    np.testing.assert_allclose(computed[1:3], np.log(0.01), atol=1e-5)
    np.testing.assert_allclose(computed, vggish_reference(clip), rtol=1e-4, atol=2e-4)


def test_a_silent_recording_has_one_patch():
    computed = patches_of(np.zeros(1, "float32"), 70_000)
    np.testing.assert_allclose(computed[0], np.log(0.01), atol=1e-5)
    assert not computed[1:].any()


def test_where_a_short_recording_ends_is_silence():
    computed = patches_of(noise(4000), 8000)
    assert computed.shape == (1, 96, 64)
    np.testing.assert_allclose(computed[0, 25:], np.log(0.01), atol=1e-5)  # frame 25 begins at 4000
    assert (computed[0, :24].max(axis=-1) > 0).all()


def test_more_room_than_the_recording_adds_only_zeros():
    clip = noise(40_000, seed=5)
    short, long = patches_of(clip, 46_320), patches_of(clip, 160_000)
    np.testing.assert_allclose(long[: len(short)], short, rtol=1e-5, atol=1e-5)
    assert not long[len(short) :].any()


def test_the_level_of_patches_is_that_of_the_recording():
    quiet, loud = (patches_of(level * chirp(), SAMPLES) for level in (10.0, 100.0))
    np.testing.assert_allclose(np.exp(loud) - 0.01, 10 * (np.exp(quiet) - 0.01), rtol=1e-3)


# Shapes


@pytest.mark.parametrize(
    ("front_end", "input_type", "samples", "shape"),
    [
        ("lsn", "mfcc", 48_000, (184, 40, 1)),
        ("lsn", "mfcc", 112_000, (434, 40, 1)),
        ("lsn", "mel_spectrogram", 48_000, (184, 128, 1)),
        ("lsn", "spectrogram", 48_000, (184, 513, 1)),
        ("lsn", "mfcc", 1024, (1, 40, 1)),
        ("lsn", "mfcc", 1279, (1, 40, 1)),
        ("lsn", "mfcc", 1280, (2, 40, 1)),
        ("cubic", "mfcc", 80_000, (157, 40, 1)),
        ("cubic", "mel_spectrogram", 80_000, (313, 128, 1)),
        ("cubic", "mfcc", 10, (1, 40, 1)),
        ("vggish", "mel_spectrogram", 1, (1, 96, 64)),
        ("vggish", "mel_spectrogram", 48_000, (3, 96, 64)),
        ("vggish", "mel_spectrogram", 160_000, (10, 96, 64)),
    ],
)
def test_shapes_are_those_of_the_papers(front_end, input_type, samples, shape):
    assert features.feature_shape(front_end, input_type, samples) == shape
    assert front_end_model(front_end, input_type, samples).output_shape == (None, *shape)


def test_a_clip_shorter_than_a_frame_is_refused():
    with pytest.raises(UserError, match=r"1023 samples are shorter than one frame of 1024.*-id 0\.064"):
        front_end_model("lsn", "mfcc", 1023)


@pytest.mark.parametrize(
    ("front_end", "input_type", "message"),
    [
        ("cubic", "spectrogram", "cubic has no spectrogram; it has mfcc, mel_spectrogram"),
        ("vggish", "spectrogram", "vggish has no spectrogram; it has mel_spectrogram"),
        ("vggish", "mfcc", "vggish has no mfcc; it has mel_spectrogram"),
    ],
)
def test_a_front_end_refuses_an_input_type_that_it_has_not(front_end, input_type, message):
    with pytest.raises(UserError, match=message):
        front_end_model(front_end, input_type, SAMPLES)


@pytest.mark.parametrize(
    ("front_end", "input_type", "message"),
    [("lns", "mfcc", "front end 'lns'.*lsn"), ("lsn", "mfc", "input type 'mfc'.*mfcc")],
)
def test_a_misspelt_name_is_refused(front_end, input_type, message):
    with pytest.raises(UserError, match=message):
        settings_of(front_end, input_type)


# Saving


@kinds
def test_layers_are_made_again_from_their_configuration(front_end, input_type):
    tensor = chirp()[None]
    for layer in features.front_end_layers(front_end, input_type):
        again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
        assert type(again) is type(layer)
        assert getattr(again, "settings", None) == getattr(layer, "settings", None)
        expected = layer(tensor)
        np.testing.assert_array_equal(again(tensor), expected)
        tensor = expected


@kinds
def test_a_saved_front_end_loads_in_safe_mode(front_end, input_type, tmp_path):
    model = front_end_model(front_end, input_type, 4000)
    model.save(tmp_path / "front_end.keras")
    loaded = keras.saving.load_model(tmp_path / "front_end.keras", safe_mode=True)
    clips = synthetic_clips(4000)
    np.testing.assert_array_equal(loaded(clips), model(clips))
