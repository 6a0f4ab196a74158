"""Hyper-parameters of Doloris."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from pertcast.diffusion import get_schedule
from pertcast.module._config import PopulationConfig, require

__all__ = ["MASKS", "DolorisConfig"]

MASKS = ("switch", "nearest", "bernoulli")
"""Values of ``zeros`` with which the model says which genes are silent."""


@dataclass(frozen=True)
class DolorisConfig(PopulationConfig):
    """Hyper-parameters; see :class:`pertcast.Doloris` for what each means.

    Examples
    --------
    >>> config = DolorisConfig(zeros="bernoulli")
    >>> config.zeros, config.anchor
    ('bernoulli', 'shift')
    >>> DolorisConfig(gene_readout="edge")
    Traceback (most recent call last):
        ...
    ValueError: gene_readout is 'edge'; it must be one of ('node', 'knockout').
    """

    ways_to_zeros: ClassVar[tuple[str, ...]] = (*MASKS, "hurdle", "relu")

    anchor: Literal["shift", "none"] = "shift"
    zeros: Literal["switch", "nearest", "bernoulli", "hurdle", "relu"] = "switch"  # type: ignore[assignment]
    n_sets: int = 2
    n_hidden: int = 256
    n_layers: int = 3
    gene_embedding: Literal["pca", "learned"] = "pca"
    gene_readout: Literal["node", "knockout"] = "node"
    n_gene_features: int = 32
    n_heads: int = 2
    schedule: Literal["cosine", "linear", "discrete_linear"] = "cosine"
    n_steps: int = 10
    n_refinements: int = 1

    def __post_init__(self) -> None:
        """Check types and ranges.

        Raises
        ------
        TypeError
            If a value is of the wrong type.
        ValueError
            If a value is out of its range.
        """
        super().__post_init__()
        require("representation", self.representation, self.representation == "genes", "'genes'")
        for name in ("n_hidden", "n_layers", "n_gene_features", "n_heads", "n_steps", "n_refinements"):
            require(name, getattr(self, name), getattr(self, name) >= 1, "at least 1")
        get_schedule(self.schedule)  # raises for an unknown name
        choices = {"gene_embedding": ("pca", "learned"), "gene_readout": ("node", "knockout")}
        for name, kinds in choices.items():
            require(name, getattr(self, name), getattr(self, name) in kinds, f"one of {kinds}")
