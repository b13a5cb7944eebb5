"""What a run tells its report, and the tables that a report holds."""

import re

STAMP = "optimistic: the epoch was chosen on the test fold"


def score(ua, **more):
    recall = {"anger": ua + 0.01, "fear": ua - 0.01, "surprise": None}
    rest = {"wa": ua + 0.011, "macro_f1": ua - 0.022, "weighted_f1": ua + 0.003}
    counts = {"anger": 127, "fear": 6, "surprise": 0}
    return {"ua": ua, **rest, "recall_per_class": recall, "count": 535, "count_per_class": counts, **more}


def probabilities(ece):
    keys = ("ece", "ece_by_chance", "nll", "brier", "confidence", "accuracy", "sure", "sure_accuracy")
    return {key: ece + number / 97 for number, key in enumerate(keys)} | {"reliability": []}


METRICS = {
    "protocol": "loso",
    "protocol_description": "leave one speaker out",
    "stamps": [],
    "corpus": "EMO-DB",
    "synthetic": False,
    "classes": ["anger", "fear", "surprise"],
    "counts": {"anger": 1270, "fear": 69, "surprise": 4},
    "speakers": ["03", "08"],
    "left_out": {"label xxx": 12},
    "merged": {},
    "skipped": [{"id": "a|b", "reason": "empty file"}],
    "pooled": score(0.853),
    "pooled_last_epoch": score(0.842),
    "ci95": {"ua": [0.801, 0.897], "wa": [0.812, 0.908], "macro_f1": [0.7, 0.8], "weighted_f1": [0.7, 0.8]},
    "ci95_method": "bootstrap over speakers",
    "calibration": {
        "bins": 12,
        "before": probabilities(0.12),
        "after": probabilities(0.04),
        "temperature": 1.57,
        "folds": [
            {"name": f"fold_{number}", "temperature": 1.4 + number / 10, "validation_predictions": 50}
            for number in range(3)
        ],
        "fewest_validation_predictions": 23,
        "tests_on_validation": False,
        "unsure_below": 0.45,
        "files": {
            "per_margin": 0.321,
            "folds_test": {"count": 133, "confidence": 0.711, "sure": 0.823},
            "folds_training": {"count": 2_945, "confidence": 0.756, "sure": 0.867},
            "final_training": {"count": 1_343, "confidence": 0.778, "sure": 0.889},
        },
    },
    "folds": [
        score(
            0.9 - number / 10,
            name=f"fold_{number}",
            test_speakers=[f"{number:02}"],
            validation_speakers=[f"{number + 1:02}"],
            best_epoch=41 + number,
            epochs=300,
            seconds=1234.6 + number,
            last_epoch=score(0.88 - number / 10),
        )
        for number in range(3)
    ],
    "mean_over_folds": {"ua": [0.8, 0.0816], "wa": [0.811, 0.0824]},
    "student": {"name": "light_sernet_plus", "parameters": 234_567, "width": 32},
    "teacher": {
        "name": "WavLM Base+",
        "made_by": "teach",
        "agreement": {"wa": 0.963, "ua": 0.958},
        "stamps": [],
        "licence": None,
        "known_speakers": None,
    },
    "command": "light-sernet-kd train -dn EMO-DB --seed 7",
    "seed": 7,
}


CONFIG = {
    "settings": {
        "audio_type": "impro",
        "input_type": "mel_spectrogram",
        "front_end": "cubic",
        "reader": "tfio",
        "class_weights": "balanced",
        "standardise_logits": True,
        "augmentation": "noise,mixup",
        "schedule": "cubic",
        "patience": 12,
        "folds": ["a", "b"],
    },
    "resolved": {
        "arithmetic": "bfloat16",
        "samples": 40_000,
        "schedule": {
            "learning_rate": 0.003,
            "batch_size": 24,
            "epochs": 77,
            "weight_decay": 0.0007,
            "decay": 0.9,
            "decay_every": 310,
            "decay_unit": "steps",
            "decay_from": 21,
            "batch_norm_momentum": 0.97,
        },
        "label_loss": {"name": "focal", "label_smoothing": 0.05, "gamma": 2.2},
        "distillation": {"name": "CKD", "alpha": 0.65, "temperatures": [1.5, 2.5]},
    },
}


EXPORT = {
    "rows": [
        {
            "precision": "int8",
            "file": "model_int8.tflite",
            "bytes": 331_204,
            "ua": 0.8429,
            "wa": 0.8511,
            "ua_cost_points": 1.04,
            "probability_change": {"mean": 0.0021, "p95": 0.0123, "max": 0.1371, "count": 535},
        }
    ],
    "samples": 48_000,
    "sample_rate": 16_000,
    "final_epochs": 57,
    "note": "Scored on the last fold.",
}


def tables(page):
    """Every table as a list of rows, each a dict of header → cell; cells split at bare pipes."""
    found, lines = [], iter(page.splitlines())
    for line in lines:
        if line.startswith("| "):
            header = cells(line)
            next(lines)
            rows = []
            for row in lines:
                if not row.startswith("|"):
                    break
                assert len(cells(row)) == len(header), row
                rows.append(dict(zip(header, cells(row), strict=True)))
            found.append(rows)
    return found


def cells(line):
    return [cell.strip(" *") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
