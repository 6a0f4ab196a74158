"""Execute the tutorials: ``python docs/execute_notebooks.py [--check] [NAME ...]``.

Each notebook runs in a kernel of its own, in an empty folder, and is written back with its outputs. ``--check`` writes
nothing: it only tells whether all of them run. ``PERTCAST_SMALL=1`` makes them small, ``PERTCAST_DATA`` names a folder
with datasets for machines without internet.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

TUTORIALS = Path(__file__).resolve().parent / "tutorials"
KEPT_METADATA = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}


def execute(path: Path, *, timeout: int, write: bool) -> None:
    """Run a notebook; write it back with its outputs, but without messages on stderr and times of execution."""
    notebook = nbformat.read(path, as_version=4)
    with tempfile.TemporaryDirectory() as folder:
        NotebookClient(
            notebook,
            timeout=timeout,
            kernel_name="python3",
            extra_arguments=["--log-level=ERROR"],
            resources={"metadata": {"path": folder}},
        ).execute()
    if not write:
        return
    for cell in notebook.cells:
        cell.metadata = {key: value for key, value in cell.metadata.items() if key == "tags"}
        if cell.cell_type == "code":
            cell.outputs = [each for each in cell.outputs if each.get("name") != "stderr"]
    notebook.metadata = {**KEPT_METADATA, "language_info": {"name": "python"}}
    nbformat.write(notebook, path)


def main() -> int:
    """Execute the notebooks that are named, or all; return 1 if one fails."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="notebooks without .ipynb; all by default")
    parser.add_argument("--check", action="store_true", help="write nothing")
    parser.add_argument("--timeout", type=int, default=1800, metavar="SECONDS", help="longest time of a cell")
    options = parser.parse_args()
    known = {path.stem: path for path in sorted(TUTORIALS.glob("*.ipynb"))}
    unknown = [name for name in options.names if name not in known]
    if unknown:
        parser.error(f"no notebook {unknown[0]!r}; there are {', '.join(known)}")

    os.environ.setdefault("PYTHONWARNINGS", "ignore")
    failed = []
    for name in options.names or known:
        start = time.perf_counter()
        try:
            execute(known[name], timeout=options.timeout, write=not options.check)
        except CellExecutionError as error:
            failed.append(name)
            sys.stdout.write(f"{name}: FAILED with {error.ename}: {error.evalue}\n")
        else:
            sys.stdout.write(f"{name}: {time.perf_counter() - start:.0f} s\n")
        sys.stdout.flush()
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
