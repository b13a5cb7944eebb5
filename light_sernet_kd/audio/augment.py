"""Augmentation: training clips that are changed a little, anew in every epoch.

For small corpora, and off by default. Only the training set is changed: validation and test see the clean
features, and so does a teacher. The order is that of a recording's way into a network:

    speed, noise, gain   the waveform, as far as it was recorded (padding comes later)
    shift                where the recording lies in the clip, or where the clip is cut from it
    specaugment          one clip's features
    mixup                a batch's features, labels and teacher outputs

What is drawn for an utterance depends on the seed, the epoch and the utterance alone, not on its batch
mates, and each augmentation has draws of its own: a run that was interrupted continues as if it had not
been, and asking for one augmentation more does not change what the others do. Only mixup needs a mate, and
takes it from the batch.

**What cached teacher outputs assume.** A teacher's logits and embeddings are computed once, on the clean
clips, and are taken for the augmented ones too: the teacher is assumed to say the same of a clip with some
noise, another level or place, a slightly other speed or a few masked bands. That is the assumption under
which the label is kept as well, and it holds only while the changes are small. So a setting has two ranges:
what is possible, and what is allowed together with a teacher (`check_teacher`). Mixup changes the label,
and with it, alike, what the teacher says: the mixture of the two outputs is taken for the output of the
mixture.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from light_sernet_kd.audio import PADDINGS, resample
from light_sernet_kd.errors import UserError, choose
from light_sernet_kd.registries.augmentations import AUGMENTATIONS, AugmentationKind, Range


def speed(waveform, rng, *, chance=1.0, low=0.9, high=1.1):
    """The waveform `(samples,)` played faster or slower by a factor drawn evenly from `low` to `high`.

    It is resampled, so pitch and formants move by the same factor (1.1 is 1.65 semitones) and the length by
    its inverse.

    Source: Ko et al. 2015, "Audio augmentation for speech recognition", Interspeech, whose factors
    0.9, 1 and 1.1 are the ends and the middle here.
    """
    if rng.random() >= chance:
        return waveform
    return resample(waveform, rng.uniform(low, high), 1)


def noise(waveform, rng, *, chance=0.5, snr_low=5.0, snr_high=20.0, pink=0.5):
    """The waveform `(samples,)` with noise at an SNR drawn evenly, in dB, from `snr_low` to `snr_high`.

    The ratio is that of the powers over the whole recording. The noise is white (flat per Hz) or, with
    probability `pink`, pink (power falling as 1/f, flat per octave, as much of the noise of rooms does).
    Silence stays silence, since no noise has a ratio to it.

    Source: the range is a usual one; x-vectors (Snyder et al. 2018, ICASSP) take 0 to 15 dB.
    """
    if rng.random() >= chance:
        return waveform
    ratio = 10.0 ** (rng.uniform(snr_low, snr_high) / 10.0)
    added = (pink_noise if rng.random() < pink else white_noise)(len(waveform), rng)
    power = np.mean(np.square(waveform, dtype=np.float64))
    scale = math.sqrt(power / (ratio * np.mean(np.square(added, dtype=np.float64)) + 1e-300))
    return waveform + np.float32(scale) * added


def white_noise(samples: int, rng: np.random.Generator) -> np.ndarray:
    """Float32 `(samples,)`: normal, with a power spectrum that is flat per Hz; root mean square about 1."""
    return rng.standard_normal(samples, dtype=np.float32)


def pink_noise(samples: int, rng: np.random.Generator) -> np.ndarray:
    """The same with a power spectrum that falls as 1/f, of whatever level comes out."""
    # Whole octaves are cheap to transform, and a part of pink noise is pink.
    count = 2 ** max(1, math.ceil(math.log2(samples)))
    # Single precision halves the time; the real and the imaginary part are two draws.
    spectrum = rng.standard_normal(count + 2, dtype=np.float32).view(np.complex64)
    spectrum[1:] /= np.sqrt(np.arange(1, len(spectrum), dtype=np.float32))
    spectrum[0] = 0.0
    return np.fft.irfft(spectrum, count)[:samples]


def gain(waveform, rng, *, chance=1.0, low_db=-10.0, high_db=10.0):
    """The waveform `(samples,)` times a gain drawn evenly, in dB, and cut at full scale (±1).

    Both front ends take a clip's level out again (`lsn` divides by the 99.9th percentile, `cubic` by the
    standard deviation), so a student never sees the gain itself. What it sees is the overload of a clip that
    reaches full scale: this trains for recordings that clip, and changes nothing in quiet ones.

    Source: none published; ±10 dB is about the spread between a close and a distant talker.
    """
    if rng.random() >= chance:
        return waveform
    # A float file may exceed full scale: at 0 dB it stays as it is.
    full_scale = max(1.0, float(np.max(np.abs(waveform), initial=0.0)))
    factor = 10.0 ** (rng.uniform(low_db, high_db) / 20.0)
    return np.clip(waveform * factor, -full_scale, full_scale).astype(np.float32)


def shift(start, rng, *, recorded, samples, chance=1.0, most=0.1):
    """Where in a clip of `samples` samples a recording of `recorded` samples begins, in samples.

    `start` is where it would begin; it moves by up to `most` of the clip's length to either side, evenly
    drawn among the places that lose nothing. A short recording stays within the clip, so what moves is how
    its padding is shared out. A long one keeps the clip filled (`start` is negative), so what moves is the
    part that is cut out. One of exactly the clip's length cannot move.

    Source: 100 ms in 1 s, as TensorFlow's example of speech commands (Warden 2018, arXiv:1804.03209).
    """
    if rng.random() >= chance:
        return start
    slack, reach = samples - recorded, math.floor(most * samples)
    lowest, highest = max(min(0, slack), start - reach), min(max(0, slack), start + reach)
    return int(rng.integers(lowest, highest, endpoint=True))


def specaugment(
    features, rng, *, chance=1.0, time_masks=2, time_most=0.2, frequency_masks=2, frequency_most=0.1875
):
    """A clip's features `(frames, features, 1)` with bands of frames and of features masked.

    Every mask's width is drawn evenly from 0 to `time_most` of the frames, or `frequency_most` of the
    features, then its place; masks may overlap. What is masked takes the mean of the clip, which in the
    paper, whose features have zero mean, is 0. There is no time warping, which the paper finds to add
    little. Of MFCC, what is masked are neighbouring cepstral coefficients, which is no band of frequencies.

    Source: Park et al. 2019, arXiv:1904.08779, section 2, and table 1 for the numbers of the policy SM: two
    masks each, of at most 15 of 80 mel bands and of 0.2 of the frames (its other limit of 70 frames of 10
    ms is more than that in clips of up to 3.5 s).
    """
    if rng.random() >= chance:
        return features
    masked, mean = np.array(features), np.mean(features)
    for axis, masks, most in ((0, time_masks, time_most), (1, frequency_masks, frequency_most)):
        size = masked.shape[axis]
        for _ in range(masks):
            width = int(rng.integers(0, math.floor(most * size), endpoint=True))
            first = int(rng.integers(0, size - width, endpoint=True))
            masked[(slice(None),) * axis + (slice(first, first + width),)] = mean
    return masked


def mixup(share, rng, *, chance=1.0, alpha=0.2):
    """An example's share in its mixture, drawn from Beta(`alpha`, `alpha`), or else `share` as it is.

    Source: Zhang et al. 2018, arXiv:1710.09412, section 2; 0.2 is its choice for ImageNet (section 3.1).
    """
    return float(rng.beta(alpha, alpha)) if rng.random() < chance else share


_MATES = 7  # a stream, as the kinds have one
# Of a clip's axis, where a teacher's outputs are to hold for the masked clip.
_MOST_MASKED = 0.5


@dataclass(frozen=True)
class Augmentation:
    """One augmentation as it was asked for, with all of its settings."""

    name: str
    settings: Mapping[str, float]

    @property
    def kind(self) -> AugmentationKind:
        return AUGMENTATIONS[self.name]


def parse(text: str) -> tuple[Augmentation, ...]:
    """The augmentations that a text asks for, in the order in which they are applied.

    The text is names between commas, each with as many settings as wanted:
    `specaugment,noise:snr_low=5:snr_high=20`. An empty text and `none` ask for nothing.

    Raises:
        UserError: an unknown name or setting, one given twice, or a number that it cannot be.
    """
    if text.strip().lower() in ("", "none"):
        return ()
    settings_by_name: dict[str, dict[str, float]] = {}
    for part in text.split(","):
        word, *settings = part.split(":")
        name = choose("augmentation", word.strip(), AUGMENTATIONS)
        if name in settings_by_name:
            raise UserError(f"{name} is asked for twice in {text!r}: name it once, with all its settings.")
        settings_by_name[name] = _settings(name, settings)
    return tuple(
        Augmentation(name, settings_by_name[name]) for name in AUGMENTATIONS if name in settings_by_name
    )


def _settings(name: str, parts: Sequence[str]) -> dict[str, float]:
    kind = AUGMENTATIONS[name]
    settings, named = dict(kind.defaults), set()
    for part in parts:
        key, equals, number = (piece.strip() for piece in part.partition("="))
        if not equals:
            example = f"{name}:{next(iter(settings))}=0.5"
            raise UserError(f"{part.strip()!r} is no setting of {name}: write it as in {example}.")
        key = choose(f"setting of {name}", key, settings)
        if key in named:
            raise UserError(f"{key} of {name} is given twice: give it once.")
        named.add(key)
        settings[key] = _number(f"{key} of {name}", number, settings[key], kind.possible[key])
    low, high = kind.ordered or (None, None)
    if low and high and settings[low] > settings[high]:
        raise UserError(
            f"{low} of {name} is {settings[low]:g}, above {high}, {settings[high]:g}: "
            "give both, the smaller one first."
        )
    return settings


def _number(what: str, text: str, default: float, possible: Range) -> float:
    is_count = isinstance(default, int)
    try:
        value = int(text) if is_count else float(text)
    except ValueError:
        raise UserError(f"{what} must be a {'whole ' * is_count}number, found {text!r}.") from None
    lowest, highest = possible
    if not lowest <= value <= highest:
        raise UserError(f"{what} must be from {lowest:g} to {highest:g}, found {text}.")
    return value


def text_of(augmentations: Sequence[Augmentation]) -> str:
    """The shortest text that `parse` makes these of, so that equal requests have one spelling."""
    parts = []
    for each in augmentations:
        defaults = each.kind.defaults
        changed = {key: value for key, value in each.settings.items() if value != defaults[key]}
        texts = (f"{key}={repr(value).removesuffix('.0')}" for key, value in changed.items())
        parts.append(":".join([each.name, *texts]))
    return ",".join(parts)


def check_teacher(augmentations: Sequence[Augmentation]) -> None:
    """Refuse what cached teacher outputs cannot hold for; see the head of this module.

    Raises:
        UserError: names the setting, what is allowed with a teacher, and what to do.
    """
    remedy = "Its outputs were computed on the clean clips: ask for less, or train without it (-kd pure)."
    for each in augmentations:
        for key, (lowest, highest) in each.kind.with_teacher.items():
            if not lowest <= each.settings[key] <= highest:
                raise UserError(
                    f"{key} of {each.name} is {each.settings[key]:g}, but with a teacher must be from "
                    f"{lowest:g} to {highest:g}. {remedy}"
                )
        for axis, (masks, most) in each.kind.masks.items():
            masked = each.settings[masks] * each.settings[most]
            if masked > _MOST_MASKED:
                raise UserError(
                    f"{each.name} may mask {masked:g} of a clip's {axis} ({masks} × {most}), "
                    f"but with a teacher at most {_MOST_MASKED:g}. {remedy}"
                )


def drawn_for(name: str, *, seed: int, epoch: int, utterance: int) -> np.random.Generator:
    """The random numbers of one augmentation of one utterance in one epoch."""
    return np.random.default_rng([seed, epoch, utterance, AUGMENTATIONS[name].stream])


def changes_waveforms(augmentations: Sequence[Augmentation]) -> bool:
    """Whether features must be computed anew from waveforms."""
    return any(each.kind.on in ("waveform", "place") for each in augmentations)


def samples_needed(augmentations: Sequence[Augmentation], samples: int) -> int:
    """How many samples of a recording a clip may need, at the highest speed and the farthest shift.

    From a recording cut to this length, to its middle, `audio.fit` cuts the same clip as from all of it.
    """
    reach, factor = 0, 1.0
    for each in augmentations:
        if each.kind.reach:
            reach += math.floor(each.settings[each.kind.reach] * samples)
        if each.kind.speed_up:
            factor *= max(1.0, each.settings[each.kind.speed_up])
    needed = math.ceil((samples + 2 * reach) * factor) + (2 if factor > 1 else 0)
    # Else the two cuts would round their middle differently.
    return needed + (needed - samples) % 2


def augmented_clip(
    waveform: np.ndarray,
    augmentations: Sequence[Augmentation],
    *,
    samples: int,
    pad: str,
    seed: int,
    epoch: int,
    utterance: int,
) -> np.ndarray:
    """The recording `(n,)` of `utterance` as a clip `(samples,)` of this epoch.

    Without an augmentation that changes waveforms it is what `audio.fit` makes of it.
    """
    choose("padding", pad, PADDINGS)

    def rng(name: str) -> np.random.Generator:
        return drawn_for(name, seed=seed, epoch=epoch, utterance=utterance)

    for each in augmentations:
        if each.kind.on == "waveform":
            waveform = each.kind.function(waveform, rng(each.name), **each.settings)
    recorded = len(waveform)
    slack = samples - recorded
    start = -(-slack // 2) if slack < 0 else slack // 2 if pad == "both" else 0
    for each in augmentations:
        if each.kind.on == "place":
            lengths = {"recorded": recorded, "samples": samples}
            start = each.kind.function(start, rng(each.name), **lengths, **each.settings)
    clip = np.zeros(samples, np.float32)
    heard = waveform[max(0, -start) : samples - start]
    clip[max(0, start) : max(0, start) + len(heard)] = heard
    return clip


def augmented_features(
    features: np.ndarray,
    augmentations: Sequence[Augmentation],
    *,
    seed: int,
    epoch: int,
    utterance: int,
) -> np.ndarray:
    """The features `(frames, features, 1)` of an utterance in this epoch; those given are not written to."""
    for each in augmentations:
        if each.kind.on == "features":
            rng = drawn_for(each.name, seed=seed, epoch=epoch, utterance=utterance)
            features = each.kind.function(features, rng, **each.settings)
    return features


# Mixup's mates are those of the batch, in an order drawn for it, as in the paper's section 2: drawing them
# from the whole training set would read, augment and transform every clip twice, which the paper found
# no better.


def mates(count: int, *, seed: int, epoch: int, batch: int) -> np.ndarray:
    """Whom each of the `count` examples of an epoch's batch number `batch` is mixed with: a permutation."""
    return np.random.default_rng([seed, epoch, batch, _MATES]).permutation(count)


