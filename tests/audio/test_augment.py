"""Augmentation: what is asked for is understood, drawn anew in every epoch, and does what its paper says."""

import math

import numpy as np
import pytest
from scipy.special import log_softmax, softmax

from light_sernet_kd import audio, features
from light_sernet_kd.audio import augment
from light_sernet_kd.errors import UserError
from light_sernet_kd.registries.augmentations import AUGMENTATIONS

RATE = 16_000
DEFAULTS = {name: kind.defaults for name, kind in AUGMENTATIONS.items()}


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def tone(hz: float, samples: int = RATE, level: float = 0.3) -> np.ndarray:
    return (level * np.sin(2 * np.pi * hz * np.arange(samples) / RATE)).astype(np.float32)


# What is asked for


def test_names_alone_take_the_defaults_and_come_in_the_order_of_application():
    asked = augment.parse("mixup, specaugment,noise,shift,gain ,speed")
    assert [each.name for each in asked] == ["speed", "noise", "gain", "shift", "specaugment", "mixup"]
    everything = augment.parse(",".join(reversed(AUGMENTATIONS)))
    assert {each.name: each.settings for each in everything} == DEFAULTS


def test_settings_follow_their_name():
    noise, specaugment = augment.parse("specaugment:time_masks=1, noise:snr_low=-3:snr_high = 1e1")
    assert noise.settings == DEFAULTS["noise"] | {"snr_low": -3.0, "snr_high": 10.0}
    assert specaugment.settings == DEFAULTS["specaugment"] | {"time_masks": 1}
    assert isinstance(specaugment.settings["time_masks"], int)


@pytest.mark.parametrize("text", ["", "  ", "none", "None"])
def test_nothing_is_asked_for(text):
    assert augment.parse(text) == ()
    assert augment.text_of(()) == ""


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("specagument", "unknown augmentation 'specagument'. Did you mean specaugment? Valid: "),
        ("noise,,gain", "unknown augmentation ''"),
        ("noise:snr=5", "unknown setting of noise 'snr'. Did you mean snr_low?"),
        ("noise:snr_low=loud", "snr_low of noise must be a number, found 'loud'"),
        ("noise:snr_low=nan", "snr_low of noise must be from -60 to 60, found nan"),
        ("noise:chance=1.5", "chance of noise must be from 0 to 1, found 1.5"),
        ("noise:snr_low=25", "snr_low of noise is 25, above snr_high, 20"),
        ("speed:low=0", "low of speed must be from 0.5 to 2, found 0"),
        ("speed:high=0.8", "low of speed is 0.9, above high, 0.8"),
        ("gain:high_db=-20", "low_db of gain is -10, above high_db, -20"),
        ("specaugment:time_masks=1.5", "time_masks of specaugment must be a whole number, found '1.5'"),
        ("noise:pink=0.5:hum=0.4:music=0.2", "pink, hum, music of noise are 1.1 together, above 1"),
        ("babble:voices_low=9", "voices_low of babble is 9, above voices_high, 7"),
        ("room:t60_low=0.8:t60_high=0.3", "t60_low of room is 0.8, above t60_high, 0.3"),
        ("codec:mp3=0:opus=0:gsm=0", "mp3, opus, gsm, amr of codec are all 0: one of them must be above"),
        ("telephone:a_law=0.9", "a_law, linear of telephone are 1.1 together"),
        ("specaugment:time_masks=-1", "time_masks of specaugment must be from 0 to 100"),
        ("mixup:alpha=0", "alpha of mixup must be from 0.01 to 100"),
        ("shift:0.2", "'0.2' is no setting of shift: write it as in shift:chance=0.5"),
        ("gain:", "'' is no setting of gain"),
        ("noise,gain,noise", "noise is named twice"),
        ("noise:pink=0:pink=1", "pink of noise is given twice"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_in_a_sentence(text, message):
    with pytest.raises(UserError) as caught:
        augment.parse(text)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("text", "shortest"),
    [
        ("MixUp,noise", "noise,mixup"),
        ("noise:snr_high=20:snr_low=2.5,gain:chance=1", "noise:snr_low=2.5,gain"),
        ("specaugment:frequency_masks=3", "specaugment:frequency_masks=3"),
    ],
)
def test_equal_requests_have_one_spelling(text, shortest):
    asked = augment.parse(text)
    assert augment.text_of(asked) == shortest
    assert augment.parse(shortest) == asked


