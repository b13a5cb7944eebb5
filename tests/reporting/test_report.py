"""The page says what the dictionaries say: rendered, then read back."""

import copy
import json
import re

import pytest
from report_facts import CONFIG, EXPORT, METRICS, STAMP, score, tables

from light_sernet_kd.config import make_settings
from light_sernet_kd.reporting.report import report


def changed(**values):
    return {**copy.deepcopy(METRICS), **values}


def one_decimal(share):
    return f"{100 * share:.1f}"


def test_the_page_begins_with_the_answer_and_its_intervals():
    lines = report(METRICS, CONFIG, export=None).splitlines()
    assert lines[0] == "# Light-SERNet+ on EMO-DB, leave one speaker out"
    assert lines[2] == (
        "**UA 85.3 %** [80.1, 89.7], **WA 86.4 %** [81.2, 90.8] "
        "— leave one speaker out, 535 test predictions in 3 folds."
    )


def test_a_number_that_changes_over_the_epochs_is_told_in_words():
    config = copy.deepcopy(CONFIG)
    config["resolved"]["distillation"] = {"name": "KD", "alpha": "0.9>0.3", "temperature": 4.0}
    page = report(METRICS, config, export=None)
    assert "- **Method:** KD (alpha 0.9 to 0.3 over the epochs, temperature 4.0); loss" in page


@pytest.mark.parametrize("speakers", [["03"], 1])  # older runs have the number alone
def test_one_speaker_is_no_speakers(speakers):
    page = report(changed(speakers=speakers), CONFIG, export=None)
    assert "1,343 utterances, 1 speaker, 3 emotions" in page


def test_the_fold_table_is_the_folds():
    rows = tables(report(METRICS, CONFIG, export=None))[0]
    assert [row["fold"] for row in rows] == ["fold_0", "fold_1", "fold_2", "pooled"]
    for row, fold in zip(rows, METRICS["folds"], strict=False):
        assert row == {
            "fold": fold["name"],
            "test speakers": fold["test_speakers"][0],
            "validation speakers": fold["validation_speakers"][0],
            "kept epoch": str(fold["best_epoch"]),
            "of epochs": "300",
            "UA": one_decimal(fold["ua"]),
            "WA": one_decimal(fold["wa"]),
            "macro F1": one_decimal(fold["macro_f1"]),
            "weighted F1": one_decimal(fold["weighted_f1"]),
            "last epoch: UA": one_decimal(fold["last_epoch"]["ua"]),
            "last epoch: WA": one_decimal(fold["last_epoch"]["wa"]),
            "seconds": f"{fold['seconds']:,.0f}",
        }
    assert (rows[-1]["UA"], rows[-1]["macro F1"], rows[-1]["last epoch: UA"]) == ("85.3", "83.1", "84.2")


@pytest.mark.parametrize(("keep", "sentence"), [
    ("best", "is the one whose weights the protocol chose"),
    ("last", "The weights of the last epoch were kept."),
    ("mean", "The mean of the weights over the last quarter of the epochs was kept"),
])  # fmt: skip
def test_the_fold_table_says_which_weights_were_kept(keep, sentence):
    config = copy.deepcopy(CONFIG)
    config["settings"]["keep"] = keep
    page = report(METRICS, config, export=None)
    assert sentence in page
    kept = [row["kept epoch"] for row in tables(page)[0][:-1]]
    assert kept == ["–" if keep == "mean" else str(fold["best_epoch"]) for fold in METRICS["folds"]]


def test_the_recall_table_is_the_pooled_recall_and_none_is_no_utterance():
    rows = tables(report(METRICS, CONFIG, export=None))[1]
    assert [list(row.values()) for row in rows] == [
        ["anger", "127", "86.3", "85.2"],
        ["fear", "6", "84.3", "83.2"],
        ["surprise", "0", "no test utterance", "–"],
    ]
    assert list(rows[0]) == ["class", "test utterances", "recall %", "last epoch: recall %"]


def test_the_calibration_table_is_that_of_the_test_probabilities():
    page = report(METRICS, CONFIG, export=None)
    rows = tables(page)[2]
    assert [row["test probabilities"] for row in rows] == ["as trained", "temperature scaled"]
    for row, told in zip(rows, (METRICS["calibration"][when] for when in ("before", "after")), strict=True):
        assert (row["ECE %"], row["by chance %"]) == (
            one_decimal(told["ece"]),
            one_decimal(told["ece_by_chance"]),
        )
        assert (row["NLL"], row["Brier score"]) == (f"{told['nll']:.3f}", f"{told['brier']:.3f}")
        assert row["from 0.45 on: share %"] == one_decimal(told["sure"])
    assert "over 12 bins" in page
    assert "on its test predictions: fold_0 1.40, fold_1 1.50, fold_2 1.60." in page
    assert "divide their logits by 1.57. The student in them was trained on the validation speakers" in page
    assert "fitted on all folds' validation predictions, their temperature is 0.321 times" in page
    assert "](reliability.png)" in page
    assert [list(row.values()) for row in tables(page)[3]] == [
        ["the folds' students", "their test utterances", "133", "71.1", "82.3"],
        ["the folds' students", "some of their training utterances", "2,945", "75.6", "86.7"],
        ["the exported student", "its training utterances", "1,343", "77.8", "88.9"],
    ]
    assert "Files for the device" not in report(
        changed(calibration=METRICS["calibration"] | {"files": None, "temperature": None}),
        CONFIG,
        export=None,
    )


