"""A search for small students: the space of settings, the budgets, the folder, and the Pareto table."""

from light_sernet_kd.analysis.search.folder import Search, SearchFolder, searched
from light_sernet_kd.analysis.search.pareto import chosen, notes, pareto, show, summary, table, write
from light_sernet_kd.analysis.search.space import Budget, Cost, Interval, Space, default_space, read_space
from light_sernet_kd.analysis.search.trials import KEPT, RUNNING, Study, require_optuna, study_of, trial_name

__all__ = [
    "KEPT",
    "RUNNING",
    "Budget",
    "Cost",
    "Interval",
    "Search",
    "SearchFolder",
    "Space",
    "Study",
    "chosen",
    "default_space",
    "notes",
    "pareto",
    "read_space",
    "require_optuna",
    "searched",
    "show",
    "study_of",
    "summary",
    "table",
    "trial_name",
    "write",
]
