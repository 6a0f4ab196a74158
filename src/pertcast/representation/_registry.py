"""The spaces by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

from pertcast.representation._autoencoder import AutoencoderSpace
from pertcast.representation._genes import GeneSpace
from pertcast.representation._pca import PCASpace

if TYPE_CHECKING:
    from pertcast.representation._base import Representation

__all__ = ["REPRESENTATIONS", "RepresentationName", "make_representation"]

type RepresentationName = Literal["genes", "pca", "autoencoder"]
"""Name of a space."""

REPRESENTATIONS: tuple[str, ...] = get_args(RepresentationName.__value__)


def make_representation(name: str, n_genes: int, n_latent: int, *, nonnegative: bool) -> Representation:
    """Make the space with a name; it must be fitted before use.

    Parameters
    ----------
    name
        One of ``REPRESENTATIONS``.
    n_genes
        Number of genes G.
    n_latent
        Features of spaces other than ``"genes"``.
    nonnegative
        Whether expression cannot be negative.

    Returns
    -------
    The space, not fitted yet.

    Raises
    ------
    ValueError
        If no space has that name.

    Examples
    --------
    >>> make_representation("pca", 100, 10, nonnegative=True).n_features
    10
    """
    if name == "genes":
        return GeneSpace(n_genes, nonnegative=nonnegative)
    if name == "pca":
        return PCASpace(n_genes, n_latent, nonnegative=nonnegative)
    if name == "autoencoder":
        return AutoencoderSpace(n_genes, n_latent, nonnegative=nonnegative)
    raise ValueError(f"Unknown representation {name!r}; choose one of {REPRESENTATIONS}.")
