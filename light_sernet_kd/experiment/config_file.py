"""config.json: all that decides a run, written before it begins and compared when it goes on."""

import contextlib
import dataclasses
import importlib.metadata
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from light_sernet_kd import __version__, plugins
from light_sernet_kd.config import Settings
from light_sernet_kd.errors import UserError
from light_sernet_kd.experiment.networks.phases import schedule_of, shared_roles, teacher_parts
from light_sernet_kd.experiment.teachers.teacher import teacher_digest
from light_sernet_kd.files import JsonError, read_json, write_json
from light_sernet_kd.registries.engines import ENGINE_OF_OLDER_RUNS, ENGINES
from light_sernet_kd.registries.schedules import Schedule
from light_sernet_kd.registries.students import STUDENTS
from light_sernet_kd.reporting.text import pluralise
from light_sernet_kd.training.accelerate import arithmetic as resolved_arithmetic
from light_sernet_kd.training.accelerate import threads

if TYPE_CHECKING:
    from light_sernet_kd.experiment.shared import Experiment

# What config.json has beside all that decides the run.
_BESIDE = ("resolved", "plugins", "versions", "command")
# Runs that were begun before these were written are not compared in them.
_NEWER = ("folds_sha256", "soft_labels_sha256")
# What is not installed, such as TensorFlow where JAX trains, is left out.
_PACKAGES = ("tensorflow", "jax", "keras", "numpy", "ai-edge-litert")


def begun(run: "Experiment", command: str) -> dict[str, Any]:
    """What config.json holds: it is written, or the one that is there is of this very run.

    Raises:
        UserError: it is of another run, or damaged.
    """
    decides = {
        "settings": run.settings.as_dict(),
        "corpus_sha256": run.corpus_digest,
        "teacher_sha256": teacher_digest(run),
        "encoders_sha256": {role: encoders.digest() for role, encoders in run.multimodal.items()},
    }
    decides["folds_sha256"] = run.selection.fold_digests
    if run.settings.soft_labels:
        decides["soft_labels_sha256"] = run.selection.soft_labels_digest
    if run.unlabelled:
        decides["unlabelled_sha256"] = run.unlabelled.survey.digest
    if run.settings.dimensions:
        decides["dimensions_sha256"] = run.selection.dimensions_digest
    if run.start:
        decides["start_sha256"] = run.start.digest(run.folds)
    uses = plugins.used(run.settings.as_dict())
    if run.folder.has_begun:
        config = _stored(run, decides)
        plugins.check_same(run.folder.path, config.get("plugins", []), uses)
        engine = config["resolved"].get("engine", ENGINE_OF_OLDER_RUNS)
        if engine != run.engine:
            raise UserError(
                f"{run.folder.path} began with engine {engine} and would go on with {run.engine}: give "
                f"--engine {engine}, or name another --run."
            )
        # A run goes on as it began, also on a machine that would choose otherwise.
        began = config["resolved"]["threads"]
        if began != threads() and not run.folder.is_finished:
            run.display.say(
                f"This run began on {pluralise(began, 'thread')} and continues on {threads()}: its sums have "
                "another order, so that its numbers are not bit for bit those of a run on either."
            )
        return _with_enrolment(run, config)
    gains = STUDENTS[run.settings.student].gains_from_bfloat16
    arithmetic = resolved_arithmetic(run.settings.arithmetic, gains=gains)
    config = {
        **decides,
        "resolved": {
            "engine": run.engine,
            "arithmetic": arithmetic,
            "threads": threads(),
            **({"devices": shared} if (shared := shared_roles(run)) else {}),
            **_resolved(run),
        },
        **({"plugins": uses} if uses else {}),
        "versions": {"light-sernet-kd": __version__, **_versions()},
        "command": command,
    }
    write_json(run.folder.config, config)
    return config


def changes_since(run: "Experiment", path: Path) -> list[str]:
    """What the run has of other content than the one of this config.json, whose settings it repeats.

    Nothing where its settings differ, but for the seed: the user changed them.
    """
    stored = read_json(path, dict)
    now = _comparable({name: each for name, each in run.config.items() if name not in _BESIDE}, stored)
    before = {name: stored.get(name) for name in now}
    before, now = _in_digest(before), _in_digest(now)
    before["settings"]["seed"] = now["settings"]["seed"]
    if before["settings"] != now["settings"]:
        return []
    changed = [] if before == now else [_difference(before, now)]
    versions = run.config["versions"]
    return changed + [
        f"{name} was {was}, is {versions[name]}"
        for name, was in stored["versions"].items()
        if versions.get(name, was) != was
    ]


