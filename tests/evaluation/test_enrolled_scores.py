"""Scores with recordings of the test speaker known, against loops."""

import numpy as np
import pytest

from light_sernet_kd.evaluation import FoldAnswers, enrolled_scores, known_and_scored
from light_sernet_kd.evaluation.enrolled import CLIPS, DRAWS

CLASSES = ("anger", "fear")
COUNTS = {"ann": 50, "bob": 30, "cyd": 12, "dan": 1}


def folds(strict=None) -> list[FoldAnswers]:
    """A speaker's embeddings lie about the number of the speaker; the answer is whether they lie above what
    is known of the speaker.
    """
    rng = np.random.default_rng(0)
    made = []
    for number, (name, count) in enumerate(COUNTS.items()):
        labels = np.arange(count) % 2
        embeddings = 100.0 * number + 2.0 * labels[:, None] - 1.0 + rng.normal(0, 0.8, (count, 1))
        made.append(
            FoldAnswers(
                labels,
                np.full(count, name),
                np.zeros(count, int) if strict is None else strict(labels),
                embeddings,
                lambda asked, speakers, clips: (
                    np.hstack([speakers - asked, asked - speakers]) * clips[:, None]
                ),
                np.array([[-50.0]]),
            )
        )
    return made


def test_what_may_be_known_is_never_scored():
    speakers = [name for name, count in COUNTS.items() for _ in range(count)]
    for draw in (None, 0, 1):
        for name, (known, scored) in known_and_scored(speakers, draw).items():
            own = [row for row, speaker in enumerate(speakers) if speaker == name]
            assert sorted([*known, *scored]) == own
            assert len(known) == min(20, COUNTS[name] // 2)
    assert known_and_scored(speakers, None)["bob"][0].tolist() == [*range(50, 65)]
    assert (
        known_and_scored(speakers, 0)["bob"][0].tolist() != known_and_scored(speakers, 1)["bob"][0].tolist()
    )
    # A speaker's draw does not depend on who else is tested.
    alone = known_and_scored(["bob"] * 30, 0)["bob"][0]
    assert (alone + 50).tolist() == known_and_scored(speakers, 0)["bob"][0].tolist()


def test_scores_are_those_of_a_loop():
    found = enrolled_scores(folds(), CLASSES, "loso")
    assert found["protocol"] == "loso_enrolled"
    assert (found["recordings"], found["speakers"], found["draws"]) == (30 + 15 + 6 + 1, 4, DRAWS)
    assert [row["clips"] for row in found["curve"]] == [0, *CLIPS]
    for row in found["curve"][1:]:
        right, seen = np.zeros(2), np.zeros(2)
        for draw in range(DRAWS):
            for fold in folds():
                ((known, scored),) = known_and_scored([str(name) for name in fold.speakers], draw).values()
                chosen = fold.embeddings[known[: row["clips"]]]
                for index in scored:
                    # With nothing known the logits are equal, and the first class is the answer.
                    answer = int(len(chosen) > 0 and fold.embeddings[index, 0] > chosen.mean())
                    right[fold.labels[index]] += answer == fold.labels[index]
                    seen[fold.labels[index]] += 1
        assert row["ua"] == pytest.approx(np.mean(right / seen))
        assert row["wa"] == pytest.approx(right.sum() / seen.sum())
    assert found["curve"][0]["ua"] == 0.5
    assert found["curve"][-1]["ua"] > 0.8 > found["other_speaker"]["ua"]
    low, high = found["curve"][-1]["difference_ci95"]
    assert 0 < low <= found["curve"][-1]["ua"] - 0.5 <= high


def test_draws_are_no_further_evidence():
    """Ten equal draws have the interval of one."""
    one = enrolled_scores(folds(lambda labels: labels * (np.arange(len(labels)) % 3 > 0)), CLASSES, "loso")
    assert one["curve"][0]["ci95"] != one["first"][0]["ci95"]  # others are scored
    width = np.diff(one["curve"][0]["ci95"])[0]
    assert width == pytest.approx(np.diff(one["first"][0]["ci95"])[0], abs=0.1)


def test_two_speakers_have_no_interval():
    found = enrolled_scores(folds()[:2], CLASSES, "group_kfold")
    assert found["protocol"] == "group_kfold_enrolled"
    assert not any("ci95" in row or "difference_ci95" in row for row in found["curve"])
