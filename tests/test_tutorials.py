"""The notebooks as they are stored; ``docs/execute_notebooks.py`` runs them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anndata as ad
import mudata as md
import numpy as np
import pandas as pd
import pertpy
import pytest

import pertcast as pc

if TYPE_CHECKING:
    from collections.abc import Callable

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


def kang() -> ad.AnnData:
    """Counts with the columns of pertpy's file."""
    screen: Any = pc.data.simulate_screen(10, n_genes=60, n_cell_types=3, n_perturbations=1, combinations=0, seed=0)
    label = screen.obs["perturbation"].astype(str).replace({"control": "ctrl", "pert_0": "stim"})
    cell_type = screen.obs["cell_type"].cat.rename_categories(["B cells", "CD14+ Monocytes", "NK cells"])
    obs = pd.DataFrame({"label": label, "cell_type": cell_type, "replicate": screen.obs["donor"]})
    return ad.AnnData(screen.layers["counts"].astype(np.float32), obs=obs, var=pd.DataFrame(index=screen.var_names))


def papalexi() -> md.MuData:
    """RNA as counts and proteins, with labels in the RNA."""
    screen: Any = pc.data.simulate_screen(10, n_genes=60, n_cell_types=1, n_perturbations=3, combinations=0, seed=0)
    target = screen.obs["perturbation"].astype(str).replace({"control": "NT"})
    obs = pd.DataFrame({"gene_target": target, "replicate": screen.obs["donor"]})
    rna = ad.AnnData(screen.layers["counts"].astype(np.float32), obs=obs, var=pd.DataFrame(index=screen.var_names))
    adt = ad.AnnData(np.ones((rna.n_obs, 2), np.float32), obs=obs[[]], var=pd.DataFrame(index=["PDL1", "CD86"]))
    return md.MuData({"rna": rna, "adt": adt})


@pytest.mark.parametrize(
    ("notebook", "loader", "screen"), [("unseen_cell_type", "kang_2018", kang), ("mudata", "papalexi_2021", papalexi)]
)
def test_what_pertpy_downloads_is_taken(
    notebook: str,
    loader: str,
    screen: Callable[[], Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The cells up to the registration run on a screen in the form of pertpy's file."""
    monkeypatch.setattr(pertpy.data, loader, screen)
    monkeypatch.delenv("PERTCAST_SMALL", raising=False)
    names: dict[str, Any] = {}
    for cell in cells(TUTORIALS / f"{notebook}.ipynb", "code"):
        source, _, rest = "".join(cell["source"]).partition("pc.PerturbDiff(")
        lines = source.splitlines()
        exec("\n".join(lines[:-1] if rest else lines), names)  # without the line that builds the model
        if rest:
            break
    assert ", complete" in capsys.readouterr().out
    columns = {"kang_2018": {"label", "cell_type", "replicate"}, "papalexi_2021": {"perturbation", "replicate"}}[loader]
    data = names["adata"] if loader == "kang_2018" else names["mdata"]
    assert columns <= set(data.obs)
