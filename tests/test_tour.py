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


def test_the_notebook_is_kept_without_output():
    for cell in nbformat.read(NOTEBOOK, as_version=4).cells:
        assert cell.cell_type == "markdown" or (not cell.outputs and cell.execution_count is None)


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
    pictures = [out for cell in notebook.cells for out in cell.get("outputs", []) if "image/png" in out.get("data", {})]
    assert len(pictures) == 2
