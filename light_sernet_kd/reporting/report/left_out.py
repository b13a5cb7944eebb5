"""What the report says of recordings that were left out, and of emotions that were merged."""

from collections.abc import Mapping
from typing import Any

from light_sernet_kd.reporting.text import plain

MOST_LISTED = 20


def left_out(metrics: Mapping[str, Any]) -> list[str]:
    lines = [f"- {plain(reason)}: {count:,}" for reason, count in metrics["left_out"].items()]
    lines += [f"- {plain(name)} counted as {plain(other)}" for name, other in metrics["merged"].items()]
    lines += [f"- {plain(note)}" for note in metrics.get("corpus_notes", [])]
    skipped = metrics["skipped"]
    if skipped:
        lines.append(f"- skipped as unreadable or wrong, as `--skip-bad` asks: {len(skipped):,}")
        for item in skipped[:MOST_LISTED]:
            # what is wrong with a line of a table begins with its place
            place = "" if item["reason"].startswith(item["id"]) else f"{plain(item['id'])}: "
            lines.append(f"  - {place}{plain(item['reason'])}")
    if len(skipped) > MOST_LISTED:
        lines.append(f"  - and {len(skipped) - MOST_LISTED:,} more, all in metrics.json")
    return lines or ["Nothing: every recording of the corpus was used."]
