"""Vectors that say which perturbations are alike."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from pertcast.data._messages import did_you_mean
from pertcast.data._neighbours import nearest_vectors

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pertcast.baselines._conditions import ConditionMeans
    from pertcast.data._screen import ScreenMetadata

__all__ = ["PerturbationVectors", "gene_loadings"]


def gene_loadings(means: ConditionMeans, n_components: int) -> np.ndarray:
    """Loadings of genes on the leading principal components of the training pseudobulks.

    The pseudobulks are the means of the training conditions and of the controls of their contexts. A loading is the
    covariance of a gene with a component of unit variance: the axis times the standard deviation along it, in units
    of the expression.

    Parameters
    ----------
    means
        Means of training conditions.
    n_components
        Number of components; as many as there are if those are fewer.

    Returns
    -------
    float64 ``[G, n_components]``.
    """
    from sklearn.decomposition import PCA

    pseudobulks = np.concatenate([means.mean, means.control_mean])
    pca = PCA(min(n_components, *pseudobulks.shape), random_state=0).fit(pseudobulks)
    return pca.components_.T * np.sqrt(pca.explained_variance_)


@dataclass(frozen=True, eq=False, repr=False)
class PerturbationVectors:
    """Vectors of single perturbations: the registered ones, or else those of the genes of the same name.

    Parameters
    ----------
    names
        Single perturbations, or genes.
    values
        Their vectors, ``[len(names), E]``.
    registered
        Whether the vectors are those of ``perturbation_embedding_key``.
    measured
        Single perturbations of the training data, to suggest in messages.

    Examples
    --------
    >>> vectors = PerturbationVectors(("A", "B", "C"), np.array([[1.0, 0.0], [0.0, 1.0], [2.0, 0.1]]), True)
    >>> vectors.nearest("C", ["A", "B"], 1)
    ['A']
    """

    names: tuple[str, ...]
    values: np.ndarray
    registered: bool
    measured: tuple[str, ...] = ()
    _row: dict[str, int] = field(init=False)

    def __post_init__(self) -> None:
        """Index the names."""
        object.__setattr__(self, "_row", {name: row for row, name in enumerate(self.names)})

    @classmethod
    def choose(cls, metadata: ScreenMetadata, loadings: np.ndarray | None) -> PerturbationVectors:
        """Take the registered vectors where there are any.

        Parameters
        ----------
        metadata
            What is known of the training data.
        loadings
            Vectors of its genes, ``[G, K]``; not needed with registered vectors.
        """
        vocabulary = metadata.vocabulary
        if vocabulary.vectors is not None:
            return cls(vocabulary.names, vocabulary.vectors.astype(np.float64), True)
        if loadings is None:
            raise ValueError("There are neither registered vectors nor loadings of genes.")
        names = tuple(str(name) for name in metadata.var_names)
        return cls(names, loadings, False, vocabulary.trained_names)

    def __contains__(self, name: object) -> bool:
        """Whether a single perturbation has a vector."""
        return name in self._row

    def of(self, parts: Sequence[str], name: str) -> np.ndarray:
        """Vectors of some parts of a perturbation, ``[len(parts), E]``.

        Parameters
        ----------
        parts
            Single perturbations.
        name
            The perturbation or combination, for the message.

        Raises
        ------
        ValueError
            Naming the first part without a vector.
        """
        for part in parts:
            if part not in self._row:
                raise self._unknown(part, name)
        return self.values[[self._row[part] for part in parts]]

    def nearest(self, name: str, among: Sequence[str], n: int) -> list[str]:
        """List the perturbations with the most similar vectors, the most similar first.

        Similarity is the cosine after the mean vector of ``among`` was taken off.

        Parameters
        ----------
        name
            Single perturbation.
        among
            Single perturbations with vectors.
        n
            How many, at most.
        """
        others, vector = self.of(among, name), self.of([name], name)[0]
        return [among[row] for row in nearest_vectors(vector, others, n)]

    def _unknown(self, part: str, name: str) -> ValueError:
        of = "" if part == name else f" (in {name!r})"
        if self.registered:
            return ValueError(
                f"Unknown perturbation {part!r}{of}: the table of `perturbation_embedding_key` holds no vector of it."
                f"{did_you_mean(part, self.names)} Add one and set up the model again, or leave it out."
            )
        hint = did_you_mean(part, {*self.names, *self.measured} - {part})
        return ValueError(
            f"Nothing is known of the perturbation {part!r}{of}: no vectors were registered, and none of the "
            f"{len(self.names)} genes has its name.{hint} Register vectors with `perturbation_embedding_key`, or leave "
            "it out."
        )

    def __repr__(self) -> str:
        """Return counts on one line."""
        source = "registered" if self.registered else "genes"
        return f"PerturbationVectors[n={len(self.names)}, n_dimensions={self.values.shape[1]}, source={source}]"
