"""A whole experiment: every fold of a protocol, the results, the exported student.

The functions are imported when they are called first: a grid whose runs are made elsewhere needs no Keras.
"""

from typing import TYPE_CHECKING, Any

from light_sernet_kd.registries.lazy import Lazy

if TYPE_CHECKING:
    from light_sernet_kd.experiment.exported.folds import fold_files
    from light_sernet_kd.experiment.exported.run import export_run
    from light_sernet_kd.experiment.outcome import summary
    from light_sernet_kd.experiment.run import train, train_alone
    from light_sernet_kd.experiment.teachers.files import teach, teach_from

__all__ = ["export_run", "fold_files", "summary", "teach", "teach_from", "train", "train_alone"]

_PLACES = {
    "export_run": Lazy("experiment.exported.run:export_run"),
    "fold_files": Lazy("experiment.exported.folds:fold_files"),
    "summary": Lazy("experiment.outcome:summary"),
    "teach": Lazy("experiment.teachers.files:teach"),
    "teach_from": Lazy("experiment.teachers.files:teach_from"),
    "train": Lazy("experiment.run:train"),
    "train_alone": Lazy("experiment.run:train_alone"),
}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return _PLACES[name].load()