def test_why_there_is_no_temperature_is_said():
    told = METRICS["calibration"] | {"after": None, "temperature": None}
    told["folds"] = [{**fold, "temperature": None} for fold in told["folds"]]
    page = report(changed(calibration=told), CONFIG, export=None)
    assert "- **Not scaled**, for fewer than 23 validation predictions: fold fold_0, fold_1, fold_2." in page
    assert "are not calibrated: all folds together have fewer than 23" in page
    assert "Temperature of each fold" not in page
    told |= {"tests_on_validation": True, "temperature": 1.2}
    page = report(changed(calibration=told), CONFIG, export=None)
    assert "Nothing is scored after scaling" in page
    assert "fitted on all folds' test predictions" in page
    assert "Not scaled" not in page


def test_the_precision_table_is_the_export():
    page = report(METRICS, CONFIG, export=EXPORT)
    assert tables(page)[4] == [
        {
            "precision": "int8",
            "file": "`model_int8.tflite`",
            "kB": "331.2",
            "UA %": "84.3",
            "WA %": "85.1",
            "UA lost (points)": "1.0",
            "probability change: mean": "2.1e-03",
            "95th percentile": "1.2e-02",
            "largest": "1.4e-01",
        }
    ]
    assert "of each of 535 test utterances" in page
    for told in ("48,000 samples at 16,000 Hz (3 s)", "final training: 57.", "Scored on the last fold."):
        assert told in page
    assert "](precision_costs.png)" in page


def test_a_precision_that_costs_much_is_named():
    assert "**More than 0.5 points are lost by int8.** Look at the others" in report(
        METRICS, CONFIG, export=EXPORT
    )
    rows = [
        {**EXPORT["rows"][0], "precision": name, "ua_cost_points": points}
        for name, points in (("float16", 0.0), ("dynamic", 0.51), ("int8", 2.0))
    ]
    page = report(METRICS, CONFIG, export=EXPORT | {"rows": rows})
    assert "lost by dynamic and int8.** Look at the others before you ship one of these; `--qat`" in page
    page = report(METRICS, CONFIG, export=EXPORT | {"rows": rows[:1]})
    assert "points are lost" not in page


def test_what_was_run_is_told_without_reading_the_settings():
    page = report(METRICS, CONFIG, export=None)
    told = page[page.index("## What was run") : page.index("## Folds")]
    for line in (
        "- **Corpus:** EMO-DB, part impro, 1,343 utterances, 2 speakers, 3 emotions: anger, fear, surprise.",
        "- **Input:** mel_spectrogram of 2.5 s (40,000 samples), front end cubic, read by tfio.",
        "- **Method:** CKD (alpha 0.65, temperatures 1.5/2.5); loss on the labels: focal "
        "(label_smoothing 0.05, gamma 2.2); class weights: balanced; logits standardised.",
        "- **Augmentation:** noise,mixup.",
        "- **Training:** schedule cubic, 77 epochs, stopping after 12 without a better one, adam, "
        "batches of 24, learning rate 0.003 (times 0.9 every 310 steps from 21), weight decay 0.0007, "
        "batch norm momentum 0.97, arithmetic bfloat16.",
    ):
        assert f"{line}\n" in told
    plain = copy.deepcopy(CONFIG)
    plain["settings"] |= {"audio_type": "all", "class_weights": "none", "standardise_logits": False}
    plain["settings"] |= {"augmentation": "", "patience": 0}
    plain["resolved"]["distillation"] = {"name": "pure"}
    page = report(METRICS, plain, export=None)
    for line in ("- **Method:** pure; loss on the labels: focal (label_smoothing 0.05, gamma 2.2).",
                 "- **Augmentation:** none.", "77 epochs, adam, batches", "EMO-DB, 1,343"):  # fmt: skip
        assert line in page


def test_one_of_a_kind_is_no_plural():
    pooled = score(0.5, count=1)
    page = report(changed(pooled=pooled, folds=METRICS["folds"][:1]), CONFIG, export=None)
    assert "1 test prediction in 1 fold." in page


