"""What `--augment` asks for: its text, its settings, and what is allowed with a teacher."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from light_sernet_kd.errors import UserError, choose
from light_sernet_kd.registries.augmentations import AUGMENTATIONS, AugmentationKind, Range

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
            raise UserError(f"{name} is named twice in {text!r}: name it once, with all its settings.")
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
    for low, high in kind.ordered:
        if settings[low] > settings[high]:
            raise UserError(
                f"{low} of {name} is {settings[low]:g}, above {high}, {settings[high]:g}: "
                "give both, the smaller one first."
            )
    together = sum(settings[key] for key in kind.shares)
    if together > 1:
        raise UserError(
            f"{', '.join(kind.shares)} of {name} are {together:g} together, above 1: they share all clips."
        )
    if kind.weights and not any(settings[key] for key in kind.weights):
        raise UserError(f"{', '.join(kind.weights)} of {name} are all 0: one of them must be above.")
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
    """Refuse what cached teacher outputs cannot hold for; see the docstring of `audio.augment`.

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


def check_installed(augmentations: Sequence[Augmentation]) -> None:
    """Refuse what this machine lacks a library for.

    Nothing is left out silently: what is drawn would then depend on the machine.

    Raises:
        UserError: names what is missing.
    """
    for each in augmentations:
        if each.kind.check is not None:
            each.kind.check(**each.settings)
