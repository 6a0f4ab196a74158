from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from scvi.model.base import BaseModelClass

from pertcast.data import register_anndata

if TYPE_CHECKING:
    from collections.abc import Callable

PERTURBATIONS = ["control", "A", "B/x", "A+B/x", "B/x+A"]


def build_screen(n_cells: int = 600, n_genes: int = 12, seed: int = 0, sparse: bool = True) -> anndata.AnnData:
    """Cells in random order: 3 cell types x 3 donors x 4 perturbations, one of them under two names."""
    rng = np.random.default_rng(seed)
    values = rng.gamma(2.0, 1.0, (n_cells, n_genes)) * (rng.random((n_cells, n_genes)) < 0.4)
    obs = pd.DataFrame(
        {
            "perturbation": rng.permutation(np.resize(PERTURBATIONS, n_cells)),
            "cell_type": rng.permutation(np.resize(["T", "B", "mono"], n_cells)),
            "donor": rng.permutation(np.resize(["d2", "d10", "d1"], n_cells)),
            "sex": rng.permutation(np.resize(["f", "m"], n_cells)),
            "age": rng.normal(40, 10, n_cells),
        },
        index=[f"cell{i}" for i in range(n_cells)],
    )
    obs["dose"] = np.where(obs["perturbation"] == "control", np.nan, rng.permutation(np.resize([0.5, 10.0], n_cells)))
    X = values.astype(np.float32)
    var = pd.DataFrame(index=[f"g{i}" for i in range(n_genes)])
    return anndata.AnnData(sp.csr_matrix(X) if sparse else X, obs=obs, var=var)


class ToyModel(BaseModelClass):
    """The smallest model that can be set up, saved and loaded."""

    def __init__(self, adata: Any = None, registry: Any = None) -> None:
        super().__init__(adata, registry)
        import torch
        from scvi.module.base import BaseModuleClass

        class Module(BaseModuleClass):
            def __init__(self, n_perturbation: int, n_cell_type: int) -> None:
                super().__init__()
                self.table = torch.nn.Embedding(n_perturbation, n_cell_type)

        self.module = Module(self.summary_stats["n_perturbation"], self.summary_stats["n_cell_type"])
        self.init_params_ = self._get_init_params(locals())

    @classmethod
    def setup_anndata(
        cls,
        adata: Any,
        perturbation_key: str = "perturbation",
        control: str = "control",
        cell_type_key: str | None = "cell_type",
        batch_key: str | None = None,
        layer: str | None = None,
        counts_layer: str | None = None,
        dosage_key: str | None = None,
        perturbation_embedding_key: str | None = None,
        categorical_covariate_keys: list[str] | None = None,
        continuous_covariate_keys: list[str] | None = None,
        split_key: str | None = None,
        **kwargs: Any,
    ) -> None:
        args = cls._get_setup_method_args(**locals())
        register_anndata(cls, adata, setup_method_args=args, **args["setup_args"], **kwargs)

    @classmethod
    def setup_mudata(
        cls,
        mdata: Any,
        perturbation_key: str = "perturbation",
        control: str = "control",
        cell_type_key: str | None = "cell_type",
        batch_key: str | None = None,
        layer: str | None = None,
        counts_layer: str | None = None,
        dosage_key: str | None = None,
        perturbation_embedding_key: str | None = None,
        categorical_covariate_keys: list[str] | None = None,
        continuous_covariate_keys: list[str] | None = None,
        split_key: str | None = None,
        modalities: dict[str, str] | None = None,
        **kwargs: Any,
    ) -> None:
        args = cls._get_setup_method_args(**locals())
        register_anndata(cls, mdata, setup_method_args=args, **args["setup_args"], **kwargs)

    def train(self) -> None:
        """Nothing to learn."""


@pytest.fixture
def make_screen() -> Callable[..., anndata.AnnData]:
    """Build an unregistered screen."""
    return build_screen


@pytest.fixture
def toy_model() -> type[ToyModel]:
    """Give a model class to register screens with."""
    return ToyModel
