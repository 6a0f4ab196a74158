"""The times at which a sampler calls the network."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch

if TYPE_CHECKING:
    from torch import Tensor

    from pertcast.diffusion._schedule import NoiseSchedule

__all__ = ["spaced_times"]

#: Range of log-SNR that is divided evenly: alpha or sigma is 0.0067 at its ends, nearly no signal and nearly no noise.
_LOG_SNR_LIMIT = 10.0


def spaced_times(
    n_steps: int,
    schedule: NoiseSchedule,
    *,
    t_start: float = 1.0,
    t_end: float = 0.0,
    spacing: Literal["time", "log_snr"] = "time",
) -> Tensor:
    """Descending time grid for ``n_steps`` calls of the network.

    Parameters
    ----------
    n_steps
        Number of network calls, at least 1.
    schedule
        Noise schedule; used by ``spacing="log_snr"``.
    t_start
        First time, in (0, 1]. Below 1, start the sampler from :func:`initial_noise` with a guess of the data.
    t_end
        Last time, in [0, ``t_start``). At 0 the sample is the network's last prediction, without noise.
    spacing
        ``"time"`` divides time evenly. ``"log_snr"`` divides the log signal-to-noise ratio evenly (Lu et al. 2022),
        which puts more steps near the data. The ratio is infinite at ``t = 0``, so the divided range is cut to
        [-10, 10]; the first and last time are ``t_start`` and ``t_end`` all the same.

    Returns
    -------
    Times ``t_start = t_0 > t_1 > ... > t_n_steps = t_end``, float64 on the CPU, [n_steps + 1]. The network is called
    at all of them but the last.

    Raises
    ------
    ValueError
        If ``n_steps`` or the end points are out of range, the spacing is unknown, or ``t_start`` and ``t_end`` lie
        on the same side of the range that ``"log_snr"`` divides.

    Examples
    --------
    >>> from pertcast.diffusion import get_schedule
    >>> spaced_times(4, get_schedule("cosine")).tolist()
    [1.0, 0.75, 0.5, 0.25, 0.0]
    """
    if n_steps < 1:
        raise ValueError(f"n_steps is {n_steps}; at least 1 step is needed.")
    if not 0 <= t_end < t_start <= 1:
        raise ValueError(f"t_start is {t_start} and t_end is {t_end}; 0 <= t_end < t_start <= 1 is needed.")
    ends = torch.tensor([t_start, t_end], dtype=torch.float64)
    if spacing == "time":
        return torch.linspace(t_start, t_end, n_steps + 1, dtype=torch.float64)
    if spacing != "log_snr":
        raise ValueError(f"Unknown spacing {spacing!r}. Choose 'time' or 'log_snr'.")
    first, last = schedule.log_snr(ends).clamp(-_LOG_SNR_LIMIT, _LOG_SNR_LIMIT).tolist()
    if not first < last:
        raise ValueError(
            f"The log signal-to-noise ratio is beyond {_LOG_SNR_LIMIT} at both t_start={t_start} and t_end={t_end}. "
            "Use spacing='time' here."
        )
    inner = schedule.time(torch.linspace(first, last, n_steps + 1, dtype=torch.float64)[1:-1])
    return torch.cat([ends[:1], inner, ends[1:]])
