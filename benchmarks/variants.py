"""Models, and variants of them that were tried. Used by `quality.py`."""

from __future__ import annotations

from functools import partial
from typing import Any

import pertcast as pc
from pertcast.module import PRESETS


class AnchorOnly(pc.PerturbDiff):
    """PerturbDiff with the gate shut: control cells moved by the anchor, with the zeros restored."""

    def train(self, *args: Any, **kwargs: Any) -> None:
        """Train for one epoch of one step, for the anchor alone."""
        super().train(*args, **{**kwargs, "max_epochs": 1, "steps_per_epoch": 1})
        self.module.gate.set(0.0)


class GateOpen(pc.PerturbDiff):
    """PerturbDiff with the whole network, whatever held-out conditions say."""

    def train(self, *args: Any, **kwargs: Any) -> None:
        """Train, and open the gate."""
        super().train(*args, **kwargs)
        self.module.gate.set(1.0)


SIZES = ("n_hidden", "n_layers", "n_heads", "set_size", "n_controls", "n_sets")

REFERENCE = partial(
    pc.PerturbDiff,
    preset="reference",
    embed_context=False,
    embed_batch=False,
    **{name: getattr(PRESETS["default"], name) for name in SIZES},
)
"""Loss, schedule, guidance and steps of the published model at the size of the default, without identities of contexts
and batches, which held-out ones do not have."""

MODELS: dict[str, Any] = {
    "PerturbDiff": pc.PerturbDiff,
    "SetTransformer": pc.SetTransformer,
    "FlowMatching": pc.FlowMatching,
    "ConditionalMonge": pc.ConditionalMonge,
    "Doloris": pc.Doloris,
    "Unlasting": pc.Unlasting,
    "reference": REFERENCE,
}

VARIANTS: dict[str, Any] = {
    "anchor only": AnchorOnly,
    "gate open": GateOpen,
    "no anchor": partial(pc.PerturbDiff, anchor="none"),
    "zeros by ReLU": partial(pc.PerturbDiff, zeros="relu"),
    "8 steps": partial(pc.PerturbDiff, n_steps=8, noise_share=0.25),
    "MSE added": partial(pc.PerturbDiff, mse_weight=0.1),
    "PCA": partial(pc.PerturbDiff, representation="pca"),
    "256 wide, 4 deep": partial(pc.PerturbDiff, n_hidden=256, n_layers=4),
    "set of 256": partial(pc.PerturbDiff, set_size=256, n_sets=2),
    "ConditionalMonge, autoencoder": partial(pc.ConditionalMonge, representation="autoencoder"),
    "Doloris, shuffled network": partial(pc.Doloris, network="shuffled"),
    "Doloris, no anchor": partial(pc.Doloris, anchor="none"),
    "Doloris, no anchor, shuffled network": partial(pc.Doloris, anchor="none", network="shuffled"),
}
