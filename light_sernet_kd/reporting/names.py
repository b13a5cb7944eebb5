"""What readers call students, protocols and ways to teach: their keys are for programs."""

from light_sernet_kd.registries.losses import NO_TEACHER
from light_sernet_kd.registries.protocols import PROTOCOLS
from light_sernet_kd.registries.students import STUDENTS


def student(key: str) -> str:
    """The title of a student, or the key where it is none of ours.

    >>> student("light_sernet_plus"), student("mine")
    ('Light-SERNet+', 'mine')
    """
    return (key in STUDENTS and STUDENTS[key].title) or key


def protocol(key: str) -> str:
    """The title of a protocol, or the key where it is none of ours.

    >>> protocol("loso")
    'leave one speaker out'
    """
    return (key in PROTOCOLS and PROTOCOLS[key].title) or key


def distillation(key: str) -> str:
    """A way to teach.

    >>> distillation("pure"), distillation("KD")
    ('without a teacher', 'taught by KD')
    """
    return "without a teacher" if key == NO_TEACHER else f"taught by {key}"


_INPUTS = {"mfcc": "MFCC", "mel_spectrogram": "mel spectrogram", "spectrogram": "spectrogram"}


def input_type(key: str) -> str:
    """What a front end gives.

    >>> input_type("mfcc"), input_type("mel_spectrogram")
    ('MFCC', 'mel spectrogram')
    """
    return _INPUTS.get(key, key)