def _with_enrolment(run: "Experiment", config: dict[str, Any]) -> dict[str, Any]:
    """The stored config.json, which `export` reads later, with second heads where they are asked for now."""
    settings = config["settings"]
    if Settings.completed(settings)["enrolment"] == run.settings.enrolment:
        return config
    config = {**config, "settings": {**settings, "enrolment": run.settings.enrolment}}
    write_json(run.folder.config, config)
    return config


def _versions() -> dict[str, str]:
    versions = {}
    for name in _PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return versions


def _resolved(run: "Experiment") -> dict[str, Any]:
    """What follows from the settings."""
    own_teacher = None
    if run.settings.trained_teacher:
        own_teacher = {**dataclasses.asdict(schedule_of(run, "teacher")), "parts": teacher_parts(run)}
    return {
        "samples": run.settings.samples,
        "schedule": dataclasses.asdict(run.settings.training_schedule),
        "own_teacher": own_teacher,
        "label_loss": {"name": run.settings.label_loss, **run.label_settings},
        "distillation": {"name": run.settings.distillation, **run.distillation_settings},
    }


def _stored(run: "Experiment", decides: dict[str, Any]) -> dict[str, Any]:
    """The config.json of this very run, or an error."""
    path, resolved = run.folder.config, json.loads(json.dumps(_resolved(run)))
    decides = _in_digest(decides)
    try:
        stored = read_json(path, dict)
        decides = _comparable(decides, stored)
        before, values = _in_digest({name: stored[name] for name in decides}), stored["resolved"]
        completed = _completed(values)
        if before == decides and {name: completed[name] for name in resolved} != resolved:
            raise ValueError(f"{path} tells of values that its settings do not have")
        computes = (
            values["arithmetic"] in ("bfloat16", "float32")
            and values.get("engine", ENGINE_OF_OLDER_RUNS) in ENGINES
        )
        if not computes or type(values["threads"]) is not int:
            raise ValueError(f"{path} does not tell how the run computes")
    except (OSError, JsonError, ValueError, KeyError, TypeError, AttributeError):
        raise UserError(f"{path} is damaged; remove {run.folder.path} or name another --run.") from None
    if before != decides:
        raise UserError(
            f"{run.folder.path} holds another run: {_difference(before, decides)}. "
            "Name another --run, or remove that folder."
        )
    return stored


def _completed(resolved: dict[str, Any]) -> dict[str, Any]:
    """`resolved` of a run that may be older than a part of `Schedule`: what it lacks has the default."""
    has_default = [each for each in dataclasses.fields(Schedule) if each.default is not dataclasses.MISSING]
    plain = {each.name: each.default for each in has_default}
    schedules = {name: resolved[name] for name in ("schedule", "own_teacher") if resolved[name]}
    return {**resolved, **{name: {**plain, **schedule} for name, schedule in schedules.items()}}


def _comparable(decides: dict[str, Any], stored: dict[str, Any]) -> dict[str, Any]:
    """What decides a run, without what an older one did not store."""
    return {name: value for name, value in decides.items() if name in stored or name not in _NEWER}


def _in_digest(decides: dict[str, Any]) -> dict[str, Any]:
    """With the settings that decide a run: `resolved` tells the engine, whether that was named or chosen."""
    return {**decides, "settings": Settings.decisive(decides["settings"])}


def _difference(before: dict[str, Any], now: dict[str, Any]) -> str:
    if before["settings"] != now["settings"]:
        changed = [
            f"{name} was {before['settings'].get(name)!r}, is {value!r}"
            for name, value in now["settings"].items()
            if before["settings"].get(name) != value
        ]
        return "; ".join(changed[:4])
    if before["corpus_sha256"] != now["corpus_sha256"]:
        return "the corpus has other recordings or labels now"
    if before.get("folds_sha256") != now.get("folds_sha256"):
        return "other recordings train, validate or test in its folds now"
    if before.get("soft_labels_sha256") != now.get("soft_labels_sha256"):
        return "the corpus has other shares of annotators now"
    if before["teacher_sha256"] != now["teacher_sha256"]:
        return "the teacher file has another content now"
    if before.get("unlabelled_sha256") != now.get("unlabelled_sha256"):
        return "the unlabelled recordings are others now"
    if before.get("dimensions_sha256") != now.get("dimensions_sha256"):
        return "the corpus has other ratings now"
    if before.get("start_sha256") != now.get("start_sha256"):
        return f"the run {now['settings']['start_from']}, which it began from, has other students now"
    return "the transcripts, or the encoders of speech or text, are others now"
