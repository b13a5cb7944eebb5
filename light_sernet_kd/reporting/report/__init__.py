"""A run's report, written from metrics.json and config.json alone: every number is theirs."""

import json
from collections.abc import Mapping
from typing import Any

from light_sernet_kd.config.settings.choices import BEST
from light_sernet_kd.reporting import names
from light_sernet_kd.reporting.beside_teacher import taught_sections
from light_sernet_kd.reporting.blocks import Block, Code, Picture, Section, markdown
from light_sernet_kd.reporting.lineage import generation_sections
from light_sernet_kd.reporting.report.answer import answer
from light_sernet_kd.reporting.report.calibration import calibration
from light_sernet_kd.reporting.report.device import enrolled, precisions
from light_sernet_kd.reporting.report.dimensions import TITLE as DIMENSIONS
from light_sernet_kd.reporting.report.dimensions import dimensions
from light_sernet_kd.reporting.report.left_out import left_out
from light_sernet_kd.reporting.report.scores import folds, recalls
from light_sernet_kd.reporting.report.was_run import what_was_run
from light_sernet_kd.reporting.text import plain

# Titles of sections that the page for a browser places itself, as it does `DIMENSIONS`.
FOLDS, RECALLS, PICTURES = "Folds", "Recall per class", "Pictures"
# Beside the report; `figures` draws them.
CONFUSION_PICTURE = "confusion_matrix.png"
CURVES_PICTURE = "curves.png"
EMBEDDINGS_PICTURE = "embeddings.png"


def report(
    metrics: Mapping[str, Any],
    config: Mapping[str, Any],
    *,
    export: Mapping[str, Any] | None,
    embeddings: bool = False,
) -> str:
    """The page of Markdown, beginning with the answer and what must be known to believe it.

    Args:
        metrics: what metrics.json holds. Scores are shares from 0 to 1; the page shows per cent. `stamps` say
            why a score is higher than it should be, `warnings` why a true score is worth less than it looks.
        config: what config.json holds: `settings`, what they were `resolved` to, and more; shown as it is.
        export: rows of {precision, file, bytes, ua, wa, ua_cost_points, probability_change}, samples,
            sample_rate, takes, final_epochs, note; None where nothing was exported. `probability_change` is
            {mean, p95, max, count} over the test utterances.
            `ua_cost_points` is in percentage points, positive where the file is worse than float32;
            all other scores are shares.
        embeddings: whether there is a picture of the test utterances' embeddings.
    """
    return markdown(
        title(metrics), answer(metrics), sections(metrics, config, export=export, embeddings=embeddings)
    )


def title(metrics: Mapping[str, Any]) -> str:
    """Of the report, in Markdown's text: student and protocol by the names that readers know."""
    corpus = plain(metrics["corpus"]) + (" (SYNTHETIC)" if metrics["synthetic"] else "")
    student, protocol = names.student(metrics["student"]["name"]), names.protocol(metrics["protocol"])
    return f"{plain(student)} on {corpus}, {plain(protocol)}"


def sections(
    metrics: Mapping[str, Any],
    config: Mapping[str, Any],
    *,
    export: Mapping[str, Any] | None,
    embeddings: bool = False,
) -> list[Section]:
    """What stands below the answer. Arguments are those of `report`."""
    has_classes = bool(metrics["classes"])
    pictures: list[Block] = [
        Picture(f"Loss and {'UA' if has_classes else 'CCC'} by epoch", CURVES_PICTURE),
    ]
    if has_classes:
        matrix = Picture("Confusion matrix: true classes are rows, predicted ones columns", CONFUSION_PICTURE)
        pictures = [matrix, "", *pictures]
    if embeddings:
        pictures += ["", Picture("Test utterances by the student's embedding", EMBEDDINGS_PICTURE)]
    known = metrics.get("enrolled")
    return [
        Section("What was run", what_was_run(metrics, config)),
        Section(FOLDS, folds(metrics, config["settings"].get("keep", BEST))),
        *taught_sections(metrics["teacher"]),
        *generation_sections(metrics.get("generations")),
        *([Section(RECALLS, recalls(metrics))] if has_classes else []),
        *([Section(DIMENSIONS, dimensions(metrics, export))] if metrics.get("dimensions") else []),
        *([Section("Calibration", calibration(metrics))] if has_classes else []),
        Section(PICTURES, pictures),
        Section(
            "On the device", ["Nothing was exported in this run."] if export is None else precisions(export)
        ),
        *([Section("With recordings of the speaker", enrolled(known))] if known else []),
        Section("What was left out or merged", left_out(metrics)),
        Section(
            "How to repeat it",
            [
                Code(metrics["command"], "sh"),
                "",
                "All settings, as in config.json, which `light-sernet-kd train --config` takes too:",
                "",
                Code(json.dumps(config, indent=2, ensure_ascii=False), "json", title="Show the settings"),
            ],
        ),
    ]
