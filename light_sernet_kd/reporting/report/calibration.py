"""What the report says of probabilities: how far they can be believed, as trained and scaled."""

from collections.abc import Mapping
from typing import Any

from light_sernet_kd.reporting.blocks import Block, Blocks, Picture
from light_sernet_kd.reporting.tables import Table, numbers, words
from light_sernet_kd.reporting.text import percent, plain, pluralise

RELIABILITY_PICTURE = "reliability.png"
CALIBRATED = {"before": "as trained", "after": "temperature scaled"}


def calibration(metrics: Mapping[str, Any]) -> Blocks:
    calibration = metrics["calibration"]
    unsure = calibration["unsure_below"]
    sure = f"from {unsure:g} on: share %"
    columns = [
        *words("test probabilities"),
        *numbers("ECE %", "by chance %", form=percent),
        *numbers("NLL", "Brier score", form=".3f"),
        *numbers("mean confidence %", "right %", sure, "right %", form=percent),
    ]
    keys = ("ece", "ece_by_chance", "nll", "brier", "confidence", "accuracy", "sure", "sure_accuracy")
    rows = [
        [name, *(calibration[when][key] for key in keys)]
        for when, name in CALIBRATED.items()
        if calibration[when]
    ]
    fitted = [fold for fold in calibration["folds"] if fold["temperature"] is not None]
    lacking = [fold["name"] for fold in calibration["folds"] if fold["temperature"] is None]
    fewest = pluralise(calibration["fewest_validation_predictions"], "validation prediction")
    lines: list[Block] = [
        "How far a probability can be believed: the largest of each prediction against how often such "
        "predictions are right. ECE is the mean gap between the two over "
        f"{pluralise(calibration['bins'], 'bin')} of equal width; *by chance* is what probabilities that are "
        "true would show with so few predictions. "
        "NLL is the mean negative log likelihood in nats, the Brier score the mean squared distance to the "
        "labels (at most two). No temperature changes which class is largest, and so none changes UA or WA.",
        "",
        Table(columns, rows),
        "",
    ]
    if fitted:
        listed = ", ".join(f"{plain(fold['name'])} {fold['temperature']:.2f}" for fold in fitted)
        lines.append(
            "- **Temperature of each fold**, fitted on its validation predictions alone, scored on its test "
            f"predictions: {listed}."
        )
    if calibration["tests_on_validation"]:
        lines.append(
            "- **Nothing is scored after scaling:** this protocol validates on the test fold, and a "
            "temperature would be fitted on the very predictions it is scored on."
        )
    elif lacking:
        lines.append(f"- **Not scaled**, for fewer than {fewest}: fold {', '.join(map(plain, lacking))}.")
    lines.append(
        f"- **Unsure:** below {unsure:g} an answer is more likely wrong than right, if its probability is "
        "true; the files' cards tell a runner so."
    )
    lines += _files_confidence(calibration, fewest)
    return [*lines, "", Picture("Reliability: confidence against accuracy", RELIABILITY_PICTURE)]


def _files_confidence(calibration: Mapping[str, Any], fewest: str) -> Blocks:
    """The exported student's temperature, and how sure it is beside the folds' students."""
    pooled, files, unsure = calibration["temperature"], calibration["files"], calibration["unsure_below"]
    if files is None:
        return []
    if pooled is None:
        rule = f"are not calibrated: all folds together have fewer than {fewest}."
    else:
        which = "test" if calibration["tests_on_validation"] else "validation"
        rule = (
            f"divide their logits by {pooled:.2f}. The student in them was trained on the {which} speakers "
            "too, so none is left to fit a temperature on, and the folds' students stand in: fitted on all "
            f"folds' {which} predictions, their temperature is {files['per_margin']:.3g} times their mean "
            "margin. So is the exported student's. The margin is the largest logit less the second, on a "
            "student's own training utterances."
        )
    names = {
        "folds_test": ("the folds' students", "their test utterances"),
        "folds_training": ("the folds' students", "some of their training utterances"),
        "final_training": ("the exported student", "its training utterances"),
    }
    rows = [[*names[key], *(files[key][value] for value in ("count", "confidence", "sure"))] for key in names]
    columns = [
        *words("student", "asked of"),
        *numbers("predictions", form=","),
        *numbers("mean confidence %", f"from {unsure:g} on: share %", form=percent),
    ]
    return [
        f"- **Files for the device** {rule}",
        "",
        "How sure the exported student is, beside the folds' students with temperatures of the same rule. "
        "Any student is surer of what it was trained on.",
        "",
        Table(columns, rows),
    ]
