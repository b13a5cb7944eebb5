"""The model card says what the dictionaries say, in a form that the hub reads."""

import copy

import pytest
import yaml
from report_facts import CONFIG, METRICS, STAMP, tables
from report_facts import EXPORT as ONE_FILE

from light_sernet_kd.registries.corpora import CORPORA
from light_sernet_kd.reporting.model_card import model_card

FLOAT32 = {"precision": "float32", "file": "model_float32.tflite", "bytes": 1_968_000, "ua": 0.85, "wa": 0.86}
EXPORT = {**ONE_FILE, "rows": [FLOAT32, *ONE_FILE["rows"]], "takes": ["states of BERT", "a mask"]}


def card(*, export=EXPORT, config=CONFIG, **changed) -> str:
    return model_card("my_run", {**copy.deepcopy(METRICS), **changed}, config, export)


def facts(page: str) -> dict:
    before, metadata, _ = page.split("---\n", 2)
    assert before == ""
    return yaml.safe_load(metadata)


def test_the_hub_reads_the_scores():
    told = facts(card())
    ((result,),) = [each["results"] for each in told["model-index"]]
    assert result["dataset"]["name"] == METRICS["corpus"]
    assert [each["value"] for each in result["metrics"]] == [
        round(100 * METRICS["pooled"][name], 2) for name in ("ua", "wa")
    ]
    assert told["pipeline_tag"] == "audio-classification"
    assert set(told["metrics"]) == {each["type"] for each in result["metrics"]}


def test_the_page_has_files_recall_and_intervals():
    page = card()
    files, recall = tables(page)[:2]
    assert [row["file"].strip("`") for row in files] == [row["file"] for row in EXPORT["rows"]]
    assert {row["emotion"]: row["recall %"] for row in recall} == {
        name: f"{100 * share:.1f}" if share is not None else "–"
        for name, share in METRICS["pooled"]["recall_per_class"].items()
    }
    low, high = METRICS["ci95"]["ua"]
    assert f"**UA {100 * METRICS['pooled']['ua']:.1f} % [{100 * low:.1f}, {100 * high:.1f}]**" in page
    assert 'Runner("model_int8.tflite")' in page


def test_doubts_stand_beside_the_scores():
    assert "had separate speakers" in card(stamps=[], warnings=[])
    page = card(stamps=[STAMP], warnings=["one class alone"], synthetic=True)
    assert f"- **{STAMP[:1].upper()}{STAMP[1:]}.**" in page
    assert "- **One class alone.**" in page
    assert "had separate speakers" not in page
    assert "SYNTHETIC" in page.partition("## Use")[0]


def test_where_test_recordings_stay_apart_the_page_counts_those_that_trained():
    assert "The files hold a student of all speakers" in card()
    trained = {"corpus": "EMO-DB", "recordings": 408, "speakers": 10}
    page = card(corpus="EMO-DB → RAVDESS", exported_training=trained)
    assert "The files hold a student of all recordings but the test ones" in page
    assert "- **Recordings:** EMO-DB, 408 of 10 speakers, " in page
    assert f", {CORPORA['EMO-DB'].origin.licence}." in page


def test_what_else_the_student_learnt_from_stands_beside_its_licence():
    start = {"run": "s", "corpus": "TESS", "synthetic": False, "student": "all speakers", "classifier": "new",
             "licence": "TESS: CC BY-NC-ND 4.0"}  # fmt: skip
    page = card(start=start, unlabelled={"share": 0.5, "sentence": "900 clips of RAVDESS"})
    assert "- **Start:** all layers but the classifier of the run s on TESS" in page
    assert "Licence: TESS: CC BY-NC-ND 4.0." in page
    assert "- **Unlabelled:** 900 clips of RAVDESS. They are 50.0 % of each batch." in page


def test_the_least_known_class_is_one_that_was_tested():
    pooled = {**METRICS["pooled"], "recall_per_class": {"anger": 0.8, "joy": None, "fear": 0.25}}
    assert "- Least known: fear, of which 25.0 % are recognised." in card(pooled=pooled)
    assert "Least known" not in card(pooled={**pooled, "recall_per_class": {"joy": None}})


@pytest.mark.parametrize(("student", "merges"), [("bert_vggish", True), ("light_sernet", False)])
def test_files_that_take_something_else_are_no_audio_classifiers(student, merges):
    config = copy.deepcopy(CONFIG)
    config["settings"]["merge_tflite"] = merges
    page = card(config=config, student={**METRICS["student"], "name": student})
    assert "pipeline_tag" not in facts(page)
    assert "The files take states of BERT and a mask." in page
    assert "classify" not in page


def test_without_intervals_int8_or_a_known_corpus_the_page_stands():
    export = {**EXPORT, "rows": [row for row in EXPORT["rows"] if row["precision"] != "int8"]}
    page = card(export=export, ci95=None, corpus="my calls", teacher=None)
    assert f'Runner("{export["rows"][0]["file"]}")' in page
    assert "my calls" in page
    assert "Teacher" not in page
