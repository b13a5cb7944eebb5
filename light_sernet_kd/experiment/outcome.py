"""What a run is called, the command that makes it, and its outcome in one line."""

import dataclasses
from typing import Any

from light_sernet_kd import plugins
from light_sernet_kd.config import SAMPLE_RATE, RunOptions, Settings, corpus_name, fields
from light_sernet_kd.errors import UserError, command_line
from light_sernet_kd.files import path_part


def default_run_name(settings: Settings) -> str:
    """A name that says what a run is, and differs when a setting differs."""
    corpus = corpus_name(settings.corpus)
    length = f"{settings.samples / SAMPLE_RATE:g}s"
    parts = [corpus, settings.student, settings.input_type, length, settings.distillation, settings.protocol]
    return path_part("-".join([*parts, settings.digest()]))


def command_of(settings: Settings, options: RunOptions) -> str:
    """The command line that makes one of the runs alone."""
    places = ["--data", str(options.data), "--result", str(options.result), "--run", str(options.run)]
    return command_line(["light-sernet-kd", "train", *fields.spelled(settings), *places, *plugins.spelled()])


def why_not_run(error: Exception) -> str:
    """What is said of one run of many that a user's mistake or a lack of memory ended."""
    return str(error) if isinstance(error, UserError) else "there is not enough memory for one network"


def options_beside(settings: Settings, options: RunOptions) -> RunOptions:
    """Where the student alone is trained beside the run of these settings."""
    name = path_part(options.run or default_run_name(settings))
    return dataclasses.replace(options, run=f"{name}-alone")


def summary(metrics: dict[str, Any]) -> str:
    """A run's outcome in one line, with what must be known to believe it."""
    synthetic = " (SYNTHETIC)" if metrics["synthetic"] else ""
    stamps = f" Stamps: {'; '.join(metrics['stamps'])}." if metrics["stamps"] else ""
    warnings = f" Warnings: {'; '.join(metrics['warnings'])}." if metrics.get("warnings") else ""
    return f"{metrics['corpus']}{synthetic}, {metrics['protocol']}: {_scores(metrics)}.{stamps}{warnings}"


def _scores(metrics: dict[str, Any]) -> str:
    if not metrics["classes"]:
        each = [
            f"CCC of {name} {'unknown' if scores['ccc'] is None else format(scores['ccc'], 'z.2f')}"
            for name, scores in metrics["dimensions"]["pooled"].items()
        ]
        return ", ".join(each)
    pooled, interval = metrics["pooled"], metrics["ci95"]
    between = f" [{100 * interval['ua'][0]:.1f}, {100 * interval['ua'][1]:.1f}]" if interval else ""
    return f"UA {100 * pooled['ua']:.1f} %{between}, WA {100 * pooled['wa']:.1f} %"
