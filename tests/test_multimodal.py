"""Students of speech and text end to end: every variant trains, is scored, exported and predicted with."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from light_sernet_kd import cli, vggish
from light_sernet_kd.config import MULTIMODAL_NAMES
from light_sernet_kd.corpora import demo

EMOTIONS = ("anger", "neutral", "sadness")
SPEAKERS = tuple(demo.SPEAKERS)[:4]
# Of VGGish a sixteenth of each width: the whole has 72 million weights.
NARROW = tuple((name, width if name == "fc2" else width // 16) for name, width in vggish.LAYERS)
TEXT = "random:width=16,layers=8,heads=2"
QUICK = ["-id", "2", "--epochs", "1", "-bt", "4", "-lr", "0.01", "--text_encoder", TEXT, "--text_tokens", "12",
        
         "--audio_encoder", "vggish=random", "-v", "0"]  # fmt: skip


@pytest.fixture(autouse=True, scope="module")
def narrow():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vggish, "LAYERS", NARROW)
        yield


def written(folder: Path, *, transcripts: bool = True) -> Path:
    """12 recordings of 4 speakers, each of its own length, with what is said and what annotators heard."""
    folder.mkdir(parents=True, exist_ok=True)
    sentence = next(iter(demo.SENTENCES))
    with open(folder / "said.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        columns = ["path", "emotion", "speaker", *(["transcript"] if transcripts else []), *EMOTIONS]
        writer.writerow(columns)
        for number, speaker in enumerate(SPEAKERS):
            for place, emotion in enumerate(EMOTIONS):
                name = f"{speaker}-{emotion}.wav"
                sound = demo.synthesise(speaker, sentence, emotion)
                soundfile.write(folder / name, sound[: 12_000 + 4_000 * (number + place)], 16_000)
                said = [f"this {emotion} one of {speaker} [LAUGHTER]"] if transcripts else []
                shares = [0.7 if emotion == each else 0.15 for each in EMOTIONS]
                writer.writerow([name, emotion, speaker, *said, *shares])
    return folder / "said.csv"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    return written(tmp_path_factory.mktemp("corpus"))


def train(corpus: Path, result: Path, run: str, *arguments: str) -> Path:
    code = cli.main(["train", "-dn", str(corpus), "--result", str(result), "--run", run, *QUICK, *arguments])
    assert code == 0
    return result / run


def metrics_of(folder: Path) -> dict:
    return json.loads((folder / "metrics.json").read_text(encoding="utf-8"))


VARIANTS = [
    *(["--student", name] for name in MULTIMODAL_NAMES if name.endswith("_vggish")),
    ["--student", "cross_attention"],
    ["--student", "cross_attention", "--modality", "text"],
    ["--student", "cross_attention", "--modality", "audio"],
]


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: "-".join(variant[1::2]))
def test_a_variant_trains_in_its_phases_and_its_file_predicts_what_it_was_scored_with(
    corpus, tmp_path, capsys, variant
):
    folder = train(corpus, tmp_path, "run", *variant, "--folds", "#1", "--tune_epochs", "1")
    metrics = metrics_of(folder)
    assert metrics["pooled"]["count"] == 3
    fold = folder / f"fold-{metrics['folds'][0]['name']}"
    assert metrics["folds"][0]["best_epochs"] == [1, 1]
    with open(fold / "history.csv", newline="") as file:
        assert len(list(csv.DictReader(file))) == 2
    rows = {row["precision"]: row for row in metrics["export"]["rows"]}
    assert set(rows) == (
        {"float32", "float16", "dynamic"} if "text" in variant or len(variant) == 2 else set(rows)
    )
    # The file of all speakers is another student than the fold's; what it says of a text is its own.
    said, heard = [], []
    if "audio" not in variant:
        said = ["--text", "this anger one"]
    if "text" not in variant:
        heard = [str(corpus.parent / f"{SPEAKERS[0]}-anger.wav")]
    capsys.readouterr()
    assert cli.main(["predict", str(folder / "student_float32.tflite"), *heard, *said, "--json"]) == 0
    (answer,) = json.loads(capsys.readouterr().out)
    assert sum(answer["probabilities"].values()) == pytest.approx(1, abs=1e-5)
    stored = np.load(fold / "tflite_probabilities.npz")["float32"]
    logits = np.load(fold / "test_logits.npz")["selected"]
    exact = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(stored, exact, atol=1e-4)
