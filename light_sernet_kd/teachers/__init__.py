"""Teachers are data: files of outputs, joined to utterances by id."""

from light_sernet_kd.teachers.alignment import aligned, aligned_dimensions, aligned_embeddings
from light_sernet_kd.teachers.ensemble import ensemble
from light_sernet_kd.teachers.files import CONVERTED, no_file, read, write
from light_sernet_kd.teachers.outputs import (
    STAMP_SEEN,
    STAMP_UNKNOWN,
    Teacher,
    is_cross_fitted,
    of_fold,
    speakers_of_fold,
    stamps,
    train_speakers,
    trained_speakers_among,
)

__all__ = [
    "CONVERTED",
    "STAMP_SEEN",
    "STAMP_UNKNOWN",
    "Teacher",
    "aligned",
    "aligned_dimensions",
    "aligned_embeddings",
    "ensemble",
    "is_cross_fitted",
    "no_file",
    "of_fold",
    "read",
    "speakers_of_fold",
    "stamps",
    "train_speakers",
    "trained_speakers_among",
    "write",
]
