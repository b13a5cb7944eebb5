"""Many runs as one thing: a file that says them, which of them are done, and their scores in one table."""

from light_sernet_kd.analysis.grid.costs import StepCosts
from light_sernet_kd.analysis.grid.entries import Entry, Grid, grid_of_experiments, read_grid
from light_sernet_kd.analysis.grid.plan import GridFolder, Plan, plan
from light_sernet_kd.analysis.grid.scores import notes, scores, show, table, write

__all__ = [
    "Entry",
    "Grid",
    "GridFolder",
    "Plan",
    "StepCosts",
    "grid_of_experiments",
    "notes",
    "plan",
    "read_grid",
    "scores",
    "show",
    "table",
    "write",
]
