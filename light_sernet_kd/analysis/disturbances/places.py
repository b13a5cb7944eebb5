"""Speech in fixed rooms and from fixed places in one room: the certificate compares two of them.

The responses are those of boxes by the image method, as the augmentation's are. The boxes are others: these
are five and have names, and those of training are drawn.
"""

import functools
import math
from dataclasses import dataclass

import numpy as np

from light_sernet_kd.analysis.degradations import DegradationContext, reverberated
from light_sernet_kd.audio.augment import rooms
from light_sernet_kd.config import SAMPLE_RATE

Place = tuple[float, float, float]
# A band-limited impulse begins before its peak.
_BEFORE = 8


@dataclass(frozen=True)
class Room:
    """A box with a reverberation time in seconds, a mouth and a microphone in it; metres from a corner."""

    size: Place
    t60_seconds: float
    mouth: Place
    microphone: Place

    @property
    def distance_metres(self) -> float:
        return math.dist(self.mouth, self.microphone)


# Mouth and microphone are about a metre apart in all of them: the room differs, not the distance.
BOOTH = Room((2.0, 1.8, 2.2), 0.12, (0.5, 0.9, 1.5), (1.5, 1.0, 1.4))
ROOMS = {
    "meeting room": Room((8.0, 5.0, 3.1), 0.25, (3.1, 2.2, 1.4), (4.0, 2.6, 1.2)),
    "office": Room((5.0, 6.4, 2.9), 0.4, (2.0, 3.1, 1.3), (2.8, 3.7, 1.1)),
    "lecture room": Room((10.8, 10.9, 3.2), 0.7, (5.1, 3.3, 1.6), (5.3, 4.3, 1.4)),
    "stairway": Room((7.0, 5.2, 4.2), 0.9, (2.6, 2.1, 1.6), (3.5, 2.5, 1.5)),
}
_MICROPHONE, _CENTRE = (3.0, 0.6, 1.4), 3.0
_STUDIO = ((6.0, 5.4, 2.8), 0.35)
CENTRE = Room(*_STUDIO, (_CENTRE, 1.6, 1.5), _MICROPHONE)
# 45 degrees to either side, and twice and three times as far away.
POSITIONS = {
    f"{metres} m {side}": Room(
        *_STUDIO,
        (_CENTRE + metres * math.sin(angle), 0.6 + metres * math.cos(angle), 1.5),
        _MICROPHONE,
    )
    for metres in (1, 2, 3)
    for side, angle in (("left", -math.pi / 4), ("centre", 0.0), ("right", math.pi / 4))
    if (metres, side) != (1, "centre")
}


@functools.cache
def response(room: Room) -> np.ndarray:
    """The impulse response of a room, float32 at 16 kHz, from a few samples before the direct sound on."""
    size = np.array(room.size)
    reflection = math.sqrt(1 - rooms.absorption_of(size, room.t60_seconds))
    seconds = room.t60_seconds + room.distance_metres / rooms.SPEED_OF_SOUND

    def made(**draws: np.random.Generator) -> np.ndarray:
        places = size, np.array(room.mouth), np.array(room.microphone)
        return rooms.image_source(*places, reflection=reflection, seconds=seconds, **draws)

    # Eyring's formula is about sound from all sides; a box's own decay is measured and mended.
    for _ in range(2):
        reflection **= rooms.reverberation_time(made()) / room.t60_seconds
    arrival = round(room.distance_metres / rooms.SPEED_OF_SOUND * SAMPLE_RATE)
    return made(rng=np.random.default_rng(0))[max(0, arrival - _BEFORE) :]


def in_booth(waveform: np.ndarray, context: DegradationContext) -> np.ndarray:
    return reverberated(waveform, response(BOOTH))


def in_other_room(waveform: np.ndarray, context: DegradationContext) -> np.ndarray:
    """In one of `ROOMS`, drawn for the utterance."""
    return reverberated(waveform, response(_drawn(ROOMS, context, "other room")))


def at_centre(waveform: np.ndarray, context: DegradationContext) -> np.ndarray:
    return reverberated(waveform, response(CENTRE))


def at_other_position(waveform: np.ndarray, context: DegradationContext) -> np.ndarray:
    """From one of `POSITIONS`, drawn for the utterance."""
    return reverberated(waveform, response(_drawn(POSITIONS, context, "other position")))


def _drawn(named: dict[str, Room], context: DegradationContext, stream: str) -> Room:
    return [*named.values()][int(context.rng(stream).integers(len(named)))]
