"""The examples at the end of each command's `--help`, in one place. A test gives each to the parser."""

# Command → what follows its name.
EXAMPLES: dict[str, tuple[str, ...]] = {
    "train": (
        "-dn demo -id 2.5 -kd KD --epochs 8",
        "-dn EMO-DB -id 3 -kd CKD",
        "-dn EMO-DB -id 3 -kd CKD --teacher logits.npz --folds 03,08 --epochs 60",
        "-dn path/to/manifest.csv -ln focal -it mel_spectrogram --run mine",
    ),
    "recipe": ("robust",),
    "teach": (
        "-dn EMO-DB --from yamnet",
        "-dn EMO-DB --from whisper=openai/whisper-base --out teacher.npz",
    ),
    "grid": ("methods.toml --dry-run", "methods.toml --jobs 2"),
    "search": (
        "-dn EMO-DB --max-kb 300 --max-ms 1.0 --max-params 200000 --epochs 60",
        "-dn EMO-DB --space space.toml --trials 50 --folds 03,08",
    ),
    "prepare": ("EMO-DB", "my.csv --to clips3s --segment 3 --segments all", "--video talks/ --to audio/"),
    "fetch": ("EMO-DB", "litert-web"),
    "predict": (
        "voice.wav",
        "student_int8.tflite voice.wav",
        "result/demo recordings/ --format csv --jobs 2",
        "student_int8.tflite talk.wav --stream",
    ),
    "enroll": ("student_int8_enrolled.tflite a.wav b.flac --profile me.json",),
    "listen": ("", "student_int8.tflite", "student_int8_enrolled.tflite --profile me.json --learn"),
    "demo": ("", "result/demo"),
    "models": ("", "--result result --json"),
    "audit": ("EMO-DB", "EMO-DB --protocol random --teacher logits.npz"),
    "compare": ("result/pure result/KD", "result/pure result/KD --latex"),
    "benchmark": ("light-sernet-emodb", "result/demo", "student_int8.tflite --threads 1,2 --on EMO-DB"),
    "explain": ("result/demo --worst 3",),
    "export": ("result/demo",),
    "golden": ("result/demo --out golden.json",),
    "stress": (
        'result/demo --limit 2 --conditions "telephone,white 10 dB"',
        "result/demo --certify",
    ),
    "doctor": ("", "--json"),
    "paper": ("--only 'light-sernet-*'",),
    "completion": ("bash", "zsh", "fish"),
}


def examples_of(command: str) -> str:
    """What `--help` ends with.

    >>> examples_of("recipe").splitlines()
    ['examples:', '  %(prog)s robust']
    """
    lines = [f"  %(prog)s {words}".rstrip() for words in EXAMPLES.get(command, ())]
    return "\n".join(["examples:", *lines]) if lines else ""
