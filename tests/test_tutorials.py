"""The notebooks as they are stored; ``docs/execute_notebooks.py`` runs them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

TUTORIALS = Path(__file__).resolve().parents[1] / "tutorials"
NOTEBOOKS = sorted(TUTORIALS.glob("*.ipynb"))


def cells(path: Path, kind: str) -> list[dict[str, Any]]:
    return [cell for cell in json.loads(path.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == kind]


def test_the_gallery_shows_every_notebook() -> None:
    gallery = (TUTORIALS / "index.md").read_text(encoding="utf-8")
    names = {path.stem for path in NOTEBOOKS}
    assert set(re.findall(r"^:link: (\w+)$", gallery, flags=re.MULTILINE)) == names
    tree = gallery.partition("{toctree}")[2]
    assert {line for line in tree.splitlines() if re.fullmatch(r"\w+", line)} == names
    assert set(re.findall(r"thumbnails/(\w+)\.png", gallery)) == names


def test_docs_read_the_same_folder() -> None:
    assert (TUTORIALS.parent / "docs" / "tutorials").resolve() == TUTORIALS


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_was_run_from_top_to_bottom(path: Path) -> None:
    code = cells(path, "code")
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell["outputs"]]
    assert not [output for output in outputs if output["output_type"] == "error" or output.get("name") == "stderr"]
    assert any("image/png" in output.get("data", {}) for output in outputs), "the gallery needs a picture"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_says_what_it_is_and_nothing_about_the_machine(path: Path) -> None:
    title = "".join(cells(path, "markdown")[0]["source"]).splitlines()[0]
    assert title.startswith("# ")
    outputs = json.dumps([output for cell in cells(path, "code") for output in cell["outputs"]])
    plain = re.sub(r"\\u001b\[[0-9;]*m", "", outputs)  # without colours
    assert not re.findall(r"(?<![\w.:/])/(?:home|root|tmp|work|Users|var)/", plain)
