"""The settings of losses: published defaults, and what a run has in their place."""

import inspect
import math
from collections.abc import Mapping
from typing import Any

from light_sernet_kd.config import distillation_spec
from light_sernet_kd.config.ramps import ramp_of
from light_sernet_kd.distillation.losses.logits import KL_MEANS
from light_sernet_kd.errors import UserError, choose
from light_sernet_kd.registries.lazy import loaded
from light_sernet_kd.registries.losses import DISTILLATIONS, LABEL_LOSSES, PUBLISHED, Distillation, Loss


def settings_of(name: str, overrides: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The settings of a label or distillation loss: its published defaults, and over them `overrides`.

    A weighted sum, `KD:0.5+RKD:0.5`, has the settings of all its losses, under `KD.alpha` and so on. So has a
    published sum, such as `DistilSER`, whose defaults are its own. A number of a distillation loss may be a
    ramp over the epochs, `"0.9>0.3"`, both of whose ends are such numbers; it stays text.

    Raises:
        UserError: no such loss or setting, or a value that the setting cannot have.

    >>> settings_of("KD", {"alpha": 0.5})
    {'temperature': 1.2, 'alpha': 0.5, 'kl_mean': 'batch'}
    """
    is_sum = "+" in name or ":" in name
    title = name if is_sum else choose("loss", name, [*LABEL_LOSSES, *DISTILLATIONS, *PUBLISHED])
    entries: dict[str, Loss]
    published: Mapping[str, Any]
    if title in LABEL_LOSSES:
        entries, published = {title: LABEL_LOSSES[title]}, {}
    else:
        distillation = distillation_spec.parse(title)
        entries = {term.name: term.entry for term in distillation.terms}
        title, published = str(distillation), distillation.settings
    return _settings(title, entries, published, overrides)


def at_their_last(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings with each ramp at its last value, for a phase behind the one that it goes over.

    >>> at_their_last({"alpha": "0.9>0.3", "temperature": 4.0})
    {'alpha': 0.3, 'temperature': 4.0}
    """
    ramps = {name: ramp_of(value) for name, value in settings.items()}
    return {name: ramp.last if (ramp := ramps[name]) else value for name, value in settings.items()}


def terms_of(
    distillation: distillation_spec.DistillationSum, overrides: Mapping[str, Any] | None = None
) -> list[tuple[distillation_spec.Term, dict[str, Any]]]:
    """Each loss of a sum with its own settings, by their plain names. Raises as `settings_of`.

    >>> [(str(term), settings) for term, settings in terms_of(distillation_spec.parse("MSE:0.5+SP:3000"))]
    [('MSE:0.5', {'label_weight': 1.0, 'teacher_weight': 1.0}), ('SP:3000', {})]
    """
    entries = {term.name: term.entry for term in distillation.terms}
    settings = _settings(str(distillation), entries, distillation.settings, overrides)
    if len(distillation.terms) == 1:
        return [(distillation.terms[0], settings)]
    split: dict[str, dict[str, Any]] = {term.name: {} for term in distillation.terms}
    for key, value in settings.items():
        name, _, setting = key.partition(".")
        split[name][setting] = value
    return [(term, split[term.name]) for term in distillation.terms]


def _settings(
    title: str,
    entries: Mapping[str, Loss],
    published: Mapping[str, Any],
    overrides: Mapping[str, Any] | None,
) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    owners: dict[str, tuple[str, Loss, str]] = {}
    for loss, entry in entries.items():
        for each in inspect.signature(loaded(entry.loss)).parameters.values():
            if each.kind is each.KEYWORD_ONLY:
                key = each.name if len(entries) == 1 else f"{loss}.{each.name}"
                settings[key], owners[key] = each.default, (loss, entry, each.name)
    for key, value in [*published.items(), *(overrides or {}).items()]:
        if not settings:
            raise UserError(f"the loss {title} has no settings, but {key!r} is given. Leave it out.")
        key = choose(f"setting of {title}", key, settings)
        settings[key] = _checked(*owners[key], settings[key], value)
    return settings


def _checked(loss: str, entry: Loss, setting: str, default: Any, value: Any) -> Any:
    """`value` in the type of `default`, where None stands for a sequence that may be left out."""
    what = f"{setting} of {loss}"
    if isinstance(entry, Distillation) and isinstance(default, float) and (ramp := ramp_of(value)):
        for end in (ramp.first, ramp.last):
            _checked(loss, entry, setting, default, end)
        return str(ramp)
    if isinstance(default, str):
        return choose(what, str(value), KL_MEANS)
    if default is None and value is None:
        return None
    wants_several = default is None or isinstance(default, tuple)
    numbers = value if wants_several and isinstance(value, list | tuple) and value else [value]
    if wants_several and numbers is not value:
        raise UserError(f"{what} is {value!r}, but must be a list of numbers, such as [1.0, 2.0].")
    is_share, divides = setting in entry.shares, setting in entry.above_zero
    for number in numbers:
        if isinstance(number, bool) or not isinstance(number, int | float) or not math.isfinite(number):
            raise UserError(f"{what} is {value!r}, but {number!r} is no finite number.")
        if number < 0 or (number == 0 and divides) or (number > 1 and is_share):
            must = "more than 0" if divides else "0 to 1" if is_share else "0 or more"
            raise UserError(f"{what} is {value!r}, but must be {must}.")
    return tuple(map(float, numbers)) if wants_several else float(value)
