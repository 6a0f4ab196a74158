"""The steps of diffusion, for looking at them."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from anndata import AnnData

from pertcast._numbers import check_whole
from pertcast.data import screen_metadata_from_registry
from pertcast.data._query import ControlQuery
from pertcast.data._request import resolve_requests
from pertcast.data._tasks import make_tasks
from pertcast.model._task import PopulationDrawer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from pertcast.data import ScreenMetadata
    from pertcast.data._query import ControlPopulation
    from pertcast.data._request import Request
    from pertcast.data._stand_ins import Unseen
    from pertcast.model._forecast import Forecaster
    from pertcast.module import PerturbDiffConfig, PerturbDiffModule

__all__ = ["TrajectoryMixin"]


class TrajectoryMixin:
    """Gives a diffusion model the states that cells pass through when they are drawn."""

    if TYPE_CHECKING:
        adata: Any
        registry: dict[str, Any]
        config: PerturbDiffConfig
        module: PerturbDiffModule
        forecaster_: Forecaster | None
        dosages_: dict[str, tuple[float, ...]]

        def _check_if_trained(self, warn: bool = ..., message: str = ...) -> None: ...
        def _check_requests(self, requests: Sequence[Request], metadata: ScreenMetadata, *, unseen: Unseen) -> Any: ...
        def _part_ids(self, metadata: ScreenMetadata) -> dict[str, int] | None: ...
        def _sampling(self, options: Mapping[str, Any]) -> dict[str, Any]: ...
        def _identity_codes(self, query: ControlQuery, population: ControlPopulation) -> tuple[int, int]: ...

    def get_denoising_trajectory(
        self,
        adata: AnnData | None = None,
        perturbation: str | None = None,
        *,
        context: str | None = None,
        dosage: float | None = None,
        n_steps: int = 10,
        seed: int = 0,
    ) -> AnnData:
        """Draw one set of cells and keep every step, for :func:`pertcast.pl.denoising_trajectory`.

        The steps are those of :meth:`predict` with the same ``n_steps``. The mean that populations are given
        afterwards, and the zeros that are restored (``zeros="hurdle"``), are no part of them.

        Parameters
        ----------
        adata
            Control cells, as for :meth:`predict`; the training data by default.
        perturbation
            Perturbation; may be left out if the training data hold a single one.
        context
            Context to predict; may be left out if the control cells hold a single one.
        dosage
            Dosage; may be left out if the perturbation was measured at a single one.
        n_steps
            Diffusion steps S.
        seed
            Seed of the draw.

        Returns
        -------
        A row for each of M cells and S + 1 states, from noise to cells: ``X`` is the state ``x_t`` in the units of
        the training data, ``layers["denoised"]`` what the network predicts from it (in the last state, the cell
        itself). ``obs`` has ``step`` (0 to S), ``time`` (1 to 0) and ``cell``. M is the number of cells in a set.

        Raises
        ------
        RuntimeError
            If the model is not trained.
        ValueError
            If the representation is not that of genes, the perturbation is unknown, or the request does not name a
            single condition.
        """
        self._check_if_trained(warn=False, message="This model is not trained. Call `model.train()` first.")
        if self.config.representation != "genes":
            raise ValueError(
                f"Only models with representation='genes' show their steps, but this one has "
                f"{self.config.representation!r}."
            )
        check_whole("n_steps", n_steps)
        metadata = screen_metadata_from_registry(self.registry)
        requests = resolve_requests(perturbation, dosage, metadata, self.dosages_)
        self._check_requests(requests, metadata, unseen="error")
        query = ControlQuery.from_adata(self.adata if adata is None else adata, metadata, contexts=context)
        found = {population.context_name for population in query.populations}
        for what, number in (("perturbation and dosage", len(requests)), ("context", len(found))):
            if number != 1:
                raise ValueError(f"A trajectory is that of one {what}, but {number} were asked for. Name one.")

        states: list[tuple[int, float, np.ndarray, np.ndarray]] = []
        names: list[str] = []
        for number, task in enumerate(make_tasks(query, requests, n_cells=self.config.set_size, seed=seed)):
            kept = _States(float(self.module.scale))
            sampling = self._sampling({"steps": n_steps, "guidance_scale": self.config.guidance_scale})
            drawer = PopulationDrawer(
                self.module,
                self.forecaster_,
                query,
                identity_codes=partial(self._identity_codes, query),
                part_ids=self._part_ids(metadata),
                batch_size=1,
                sampling=sampling | {"callback": kept},
            )
            next(drawer.draw([task]))
            for step, (time, noisy, denoised) in enumerate(kept.all()):
                states.append((step, time, noisy, denoised))
                names += [f"{number}-{cell}" for cell in range(len(noisy))]
        sizes = [len(noisy) for *_, noisy, _ in states]
        obs = pd.DataFrame(
            {
                "step": np.repeat([step for step, *_ in states], sizes),
                "time": np.repeat([time for _, time, *_ in states], sizes),
                "cell": pd.Categorical(names),
            },
            index=pd.Index([f"state-{row}" for row in range(len(names))]),
        )
        X, denoised = (np.concatenate([state[part] for state in states]) for part in (2, 3))
        return AnnData(X, obs=obs, var=query.var, layers={"denoised": denoised})


class _States:
    """Callback of a sampler that keeps times, states and predictions of the only set, in the units of the data."""

    def __init__(self, scale: float) -> None:
        self.scale = scale
        self.kept: list[tuple[float, np.ndarray, np.ndarray]] = []

    def __call__(self, step: int, t: float, x_t: Tensor, x0: Tensor) -> None:
        noisy, denoised = ((x[0] * self.scale).float().cpu().numpy() for x in (x_t, x0))
        self.kept.append((float(t), noisy, denoised))

    def all(self) -> list[tuple[float, np.ndarray, np.ndarray]]:
        """The states, and the cells at time 0, which every sampler takes from the last prediction."""
        last = self.kept[-1][2]
        return [*self.kept, (0.0, last, last)]
