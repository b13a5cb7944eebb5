"""The same training with several seeds, each a run of its own, and the table of their scores."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from light_sernet_kd.analysis import seeds as tables
from light_sernet_kd.config import RunOptions, Settings
from light_sernet_kd.experiment.outcome import default_run_name
from light_sernet_kd.files import path_part

if TYPE_CHECKING:
    from light_sernet_kd.data.run_folder import RunFolder
    from light_sernet_kd.reporting.display import Display


def train_each(
    seeds: Sequence[int],
    settings: Settings,
    options: RunOptions,
    display: "Display",
    train: Callable[[Settings, RunOptions, "Display"], "RunFolder"],
) -> None:
    """Train with each seed in the folder `NAME-seed-N`, then show and write the table of their scores."""
    name = path_part(options.run or default_run_name(settings))
    runs = []
    for number, seed in enumerate(seeds, start=1):
        display.say(f"Seed {seed}, {number} of {len(seeds)}:")
        seed_options = dataclasses.replace(options, run=f"{name}-seed-{seed}")
        runs.append(train(dataclasses.replace(settings, seed=seed), seed_options, display).finished())
    summary = tables.seeds(runs)
    tables.table(summary).show(display.console)
    for line in tables.notes(summary):
        display.say(line, always=True)
    written = tables.write(summary, name, options.result)
    display.say(f"Seeds: {written[0]}", always=True)
