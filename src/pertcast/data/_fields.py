"""scvi-tools fields for the parts of a screen that its own fields do not cover."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scvi.data.fields import (
    BaseAnnDataField,
    CategoricalJointObsField,
    CategoricalObsField,
    LayerField,
    NumericalObsField,
)

from pertcast.data._embedding import read_embedding
from pertcast.data._genes import require_same_genes
from pertcast.data._labels import encode_labels
from pertcast.data._matrix import from_file
from pertcast.data._matrix_checks import check_matrix
from pertcast.data._messages import did_you_mean, shorten
from pertcast.data._on_disk import file_lacks_X

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["DosageField", "ExpressionField", "JointLabelField", "LabelField", "UnsTableField"]


class ExpressionField(LayerField):
    """A matrix of cells and genes, checked at every registration.

    Differs from the field of scvi-tools: values are checked (see :func:`~pertcast.data._matrix_checks.check_matrix`),
    another AnnData must have the same genes in the same order, and the matrix is never rewritten:
    :func:`~pertcast.data._matrix.row_major` copies it where its layout is slow.

    Parameters
    ----------
    registry_key
        Key to register the field under.
    layer
        Key of ``layers``, or ``None`` for ``X``.
    counts
        Whether the matrix holds raw counts, which are refused otherwise.
    """

    def __init__(self, registry_key: str, layer: str | None, counts: bool = False) -> None:
        super().__init__(registry_key, layer, is_count_data=False, correct_data_format=False)
        self.counts = counts

    def validate_field(self, adata: AnnData) -> None:
        """Check the layer, its values and the names of the genes."""
        layers = [name for name in adata.layers.keys() if name is not None]
        if self.attr_key is not None and self.attr_key not in layers:
            raise KeyError(
                f"No layer {self.attr_key!r} in adata.layers, which holds {shorten(layers) or 'nothing'}."
                f"{did_you_mean(self.attr_key, layers)}"
            )
        where = "adata.X" if self.attr_key is None else f"adata.layers[{self.attr_key!r}]"
        X = from_file(self.get_field_data(adata), where)
        check_matrix(X, adata.obs_names, adata.var_names, where=where, counts=self.counts)

    def get_field_data(self, adata: AnnData) -> Any:
        """Return the matrix; None where there is none."""
        return None if self.attr_key is None and file_lacks_X(adata) else super().get_field_data(adata)

    def transfer_field(self, state_registry: dict, adata_target: AnnData, **kwargs: Any) -> dict:
        """Register another AnnData after a check of its genes."""
        require_same_genes(adata_target.var_names, state_registry[self.COLUMN_NAMES_KEY])
        return super().transfer_field(state_registry, adata_target, **kwargs)


class LabelField(CategoricalObsField):
    """A column of labels, or one label for all cells where no column is given.

    Differs from the field of scvi-tools in three ways. Labels are compared as strings. Categories without a cell are
    dropped, so that nothing counts as seen in training that was not. A label that another AnnData brings is added
    behind the known ones instead of being refused, because an unseen cell type or donor is a normal question to a
    model; ``n_registered`` in the state registry keeps the number of labels of the training data.

    Parameters
    ----------
    registry_key
        Key to register the field under.
    attr_key
        Column of ``obs``, or ``None``.
    optional_on_transfer
        Whether another AnnData may lack the column. Its cells then have the code -1.
    """

    N_REGISTERED_KEY = "n_registered"
    DEFAULT_LABEL = "all"

    def __init__(self, registry_key: str, attr_key: str | None, optional_on_transfer: bool = False) -> None:
        super().__init__(registry_key, attr_key)
        self.optional_on_transfer = optional_on_transfer

    def register_field(self, adata: AnnData) -> dict:
        """Write the codes to ``obs`` and return the labels."""
        return self._write(adata, ())

    def transfer_field(
        self, state_registry: dict, adata_target: AnnData, extend_categories: bool = True, **kwargs: Any
    ) -> dict:
        """Write the codes of another AnnData, known labels first.

        Raises
        ------
        ValueError
            If there are new labels and ``extend_categories`` is false.
        """
        known = state_registry[self.CATEGORICAL_MAPPING_KEY]
        n_registered = state_registry[self.N_REGISTERED_KEY]
        if self.optional_on_transfer and self._original_attr_key not in adata_target.obs:
            adata_target.obs[self.attr_key] = np.full(adata_target.n_obs, -1, dtype=np.int32)
            return dict(state_registry)
        state = self._write(adata_target, known, extend_categories)
        return {**state, self.N_REGISTERED_KEY: n_registered}

    def _write(self, adata: Any, known: Any, extend_categories: bool = True) -> dict:
        """Encode the labels and write them."""
        if self.is_default:
            self._setup_default_attr(adata)
            codes, names = np.zeros(adata.n_obs, dtype=np.int32), [self.DEFAULT_LABEL]
        else:
            self.validate_field(adata)
            codes, names = encode_labels(adata.obs[self._original_attr_key], known)
        if len(names) > len(known) and not extend_categories:
            raise ValueError(
                f"Column {self._original_attr_key!r} holds labels that were not registered: "
                f"{shorten(names[len(known) :])}."
            )
        adata.obs[self.attr_key] = codes
        return {
            self.CATEGORICAL_MAPPING_KEY: np.array(names, dtype=object),
            self.ORIGINAL_ATTR_KEY: self._original_attr_key,
            self.N_REGISTERED_KEY: len(names),
        }

    def get_summary_stats(self, state_registry: dict) -> dict:
        """Return the number of labels of the training data."""
        return {self.count_stat_key: state_registry[self.N_REGISTERED_KEY]}


class JointLabelField(CategoricalJointObsField):
    """Several columns of labels; like :class:`LabelField`, it takes on labels that another AnnData brings."""

    def transfer_field(
        self, state_registry: dict, adata_target: AnnData, extend_categories: bool = True, **kwargs: Any
    ) -> dict:
        """Write the codes of another AnnData, known labels first."""
        return super().transfer_field(state_registry, adata_target, extend_categories=extend_categories, **kwargs)


class DosageField(NumericalObsField):
    """A numeric column that another AnnData may lack: control cells have no dosage."""

    REGISTERED_KEY = "registered"

    def register_field(self, adata: AnnData) -> dict:
        """Check that the column is there."""
        super().register_field(adata)
        return {self.REGISTERED_KEY: True}

    def transfer_field(self, state_registry: dict, adata_target: AnnData, **kwargs: Any) -> dict:
        """Register another AnnData; without the column, nothing is registered."""
        if self.attr_key not in adata_target.obs:
            return {self.REGISTERED_KEY: False}
        return self.register_field(adata_target)


class UnsTableField(BaseAnnDataField):
    """A table of perturbation embeddings in ``uns``, stored in the registry itself.

    A model that is rebuilt from its registry alone therefore has the table. It is no tensor of cells, so it stays out
    of the data registry that data loaders read.

    Parameters
    ----------
    registry_key
        Key to register the field under.
    uns_key
        Key of ``uns``, or ``None``.
    control
        Label of unperturbed cells.
    """

    NAMES_KEY = "names"
    VECTORS_KEY = "vectors"

    def __init__(self, registry_key: str, uns_key: str | None, control: str = "control") -> None:
        super().__init__()
        self._registry_key = registry_key
        self._attr_key = uns_key
        self._control = control

    @property
    def registry_key(self) -> str:
        """Key to register the field under."""
        return self._registry_key

    @property
    def attr_name(self) -> str:
        """Attribute of the AnnData."""
        return "uns"

    @property
    def attr_key(self) -> str | None:
        """Key of ``uns``."""
        return self._attr_key

    @property
    def is_empty(self) -> bool:
        """Whether no table is given."""
        return self._attr_key is None

    def validate_field(self, adata: AnnData) -> None:
        """Check that the table is there."""
        if self._attr_key not in adata.uns:
            raise KeyError(f"No key {self._attr_key!r} in adata.uns, which holds {shorten(adata.uns)}.")

    def register_field(self, adata: AnnData) -> dict:
        """Read the table."""
        super().register_field(adata)
        names, vectors = read_embedding(
            adata.uns[self._attr_key], control=self._control, where=f"adata.uns[{self._attr_key!r}]"
        )
        return {self.NAMES_KEY: np.array(names, dtype=object), self.VECTORS_KEY: vectors}

    def transfer_field(self, state_registry: dict, adata_target: AnnData, **kwargs: Any) -> dict:
        """Keep the table of the training data, whatever the other AnnData holds."""
        super().transfer_field(state_registry, adata_target, **kwargs)
        return dict(state_registry)

    def get_summary_stats(self, state_registry: dict) -> dict:
        """Return the number of vectors and their length."""
        vectors = state_registry.get(self.VECTORS_KEY)
        n_rows, n_columns = (0, 0) if vectors is None else vectors.shape
        return {f"n_{self._registry_key}": n_rows, f"n_{self._registry_key}_dimensions": n_columns}

    def view_state_registry(self, state_registry: dict) -> None:
        """Return nothing: the summary statistics show the size of the table."""

    def get_data_registry(self) -> dict:
        """Return nothing: the table is no attribute of cells."""
        return {}
