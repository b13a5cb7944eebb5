"""The student that comes with the package: it is what its card says, and how it was made can be followed."""

import csv
import hashlib
import json
import re
import subprocess
import sys

import pytest
from sklearn.metrics import recall_score

from light_sernet_kd import Runner, cli
from light_sernet_kd.config import make_settings
from light_sernet_kd.data import training_list
from light_sernet_kd.data.selection import selected
from light_sernet_kd.device import shipped
from light_sernet_kd.runner import open_file


@pytest.fixture(scope="module")
def student() -> shipped.Shipped:
    return shipped.default()


def read(student, name):
    return json.loads((student.folder / name).read_text(encoding="utf-8"))


def test_every_file_is_the_one_that_was_made(student):
    names = {path.name for path in student.folder.iterdir()} - {shipped.PROVENANCE}
    found = {name: hashlib.sha256((student.folder / name).read_bytes()).hexdigest() for name in names}
    assert found == student.provenance["sha256"]
    size = sum(path.stat().st_size for path in student.folder.iterdir())
    assert size < 2e6
    assert (student.folder / "student_int8.tflite").stat().st_size < 650e3


def test_nothing_names_a_place_of_a_machine(student):
    for path in student.folder.iterdir():
        found = re.search(rb"/(home|root|tmp|work|Users)/", path.read_bytes())
        assert not found, path.name


def test_its_facts_are_those_of_its_files(student):
    config, told = read(student, "config.json"), student.provenance
    assert told["corpus_sha256"] == config["corpus_sha256"]
    assert told["teacher_sha256"] == config["teacher_sha256"]
    assert told["seed"] == config["settings"]["seed"]
    assert re.fullmatch("[0-9a-f]{40}", told["commit"])
    for name in ("student_int8.tflite", "student_int8_enrolled.tflite"):
        _, card, labels = open_file(student.folder / name)
        assert (card["corpus"], card["synthetic"], card["precision"]) == ("EMO-DB", False, "int8")
        assert [*labels] == student.metrics["classes"]
        assert card["teacher_licence"].startswith("MIT")


def test_its_command_is_read_by_the_program(student):
    words = student.provenance["command"].split()
    assert words[:2] == ["python", "train.py"]
    cli.make_parser().parse_args(["train", *words[2:]])
    for word in (*words, *student.provenance["teacher"].split()):
        assert not word.startswith("/")


def test_its_scores_are_those_of_its_folds_predictions(student):
    with open(student.folder / "predictions.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 535
    labels, predicted = ([row[name] for row in rows] for name in ("label", "predicted"))
    ua = recall_score(labels, predicted, average="macro")
    assert student.metrics["pooled"]["ua"] == pytest.approx(ua)
    low, high = student.metrics["ci95"]["ua"]
    assert low < ua < high
    card = (student.folder / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert f"UA {100 * ua:.1f} %" in card
    # A fold's student never met its test speaker, whose name begins an utterance's.
    assert all(row["fold"] == row["id"][:2] for row in rows)


def test_its_card_tells_who_speaks_how_it_was_made_and_what_the_certificate_says(student):
    card = (student.folder / "MODEL_CARD.md").read_text(encoding="utf-8")
    told = student.provenance
    for text in ("ten German actors", "Burkhardt", told["commit"], told["command"], told["teacher"]):
        assert text in card
    certificate = (student.folder / "certificate.md").read_text(encoding="utf-8")
    verdicts = re.findall(r"\| (passed|failed) \|", certificate)
    assert f"{verdicts.count('passed')} of {len(verdicts)} tests passed" in card


def test_its_teacher_may_be_used_in_products(student):
    teacher = student.metrics["teacher"]
    assert "Whisper" in teacher["made_by"]
    assert "openSMILE" not in json.dumps([teacher, student.provenance])
    card = open_file(student.folder / "student_int8.tflite")[1]
    assert "research" not in json.dumps(card.get("teacher_licence", ""))


def test_it_was_trained_on_the_recordings_of_the_corpus(student, shared_data):
    """The list in its file is made again from the corpus: the first bits of each recording's SHA-256."""
    trained = training_list.read(student.folder / "student_int8.tflite")
    hashes = [
        hashlib.sha256(path.read_bytes()).hexdigest() for path in (shared_data / "EMO-DB" / "wav").iterdir()
    ]
    assert sorted(trained.rows["content"].tolist()) == sorted(int(each[:8], 16) for each in hashes)
    settings = make_settings(**{**read(student, "config.json")["settings"], "teacher": None})
    assert selected(settings, shared_data).digest == student.provenance["corpus_sha256"]


def test_the_examples_are_recordings_of_the_corpus_and_are_recognised(student, shared_data):
    opened = Runner()
    for path in shipped.examples():
        emotion, name = path.stem.split("-")
        assert path.read_bytes() == (shared_data / "EMO-DB" / "wav" / f"{name}.wav").read_bytes()
        result = opened.classify(path)
        assert (result.label, result.unsure) == (emotion, False)


def test_it_answers_without_tensorflow():
    program = (
        "import sys; sys.modules['tensorflow'] = sys.modules['keras'] = sys.modules['sklearn'] = None\n"
        "from light_sernet_kd import cli\n"
        "sys.exit(cli.main(['predict', '--examples', '--format', 'jsonl']))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert [answer["label"] for answer in answers] == ["anger", "happiness", "sadness"]
    assert "light-sernet-emodb answers" in done.stderr


def test_a_profile_of_its_speaker_can_be_made(tmp_path, capsys):
    examples = [str(path) for path in shipped.examples()]
    profile = str(tmp_path / "speaker.json")
    assert cli.main(["enroll", *examples, "--profile", profile]) == 0
    capsys.readouterr()
    assert cli.main(["predict", *examples, "--profile", profile, "--json"]) == 0
    answers = json.loads(capsys.readouterr().out)
    assert [answer["speaker_clips"] for answer in answers] == [3, 3, 3]
