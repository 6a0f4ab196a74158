"""Forecast how cell populations respond to perturbations.

``import pertcast as pc`` is cheap: the models (``pc.model``), the data tools (``pc.data``) and everything else are
imported on first use, because torch and scvi-tools take seconds to load.
"""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING

__all__ = [
    "ConditionalMonge",
    "Doloris",
    "FlowMatching",
    "PerturbDiff",
    "PopulationEncoder",
    "SetTransformer",
    "Unlasting",
    "__version__",
    "anchor",
    "baselines",
    "data",
    "diffusion",
    "model",
    "module",
    "network",
    "nn",
    "pl",
    "pp",
    "representation",
    "tl",
    "transport",
]

__version__ = version("pertcast")

_MODELS = frozenset(
    {
        "ConditionalMonge",
        "Doloris",
        "FlowMatching",
        "PerturbDiff",
        "PopulationEncoder",
        "SetTransformer",
        "Unlasting",
    }
)

if TYPE_CHECKING:
    from pertcast import (
        anchor,
        baselines,
        data,
        diffusion,
        model,
        module,
        network,
        nn,
        pl,
        pp,
        representation,
        tl,
        transport,
    )
    from pertcast.model import (
        ConditionalMonge,
        Doloris,
        FlowMatching,
        PerturbDiff,
        PopulationEncoder,
        SetTransformer,
        Unlasting,
    )
else:

    def __getattr__(name: str) -> object:
        """Import a submodule or a model class when it is first used (PEP 562)."""
        from importlib import import_module

        if name in _MODELS:
            return getattr(import_module("pertcast.model"), name)
        if name in __all__:
            return import_module(f"pertcast.{name}")
        raise AttributeError(f"module 'pertcast' has no attribute {name!r}; it has {', '.join(__all__)}.")


def __dir__() -> list[str]:
    return sorted(__all__)
