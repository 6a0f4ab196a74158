"""Names under which the fields of a screen are registered with scvi-tools."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["REGISTRY_KEYS"]


class _RegistryKeys(NamedTuple):
    """Registry keys; ``X`` and the covariate keys are those that scvi-tools itself uses."""

    X: str = "X"
    COUNTS: str = "counts"
    PERTURBATION: str = "perturbation"
    CELL_TYPE: str = "cell_type"
    BATCH: str = "batch"
    DOSAGE: str = "dosage"
    COVARIATES: str = "extra_categorical_covs"
    CONTINUOUS: str = "extra_continuous_covs"
    SPLIT: str = "split"
    EMBEDDING: str = "perturbation_embedding"


REGISTRY_KEYS = _RegistryKeys()
