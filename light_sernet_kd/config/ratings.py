"""What settings say of ratings that the student learns: checked, and in one spelling."""

import dataclasses

from light_sernet_kd.config import distillation_spec
from light_sernet_kd.config.dimensions import LARGEST_RATING
from light_sernet_kd.config.settings import GATE_REFUSE, SAME, Settings
from light_sernet_kd.errors import UserError, choose
from light_sernet_kd.registries.dimensions import DIMENSIONS, dimension_name
from light_sernet_kd.registries.engines import AUTO, ENGINES
from light_sernet_kd.registries.students import is_multimodal


def with_dimensions(settings: Settings) -> Settings:
    """The settings with the names that dimensions have here and the ends of their scale as numbers.

    Raises:
        UserError: an unknown dimension, no scale, or settings that do not go with dimensions.

    >>> given = Settings(dimensions=("Activation",), dimension_range=("1.0", "7"))
    >>> with_dimensions(given).dimensions, with_dimensions(given).dimension_range
    (('arousal',), ('1', '7'))
    """
    if not settings.dimensions:
        _check_without(settings)
        return settings
    names = tuple(choose("dimension", dimension_name(name), DIMENSIONS) for name in settings.dimensions)
    if len(set(names)) < len(names):
        raise UserError(f"--dimensions names one twice: {', '.join(settings.dimensions)}.")
    given = {
        f"--student {settings.student}": is_multimodal(settings.student),
        "--qat": settings.qat,
        "--generations": settings.generations > 1,
        "--unlabelled": settings.unlabelled is not None,
        "--start_from": settings.start_from is not None,
        f"--engine {settings.engine}": settings.engine != AUTO and not ENGINES[settings.engine].trains_all,
    }
    if refused := [option for option, is_given in given.items() if is_given]:
        raise UserError(f"--dimensions does not go with {refused[0]} yet: leave out one of the two.")
    mixture = distillation_spec.parse(settings.distillation)
    if settings.teacher_view == SAME and mixture.needs_dimensions:
        raise UserError(
            f"{mixture} compares ratings, which --teacher_view {SAME} does not ask for: leave it out."
        )
    if settings.dimensions_only:
        _check_alone(settings, mixture)
    return dataclasses.replace(settings, dimensions=names, dimension_range=_ends(settings.dimension_range))


def _check_alone(settings: Settings, mixture: distillation_spec.DistillationSum) -> None:
    """Refuse what is of classes where there are none."""
    of_classes = (
        "class_weights", "emotions", "label_loss", "label_smoothing", "most_per_emotion", "soft_labels",
    )  # fmt: skip
    given = [name for name in of_classes if getattr(settings, name) != getattr(Settings, name)]
    if settings.teacher_gate == GATE_REFUSE:
        given.append("teacher_gate")
    if given:
        raise UserError(
            f"--{given[0]} is of emotions, which --dimensions_only leaves out: give one of the two."
        )
    if mixture.needs_logits:
        raise UserError(
            f"{mixture} compares logits of emotions, which --dimensions_only leaves out: choose -kd CCC, "
            "values or a loss on embeddings such as hint, or leave out one of the two."
        )


def _check_without(settings: Settings) -> None:
    for name in ("dimension_range", "dimensions_loss", "dimensions_only", "dimensions_weight"):
        if getattr(settings, name) != getattr(Settings, name):
            raise UserError(f"--{name} goes with --dimensions, such as --dimensions arousal,valence.")
    mixture = distillation_spec.parse(settings.distillation)
    if mixture.needs_dimensions:
        raise UserError(f"{mixture} compares ratings with a teacher's: add --dimensions arousal,valence.")


def _ends(texts: tuple[str, ...]) -> tuple[str, ...]:
    """The ends of a scale in one spelling."""
    if not texts:
        return ()
    try:
        ends = [float(text) for text in texts]
    except ValueError:
        ends = []
    if len(ends) != 2 or not -LARGEST_RATING <= ends[0] < ends[1] <= LARGEST_RATING:
        raise UserError(
            "--dimension_range takes the two ends of the scale, such as 1,5, at most "
            f"{LARGEST_RATING:,.0f}, found {','.join(texts)}."
        )
    return tuple(f"{end:.15g}" for end in ends)
