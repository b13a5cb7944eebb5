"""The notebook of docs/ runs cell by cell, and holds no output that nobody produced."""

import contextlib
import io
import json

import pytest
from conftest import REPOSITORY

import light_sernet_kd

NOTEBOOK = json.loads((REPOSITORY / "docs" / "tour.ipynb").read_text(encoding="utf-8"))
CELLS = [cell for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code"]


def test_no_output_is_stored():
    assert NOTEBOOK["nbformat"] == 4
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in CELLS)
    ids = [cell["id"] for cell in NOTEBOOK["cells"]]
    assert len(set(ids)) == len(ids)


@pytest.mark.usefixtures("shallow_here", "undrawn", "eager")
def test_the_cells_run_one_after_another(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown):
        for number, cell in enumerate(CELLS):
            exec(compile("".join(cell["source"]), f"cell {number}", "exec"), names)
    run = light_sernet_kd.Run.load("result/tour")
    assert names["run"].scores == run.scores
    assert len(run.predictions.ids) == 12
    assert all(name in shown.getvalue() for name in run.predictions.ids)
    assert names["result"].label in ("anger", "sadness")
    assert names["student"].classify(names["sound"], sample_rate=names["rate"]).label == names["result"].label
    assert names["history"]["accuracy"][-1] > 0.7
