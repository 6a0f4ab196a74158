"""The space a model works in: genes, or a latent space with the residual of the control cell carried along."""

from __future__ import annotations

from pertcast.representation._autoencoder import AutoencoderSpace
from pertcast.representation._base import Representation
from pertcast.representation._components import PrincipalComponents, principal_components
from pertcast.representation._genes import GeneSpace
from pertcast.representation._hurdle import Hurdle
from pertcast.representation._pca import PCASpace
from pertcast.representation._registry import REPRESENTATIONS, RepresentationName, make_representation

__all__ = [
    "REPRESENTATIONS",
    "AutoencoderSpace",
    "GeneSpace",
    "Hurdle",
    "PCASpace",
    "PrincipalComponents",
    "Representation",
    "RepresentationName",
    "make_representation",
    "principal_components",
]
