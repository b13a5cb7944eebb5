"""A run's results folder: metrics, predictions, pictures and the report."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from light_sernet_kd import evaluation
from light_sernet_kd.config import SAMPLE_RATE
from light_sernet_kd.experiment.fold import history_of, read_test_embeddings
from light_sernet_kd.experiment.results import dimensions
from light_sernet_kd.experiment.results.metrics import metrics_of, predictions_of
from light_sernet_kd.experiment.results.page import write_page
from light_sernet_kd.experiment.results.pictures import Pictures
from light_sernet_kd.experiment.teachers import unlabelled
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
        if run.has_classes:
            _draw_precisions(run, exported, metrics["stamps"])
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


def _draw_precisions(run: "Experiment", exported: dict[str, Any], stamps: list[str]) -> None:
    rows = [{**row, "name": row["precision"]} for row in exported["rows"]]
    head: dict[str, Any] = {"title": _title(run), "stamps": stamps}
    Pictures(run.folder.path).draw(
        "precision_costs", lambda path: figures.size_against_ua(rows, path, **head), rows, head
    )


def _draw(run: "Experiment", outcomes: Sequence[dict[str, Any]], metrics: dict[str, Any]) -> bool:
    """The pictures of scores, epochs, calibration and embeddings; whether there are any of embeddings."""
    pictures = Pictures(run.folder.path)
    head: dict[str, Any] = {"title": _title(run), "stamps": metrics["stamps"]}
    if letters := figures.letters_without_font([head["title"], *run.classes]):
        run.display.say(f"No font here has {letters}: the pictures show boxes. Noto Sans has them all.")
    _draw_curves(run, outcomes, pictures, head)
    if run.dimensions:
        _draw_ratings(run, metrics["dimensions"], pictures, head)
    return run.has_classes and _draw_classes(run, metrics, pictures, head)


def _draw_curves(
    run: "Experiment", outcomes: Sequence[dict[str, Any]], pictures: Pictures, head: dict[str, Any]
) -> None:
    histories = {
        fold.name: history_of(run, fold, outcome["epochs"])
        for fold, outcome in zip(run.folds, outcomes, strict=True)
    }
    kept = {outcome["name"]: outcome["best_epoch"] for outcome in outcomes}
    keep, chance = run.settings.keep, 1 / len(run.classes) if run.has_classes else None
    pictures.draw(
        "curves",
        lambda path: figures.curves(histories, path, selected_epochs=kept, keep=keep, chance=chance, **head),
        *(histories, kept, keep, chance, head),
    )


def _draw_ratings(run: "Experiment", rated: dict[str, Any], pictures: Pictures, head: dict[str, Any]) -> None:
    answers, (low, high) = dimensions.predicted(run), rated["range"]
    ccc = {name: each["ccc"] for name, each in rated["pooled"].items()}
    pictures.draw(
        "ratings",
        lambda path: figures.ratings(answers, path, ends=(low, high), ccc=ccc, **head),
        *({name: [each.tolist() for each in pair] for name, pair in answers.items()}, low, high, ccc, head),
    )


def _draw_classes(
    run: "Experiment", metrics: dict[str, Any], pictures: Pictures, head: dict[str, Any]
) -> bool:
    """The pictures of what is of classes; whether there are any of embeddings."""
    counts, classes = metrics["confusion"], run.classes
    pictures.draw(
        "confusion_matrix",
        lambda path: figures.confusion_matrix(counts, classes, path, **head),
        *(counts, classes, head),
    )
    calibration = metrics["calibration"]
    curves = {name: calibration[when] for when, name in CALIBRATED.items() if calibration[when]}
    pictures.draw("reliability", lambda path: figures.reliability(curves, path, **head), curves, head)
    if known := metrics.get("enrolled"):
        pictures.draw("enrolled", lambda path: figures.enrolled(known, path, **head), known, head)
    tested = read_test_embeddings(run)
    if tested:
        pictures.draw("embeddings", lambda path: _draw_embeddings(run, tested, path, head), tested, head)
    return bool(tested)


def _draw_embeddings(run: "Experiment", tested: Any, path: Path, head: dict[str, Any]) -> list[Path]:
    panels, notes = fold_panels(tested, len(run.folds))
    return figures.embeddings(panels, run.classes, path, notes=notes, **head)
