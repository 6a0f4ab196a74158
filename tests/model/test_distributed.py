"""Training on several devices, here two processes on the CPU."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import torch

if TYPE_CHECKING:
    from pathlib import Path

SCRIPT = """
import os, sys, torch
import pertcast as pc

if __name__ == "__main__":
    adata = pc.data.simulate_screen(12, n_genes=30, n_cell_types=3, n_donors=1, n_perturbations=2, combinations=0)
    pc.PerturbDiff.setup_anndata(adata, cell_type_key="cell_type")
    model = pc.PerturbDiff(adata, n_hidden=16, n_layers=1, set_size=8, n_controls=8, seed=0)
    before = {k: v.clone() for k, v in model.module.network.state_dict().items()}
    model.train(
        max_epochs=2, steps_per_epoch=3, accelerator="cpu", devices=2, strategy="ddp", enable_progress_bar=False
    )
    cells = model.predict(perturbations=["pert_0"], progressbar=False).X
    rank = os.environ.get("LOCAL_RANK", "0")
    torch.save((before, model.module.state_dict(), torch.from_numpy(cells.toarray())), f"{sys.argv[1]}/{rank}.pt")
"""


@pytest.mark.slow
def test_two_processes_end_with_the_same_model(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    environment = {k: v for k, v in os.environ.items() if k not in {"LOCAL_RANK", "NODE_RANK", "WORLD_SIZE"}}
    command = [sys.executable, str(script), str(tmp_path)]
    subprocess.run(command, check=True, env=environment | {"OMP_NUM_THREADS": "1"}, timeout=300)
    (before, here, cells), (_, there, same_cells) = (torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1))
    assert here.keys() == there.keys()
    for name, value in here.items():
        torch.testing.assert_close(value, there[name], rtol=0, atol=0)
    assert any((here[f"network.{name}"] != value).any() for name, value in before.items())
    torch.testing.assert_close(cells, same_cells, rtol=0, atol=0)
