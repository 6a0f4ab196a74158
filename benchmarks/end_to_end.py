"""From the first import to an evaluated prediction of an unseen cell type, stage by stage, as a user would run it.

python benchmarks/end_to_end.py [--cell-type "CD4 T cells"]
"""

from __future__ import annotations

import argparse
import logging
import time
import warnings
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

KEYS = {"cell_type_key": "cell_type", "batch_key": "donor"}


def stages(cell_type: str) -> Iterator[str]:
    """Names of the stages, each after it was done; the scores at the end."""
    from tasks import read_counts

    import pertcast as pc

    yield "imports"
    adata = read_counts("kang2018_ifnb")
    pc.pp.split(adata, "context", hold_out=[cell_type], **KEYS)
    yield "reading, normalising, splitting"
    pc.PerturbDiff.setup_anndata(adata, split_key="split", **KEYS)
    model = pc.PerturbDiff(adata)
    yield "`setup_anndata` and the model"
    model.train(accelerator="cpu", enable_progress_bar=False)
    yield "`train`"
    here = (adata.obs["cell_type"] == cell_type).to_numpy()
    is_control = (adata.obs["perturbation"] == "control").to_numpy()
    predicted = model.predict(adata[here & is_control], ["IFN-beta"], progressbar=False)
    yield "`predict`"
    scores = pc.tl.evaluate(
        adata[here],
        predicted,
        control="control",
        train=adata[(adata.obs["split"] == "train").to_numpy()],
        perturbation_key="perturbation",
        groupby="cell_type",
        metrics=["energy_distance", "shift_pearson"],
    )
    yield "`evaluate`, with baselines and ceiling"
    print(pc.tl.summarize(scores).to_string())


def main() -> None:
    """Print the seconds of every stage."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cell-type", default="CD4 T cells")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    begin = last = time.perf_counter()
    print("| stage | s |\n|---|---|")
    for stage in stages(arguments.cell_type):
        now = time.perf_counter()
        print(f"| {stage} | {now - last:.1f} |", flush=True)
        last = now
    print(f"| all | {time.perf_counter() - begin:.1f} |")


if __name__ == "__main__":
    main()
