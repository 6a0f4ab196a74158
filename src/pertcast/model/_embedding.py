"""What a trained model says about cells, populations and perturbations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from anndata import AnnData
from mudata import MuData

from pertcast._numbers import check_whole
from pertcast.data import screen_metadata_from_registry
from pertcast.data._checks import check_labels, require_column
from pertcast.data._grammar import canonical_names
from pertcast.data._keys import ScreenKeys
from pertcast.model._encode import encode_cells

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pertcast.data import ScreenMetadata
    from pertcast.module import PopulationModule

__all__ = ["CellMixin", "EmbeddingMixin", "LatentMixin", "embedding_table"]


def embedding_table(vectors: np.ndarray, names: pd.Index) -> pd.DataFrame:
    """Vectors as a table that can be stored in ``uns``, with columns ``"embedding_0"``, ``"embedding_1"``, ...

    Parameters
    ----------
    vectors
        ``[n, E]``.
    names
        Names of the rows.
    """
    return pd.DataFrame(vectors, index=names, columns=[f"embedding_{i}" for i in range(vectors.shape[1])])


class CellMixin:
    """Gives a model the representation of cells."""

    if TYPE_CHECKING:
        adata: AnnData | MuData | None
        registry: dict[str, Any]
        module: Any

        def _check_if_trained(self, warn: bool = ..., message: str = ...) -> None: ...

    def get_latent_representation(
        self,
        adata: AnnData | MuData | None = None,
        indices: Sequence[int] | np.ndarray | None = None,
        *,
        batch_size: int | None = None,
    ) -> np.ndarray:
        """Represent cells as the network sees them: scores on the axes of the model.

        Parameters
        ----------
        adata
            Cells, perturbed or not; the training data by default.
        indices
            Row numbers of n cells in any order, or a mask; all cells by default.
        batch_size
            Cells to encode at once, 4,096 by default.

        Returns
        -------
        float32 ``[n, F]``.

        Raises
        ------
        RuntimeError
            If the model is not trained.
        KeyError, TypeError, ValueError
            If the cells do not fit the model, as for ``predict``: genes are missing, values are NaN or raw counts; or
            if there is no such row.
        """
        self._check_fitted()
        module = self.module
        return encode_cells(
            self._cells(adata),
            screen_metadata_from_registry(self.registry),
            lambda cells: module.input.clean(module.representation.encode(cells), module.scale),
            device=module.device,
            batch_size=4096 if batch_size is None else check_whole("batch_size", batch_size),
            indices=indices,
        )

    def _check_fitted(self) -> None:
        """Raise unless the model is trained: before, axes and weights mean nothing."""
        name = type(self).__name__
        self._check_if_trained(
            warn=False, message=f"This {name} is not trained, so it has no embeddings. Call `model.train()` first."
        )

    def _cells(self, adata: AnnData | MuData | None) -> AnnData | MuData:
        cells = self.adata if adata is None else adata
        if cells is None:
            raise ValueError(f"This {type(self).__name__} was loaded without its training data. Pass an AnnData.")
        if not isinstance(cells, AnnData | MuData):
            raise TypeError(f"Expected an AnnData with cells, but found {type(cells).__name__}.")
        return cells

    def _populations(
        self, adata: AnnData | MuData | None, groupby: str | Sequence[str] | None
    ) -> tuple[pd.MultiIndex, list[np.ndarray]]:
        """Names of the populations that columns of ``obs`` make, perturbations by canonical name, and rows of each."""
        cells, keys = self._cells(adata), ScreenKeys.from_setup(screen_metadata_from_registry(self.registry).setup_args)
        arguments = ("perturbation_key", "cell_type_key", "batch_key")
        registered = {getattr(keys, argument): argument for argument in arguments if getattr(keys, argument)}
        columns = [*registered] if groupby is None else [groupby] if isinstance(groupby, str) else list(groupby)
        if not columns:
            raise ValueError("`groupby` is empty. Name a column of obs at least, or leave it out.")
        labels = {column: require_column(cells, keys, column, registered.get(column, "groupby")) for column in columns}
        for column, values in labels.items():
            if column != keys.perturbation_key:
                check_labels(values, column)
                continue
            codes, spellings = check_labels(values, column, allowed=keys.control)
            names, code_of = canonical_names(spellings, keys.control)
            renamed = [names[code] for code in code_of]
            labels[column] = pd.Series(pd.Categorical([renamed[code] for code in codes], list(dict.fromkeys(renamed))))
        table: Any = pd.DataFrame({column: values.array for column, values in labels.items()})
        groups = table.groupby(columns, observed=True).indices
        tuples = [name if isinstance(name, tuple) else (name,) for name in groups]
        return pd.MultiIndex.from_tuples(tuples, names=columns), list(groups.values())


class LatentMixin(CellMixin):
    """Gives a model the embeddings of cells and perturbations."""

    if TYPE_CHECKING:
        module: PopulationModule

    def get_perturbation_embedding(self) -> pd.DataFrame:
        """Vectors of the single perturbations as the network sees them.

        Returns
        -------
        One row for each perturbation that was trained on, alone or in a combination, or has a vector in the registered
        table. Of others, such as those that are only tested, the model knows nothing.

        Raises
        ------
        RuntimeError
            If the model is not trained.
        """
        self._check_fitted()
        metadata = screen_metadata_from_registry(self.registry)
        network: Any = self.module.average.network
        known = np.flatnonzero(self._is_known(metadata))
        with torch.inference_mode():
            ids = torch.from_numpy(known).to(self.module.device)[:, None]
            vectors = network["condition"].part_vectors(ids)[:, 0]
        names = pd.Index([metadata.vocabulary.names[i] for i in known], name="perturbation")
        return embedding_table(vectors.cpu().numpy(), names)

    def _is_known(self, metadata: ScreenMetadata) -> np.ndarray:
        """Whether the network knows each perturbation of the vocabulary: by training, or by its vector."""
        vocabulary = metadata.vocabulary
        network: Any = self.module.average.network
        if vocabulary.vectors is not None:
            return np.ones(len(vocabulary), dtype=bool)
        return network["condition"].seen.cpu().numpy()[: len(vocabulary)]


class EmbeddingMixin(LatentMixin):
    """Gives a model with a population transformer the embedding of populations, too."""

    def get_population_embedding(
        self, adata: AnnData | MuData | None = None, groupby: str | Sequence[str] | None = None
    ) -> pd.DataFrame:
        """Embed populations with the encoder that describes control cells to the network.

        Parameters
        ----------
        adata
            Cells, perturbed or not; the training data by default.
        groupby
            Columns of ``obs`` whose combinations are the populations; by default perturbation, cell type and batch.
            ``A+B`` and ``B+A`` are one perturbation.

        Returns
        -------
        One row for each population, indexed by the columns, and D columns.

        Raises
        ------
        RuntimeError
            If the model is not trained.
        KeyError, TypeError, ValueError
            If a column does not exist, a cell has no label, or the cells do not fit the model.
        """
        names, rows = self._populations(adata, groupby)
        features = torch.from_numpy(self.get_latent_representation(adata)).to(self.module.device)
        network: Any = self.module.average.network
        vectors = []
        with torch.inference_mode():
            for members in (features[torch.from_numpy(chosen)][None] for chosen in rows):
                mask = members.new_ones(members.shape[:2], dtype=torch.bool)
                vectors.append(network["cells"].encode_controls(members, mask).summary[0].cpu().numpy())
        return embedding_table(np.stack(vectors), names)
