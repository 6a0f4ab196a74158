"""Choosing the precision of training from what the hardware computes fast."""

from __future__ import annotations

from typing import Literal

import torch

__all__ = ["automatic_precision"]

type Precision = Literal["32-true", "bf16-mixed"]


def automatic_precision(accelerator: str) -> Precision:
    """Mixed bfloat16 where the device has units for it, and float32 elsewhere.

    Weights, their averages, the features of measured cells and all distances stay in float32: only the products of the
    network are rounded.

    Parameters
    ----------
    accelerator
        As in :class:`scvi.train.Trainer`: ``"auto"``, ``"cpu"``, ``"gpu"``, ``"cuda"`` and others.

    Returns
    -------
    ``"bf16-mixed"`` on NVIDIA GPUs from compute capability 8.0 on and on processors with AMX or AVX-512 instructions
    for bfloat16, ``"32-true"`` on others.

    Examples
    --------
    >>> automatic_precision("mps")
    '32-true'
    """
    if accelerator in ("gpu", "cuda", "auto") and torch.cuda.is_available():
        return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "32-true"
    if accelerator == "cpu" or (accelerator == "auto" and not torch.backends.mps.is_available()):
        has = torch.cpu.get_capabilities()
        return "bf16-mixed" if has.get("amx_bf16") or has.get("avx512_bf16") else "32-true"
    return "32-true"
