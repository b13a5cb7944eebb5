"""What the page says of a teacher beside the student alone and the taught student."""

import copy

from report_facts import CONFIG, METRICS, tables

from light_sernet_kd.reporting.report import report


def gain(points, interval=None):
    return {"ua": points / 100, "ci95": interval and [end / 100 for end in interval]}


FOUND = {
    "run": "pure_it",
    "command": "light-sernet-kd train --run it-alone",
    "folds": [
        {
            "name": "ann",
            "ua": {"teacher": 0.835, "alone": 0.723, "taught": 0.761},
            "gains": {
                "taught_less_alone": gain(3.8),
                "teacher_less_alone": gain(11.2),
                "taught_less_teacher": gain(-7.4),
            },
        }
    ],
    "pooled": {
        "ua": {"teacher": 0.812, "alone": 0.701, "taught": 0.702},
        "gains": {
            "taught_less_alone": gain(0.1, [-4.2, 4.4]),
            "teacher_less_alone": gain(11.1, [6.0, 16.5]),
            "taught_less_teacher": gain(-11.0, [-15.1, -7.2]),
        },
    },
}
GATE = {
    "verdict": "knows more",
    "sentence": "Teacher gate: on 96 utterances of 2 training speakers the teacher knows more.",
    "cross_fitted_ua": 0.8351,
    "compared": None,
}


def page(**teacher):
    metrics = copy.deepcopy(METRICS)
    metrics["teacher"] |= teacher
    return report(metrics, CONFIG, export=None)


def test_the_three_stand_beside_one_another_after_the_folds():
    text = page(beside=FOUND)
    table = tables(text)[1]
    assert [[cell.replace("\\", "") for cell in row.values()] for row in table] == [
        ["ann", "83.5", "72.3", "76.1", "+3.8", "+11.2", "-7.4"],
        ["pooled", "81.2", "70.1", "70.2", "+0.1 [-4.2, +4.4]", "+11.1 [+6.0, +16.5]", "-11.0 [-15.1, -7.2]"],
    ]
    assert "is the run pure_it: the same training without a teacher" in text
    assert "--run it-alone" not in text


def test_a_student_alone_that_was_not_run_has_its_command():
    found = copy.deepcopy(FOUND) | {"run": None}
    for row in (*found["folds"], found["pooled"]):
        del row["ua"]["alone"], row["gains"]["taught_less_alone"], row["gains"]["teacher_less_alone"]
    text = page(beside=found)
    assert [*tables(text)[1][0].values()] == ["ann", "83.5", "not run", "76.1", "–", "–", "-7.4"]
    assert "```sh\nlight-sernet-kd train --run it-alone\n```" in text


def test_what_the_gate_found_is_a_line_of_what_was_run():
    text = page(gate=GATE)
    line = next(each for each in text.splitlines() if each.startswith("- **Teacher gate:**"))
    assert line == (
        "- **Teacher gate:** On 96 utterances of 2 training speakers the teacher knows more. Of training "
        "utterances, each answered by what was trained without its speaker, the teacher reaches UA 83.5 %."
    )
    assert "UA 83.5 %" not in page(gate=GATE | {"cross_fitted_ua": None})
    assert "Teacher gate" not in page()
