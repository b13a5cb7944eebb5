"""What settings may be: the names and the limits that their fields refer to."""

SAMPLE_RATE = 16_000
# Full scale is 1; of numbers much larger, a front end's sums of squares exceed float32. The runner, which
# stands alone, has it too.
LARGEST_SAMPLE = 1e9
# Of an int8 file. On EMO-DB 16 clips gave ranges as good as 400 did; each costs up to 20 ms.
CALIBRATION_CLIPS = 64
PRECISIONS = ("float32", "float16", "dynamic", "int8")

AUDIO_TYPES = ("all", "impro", "script")
MODALITIES = ("both", "text", "audio")
POOLINGS = ("first", "mean", "max")
LOCAL_POOLINGS = ("average", "max")
READERS = ("soundfile", "tfio")
# The teacher's input for a training example.
CLEAN, SAME = TEACHER_VIEWS = ("clean", "same")
# How the sources of an ensemble are weighed for a training example.
MEAN_OF_SOURCES, CONFIDENCE = TEACHER_MIXINGS = ("mean", "confidence")
# Which weights a training ends with; see `training.job.TrainingJob`.
BEST, LAST, MEAN = KEPT = ("best", "last", "mean")
# What is done about a teacher that knows no more than the student would alone.
GATE_WARN, GATE_REFUSE, GATE_OFF = GATES = ("warn", "refuse", "off")

DATA, LOSSES, SPEECH_AND_TEXT = "data", "student and losses", "speech and text"
TEACHER, TRAINING, EXPORT = "teacher", "protocol and training", "export"
