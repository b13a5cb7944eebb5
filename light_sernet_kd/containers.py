"""Containers of sound by their own structure: what a file is, and whether all of it is there."""

# Names of recordings that can be read; what a file is follows from its content, not from its name.
SUFFIXES = (
    ".aif", ".aifc", ".aiff", ".au", ".caf", ".flac", ".mp3", ".nist", ".oga", ".ogg", ".opus", ".rf64",
    ".snd", ".sph", ".w64", ".wav", ".wave",
)  # fmt: skip
# Those that need PyAV, the extra `video`.
PYAV_SUFFIXES = (
    ".3g2", ".3gp", ".aac", ".amr", ".asf", ".avi", ".flv", ".m4a", ".m4b", ".m4v", ".mka", ".mkv", ".mov",
    ".mp4", ".mpeg", ".mpg", ".mts", ".ogv", ".ts", ".webm", ".wma", ".wmv",
)  # fmt: skip