def test_a_padding_that_nobody_knows_is_refused():
    with pytest.raises(UserError, match=r"unknown padding 'left'\. Valid: both, right"):
        augment.augmented_clip(tone(100), (), samples=RATE, pad="left", seed=0, epoch=0, utterance=0)


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_each_entry_of_the_table_is_whole(name):
    kind = AUGMENTATIONS[name]
    assert set(kind.possible) == set(kind.defaults)
    assert set(kind.with_teacher) <= set(kind.possible)
    for key, value in kind.defaults.items():
        low, high = kind.possible[key]
        assert low <= value <= high
    assert "Source:" in kind.function.load().__doc__
    augment.check_teacher(augment.parse(name))


# With cached teacher outputs


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("speed:high=1.3", "high of speed is 1.3, but with a teacher must be from 0.8 to 1.25"),
        ("gain,noise:snr_low=-5", "snr_low of noise is -5, but with a teacher must be from 0 to 60"),
        ("gain:high_db=30", "high_db of gain is 30"),
        ("pitch:high=5", "high of pitch is 5, but with a teacher must be from -4 to 4"),
        ("room:t60_high=0.9", "t60_high of room is 0.9, but with a teacher must be from 0.1 to 0.8"),
        ("babble:snr_low=-5", "snr_low of babble is -5"),
        ("microphone:most_db=20", "most_db of microphone is 20"),
        ("clipping:most=0.4", "most of clipping is 0.4"),
        ("copypaste:chance=0.8", "chance of copypaste is 0.8, but with a teacher must be from 0 to 0.5"),
        ("specaugment:time_masks=3", "may mask 0.6 of a clip's time"),
        ("specaugment:frequency_most=0.3", "may mask 0.6 of a clip's frequency"),
    ],
)
def test_what_a_cached_teacher_output_cannot_hold_for_is_refused_with_a_teacher(text, message):
    with pytest.raises(UserError) as caught:
        augment.check_teacher(augment.parse(text))
    assert message in str(caught.value)
    assert "-kd pure" in str(caught.value)


def test_small_changes_and_mixup_are_allowed_with_a_teacher():
    augment.check_teacher(
        augment.parse("speed:low=0.8:high=1.25,noise:snr_low=0,shift:most=1,specaugment:time_most=0.25,mixup")
    )


# Draws


def test_draws_stay_the_same_everywhere():
    # Stored, because a run may be continued on another machine.
    drawn = augment.drawn_for("noise", seed=1, epoch=2, utterance=3).integers(0, 1000, 5)
    assert drawn.tolist() == [276, 664, 708, 381, 115]
    assert augment.mates(6, seed=1, epoch=2, batch=0).tolist() == [4, 1, 2, 0, 5, 3]


def test_seed_epoch_utterance_and_augmentation_each_change_the_draw():
    drawn = {
        augment.drawn_for(name, seed=s, epoch=e, utterance=u).random()
        for name in AUGMENTATIONS
        for s in range(3)
        for e in range(3)
        for u in range(3)
    }
    # Also not that of the epoch's order, whose key [seed, epoch] NumPy takes for [seed, epoch, 0, 0].
    drawn |= {np.random.default_rng([s, e]).random() for s in range(3) for e in range(3)}
    drawn |= {np.random.default_rng([s, e, u, augment.batch._MATES]).random()
              for s in range(3) for e in range(3) for u in range(3)}  # fmt: skip
    assert len(drawn) == len(AUGMENTATIONS) * 27 + 9 + 27


def clip_of(waveform, text, *, samples=8000, pad="both", seed=0, epoch=0, utterance=0):
    return augment.augmented_clip(
        waveform, augment.parse(text), samples=samples, pad=pad, seed=seed, epoch=epoch, utterance=utterance
    )


