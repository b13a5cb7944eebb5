"""A whole experiment: every fold of a protocol, the results, the exported student."""

from light_sernet_kd.experiment.run import fold_files, summary, teach, teach_from, train

__all__ = ["fold_files", "summary", "teach", "teach_from", "train"]
