"""A registered screen: everything a model needs to know about its data."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from pertcast.data._constants import REGISTRY_KEYS
from pertcast.data._controls import DEFAULT_MIN_CONTROLS, match_controls
from pertcast.data._factors import ScreenFactors
from pertcast.data._grammar import canonical_names, spellings
from pertcast.data._index import ConditionIndex
from pertcast.data._matrix import row_major
from pertcast.data._messages import shorten
from pertcast.data._split import Part, read_split_labels, split_conditions, split_of_conditions
from pertcast.data._vocabulary import PerturbationVocabulary

if TYPE_CHECKING:
    from collections.abc import Mapping

    from scvi.data import AnnDataManager

    from pertcast.data._controls import MatchedControls
    from pertcast.data._holdout import HoldOutKind
    from pertcast.data._matrix import Matrix
    from pertcast.data._split import ConditionSplit

__all__ = ["Screen", "ScreenMetadata", "screen_from_manager", "screen_metadata_from_registry"]


@dataclass(frozen=True, eq=False, repr=False)
class ScreenMetadata:
    """What the registry of a model says about its training data; no cells are needed.

    Parameters
    ----------
    vocabulary
        Single perturbations of the training data, with their vectors if there are any.
    perturbations
        Canonical names of the perturbations and combinations of the training data, without the control, sorted.
    control
        Label of unperturbed cells.
    cell_types
        Cell types of the training data, in the order of their codes; ``("all",)`` without a cell type column.
    batches
        Batches of the training data, in the order of their codes; ``("all",)`` without a batch column.
    covariate_categories
        Categories of each categorical covariate of the training data.
    continuous_covariates
        Columns of the continuous covariates.
    var_names
        The G genes.
    has_dosage
        Whether the training data have dosages.
    setup_args
        Arguments of ``setup_anndata``.
    spellings
        Label of each perturbation in the training data, by its canonical name, where there is one.

    Examples
    --------
    >>> import pertcast as pc
    >>> adata = pc.data.simulate_screen(6, n_genes=20, n_cell_types=2, n_perturbations=2, combinations=0, seed=0)
    >>> pc.baselines.NoEffect.setup_anndata(adata, cell_type_key="cell_type")
    >>> model = pc.baselines.NoEffect(adata)
    >>> metadata = pc.data.screen_metadata_from_registry(model.registry)
    >>> metadata.perturbations, metadata.cell_types, metadata.batches
    (('pert_0', 'pert_1'), ('type_0', 'type_1'), ('all',))
    """

    vocabulary: PerturbationVocabulary
    perturbations: tuple[str, ...]
    control: str
    cell_types: tuple[str, ...]
    batches: tuple[str, ...]
    covariate_categories: dict[str, tuple[str, ...]]
    continuous_covariates: tuple[str, ...]
    var_names: np.ndarray
    has_dosage: bool
    setup_args: dict[str, Any]
    spellings: dict[str, str] = field(default_factory=dict)

    def __repr__(self) -> str:
        """Return counts on one line."""
        return (
            f"ScreenMetadata[n_perturbations={len(self.perturbations)}, n_cell_types={len(self.cell_types)}, "
            f"n_batches={len(self.batches)}, n_genes={len(self.var_names)}]"
        )


def screen_metadata_from_registry(registry: Mapping[str, Any]) -> ScreenMetadata:
    """Read what a registry says about the training data.

    Labels that other data brought later (when a saved model was loaded with them) are left out.

    Parameters
    ----------
    registry
        Registry of a model of this package: ``model.registry``.

    Returns
    -------
    Names, vocabulary and setup arguments; no cells.

    Examples
    --------
    >>> import pertcast as pc
    >>> adata = pc.data.simulate_screen(6, n_genes=20, n_cell_types=2, n_perturbations=2, combinations=0, seed=0)
    >>> pc.baselines.NoEffect.setup_anndata(adata, cell_type_key="cell_type", batch_key="donor")
    >>> model = pc.baselines.NoEffect(adata)
    >>> pc.data.screen_metadata_from_registry(model.registry)
    ScreenMetadata[n_perturbations=2, n_cell_types=2, n_batches=3, n_genes=20]
    """
    setup = dict(registry["setup_args"])
    fields = registry["field_registries"]

    def state(key: str) -> Mapping[str, Any]:
        return fields[key]["state_registry"] if key in fields else {}

    def trained(key: str) -> tuple[str, ...]:
        entry = state(key)
        return tuple(str(name) for name in entry["categorical_mapping"][: entry["n_registered"]])

    labels, control = trained(REGISTRY_KEYS.PERTURBATION), setup["control"]
    embedding = state(REGISTRY_KEYS.EMBEDDING)
    table = dict(zip(embedding["names"], embedding["vectors"], strict=True)) if embedding else None
    mappings = state(REGISTRY_KEYS.COVARIATES).get("mappings", {})
    return ScreenMetadata(
        vocabulary=PerturbationVocabulary.from_categories(labels, table, control=control),
        perturbations=canonical_names(labels, control)[0][1:],
        control=control,
        cell_types=trained(REGISTRY_KEYS.CELL_TYPE),
        batches=trained(REGISTRY_KEYS.BATCH),
        covariate_categories={name: tuple(str(label) for label in labels) for name, labels in mappings.items()},
        continuous_covariates=tuple(str(name) for name in state(REGISTRY_KEYS.CONTINUOUS).get("columns", ())),
        var_names=np.asarray(state(REGISTRY_KEYS.X)["column_names"]),
        has_dosage=REGISTRY_KEYS.DOSAGE in fields,
        setup_args=setup,
        spellings=spellings(labels, control),
    )


@dataclass(frozen=True, eq=False, repr=False)
class Screen:
    """A registered screen.

    Parameters
    ----------
    manager
        Manager of the AnnData or MuData.
    metadata
        What is known of the training data.
    index
        Rows of every condition.
    controls
        Controls matched to the perturbed conditions that are not for testing. Control cells that the split labels
        ``test`` are not among them.
    parts
        Code of :class:`~pertcast.data._split.Part` for each cell, int8 ``[N]``; ``None`` without a split column.

    Examples
    --------
    >>> import pertcast as pc
    >>> adata = pc.data.simulate_screen(6, n_genes=20, n_cell_types=2, n_perturbations=2, combinations=0, seed=0)
    >>> pc.baselines.NoEffect.setup_anndata(adata, cell_type_key="cell_type")
    >>> model = pc.baselines.NoEffect(adata)
    >>> screen = pc.data.screen_from_manager(model.adata_manager)
    >>> screen.index.names(screen.index.perturbed)
    ['pert_0 | type_0', 'pert_0 | type_1', 'pert_1 | type_0', 'pert_1 | type_1']
    >>> condition = screen.index.perturbed[0]
    >>> screen.X[screen.index.rows(condition)].shape, len(screen.controls.rows(condition))
    ((18, 20), 18)
    """

    manager: AnnDataManager
    metadata: ScreenMetadata
    index: ConditionIndex
    controls: MatchedControls
    parts: np.ndarray | None

    @property
    def vocabulary(self) -> PerturbationVocabulary:
        """Single perturbations that the model knows."""
        return self.metadata.vocabulary

    @cached_property
    def X(self) -> Matrix:
        """Expression ``[N, G]``, laid out by rows: the user's matrix, or a copy where its layout is another."""
        return row_major(self.manager.get_from_registry(REGISTRY_KEYS.X))

    @cached_property
    def counts(self) -> Matrix | None:
        """Raw counts ``[N, G]``, laid out by rows; ``None`` without ``counts_layer``."""
        if REGISTRY_KEYS.COUNTS not in self.manager.data_registry:
            return None
        return row_major(self.manager.get_from_registry(REGISTRY_KEYS.COUNTS), where="counts_layer")

    @cached_property
    def covariates(self) -> np.ndarray | None:
        """Continuous covariates, float32 ``[N, V]``; ``None`` without any."""
        if REGISTRY_KEYS.CONTINUOUS not in self.manager.data_registry:
            return None
        return np.asarray(self.manager.get_from_registry(REGISTRY_KEYS.CONTINUOUS), dtype=np.float32)

    def split(
        self,
        *,
        validation_size: float = 0.1,
        kind: HoldOutKind | Literal["auto"] = "auto",
        seed: int = 0,
    ) -> ConditionSplit:
        """Split the perturbed conditions; see :func:`~pertcast.data._split.split_conditions`.

        Parameters
        ----------
        validation_size
            Share of the units to hold out for validation.
        kind
            What to hold out.
        seed
            Seed of the choice.

        Raises
        ------
        ValueError
            If the data brought perturbations to train on that the model does not know.
        """
        split = split_conditions(
            self.index,
            parts=self.parts,
            validation_size=validation_size,
            kind=kind,
            embedded=self.vocabulary.vectors is not None,
            seed=seed,
        )
        used = np.unique(self.index.perturbation[np.union1d(split.train, split.validation)])
        unknown = self.vocabulary.unknown(self.index.perturbation_names[code] for code in used)
        if unknown:
            raise ValueError(
                f"The data hold cells of {shorten(unknown)}, which the model was not set up with, so it cannot be "
                "trained on them. Set up a new model with these data, or leave these cells out."
            )
        return split

    def __repr__(self) -> str:
        """Return counts on one line."""
        return f"Screen[{self.index!r}, {self.vocabulary!r}]"