def test_one_augmentation_more_does_not_change_what_another_draws():
    waveform = rng(1).normal(0, 0.1, 6000).astype(np.float32)
    alone = clip_of(waveform, "noise:chance=1")
    with_gain = clip_of(waveform, "noise:chance=1,gain:low_db=6:high_db=6,mixup,specaugment")
    np.testing.assert_allclose(with_gain, np.clip(alone * 10**0.3, -1, 1), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", ["speed", "noise", "gain", "shift"])
def test_every_epoch_changes_a_clip_anew_and_the_same_way_again(name):
    # Loud, so that a gain overloads it.
    waveform = rng(1).normal(0, 0.5, 6000).astype(np.float32)
    epochs = [clip_of(waveform, f"{name}:chance=1", epoch=epoch) for epoch in range(4)]
    for one in range(4):
        np.testing.assert_array_equal(clip_of(waveform, f"{name}:chance=1", epoch=one), epochs[one])
        assert all(not np.array_equal(epochs[one], epochs[other]) for other in range(one))


@pytest.mark.parametrize("name", ["speed", "noise", "gain", "shift"])
def test_chance_is_how_often_a_clip_is_changed(name):
    waveform = rng(1).normal(0, 0.5, 600).astype(np.float32)
    clean = audio.fit(waveform, 800)
    changed = [
        not np.array_equal(clip_of(waveform, f"{name}:chance=0.3", samples=800, utterance=u), clean)
        for u in range(400)
    ]
    # Three standard deviations of a share of 400 are 0.07.
    assert 0.22 < np.mean(changed) < 0.38


# Waveforms


@pytest.mark.parametrize("pink", [0, 1])
def test_noise_has_the_snr_that_was_drawn(pink):
    speech = rng(1).normal(0, 0.05, 20_001).astype(np.float32) * np.linspace(0, 2, 20_001, dtype=np.float32)
    found = []
    for seed in range(60):
        noisy = augment.noise(speech, rng(seed), chance=1, snr_low=5, snr_high=20, pink=pink)
        assert noisy.dtype == np.float32
        added = noisy.astype(float) - speech
        found.append(10 * math.log10(np.mean(speech.astype(float) ** 2) / np.mean(added**2)))
    assert 5 - 1e-3 <= min(found) < 7
    assert 18 < max(found) <= 20 + 1e-3
    noisy = augment.noise(speech, rng(3), chance=1, snr_low=10, snr_high=10, pink=pink)
    power_added = np.mean((noisy.astype(float) - speech) ** 2)
    assert np.mean(speech.astype(float) ** 2) / power_added == pytest.approx(10, rel=1e-4)


@pytest.mark.parametrize(("pink", "slope"), [(0, 0.0), (1, -1.0)])
def test_white_noise_is_flat_and_pink_noise_falls_by_its_frequency(pink, slope):
    speech = tone(440, 2**15)
    spectra = []
    for seed in range(20):
        added = augment.noise(speech, rng(seed), chance=1, snr_low=0, snr_high=0, pink=pink) - speech
        spectra.append(np.abs(np.fft.rfft(added)) ** 2)
    power, bins = np.mean(spectra, axis=0)[10:16_000], np.arange(10, 16_000)
    octaves = np.floor(np.log2(bins)).astype(int)
    means = [np.log2(power[octaves == octave].mean()) for octave in range(4, 13)]
    assert np.polyfit(range(4, 13), means, 1)[0] == pytest.approx(slope, abs=0.05)


def test_silence_stays_silence():
    silence = np.zeros(5000, np.float32)
    np.testing.assert_array_equal(augment.noise(silence, rng(), chance=1), silence)
    np.testing.assert_array_equal(augment.gain(silence, rng()), silence)


def test_noise_of_a_single_sample_is_possible():
    assert np.isfinite(augment.noise(np.ones(1, np.float32), rng(), chance=1, pink=1)).all()


def test_gain_is_in_decibels_and_overloads_at_full_scale():
    quiet = tone(200, level=0.1)
    np.testing.assert_allclose(augment.gain(quiet, rng(), low_db=6, high_db=6), quiet * 1.99526, rtol=1e-5)
    loud = augment.gain(tone(200, level=0.8), rng(), low_db=6, high_db=6)
    assert loud.max() == 1
    assert loud.min() == -1
    assert np.mean(np.abs(loud) == 1) > 0.3
    drawn = [augment.gain(quiet, rng(seed))[20] / quiet[20] for seed in range(100)]
    decibels = 20 * np.log10(drawn)
    assert -10 <= decibels.min() < -9
    assert 9 < decibels.max() <= 10
    assert abs(decibels.mean()) < 2


def test_a_float_file_beyond_full_scale_is_not_cut_at_0_db():
    beyond = tone(200, level=1.5)
    np.testing.assert_array_equal(augment.gain(beyond, rng(), low_db=0, high_db=0), beyond)


@pytest.mark.parametrize(("front_end", "input_type"), [("lsn", "mfcc"), ("cubic", "mel_spectrogram")])
def test_the_front_end_undoes_a_gain_that_does_not_overload(front_end, input_type):
    # As the docstring says: only the overload of loud clips trains anything.
    clip = audio.fit(rng(1).normal(0, 0.1, 6000).clip(-0.3, 0.3).astype(np.float32), 8000)
    model = features.front_end_model(front_end, input_type, 8000)
    clean, louder, overloaded = np.asarray(
        model(np.stack([augment.gain(clip, rng(), low_db=db, high_db=db) for db in (0, 8, 30)]))
    )
    np.testing.assert_allclose(louder, clean, atol=2e-3)
    assert np.abs(overloaded - clean).max() > 0.1


@pytest.mark.parametrize("factor", [0.9, 1.0, 1.1])
def test_speed_changes_length_and_pitch_alike(factor):
    faster = augment.speed(tone(1000), rng(), low=factor, high=factor)
    assert len(faster) == pytest.approx(RATE / factor, abs=1)
    spectrum = np.abs(np.fft.rfft(faster * np.hanning(len(faster)), 2**18))
    assert spectrum.argmax() * RATE / 2**18 == pytest.approx(1000 * factor, abs=0.2)
    assert faster.dtype == np.float32


def test_speeds_are_drawn_from_all_of_the_range():
    lengths = [len(augment.speed(tone(1000, 4000), rng(seed))) for seed in range(100)]
    assert 4000 / 1.1 - 1 <= min(lengths) < 4000 / 1.08
    assert 4000 / 0.92 < max(lengths) <= 4000 / 0.9 + 1


# Place in the clip


@pytest.mark.parametrize(
    ("recorded", "start", "places"),
    [
        (100, 0, {0}),
        (98, 1, {0, 1, 2}),
        (98, 0, {0, 1, 2}),
        (80, 10, set(range(5, 16))),
        (80, 0, set(range(6))),
        (103, -1, {-3, -2, -1, 0}),
        (130, -15, set(range(-20, -9))),
    ],
)
def test_a_shift_reaches_every_place_that_loses_nothing(recorded, start, places):
    drawn = {
        augment.shift(start, rng(seed), recorded=recorded, samples=100, most=0.05) for seed in range(400)
    }
    assert drawn == places


@pytest.mark.parametrize("pad", ["both", "right"])
@pytest.mark.parametrize("recorded", [1, 99, 100, 101, 102, 157, 300])
def test_without_a_change_a_clip_is_cut_and_padded_as_ever(recorded, pad):
    waveform = np.arange(1, recorded + 1, dtype=np.float32)
    for text in ("", "specaugment,mixup", "speed:chance=0,noise:chance=0,gain:chance=0,shift:chance=0"):
        found = clip_of(waveform, text, samples=100, pad=pad)
        np.testing.assert_array_equal(found, audio.fit(waveform, 100, pad=pad))
        assert found.dtype == np.float32


@pytest.mark.parametrize("pad", ["both", "right"])
def test_a_shifted_clip_is_a_window_of_the_recording_or_holds_all_of_it(pad):
    short, long = (np.arange(1, count + 1, dtype=np.float32) for count in (70, 170))
    for utterance in range(50):
        clip = clip_of(short, "shift", samples=100, pad=pad, utterance=utterance)
        np.testing.assert_array_equal(clip[clip != 0], short)
        clip = clip_of(long, "shift", samples=100, pad=pad, utterance=utterance)
        np.testing.assert_array_equal(np.diff(clip), 1)


def test_noise_lies_where_the_recording_lies():
    # Padding must stay zero: the front end normalises from the first to the last sample that is not.
    waveform = rng(1).normal(0, 0.1, 5000).astype(np.float32)
    clip = clip_of(waveform, "noise:chance=1,gain", samples=8000)
    assert np.flatnonzero(clip)[[0, -1]].tolist() == [1500, 6499]
    assert np.count_nonzero(clip) == 5000


@pytest.mark.parametrize("samples", [99, 100])
@pytest.mark.parametrize(
    "text", ["noise", "shift", "speed", "speed:high=1.25,shift:most=0.2", "speed:low=0.5:high=0.6"]
)
def test_the_part_of_a_recording_that_is_kept_is_all_that_a_clip_can_need(samples, text):
    asked = augment.parse(text)
    needed = augment.samples_needed(asked, samples)
    for recorded in (needed, needed + 1, needed + 2, 1001):
        waveform = np.arange(1, recorded + 1, dtype=np.float32)
        kept = audio.fit(waveform, needed)[: min(recorded, needed)]
        np.testing.assert_array_equal(audio.fit(kept, samples), audio.fit(waveform, samples))
        for utterance in range(30):
            part = clip_of(kept, text, samples=samples, utterance=utterance)
            assert np.count_nonzero(part) == samples, "the clip is full"
            if text == "shift":
                whole = clip_of(waveform, text, samples=samples, utterance=utterance)
                np.testing.assert_array_equal(part, whole)


# Features


def masked_cells(before, after):
    """Which frames and which features are masked as a whole."""
    changed = (before != after)[..., 0]
    return changed.all(axis=1), changed.all(axis=0), changed


def runs(flags) -> int:
    """How many stretches of True there are."""
    return int(np.count_nonzero(np.diff(np.concatenate([[0], flags.astype(int)])) == 1))


def test_specaugment_masks_whole_bands_and_nothing_else():
    clean = rng(1).normal(size=(184, 40, 1)).astype(np.float32)
    untouched = clean.copy()
    widest = [0, 0]
    for seed in range(200):
        changed = augment.specaugment(clean, rng(seed))
        frames, bands, cells = masked_cells(clean, changed)
        np.testing.assert_array_equal(cells, frames[:, None] | bands[None, :])
        assert np.all(changed[cells] == clean.mean())
        assert runs(frames) <= 2
        assert runs(bands) <= 2
        widest = np.maximum(widest, [frames.sum(), bands.sum()])
    np.testing.assert_array_equal(clean, untouched)
    # Two masks of up to 36 of 184 frames, and of up to 7 of 40 features.
    assert 36 < widest[0] <= 72
    assert 7 < widest[1] <= 14


def test_the_width_and_the_place_of_a_mask_are_drawn_evenly():
    clean = rng(1).normal(size=(20, 4, 1)).astype(np.float32)
    widths, covered = np.zeros(6), np.zeros(20)
    for seed in range(3000):
        one = augment.specaugment(clean, rng(seed), time_masks=1, time_most=0.25, frequency_masks=0)
        frames, _, _ = masked_cells(clean, one)
        widths[frames.sum()] += 1
        covered += frames
    np.testing.assert_allclose(widths / 3000, 1 / 6, atol=0.025)
    # By a loop over every width and place.
    expected = np.zeros(20)
    for width in range(6):
        for first in range(20 - width + 1):
            expected[first : first + width] += 1 / 6 / (20 - width + 1)
    np.testing.assert_allclose(covered / 3000, expected, atol=0.025)


def test_specaugment_without_masks_or_chance_changes_nothing():
    clean = rng(1).normal(size=(20, 4, 1)).astype(np.float32)
    no_masks, no_width = {"time_masks": 0, "frequency_masks": 0}, {"time_most": 0, "frequency_most": 0}
    for settings in ({"chance": 0}, no_masks, no_width):
        np.testing.assert_array_equal(augment.specaugment(clean, rng(), **settings), clean)
    everything = augment.specaugment(clean, rng(), time_masks=100, time_most=1)
    assert np.all(everything == clean.mean())


# Mixup


@pytest.mark.parametrize("alpha", [0.2, 1, 8])
def test_shares_have_the_mean_and_the_variance_of_their_beta_distribution(alpha):
    (mixup,) = augment.parse(f"mixup:alpha={alpha}")
    shares = augment.shares(mixup, seed=1, epoch=2, utterances=range(4000))
    assert shares.dtype == np.float32
    assert shares.min() >= 0
    assert shares.max() <= 1
    assert shares.mean() == pytest.approx(0.5, abs=0.03)
    assert shares.var() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.1)


