"""Teachers are data: files of outputs, joined to utterances by id."""

from light_sernet_kd.teachers.files import (
    CONVERTED,
    STAMP_SEEN,
    STAMP_UNKNOWN,
    Teacher,
    aligned,
    aligned_embeddings,
    ensemble,
    met,
    no_file,
    read,
    speakers_of_fold,
    stamps,
    train_speakers,
    write,
)

__all__ = [
    "CONVERTED",
    "STAMP_SEEN",
    "STAMP_UNKNOWN",
    "Teacher",
    "aligned",
    "aligned_embeddings",
    "ensemble",
    "met",
    "no_file",
    "read",
    "speakers_of_fold",
    "stamps",
    "train_speakers",
    "write",
]
