"""Rooms: impulse responses of boxes, and a recording in one of them."""

import functools
import math

import numpy as np

from light_sernet_kd.config import SAMPLE_RATE

SPEED_OF_SOUND = 343.0  # m/s, at 20 °C
ROOMS = 200
SHORTEST_T60, LONGEST_T60 = 0.1, 1.0
# A band-limited impulse begins before its peak.
_BEFORE = 8
# Impulses are placed on a finer grid, so that each has its delay to a sixteenth of a millisecond's sample.
_FINER = 4
# Walls of one material reflect at exactly the same places; a few centimetres take the flutter out.
_ROUGHNESS_METRES = 0.08


def room(waveform, rng, *, chance=0.5, t60_low=0.1, t60_high=0.7):
    """The waveform `(samples,)` as heard in a room, as long as it is and as loud, without the sound's delay.

    The room is drawn evenly among those of the bank (`response`) whose reverberation time, in seconds, is
    from `t60_low` to `t60_high`.

    Source: Ko et al. 2017, "A study on data augmentation of reverberant speech", ICASSP; the image method of
    Allen and Berkley 1979, J. Acoust. Soc. Am. 65(4).
    """
    if rng.random() >= chance:
        return waveform
    first, last = np.searchsorted(_T60S, [t60_low - 1e-9, t60_high + 1e-9])
    # Where no room is within, the nearest one.
    first = min(first, ROOMS - 1)
    number = int(rng.integers(first, max(first + 1, last)))
    return convolved(waveform, response(number), delay=_BEFORE)


def convolved(waveform: np.ndarray, response: np.ndarray, *, delay: int = 0) -> np.ndarray:
    """The waveform `(samples,)` through a response, float32, of the same length and power.

    Args:
        delay: of the response, in samples; it is taken out.
    """
    from scipy import fft

    count = fft.next_fast_len(len(waveform) + len(response) + delay, real=True)
    spectrum = fft.rfft(waveform, count) * fft.rfft(response, count)
    heard = fft.irfft(spectrum, count)[delay : delay + len(waveform)]
    before, after = (np.mean(np.square(each, dtype=np.float64)) for each in (waveform, heard))
    return (heard * np.float32(math.sqrt(before / after) if after else 1.0)).astype(np.float32)


_T60S = np.linspace(SHORTEST_T60, LONGEST_T60, ROOMS)


# All of them take 9 s of one core and 14 MB: a process makes those that it draws, once.
@functools.lru_cache(maxsize=ROOMS)
def response(number: int) -> np.ndarray:
    """The impulse response of a room of the bank, `(samples,)` float32.

    One bank of `ROOMS` serves all runs, as recorded responses would. Room `number` has the reverberation time
    `_T60S[number]`, of which its response is as long. The direct sound is at sample `_BEFORE` and has the
    height 1 (between two samples up to a third less).
    """
    rng = np.random.default_rng([16, number])
    return made_response(rng, float(_T60S[number]))


def made_response(rng: np.random.Generator, t60_seconds: float) -> np.ndarray:
    """A response as those of the bank, of a room that `rng` draws for this reverberation time.

    From a closet to a lecture hall, 0.2 to 3 m between mouth and microphone, near places more often.
    """
    while True:
        size = np.exp(rng.uniform(np.log([2.0, 2.0, 2.2]), np.log([14.0, 10.0, 4.5])))
        absorption = absorption_of(size, t60_seconds)
        if 0.1 <= absorption <= 0.8:
            break
    distance = math.exp(rng.uniform(math.log(0.2), math.log(3.0)))
    while True:
        microphone = rng.uniform([0.1, 0.1, 0.2], [0.9, 0.9, 0.7]) * size
        direction = rng.normal(size=3) * [1.0, 1.0, 0.4]
        mouth = microphone + distance * direction / np.linalg.norm(direction)
        if np.all((mouth > 0.2) & (mouth < size - 0.2)):
            break
    seconds = t60_seconds + distance / SPEED_OF_SOUND
    reflection = math.sqrt(1 - absorption)
    # Eyring's formula is about sound from all sides; in a box, what goes along its length outlasts it.
    for _ in range(2):
        even = image_source(size, mouth, microphone, reflection=reflection, seconds=seconds)
        reflection **= reverberation_time(even) / t60_seconds
    impulses = image_source(size, mouth, microphone, reflection=reflection, seconds=seconds, rng=rng)
    arrival = round(distance / SPEED_OF_SOUND * SAMPLE_RATE)
    return np.pad(impulses, (_BEFORE, 0))[arrival:] * np.float32(4 * math.pi * distance)


