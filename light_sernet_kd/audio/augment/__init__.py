"""Augmentation: training clips that are changed a little, anew in every epoch.

For small corpora, and off by default. Only the training set is changed: validation and test see the clean
features, and so does a teacher. The order is that of a recording's way into a network:

    copypaste, speed, pitch  the voice, as far as it was recorded (padding comes later)
    room                     from the mouth to the microphone
    noise, babble            what is heard beside the voice
    microphone               and what it does to all of that
    gain, clipping           level and overload
    telephone, codec         the line
    crop, shift              where the recording lies in the clip, or where the clip is cut from it
    specaugment              one clip's features
    freqmixstyle             their statistics, mixed with those of another clip
    mixup                    a batch's features, labels and teacher outputs

What is drawn for an utterance depends on the seed, the epoch and the utterance alone, not on its batch
mates, and each augmentation has draws of its own: a run that was interrupted continues as if it had not
been, and asking for one augmentation more does not change what the others do. Only mixup and freqmixstyle
need a mate, and take it from the batch. Babble and copypaste are made of other recordings of the same fold's
training set (`material`), never of a validation or test speaker's.

**What cached teacher outputs assume.** A teacher's logits and embeddings are computed once, on the clean
clips, and are taken for the augmented ones too: the teacher is assumed to say the same of a clip with some
noise, another level or place, a slightly other speed or a few masked bands. That is the assumption under
which the label is kept as well, and it holds only while the changes are small. (`--teacher_view same` asks
the teacher of the changed clips instead.) So a setting has two ranges:
what is possible, and what is allowed together with a teacher (`check_teacher`). Mixup changes the label,
and with it, alike, what the teacher says: the mixture of the two outputs is taken for the output of the
mixture.
"""

from light_sernet_kd.audio.augment.asking import (
    Augmentation,
    check_installed,
    check_teacher,
    parse,
    text_of,
)
from light_sernet_kd.audio.augment.batch import mates, mix, mix_logits, mixup, restyled, shares, style_mates
from light_sernet_kd.audio.augment.clips import (
    augmented_clip,
    augmented_features,
    augmented_part,
    changes_waveforms,
    drawn_for,
    samples_needed,
)
from light_sernet_kd.audio.augment.features import specaugment
from light_sernet_kd.audio.augment.place import shift
from light_sernet_kd.audio.augment.sounds import noise, pink_noise, white_noise
from light_sernet_kd.audio.augment.waveform import gain, speed

__all__ = [
    "Augmentation",
    "augmented_clip",
    "augmented_features",
    "augmented_part",
    "changes_waveforms",
    "check_installed",
    "check_teacher",
    "drawn_for",
    "gain",
    "mates",
    "mix",
    "mix_logits",
    "mixup",
    "noise",
    "parse",
    "pink_noise",
    "restyled",
    "samples_needed",
    "shares",
    "shift",
    "specaugment",
    "speed",
    "style_mates",
    "text_of",
    "white_noise",
]
