"""Everything that decides a run, as one frozen, typed dataclass saved beside its result."""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from light_sernet_kd.config.fields import options
from light_sernet_kd.config.settings.choices import SAMPLE_RATE
from light_sernet_kd.config.settings.declared import Declared
from light_sernet_kd.registries.recipes import RECIPES
from light_sernet_kd.registries.schedules import SCHEDULES, Schedule
from light_sernet_kd.registries.students import STUDENTS, is_multimodal
from light_sernet_kd.registries.teachers import trained_member


def corpus_name(corpus: str) -> str:
    """What to call a corpus: its name, or that of its manifest, or of the folder of a `manifest.csv`."""
    path = Path(corpus)
    return path.stem if path.stem != "manifest" else path.resolve().parent.name or path.stem


# It takes the methods of its fields as they are: to make them again is a part of what `--help` takes.
@dataclass(frozen=True, init=False, repr=False, eq=False)
class Settings(Declared):
    """What decides a run, what follows from it, and the digest that names it.

    >>> Settings(input_seconds=2.5).samples
    40000
    """

    @property
    def samples(self) -> int:
        """Length of a clip in samples at 16 kHz."""
        return self.input_samples or round(self.input_seconds * SAMPLE_RATE)

    @property
    def scale(self) -> tuple[float, float] | None:
        """The ends of the scale of a manifest's ratings, where they are told."""
        if not self.dimension_range:
            return None
        low, high = map(float, self.dimension_range)
        return low, high

    @property
    def of_recipe(self) -> dict[str, Any]:
        """What the recipe says, the user's changes left out."""
        return dict(RECIPES[self.recipe].settings)

    @property
    def training_schedule(self) -> Schedule:
        """The named schedule, or the student's, with this run's own epochs, batch size and so on in it."""
        return SCHEDULES[self.schedule or STUDENTS[self.student].schedule].changed(
            epochs=self.epochs,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            batch_norm_momentum=self.batch_norm_momentum,
            optimizer=self.optimizer,
            accumulation=self.accumulation,
            tune_epochs=self.tune_epochs,
        )

    @property
    def trained_teacher(self) -> str | None:
        """The architecture of a teacher that the run trains itself; None where it trains none."""
        if self.teacher is None:
            return None
        trained = trained_member(self.teacher)
        if trained is None:
            return None
        name, _ = trained
        return name if name in STUDENTS else STUDENTS[self.student].wider_teacher or self.student

    @property
    def teacher_schedule(self) -> Schedule:
        """Of a teacher that the run trains itself: the student's, unless the teacher is of another kind."""
        schedule, kind = self.training_schedule, STUDENTS[self.trained_teacher or self.student].schedule
        if kind != STUDENTS[self.student].schedule:
            schedule = SCHEDULES[kind]
        return schedule.changed(
            epochs=self.teacher_epochs,
            batch_size=self.teacher_batch_size,
            learning_rate=self.teacher_learning_rate,
            tune_epochs=self.tune_epochs,
        )

    @property
    def trained_teacher_width(self) -> float:
        """The width of a teacher that the run trains itself: of one that is named, as published."""
        trained = trained_member(self.teacher) if self.teacher else None
        return 1.0 if trained and trained[0] in STUDENTS else self.width * self.teacher_width

    @property
    def multimodal(self) -> tuple[str, ...]:
        """Which of the student and its trained teacher are networks of speech and text."""
        return tuple(name for name in (self.student, self.trained_teacher) if name and is_multimodal(name))

    @property
    def reads_text(self) -> bool:
        """Whether the student or its trained teacher needs transcripts."""
        return is_multimodal(self.trained_teacher) or (
            is_multimodal(self.student) and self.modality != "audio"
        )

    def as_dict(self) -> dict[str, Any]:
        return json.loads(json.dumps(dataclasses.asdict(self)))

    @classmethod
    def completed(cls, stored: Mapping[str, Any]) -> dict[str, Any]:
        """`as_dict` of a run that may be older than some settings: what it lacks has the default."""
        plain = cls().as_dict()
        return {
            **{name: plain[name] for name, option in options(cls).items() if not option.original},
            **stored,
        }

    @classmethod
    def decisive(cls, stored: Mapping[str, Any]) -> dict[str, Any]:
        """Those of a stored run's settings that make it another run; what it lacks has the default."""
        return {name: value for name, value in cls.completed(stored).items() if name not in NOT_IN_DIGEST}

    def digest(self) -> str:
        """Eight hexadecimal digits that differ when a setting differs.

        Left out are settings that are not `in_digest`, and settings added later (not `original`) at their
        default: runs begun before such a setting existed keep their names.
        """
        import hashlib  # here: loading OpenSSL is a part of what `--help` takes

        added = Settings.completed({})
        decides = {
            name: value
            for name, value in self.as_dict().items()
            if name not in NOT_IN_DIGEST and not (name in added and value == added[name])
        }
        return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()[:8]


# What they decide is told by others, or by `resolved` of config.json, or is added to what was trained.
NOT_IN_DIGEST = tuple(name for name, option in options(Settings).items() if not option.in_digest)
