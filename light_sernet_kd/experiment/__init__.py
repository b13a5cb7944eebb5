"""A whole experiment: every fold of a protocol, the results, the exported student."""

from light_sernet_kd.experiment.exported_folds import fold_files
from light_sernet_kd.experiment.exported_run import export_run
from light_sernet_kd.experiment.run import summary, train
from light_sernet_kd.experiment.teacher_files import teach, teach_from

__all__ = ["export_run", "fold_files", "summary", "teach", "teach_from", "train"]
