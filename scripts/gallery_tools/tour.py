"""Executes docs/tour.ipynb and keeps what came out, without what belongs to this machine."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parents[2]
TOUR = ROOT / "docs" / "tour.ipynb"


def execute(notebook: nbformat.NotebookNode, folder: str) -> None:
    """Runs all cells in a folder, with this Python."""
    os.environ["PYTHONPATH"] = str(ROOT)
    client = NotebookClient(
        notebook, timeout=120, kernel_name="python3", resources={"metadata": {"path": folder}}
    )
    # Not the kernel that is installed under this name, but the Python that runs this.
    manager = client.create_kernel_manager()
    manager.kernel_spec.argv[0] = sys.executable
    client.execute()


def main() -> None:
    notebook = nbformat.read(TOUR, as_version=4)
    with tempfile.TemporaryDirectory() as folder:
        execute(notebook, folder)
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        for output in cell.get("outputs", []):
            if output.output_type == "stream":  # as who reads it would type it
                output.text = output.text.replace(sys.executable, "python")
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    nbformat.write(notebook, TOUR)


if __name__ == "__main__":
    main()
