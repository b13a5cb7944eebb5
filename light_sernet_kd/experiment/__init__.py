"""A whole experiment: every fold of a protocol, the results, the exported student."""

from light_sernet_kd.experiment.fold_files import fold_files
from light_sernet_kd.experiment.run import summary, train
from light_sernet_kd.experiment.teach import teach, teach_from

__all__ = ["fold_files", "summary", "teach", "teach_from", "train"]