def test_a_share_belongs_to_the_utterance_and_without_its_chance_is_1():
    (mixup,) = augment.parse("mixup")
    together = augment.shares(mixup, seed=1, epoch=2, utterances=[3, 5, 8])
    assert augment.shares(mixup, seed=1, epoch=2, utterances=[8])[0] == together[2]
    (never,) = augment.parse("mixup:chance=0")
    assert augment.shares(never, seed=1, epoch=2, utterances=range(9)).tolist() == [1.0] * 9


def test_mates_are_a_permutation_drawn_for_the_batch():
    drawn = [augment.mates(32, seed=1, epoch=e, batch=b).tolist() for e in range(3) for b in range(3)]
    assert all(sorted(mates) == list(range(32)) for mates in drawn)
    assert len(set(map(tuple, drawn))) == 9


def test_mixing_equals_the_papers_formula_in_a_loop():
    one, other = rng(1).normal(size=(2, 5, 6, 4, 1)).astype(np.float32)
    share = rng(2).random(5).astype(np.float32)
    mixed = augment.mix(one, other, share)
    assert mixed.dtype == np.float32
    for example in range(5):
        for index in np.ndindex(6, 4, 1):
            expected = share[example] * one[example][index] + (1 - share[example]) * other[example][index]
            assert mixed[example][index] == pytest.approx(expected, abs=1e-6)