def screen_from_manager(
    manager: AnnDataManager, *, min_cells: int = 1, min_controls: int = DEFAULT_MIN_CONTROLS
) -> Screen:
    """Index a registered AnnData or MuData.

    Parameters
    ----------
    manager
        Manager that :func:`~pertcast.data._registration.register_anndata` made: ``model.adata_manager``.
    min_cells
        Perturbed conditions with fewer cells are skipped, with a warning unless they are only tested.
    min_controls
        See :func:`~pertcast.data._controls.match_controls`.

    Returns
    -------
    The matrix, which is not copied unless its rows are slow to read, with its index and its matched controls.

    Raises
    ------
    ValueError
        If no condition has ``min_cells`` cells, the split leaks, or a context has no controls.

    Examples
    --------
    >>> import pertcast as pc
    >>> adata = pc.data.simulate_screen(6, n_genes=20, n_cell_types=2, n_perturbations=2, combinations=0, seed=0)
    >>> pc.baselines.NoEffect.setup_anndata(adata, cell_type_key="cell_type", batch_key="donor")
    >>> model = pc.baselines.NoEffect(adata)
    >>> screen = pc.data.screen_from_manager(model.adata_manager)
    >>> screen.index
    ConditionIndex[n_cells=108, n_conditions=12, n_contexts=2, n_controls=36, skipped=0]
    >>> screen.controls
    MatchedControls[n_groups=6, context_batch=12, context=0, batch=0]
    """
    factors = ScreenFactors.from_manager(manager)
    parts = None
    if factors.split is not None and (factors.split >= 0).all():
        parts = read_split_labels(factors.split_labels)[factors.split]
    tested = None if parts is None else parts == Part.TEST
    index = ConditionIndex.from_factors(factors, min_cells=min_cells, tested=tested)
    conditions, usable = index.perturbed, None
    if parts is not None and tested is not None:
        conditions = conditions[split_of_conditions(index, parts)[conditions] != Part.TEST]
        usable = ~tested
    controls = match_controls(index, conditions=conditions, usable=usable, min_controls=min_controls)
    metadata = screen_metadata_from_registry(manager.registry)
    return Screen(manager, metadata, index, controls, parts)
