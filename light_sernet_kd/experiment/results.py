"""A run's results folder: metrics, predictions, pictures and the report."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from light_sernet_kd import evaluation
from light_sernet_kd.config import SAMPLE_RATE
from light_sernet_kd.experiment import unlabelled
from light_sernet_kd.experiment.fold import history_of, read_test_embeddings
from light_sernet_kd.experiment.metrics import metrics_of, predictions_of
from light_sernet_kd.experiment.page import write_page
from light_sernet_kd.files import write_json, write_text
from light_sernet_kd.reporting import figures, model_card, names
from light_sernet_kd.reporting.embedding_panels import fold_panels
from light_sernet_kd.reporting.report import report
from light_sernet_kd.reporting.report.calibration import CALIBRATED

if TYPE_CHECKING:
    from light_sernet_kd.experiment.shared import Experiment


def write_results(
    run: "Experiment", outcomes: Sequence[dict[str, Any]], exported: dict[str, Any] | None
) -> None:
    """Write metrics.json, predictions.csv, the pictures and the report."""
    folder, metrics = run.folder, metrics_of(run, outcomes, exported)
    evaluation.write_predictions(folder.predictions, predictions_of(run, outcomes))
    has_embeddings = _draw(run, outcomes, metrics)
    if exported:
        rows = [{**row, "name": row["precision"]} for row in exported["rows"]]
        path = folder.path / "precision_costs"
        figures.size_against_ua(rows, path, title=_title(run), stamps=metrics["stamps"])
        metrics["export"] = exported
        card = model_card.model_card(folder.path.resolve().name, metrics, run.config, exported)
        write_text(folder.path / model_card.NAME, card)
    unlabelled.write_left_out(run)
    write_page(run, metrics, exported, embeddings=has_embeddings)
    write_text(folder.report, report(metrics, run.config, export=exported, embeddings=has_embeddings))
    # last, because its presence says that the run is finished
    write_json(folder.metrics, metrics)


def _title(run: "Experiment") -> str:
    """Of the pictures."""
    settings = run.settings
    synthetic = " (synthetic)" if run.corpus.synthetic else ""
    length = f"{settings.samples / SAMPLE_RATE:g}\u00a0s"
    return (
        f"{names.student(settings.student)} on {run.corpus.name}{synthetic}, "
        f"{names.distillation(settings.distillation)}, {names.input_type(settings.input_type)} of {length}, "
        f"{names.protocol(settings.protocol)}"
    )


def _draw(run: "Experiment", outcomes: Sequence[dict[str, Any]], metrics: dict[str, Any]) -> bool:
    """The pictures of scores, epochs, calibration and embeddings; whether there are any of embeddings."""
    folder, title, stamps = run.folder.path, _title(run), metrics["stamps"]
    if letters := figures.letters_without_font([title, *run.classes]):
        run.display.say(f"No font here has {letters}: the pictures show boxes. Noto Sans has them all.")
    predictions = predictions_of(run, outcomes)
    confusion = evaluation.confusion(predictions.labels, predictions.predicted, run.classes)
    path = folder / "confusion_matrix"
    figures.confusion_matrix(confusion, run.classes, path, title=title, stamps=stamps)
    histories = {
        fold.name: history_of(run, fold, outcome["epochs"])
        for fold, outcome in zip(run.folds, outcomes, strict=True)
    }
    figures.curves(
        histories,
        folder / "curves",
        selected_epochs={outcome["name"]: outcome["best_epoch"] for outcome in outcomes},
        title=title,
        stamps=stamps,
        chance=1 / len(run.classes),
    )
    calibration = metrics["calibration"]
    curves = {name: calibration[when] for when, name in CALIBRATED.items() if calibration[when]}
    figures.reliability(curves, folder / "reliability", title=title, stamps=stamps)
    if "enrolled" in metrics:
        figures.enrolled(metrics["enrolled"], folder / "enrolled", title=title, stamps=stamps)
    tested = read_test_embeddings(run)
    if tested:
        panels, notes = fold_panels(tested, len(run.folds))
        path = folder / "embeddings"
        figures.embeddings(panels, run.classes, path, title=title, stamps=stamps, notes=notes)
    return bool(tested)