def reverberation_time(response: np.ndarray) -> float:
    """Seconds in which 60 dB are lost, by the decay of the energy to come from 5 to 25 dB below its start.

    Source: Schroeder 1965, New method of measuring reverberation time, J. Acoust. Soc. Am. 37(3).
    """
    energy = np.cumsum(np.square(response[::-1], dtype=np.float64))[::-1]
    decibels = 10 * np.log10(energy / energy[0] + 1e-30)
    first, last = np.argmax(decibels < -5), np.argmax(decibels < -25)
    return 60 * (last - first) / SAMPLE_RATE / (decibels[first] - decibels[last])


def absorption_of(size: np.ndarray, t60_seconds: float) -> float:
    """Which share of the energy walls of a box `size` (3 lengths in m) absorb at this reverberation time.

    Source: Eyring 1930, Reverberation time in "dead" rooms, J. Acoust. Soc. Am. 1(2A).
    """
    x, y, z = size
    volume, surface = x * y * z, 2 * (x * y + y * z + z * x)
    return 1 - math.exp(-24 * math.log(10) / SPEED_OF_SOUND * volume / (surface * t60_seconds))


def image_source(size, mouth, microphone, *, reflection, seconds, rng=None) -> np.ndarray:
    """The impulse response of a box from one place to another, float32 at 16 kHz.

    The sound of every mirror image of the mouth arrives after its distance's time, its pressure divided by
    4π times the distance in metres and, for every wall on its way, multiplied by `reflection`.

    Args:
        size, mouth, microphone: lengths and places in metres, `(3,)`; a corner is the origin.
        reflection: of the pressure, from 0 to below 1, of all walls alike.
        seconds: how long the response is.
        rng: draws how far images lie from where even walls would have them; None has even walls.

    Source: Allen and Berkley 1979; the displaced images: De Sena et al. 2015, On the modeling of rectangular
    geometries in room acoustic simulations, IEEE/ACM TASLP 23(4).
    """
    from scipy import signal

    reach = seconds * SPEED_OF_SOUND
    axes = [_images(*each, reach) for each in zip(size, mouth, microphone, strict=True)]
    (x, walls_x), (y, walls_y), (z, walls_z) = axes
    count = math.ceil(seconds * SAMPLE_RATE) * _FINER
    pressures = np.zeros(count)
    across = y[:, None] ** 2 + z[None, :] ** 2
    walls_across = walls_y[:, None] + walls_z[None, :]
    for offset, walls in zip(x, walls_x, strict=True):
        squared = offset**2 + across
        near = squared < reach**2
        distances, order = np.sqrt(squared[near]), walls + walls_across[near]
        if rng is not None:
            moved = rng.uniform(-_ROUGHNESS_METRES, _ROUGHNESS_METRES, len(distances))
            distances = np.where(order, np.maximum(distances + moved, 0.05), distances)
        arrivals = np.rint(distances * (SAMPLE_RATE * _FINER / SPEED_OF_SOUND)).astype(np.int64)
        kept = arrivals < count
        pressure = np.power(reflection, order[kept]) / (4 * math.pi * distances[kept])
        pressures += np.bincount(arrivals[kept], pressure, count)
    # Of the filter that takes the finer grid away, 1 sample of the coarse one has the height of an impulse.
    coarse = signal.resample_poly(pressures, 1, _FINER) * _FINER
    # Mirror images are never negative: without this a room would have a response at 0 Hz.
    highpass = signal.butter(2, 40.0, "highpass", fs=SAMPLE_RATE, output="sos")
    return signal.sosfilt(highpass, coarse).astype(np.float32)


def _images(length: float, mouth: float, microphone: float, reach: float) -> tuple[np.ndarray, np.ndarray]:
    """Along one axis: how far each image is from the microphone, and how many walls lie on its way."""
    most = math.ceil(reach / (2 * length)) + 1
    rooms = np.arange(-most, most + 1)
    offsets = np.concatenate([2 * rooms * length + mouth, 2 * rooms * length - mouth]) - microphone
    walls = np.concatenate([np.abs(2 * rooms), np.abs(2 * rooms - 1)])
    near = np.abs(offsets) < reach
    return offsets[near], walls[near]