def shares(
    augmentation: Augmentation, *, seed: int, epoch: int, utterances: Sequence[int] | np.ndarray
) -> np.ndarray:
    """The share that each utterance has in its mixture, float32 `(utterances,)`; 1 is unmixed."""
    drawn = [
        augmentation.kind.function(
            1.0,
            drawn_for(augmentation.name, seed=seed, epoch=epoch, utterance=int(utterance)),
            **augmentation.settings,
        )
        for utterance in utterances
    ]
    return np.array(drawn, np.float32)


def mix(values: np.ndarray, others: np.ndarray, share: np.ndarray) -> np.ndarray:
    """`share` of `values` `(batch, …)` and the rest of `others`, for features and for embeddings.

    Args:
        share: `(batch,)`.
    """
    share = share.reshape(-1, *[1] * (values.ndim - 1))
    return (share * values + (1 - share) * others).astype(np.float32)


def mix_logits(logits: np.ndarray, others: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Logits `(batch, classes)` float32 whose softmax is the mixture of the two softmaxes.

    Probabilities are mixed, as the labels are: a teacher that is as sure as a label then says what the mixed
    label says. Mixed logits would not: 0.8 × (10, 0) + 0.2 × (0, 10) is 99.8 % for the first, not 80 %. At
    another temperature than 1 the softened mixture is taken, not the mixture of the softened. The constant
    that a softmax does not see is mixed linearly, so that a share of 1 gives back the very logits, which
    losses that compare logits and not probabilities need.
    """
    share = share.astype(np.float64)[:, None]
    ours, theirs = logits.astype(np.float64), others.astype(np.float64)
    our_sum, their_sum = (np.logaddexp.reduce(each, axis=1, keepdims=True) for each in (ours, theirs))
    with np.errstate(divide="ignore"):  # a share of 0 has the logarithm it should have
        parts = np.log(share) + ours - our_sum, np.log1p(-share) + theirs - their_sum
    return (np.logaddexp(*parts) + share * our_sum + (1 - share) * their_sum).astype(np.float32)
