"""PBMCs under interferon beta (Kang 2018): each of three cell types held out in turn, three seeds.

python benchmarks/kang.py [--seeds 3] [--out kang.csv]
"""

from __future__ import annotations

import argparse

import anndata as ad
import scanpy as sc
from heldout import data_file, main

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--seeds", type=int, default=3)
parser.add_argument("--cell-types", nargs="+", default=["CD14+ Monocytes", "CD4 T cells", "B cells"])
parser.add_argument("--out")
arguments = parser.parse_args()

adata = ad.read_h5ad(data_file("kang2018_ifnb"))
sc.pp.normalize_total(adata, target_sum=1e4)
sc.pp.log1p(adata)
main(
    adata,
    [(cell_type, "IFN-beta") for cell_type in arguments.cell_types],
    batch_key="donor",
    seeds=arguments.seeds,
    out=arguments.out,
)
