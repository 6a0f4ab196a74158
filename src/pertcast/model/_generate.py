"""Cells of populations between and beyond the measured ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from anndata import AnnData

from pertcast import __version__
from pertcast._numbers import check_whole
from pertcast.data import screen_metadata_from_registry

if TYPE_CHECKING:
    from pertcast.module import PopulationEncoderModule

__all__ = ["GenerateMixin"]

type Embedding = pd.DataFrame | pd.Series | np.ndarray


class GenerateMixin:
    """Gives a model that embeds populations the way back from embeddings to cells."""

    if TYPE_CHECKING:
        registry: dict[str, Any]
        module: PopulationEncoderModule
        _check_if_trained: Any

    def sample(self, embedding: Embedding, n_cells: int = 100, *, seed: int = 0) -> AnnData:
        """Generate cells of populations with given embeddings.

        Cells with the same position in their populations are made of the same noise.

        Parameters
        ----------
        embedding
            Rows of :meth:`get_population_embedding`, or vectors in the same coordinates, ``[P, E]`` or ``[E]``.
        n_cells
            Cells of each population.
        seed
            Seed of the noise.

        Returns
        -------
        P times ``n_cells`` cells in the units of the training data. The index of a data frame is in the columns of
        ``obs``; for vectors without names the column ``population`` has their position.

        Raises
        ------
        RuntimeError
            If the model is not trained.
        ValueError
            If an embedding has another length or is not finite, or ``n_cells`` is below 1.
        """
        vectors, names = _read(embedding, self.module.config.n_embedding)
        labels = names.to_frame(index=False)
        return self._generate(vectors, labels.astype("category"), n_cells, seed)

    def interpolate(
        self, start: Embedding, end: Embedding, steps: int = 5, *, n_cells: int = 100, seed: int = 0
    ) -> AnnData:
        """Generate the populations on the straight line between two embeddings.

        Parameters
        ----------
        start, end
            One row of :meth:`get_population_embedding` each, or vectors ``[E]``.
        steps
            Number of populations, both ends included.
        n_cells
            Cells of each population.
        seed
            Seed of the noise; all steps share it, so that the cells of a position form a path.

        Returns
        -------
        ``steps`` times ``n_cells`` cells in the units of the training data, with the share of ``end`` in
        ``obs["weight"]`` and the number of the step in ``obs["step"]``.

        Raises
        ------
        RuntimeError
            If the model is not trained.
        ValueError
            If an embedding is not one finite vector of the right length, or a number is too low.
        """
        check_whole("steps", steps, least=2)  # both ends count
        ends = [_read(each, self.module.config.n_embedding)[0] for each in (start, end)]
        if len(ends[0]) != 1 or len(ends[1]) != 1:
            raise ValueError(f"`start` has {len(ends[0])} rows and `end` {len(ends[1])}; give one population each.")
        weight = np.linspace(0, 1, steps)
        vectors = (1 - weight[:, None]) * ends[0] + weight[:, None] * ends[1]
        return self._generate(vectors, pd.DataFrame({"weight": weight, "step": np.arange(steps)}), n_cells, seed)

    def _generate(self, vectors: np.ndarray, labels: pd.DataFrame, n_cells: int, seed: int) -> AnnData:
        """Cells of populations with vectors ``[P, E]``, and their labels."""
        self._check_if_trained(warn=False)
        check_whole("n_cells", n_cells)
        check_whole("seed", seed, least=0)
        module = self.module.eval()
        generator = torch.Generator(device=module.device).manual_seed(seed)
        cells = module.sample(torch.from_numpy(vectors).float().to(module.device), n_cells, generator)
        obs = labels.loc[np.repeat(np.arange(len(labels)), n_cells)].reset_index(drop=True)
        obs.index = pd.Index([f"generated-{i}" for i in range(len(obs))])
        var = pd.DataFrame(index=pd.Index(screen_metadata_from_registry(self.registry).var_names))
        provenance = {"model": type(self).__name__, "version": __version__, "seed": int(seed)}
        return AnnData(cells.flatten(0, 1).cpu().numpy(), obs=obs, var=var, uns={"pertcast": provenance})


def _read(embedding: Embedding, n_embedding: int) -> tuple[np.ndarray, pd.Index]:
    """Vectors ``[P, E]`` and what they are called."""
    vectors = np.atleast_2d(np.asarray(embedding, dtype=np.float64))
    if vectors.ndim != 2 or vectors.shape[1] != n_embedding or not len(vectors):
        raise ValueError(
            f"The embedding has shape {np.shape(embedding)}; rows of {n_embedding} numbers are needed, as "
            "`get_population_embedding` returns them."
        )
    if not np.isfinite(vectors).all():
        raise ValueError("The embedding holds NaN or infinite values.")
    if isinstance(embedding, pd.DataFrame) and all(name is not None for name in embedding.index.names):
        return vectors, embedding.index
    return vectors, pd.RangeIndex(len(vectors), name="population")
