"""Published E-distances of scPerturb: the benchmark script ranks knock-outs as they do."""

from __future__ import annotations

import importlib
from pathlib import Path

import anndata as ad
import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.mark.slow
def test_knock_outs_are_ranked_as_by_scperturb(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    benchmark = importlib.import_module("edistance_ranking")
    for path, variable in ((benchmark.SCREEN, "PERTCAST_DATA"), (benchmark.PUBLISHED, "PERTCAST_SIDE")):
        if not path.exists():
            pytest.skip(f"{path} does not exist; set {variable} to its folder")
    distances, correlations = benchmark.compare(ad.read_h5ad(benchmark.SCREEN), benchmark.PUBLISHED)
    assert len(distances) >= 20
    assert min(correlations.values()) >= 0.75
    assert distances.index[-1] in {"IFNGR1", "IFNGR2", "JAK2", "STAT1"}
