"""The table of a training's epochs, and what is said of one that is not whole."""

import re

import pytest

from light_sernet_kd.training.history import read_history, write_history


@pytest.mark.parametrize(
    ("text", "epochs", "why"),
    [
        ("epoch,loss\n", None, "has no epochs"),
        ("epoch,loss\n1,0.5\n", 2, "has 1 epoch; expected 2"),
        ("epoch,loss\n1,0.5\n2,0.4\n3,0.3\n", 2, "has 3 epochs; expected 2"),
        ("epoch\n1\n", None, "has the columns epoch; expected epoch and others"),
        ("loss,accuracy\n1,0.5\n", None, "has the columns loss, accuracy; expected epoch and others"),
        ("epoch,loss\n1,0.5\n2,0.", None, "ends inside a row"),
        ("epoch,loss\n1\n", None, ": row 1 has 1 value for 2 columns"),
    ],
)
def test_what_is_missing_is_said(tmp_path, text, epochs, why):
    (tmp_path / "history.csv").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=f"history.csv ?{re.escape(why)}$"):
        read_history(tmp_path / "history.csv", epochs)


def test_a_table_is_read_as_it_was_written(tmp_path):
    write_history(tmp_path / "history.csv", {"loss": [0.5, 0.25], "accuracy": [0.1, 1.0]})
    assert read_history(tmp_path / "history.csv", 2) == {"loss": [0.5, 0.25], "accuracy": [0.1, 1.0]}
