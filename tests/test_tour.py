"""The notebook of the guide, from top to bottom, in a kernel of its own."""

import os
import sys
from pathlib import Path

import pytest

NOTEBOOK = Path(__file__).parents[1] / "docs" / "tutorials" / "tour.ipynb"
nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")


@pytest.fixture
def clean_environment(monkeypatch):
    for name in [name for name in os.environ if name.startswith("MLFLOW_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.setenv("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", "false")
    monkeypatch.setenv("PYTHONPATH", str(NOTEBOOK.parents[2]))


def pictures(cells):
    return [out for cell in cells for out in cell.get("outputs", []) if "image/png" in out.get("data", {})]


def test_outputs_of_all_cells_are_stored_and_name_no_folder_of_a_machine():
    cells = [cell for cell in nbformat.read(NOTEBOOK, as_version=4).cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert len(pictures(cells)) == 2 and NOTEBOOK.stat().st_size < 1_000_000
    shown = str([cell.outputs for cell in cells])
    assert "Traceback" not in shown and "/tmp/" not in shown and str(Path.home()) not in shown


@pytest.mark.slow
def test_it_runs_from_top_to_bottom(clean_environment, tmp_path):
    # The kernel is this Python's, whatever kernels the machine has installed.
    manager = nbclient.client.KernelManager()
    manager.kernel_spec.argv[0] = sys.executable
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    client = nbclient.NotebookClient(notebook, timeout=900, km=manager, resources={"metadata": {"path": str(tmp_path)}})
    client.execute()
    said = "".join(out.get("text", "") for cell in notebook.cells for out in cell.get("outputs", []))
    assert "Research use only - " in said
    assert "test/dice" in said and "comparison.html" in said
    assert len(pictures(notebook.cells)) == 2