def test_without_an_export_no_precision_is_claimed():
    page = report(METRICS, CONFIG, export=None)
    assert "Nothing was exported" in page
    assert len(tables(page)) == 4
    assert "precision_costs.png" not in page


def numbers(text):
    return set(re.findall(r"\d+(?:[.,]\d+)*(?:e[-+]\d+)?", text))


def without_numbers(value):
    """The same dictionary with 0 for each number and no digit in any text."""
    if isinstance(value, dict):
        return {key: without_numbers(item) for key, item in value.items()}
    if isinstance(value, list):
        return [without_numbers(item) for item in value]
    if isinstance(value, str):
        return re.sub(r"\d", "", value)
    return value if isinstance(value, bool) or value is None else 0


def test_no_number_is_on_the_page_that_is_not_in_the_dictionaries():
    export = {**without_numbers(EXPORT), "sample_rate": 1}
    page = report(without_numbers(METRICS), without_numbers(CONFIG), export=export)
    # 3 folds and classes, 2 speakers, 1 skipped; "F1" and "95 % interval" are words.
    assert numbers(page) == {"0", "0.0", "0.00", "0.000", "0.0e+00", "1", "2", "3", "95"}


def leaves(value, path=()):
    for key, item in value.items() if isinstance(value, dict) else enumerate(value):
        if isinstance(item, (dict, list)):
            yield from leaves(item, (*path, key))
        elif isinstance(item, (int, float)) and not isinstance(item, bool):
            yield (*path, key)


def test_every_number_that_changes_changes_the_page_but_for_those_named_here():
    original = report(METRICS, CONFIG, export=EXPORT)
    unshown = set()
    for which, source in enumerate((METRICS, EXPORT)):
        for path in leaves(source):
            both = copy.deepcopy([METRICS, EXPORT])
            *way, last = path
            target = both[which]
            for step in way:
                target = target[step]
            target[last] = target[last] * 2 + 1
            if report(both[0], CONFIG, export=both[1]) == original:
                unshown.add(".".join(str(step) for step in path if isinstance(step, str)))
    # Left to metrics.json: recall of single folds, intervals of F1, F1 of the last epoch.
    assert unshown == {
        "pooled_last_epoch.count",
        "pooled_last_epoch.macro_f1",
        "pooled_last_epoch.weighted_f1",
        "ci95.macro_f1",
        "ci95.weighted_f1",
        # that said where a fold has too few; how many it had is left to metrics.json too
        "calibration.folds.validation_predictions",
        "calibration.fewest_validation_predictions",
        "folds.count",
        *(
            f"{which}.count_per_class.{name}"
            for which in ("pooled_last_epoch", "folds", "folds.last_epoch")
            for name in ("anger", "fear", "surprise")
        ),
        *(f"folds.recall_per_class.{name}" for name in ("anger", "fear")),
        "folds.last_epoch.count",
        "folds.last_epoch.macro_f1",
        "folds.last_epoch.weighted_f1",
        *(f"folds.last_epoch.recall_per_class.{name}" for name in ("anger", "fear")),
    }


def test_a_stamp_stands_right_under_the_answer_and_honesty_is_only_claimed_without_one():
    lines = report(changed(stamps=[STAMP]), CONFIG, export=None).splitlines()
    assert lines[4] == f"> - **STAMP: {STAMP}**"
    assert "honest" not in "\n".join(lines)
    honest = report(METRICS, CONFIG, export=None)
    assert "honest score" in honest.splitlines()[4]
    assert "STAMP:" not in honest


def test_a_warning_stands_beside_the_stamps_and_no_score_is_called_honest_without_it():
    warning = "never predicted: fear (12 test utterances)"
    lines = report(changed(warnings=[warning]), CONFIG, export=None).splitlines()
    assert lines[4] == f"> - **WARNING: {warning}**"
    assert "honest" not in "\n".join(lines)
    lines = report(changed(warnings=[warning], stamps=[STAMP]), CONFIG, export=None).splitlines()
    assert lines[4:6] == [f"> - **STAMP: {STAMP}**", f"> - **WARNING: {warning}**"]
    assert "honest score" in report(changed(warnings=[]), CONFIG, export=None)


def test_a_teachers_licence_and_what_it_reaches_with_known_speakers_are_told():
    known = {"ua": 0.834, "wa": 0.847, "stamp": "it knew them"}
    teacher = {**METRICS["teacher"], "licence": "for research", "known_speakers": known}
    page = report(changed(teacher=teacher), CONFIG, export=None)
    assert "standardised by that speaker's own, they reach UA 83.4 %, WA 84.7 %; **it knew them**." in page
    assert "Its licence: for research." in page


def test_a_teachers_stamp_is_shown_once_and_forbids_the_claim_of_honesty():
    teacher = {**METRICS["teacher"], "stamps": ["the teacher may know the test speakers"]}
    for own in ([], teacher["stamps"]):
        page = report(changed(teacher=teacher, stamps=own), CONFIG, export=None)
        assert page.count("the teacher may know the test speakers") == 1
        assert "honest" not in page


