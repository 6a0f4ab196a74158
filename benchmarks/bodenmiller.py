"""Blood cells measured by mass cytometry (Bodenmiller 2012, 45,362 cells): single conditions held out.

python benchmarks/bodenmiller.py [--seeds 3] [--out bodenmiller.csv]
"""

from __future__ import annotations

import argparse

import anndata as ad
from heldout import data_file, main

HELD_OUT = [("cd4+", "PMA/Ionomycin"), ("igm+", "BCR/FcR-XL"), ("cd14-surf-", "vanadate")]

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--seeds", type=int, default=3)
parser.add_argument("--out")
arguments = parser.parse_args()

main(
    ad.read_h5ad(data_file("bodenmiller2012_cytof")),
    HELD_OUT,
    batch_key="batch",
    seeds=arguments.seeds,
    out=arguments.out,
)
