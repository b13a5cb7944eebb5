r"""Put a finished run into the package as one of its students, with how it was made.

    python benchmarks/ship.py result/light-sernet-emodb --teacher "light-sernet-kd teach …" \
        --speakers "ten German actors, who play the emotions in a quiet room"

Copies what answers and what tells of it to `light_sernet_kd/models/NAME`, and writes `provenance.json`: the
command and the commit, what it learned from, and the SHA-256 of every file. The card tells the same, and what
the certificate says. Places of the machine that it was trained on are left out of what is copied.
"""

import argparse
import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from light_sernet_kd.config import fields, make_settings
from light_sernet_kd.data.run_folder import RunFolder
from light_sernet_kd.device.shipped import MODELS, PROVENANCE
from light_sernet_kd.files import atomic, write_json

# Of a run's folder: those that answer, and those that tell of them.
FILES = (
    "student_int8.tflite", "student_int8_enrolled.tflite", "labels.txt", "MODEL_CARD.md", "metrics.json",
    "config.json", "predictions.csv", "certificate.json", "certificate.md",
)  # fmt: skip
_TEXT = (".json", ".md", ".csv", ".txt")
_PLACES = re.compile(r" --(?:data|result)[ =]\S+")
_ROW = re.compile(r"^\| `(student_\w+\.tflite)` \|.*\n", re.MULTILINE)  # of the card's table of files
_ABSOLUTE = re.compile(r"[\"' =](/(?:home|root|tmp|work|Users|mnt|srv)/\S*)")


def provenance(folder: Path, teacher: str, commit: str) -> dict[str, Any]:
    """How the run's student came about."""
    run = RunFolder(folder).finished()
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    full = subprocess.run(["git", "rev-parse", commit], capture_output=True, text=True, check=True)
    return {
        "command": " ".join(
            ["python train.py", *fields.spelled(make_settings(**run.settings)), "--run", run.name]
        ),
        "commit": full.stdout.strip(),
        "seed": run.settings["seed"],
        "corpus_sha256": config["corpus_sha256"],
        "teacher": teacher,
        "teacher_sha256": config["teacher_sha256"],
        "versions": config["versions"],
    }


def content(path: Path) -> bytes:
    """A file without the places of the machine.

    Raises:
        SystemExit: some are left.
    """
    if path.suffix not in _TEXT:
        return path.read_bytes()
    text = _PLACES.sub("", path.read_text(encoding="utf-8"))
    if path.suffix == ".md":
        text = _ROW.sub(lambda row: row[0] if row[1] in FILES else "", text)
    if left := _ABSOLUTE.search(text):
        sys.exit(f"{path} names a place of this machine: {left[1]}")
    return text.encode()


def card(text: str, told: dict[str, Any], speakers: str, certificate: str) -> str:
    """A run's card with who speaks, what the certificate says and how the student was made."""
    verdict = re.search(r"\*\*[^*]*: (\d+ of \d+ tests passed[^*]*)\*\*", certificate)
    assert verdict
    made = [
        "## Certificate",
        "",
        f"{verdict[1].rstrip('.')}. `certificate.md` has each test.",
        "",
        "## How it was made",
        "",
        f"- **Speakers:** {speakers}.",
        f"- **Teacher file:** `{told['teacher']}`",
        f"- **Student:** `{told['command']}`",
        f"- **Commit:** {told['commit']}.",
        "- **Hashes:** `provenance.json` has the SHA-256 of each file, of the corpus and of the teacher.",
    ]
    head, _, limits = text.partition("\n## Limits\n")
    return "\n".join([head, *made, "", "## Limits", limits])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("run", type=Path, metavar="RUN")
    parser.add_argument("--teacher", required=True, metavar="COMMAND", help="what made the teacher file")
    parser.add_argument("--speakers", required=True, metavar="TEXT", help="who speaks in the corpus")
    parser.add_argument("--commit", default="HEAD", help="of the code that trained it (default HEAD)")
    arguments = parser.parse_args()
    told = provenance(arguments.run, arguments.teacher, arguments.commit)
    target = MODELS / arguments.run.name
    target.mkdir(parents=True, exist_ok=True)
    hashes = {}
    for name in FILES:
        if not (arguments.run / name).is_file():
            print(f"left out, not there: {name}")
            continue
        data = content(arguments.run / name)
        if name == "MODEL_CARD.md":
            certificate = (arguments.run / "certificate.md").read_text(encoding="utf-8")
            data = card(data.decode(), told, arguments.speakers, certificate).encode()
        with atomic(target / name) as path:
            path.write_bytes(data)
        hashes[name] = hashlib.sha256(data).hexdigest()
    write_json(target / PROVENANCE, {**told, "sha256": hashes})
    print(f"{target}: {sum(each.stat().st_size for each in target.iterdir()) / 1000:,.0f} kB")


if __name__ == "__main__":
    main()
