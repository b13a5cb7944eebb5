"""The names of what a training batch holds, and of what a student's network gives."""

# Of a batch's inputs.
FEATURES, SOFT_LABELS = "features", "soft_labels"
TEACHER, TEACHER_EMBEDDING, TEACHER_STATES = "teacher", "teacher_embedding", "teacher_states"
# Ratings `(batch, dimensions)` on a scale from -1 to 1, NaN where there is none: listeners', a teacher's.
DIMENSIONS, TEACHER_DIMENSIONS = "dimensions", "teacher_dimensions"
# Whether an example has a label, 1 or 0; a batch without it has nothing but labelled examples.
IS_LABELLED = "labelled"
# Of an example that is mixed of two: the other one's label, and the weight of the first.
OTHER_LABELS, MIXUP_WEIGHT = "other_labels", "share"
# Of a network's outputs; `DIMENSIONS` is the name of one too.
LOGITS, EMBEDDING, STATES = "logits", "embedding", "text_states"
