"""The values a user edits. The command line wins over them; `python train.py --help` explains each."""

DEFAULTS = {
    # data
    "corpus": "EMO-DB",  # or "demo", or the path of a manifest
    "input_seconds": 3.0,
    "input_type": "mfcc",  # mfcc, mel_spectrogram, spectrogram
    # student and losses
    "student": "light_sernet",  # light_sernet, light_sernet_plus
    "label_loss": "cross_entropy",  # cross_entropy, focal
    "focal_gamma": 2.0,
    "distillation": "pure",  # pure, KD, RKD, DKD, CKD
    "distillation_weights": {},  # e.g. {"alpha": 0.5, "temperature": 4.0}; empty: the published ones
    "teacher_width": 1.5,  # of the auto teacher, over the student's
    # protocol and training; None: the student's published schedule
    "protocol": "loso",  # loso; published and random are optimistic
    "seed": 0,
    "epochs": None,
    "batch_size": None,
    "learning_rate": None,
}


def _light_sernet(corpus, seconds, loss, ua, wa, audio_type="all"):
    """A row of Light-SERNet's tables (arXiv:2110.03435): ten random splits, best epoch on the test part."""
    return {
        "settings": {
            "corpus": corpus,
            "audio_type": audio_type,
            "input_seconds": seconds,
            "label_loss": loss,
            "protocol": "random",
        },
        "published": {"ua": ua, "wa": wa},
    }


def _cubic(method):
    """A row of Cubic KD's EMO-DB experiment: speaker folds, best epoch on the test fold.

    Its table of results was not available to us, so there is no published figure to compare with. The
    teacher is the auto one; `--teacher FILE` takes another.
    """
    return {
        "settings": {
            "corpus": "EMO-DB",
            "student": "light_sernet_plus",
            "input_samples": 80_000,
            "distillation": method,
            "protocol": "published",
        },
    }


# One entry per row of the papers' tables; `sh run.sh paper` runs those whose corpus is present.
EXPERIMENTS = {
    "light-sernet-emodb-3s-ce": _light_sernet("EMO-DB", 3.0, "cross_entropy", 94.15, 94.21),
    "light-sernet-emodb-3s-focal": _light_sernet("EMO-DB", 3.0, "focal", 92.88, 93.08),
    "light-sernet-iemocap-all-3s-ce": _light_sernet("IEMOCAP", 3.0, "cross_entropy", 65.81, 65.37),
    "light-sernet-iemocap-all-3s-focal": _light_sernet("IEMOCAP", 3.0, "focal", 66.10, 65.47),
    "light-sernet-iemocap-all-7s-ce": _light_sernet("IEMOCAP", 7.0, "cross_entropy", 70.12, 69.15),
    "light-sernet-iemocap-all-7s-focal": _light_sernet("IEMOCAP", 7.0, "focal", 70.76, 70.23),
    "light-sernet-iemocap-impro-3s-ce": _light_sernet("IEMOCAP", 3.0, "cross_entropy", 68.42, 76.60, "impro"),
    "light-sernet-iemocap-impro-3s-focal": _light_sernet("IEMOCAP", 3.0, "focal", 68.38, 77.41, "impro"),
    "light-sernet-iemocap-impro-7s-ce": _light_sernet("IEMOCAP", 7.0, "cross_entropy", 71.51, 78.73, "impro"),
    "light-sernet-iemocap-impro-7s-focal": _light_sernet("IEMOCAP", 7.0, "focal", 70.78, 79.87, "impro"),
    **{f"cubic-emodb-{method}": _cubic(method) for method in ("pure", "KD", "RKD", "DKD", "CKD")},
}
