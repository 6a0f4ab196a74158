"""The factors of a screen, one integer code per cell: read from a registered AnnData or from plain columns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pertcast.data._codes import cross_codes
from pertcast.data._constants import REGISTRY_KEYS
from pertcast.data._labels import encode_labels

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import pandas as pd

__all__ = ["ScreenFactors"]

type _Coded = tuple[np.ndarray, Sequence[str]]


@dataclass(frozen=True, eq=False)
class ScreenFactors:
    """What :meth:`ConditionIndex.from_codes` needs, and the split.

    Parameters
    ----------
    perturbation
        Code of each cell into ``labels``, ``[N]``.
    labels
        Perturbation labels as they stand in the data.
    control
        Label of unperturbed cells.
    context
        Code of each cell into ``context_names``, ``[N]``.
    context_names
        Names of the contexts.
    context_table
        Labels that make up each context.
    batch
        Code of each cell into ``batch_names``, ``[N]``.
    batch_names
        Names of the batches.
    dosage
        Dosage of each cell, ``[N]``, or ``None`` for a screen without dosages.
    split
        Code of each cell into ``split_labels``, ``[N]``, -1 where it has none; or ``None``.
    split_labels
        Labels of the split.
    """

    perturbation: np.ndarray
    labels: tuple[str, ...]
    control: str
    context: np.ndarray
    context_names: tuple[str, ...]
    context_table: pd.DataFrame
    batch: np.ndarray
    batch_names: tuple[str, ...]
    dosage: np.ndarray | None = None
    split: np.ndarray | None = None
    split_labels: tuple[str, ...] = ()

    @classmethod
    def from_columns(
        cls,
        perturbation: pd.Series,
        control: str,
        *,
        contexts: Mapping[str, pd.Series] | None = None,
        batch: pd.Series | None = None,
        dosage: pd.Series | None = None,
        split: pd.Series | None = None,
    ) -> ScreenFactors:
        """Encode plain columns.

        Parameters
        ----------
        perturbation
            Perturbation labels.
        control
            Label of unperturbed cells.
        contexts
            Column name to labels of the columns that make up the context.
        batch
            Batch labels.
        dosage
            Dosages.
        split
            Labels of the split.
        """
        n_cells = len(perturbation)
        return cls._assemble(
            encode_labels(perturbation),
            control,
            {name: encode_labels(column) for name, column in (contexts or {}).items()},
            (np.zeros(n_cells, dtype=np.int32), ("all",)) if batch is None else encode_labels(batch),
            None if dosage is None else dosage.to_numpy(),
            None if split is None else encode_labels(split),
        )

    @classmethod
    def from_manager(cls, manager: Any) -> ScreenFactors:
        """Read the codes that a model registered.

        Where another model has registered the same AnnData since, this registration is repeated first.

        Parameters
        ----------
        manager
            The :class:`~scvi.data.AnnDataManager` of a model of this package.
        """
        manager.validate()
        setup = manager.registry["setup_args"]
        state = {key: entry["state_registry"] for key, entry in manager.registry["field_registries"].items()}
        registered = manager.data_registry

        def coded(key: str) -> _Coded:
            return manager.get_from_registry(key).reshape(-1), _strings(state[key]["categorical_mapping"])

        contexts: dict[str, _Coded] = {}
        if setup.get("cell_type_key") is not None:
            contexts[setup["cell_type_key"]] = coded(REGISTRY_KEYS.CELL_TYPE)
        if REGISTRY_KEYS.COVARIATES in registered:
            frame = manager.get_from_registry(REGISTRY_KEYS.COVARIATES)
            mappings = state[REGISTRY_KEYS.COVARIATES]["mappings"]
            contexts |= {name: (frame[name].to_numpy(), _strings(mappings[name])) for name in frame.columns}
        perturbation = coded(REGISTRY_KEYS.PERTURBATION)
        dosage = None
        if REGISTRY_KEYS.DOSAGE in registered:
            has_column = state[REGISTRY_KEYS.DOSAGE]["registered"]
            dosage = (
                manager.get_from_registry(REGISTRY_KEYS.DOSAGE).reshape(-1)
                if has_column
                else np.full(len(perturbation[0]), np.nan, dtype=np.float32)
            )
        split = coded(REGISTRY_KEYS.SPLIT) if REGISTRY_KEYS.SPLIT in registered else None
        return cls._assemble(perturbation, setup["control"], contexts, coded(REGISTRY_KEYS.BATCH), dosage, split)

    @classmethod
    def _assemble(
        cls,
        perturbation: _Coded,
        control: str,
        contexts: Mapping[str, _Coded],
        batch: _Coded,
        dosage: np.ndarray | None,
        split: _Coded | None,
    ) -> ScreenFactors:
        """Cross the context columns and turn names into tuples."""
        context, context_names, table = cross_codes(contexts, len(perturbation[0]))
        return cls(
            perturbation=perturbation[0],
            labels=tuple(perturbation[1]),
            control=control,
            context=context,
            context_names=context_names,
            context_table=table,
            batch=batch[0],
            batch_names=tuple(batch[1]),
            dosage=dosage,
            split=None if split is None else split[0],
            split_labels=() if split is None else tuple(split[1]),
        )


def _strings(names: Iterable[object]) -> list[str]:
    return [str(name) for name in names]
