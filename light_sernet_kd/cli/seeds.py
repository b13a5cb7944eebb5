"""`train --seeds 0,1,2`: the same training with other seeds, each a run of its own, and their mean."""

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING

from light_sernet_kd.config import RunOptions, Settings
from light_sernet_kd.errors import UserError
from light_sernet_kd.files import path_part

if TYPE_CHECKING:
    from light_sernet_kd.data.run_folder import RunFolder
    from light_sernet_kd.reporting.display import Display


def parsed(text: str) -> tuple[int, ...]:
    """Seeds between commas, each once, in their order.

    Raises:
        UserError: there are no two, or one is no seed.

    >>> parsed("0,2,1,2")
    (0, 2, 1)
    """
    try:
        found = tuple(dict.fromkeys(int(part) for part in text.split(",")))
    except ValueError:
        found = ()
    if len(found) < 2 or min(found) < 0 or max(found) >= 2**32:
        raise UserError(
            f"--seeds takes two or more whole numbers from 0 to {2**32 - 1} between commas, such as 0,1,2: "
            f"found {text!r}."
        )
    return found


def train_each(
    seeds: tuple[int, ...],
    settings: Settings,
    options: RunOptions,
    display: "Display",
    train: Callable[[Settings, RunOptions], "RunFolder"],
) -> None:
    """Train with each seed in the folder `NAME-seed-N`, then show and write the table of their scores."""
    from light_sernet_kd.analysis import seeds as tables
    from light_sernet_kd.experiment.outcome import default_run_name

    name = path_part(options.run or default_run_name(settings))
    runs = []
    for number, seed in enumerate(seeds, start=1):
        display.say(f"Seed {seed}, {number} of {len(seeds)}:")
        own = dataclasses.replace(options, run=f"{name}-seed-{seed}")
        runs.append(train(dataclasses.replace(settings, seed=seed), own).finished())
    found = tables.seeds(runs)
    tables.table(found).show(display.console)
    for line in tables.notes(found):
        display.say(line, always=True)
    written = tables.write(found, name, options.result)
    display.say(f"Seeds: {written[0]}", always=True)