def test_a_synthetic_corpus_is_named_in_title_and_first_line():
    lines = report(changed(synthetic=True), CONFIG, export=None).splitlines()
    assert "EMO-DB (SYNTHETIC)," in lines[0]
    assert lines[2].startswith("**Synthetic recordings")
    assert "ynthetic" not in report(METRICS, CONFIG, export=None)


def test_none_is_shown_as_absent_never_as_a_number():
    metrics = changed(ci95=None, teacher=None, pooled_last_epoch=None, mean_over_folds={"ua": [0.9, None]})
    metrics["student"]["width"] = None
    metrics["folds"][0].update(best_epoch=None, last_epoch=None, seconds=None)
    page = report(metrics, CONFIG, export={**EXPORT, "final_epochs": None})
    assert page.splitlines()[2].startswith("**UA 85.3 %**, **WA 86.4 %** —")
    assert "There is no interval (bootstrap over speakers)." in page
    assert "labels alone" in page
    assert "UA 90.0 ± –" in page
    row = tables(page)[0][0]
    assert [row[name] for name in ("kept epoch", "last epoch: UA", "last epoch: WA", "seconds")] == ["–"] * 4
    assert "None" not in page


def test_what_was_left_out_is_counted_and_what_was_skipped_is_named():
    page = report(METRICS, CONFIG, export=None)
    assert "- label xxx: 12\n" in page
    assert "- skipped as unreadable or wrong, as `--skip-bad` asks: 1\n  - a\\|b: empty file\n" in page
    assert "every recording" in report(changed(left_out={}, skipped=[]), CONFIG, export=None)
    many = [{"id": f"u{n}", "reason": "too short"} for n in range(25)]
    assert "and 5 more, all in metrics.json" in report(changed(skipped=many), CONFIG, export=None)


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("a|b", "a\\|b"),
        ("light_sernet", "light_sernet"),
        ("_x_", "\\_x\\_"),
        ("two\nlines", "two lines"),
        ("<b>*", "\\<b\\>\\*"),
    ],
)
def test_a_name_cannot_break_the_page(name, shown):
    pooled = score(0.5, recall_per_class={name: 0.5}, count_per_class={name: 3})
    metrics = changed(classes=[name], pooled=pooled)
    assert f"| {shown} | 3 | 50.0 | – |" in report(metrics, CONFIG, export=None)


def test_the_page_tells_how_to_repeat_the_run_and_shows_its_pictures():
    page = report(METRICS, CONFIG, export=None)
    assert f"```sh\n{METRICS['command']}\n```" in page
    assert json.loads(re.search(r"```json\n(.*?)\n```", page, re.S)[1]) == CONFIG
    assert "](confusion_matrix.png)" in page
    assert "](curves.png)" in page
    assert "embeddings.png" not in page
    assert "](embeddings.png)" in report(METRICS, CONFIG, export=None, embeddings=True)
    assert "UA 95.8 %, WA 96.3 %" in page
    assert "234,567 parameters, width 32" in page


def test_many_speakers_are_counted_few_are_named():
    metrics = changed()
    metrics["folds"][0]["test_speakers"] = [f"s{n}" for n in range(9)]
    metrics["folds"][0]["validation_speakers"] = ["s_1_", "b"]
    row = tables(report(metrics, CONFIG, export=None))[0][0]
    assert row["test speakers"] == "9 speakers"
    assert row["validation speakers"] == "s_1\\_, b"


def given(settings):
    """The line that says which options were given, or None."""
    told = {**CONFIG, "settings": {**CONFIG["settings"], **settings}}
    lines = [line for line in report(METRICS, told, export=None).splitlines() if "**Given:**" in line]
    return lines[0] if lines else None


def test_what_was_given_is_spelled_as_on_the_command_line():
    settings = make_settings(corpus="demo", input_seconds=2.5, folds=("#1",), export=False, patience=5)
    assert given(settings.as_dict()) == (
        "- **Given:** `-dn demo -id 2.5 --folds '#1' --recipe own --patience 5 --no-export`"
    )


def test_a_corpus_with_a_backtick_or_a_space_in_its_name_stays_code():
    settings = make_settings(corpus="my `corpus`/table.csv")
    assert given(settings.as_dict()) == "- **Given:** `` -dn 'my `corpus`/table.csv' --recipe own ``"


def test_nothing_is_said_of_defaults_nor_of_settings_that_are_no_more():
    assert given(make_settings().as_dict()) == "- **Given:** `--recipe own`"
    assert given({**make_settings(corpus="demo").as_dict(), "removed": 1}) is None
    assert given({**make_settings(corpus="demo").as_dict(), "student": "nobody"}) is None
