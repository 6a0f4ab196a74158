"""The space a model works in: genes, or principal components with the residual of the control cell carried along."""

from __future__ import annotations

from pertcast.representation._base import Representation
from pertcast.representation._components import PrincipalComponents, principal_components
from pertcast.representation._genes import GeneSpace
from pertcast.representation._hurdle import Hurdle
from pertcast.representation._pca import PCASpace

__all__ = [
    "GeneSpace",
    "Hurdle",
    "PCASpace",
    "PrincipalComponents",
    "Representation",
    "principal_components",
]