def test_mixed_logits_have_the_mixture_of_the_probabilities():
    one, other = rng(1).normal(0, 4, size=(2, 50, 7)).astype(np.float32)
    share = rng(2).random(50).astype(np.float32)
    mixed = augment.mix_logits(one, other, share)
    assert mixed.dtype == np.float32
    expected = share[:, None] * softmax(one, axis=1) + (1 - share[:, None]) * softmax(other, axis=1)
    np.testing.assert_allclose(softmax(mixed, axis=1), expected, atol=1e-6)


def test_a_share_of_1_or_0_gives_back_the_logits_themselves():
    one, other = rng(1).normal(0, 4, size=(2, 3, 7)).astype(np.float32)
    np.testing.assert_allclose(augment.mix_logits(one, other, np.ones(3, np.float32)), one, atol=1e-5)
    np.testing.assert_allclose(augment.mix_logits(one, other, np.zeros(3, np.float32)), other, atol=1e-5)


def test_a_sure_teacher_says_what_the_mixed_label_says():
    sure, other = np.array([[10.0, 0.0]]), np.array([[0.0, 10.0]])
    share = np.array([0.8], np.float32)
    np.testing.assert_allclose(softmax(augment.mix_logits(sure, other, share)), [[0.8, 0.2]], atol=1e-4)
    # Why the logits themselves are not mixed.
    assert softmax(0.8 * sure + 0.2 * other)[0, 0] == pytest.approx(0.998, abs=5e-4)


def test_mixed_logits_stay_finite_where_the_teacher_is_certain():
    one, other = np.array([[500.0, -500.0, 0.0]]), np.array([[-500.0, 500.0, 0.0]])
    for share in (0.0, 1e-6, 0.3, 1.0):
        mixed = augment.mix_logits(one, other, np.array([share], np.float32))
        assert np.isfinite(mixed).all()
        assert np.isfinite(log_softmax(mixed)).all()
