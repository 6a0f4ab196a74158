"""How well the anchor of a model forecasts its own training conditions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from pertcast.anchor import forecast_errors
from pertcast.data import screen_metadata_from_registry
from pertcast.data._grammar import canonical_name

if TYPE_CHECKING:
    from pertcast.model._forecast import Forecaster

__all__ = ["ForecastErrorMixin"]


class ForecastErrorMixin:
    """Gives a model with an anchor the errors of its forecasts of what it was trained on."""

    if TYPE_CHECKING:
        registry: dict[str, Any]
        forecaster_: Forecaster | None

        def _check_if_trained(self, warn: bool = ..., message: str = ...) -> None: ...

    def get_forecast_errors(self) -> pd.DataFrame:
        """Errors of the forecast mean shift of training conditions that are left out in turn.

        They say before anything is measured how far a prediction can be trusted: how well this screen forecasts a
        context, a batch, a perturbation in one context, a combination or a perturbation that it has not seen. Only the
        anchor is asked, whose forecasts are closed-form; the network is not trained again.

        Returns
        -------
        One row for each training condition (of very many, 40 to 120) and way to leave it out:

        * ``left_out``: all conditions of its ``"context"`` or of its ``"batch"``; its perturbation in its context, at
          all dosages (``"condition"``); its ``"combination"``; or its ``"perturbation"``, alone and in combinations.
          What there are fewer than three of is not left out.
        * ``perturbation``, ``dosage`` (NaN without dosages), ``context``, ``batch``, ``n_cells``, ``n_controls``.
        * ``squared_error`` and ``squared_shift``: squared distance of the forecast from the measured shift, and squared
          length of the measured shift, over all genes. The sampling noise of the measured mean is taken off, so both
          are unbiased, and below 0 at times. The sum of the errors over that of the shifts is 0 for perfect forecasts
          and 1 for those of no effect.
        * ``shift_pearson``: correlation of forecast and measured shift over genes; NaN where one is constant.

        Raises
        ------
        RuntimeError
            If the model is not trained.
        ValueError
            If the model has no anchor.

        Notes
        -----
        Errors are slightly too small, because how to forecast was chosen by them, and a context unlike all training
        contexts may be forecast worse. A condition is that of one batch; its mean over batches, which
        :func:`pertcast.tl.benchmark` scores in whole predictions of what you hold out, is forecast better.

        Examples
        --------
        >>> import pertcast as pc
        >>> adata = pc.data.simulate_screen(20, n_genes=60, n_cell_types=6, n_perturbations=2, combinations=0, seed=0)
        >>> pc.PerturbDiff.setup_anndata(adata, cell_type_key="cell_type")
        >>> model = pc.PerturbDiff(adata)
        >>> model.train(max_epochs=1, enable_progress_bar=False)
        >>> sums = model.get_forecast_errors().groupby("left_out")[["squared_error", "squared_shift"]].sum()
        >>> (sums["squared_error"] / sums["squared_shift"]).round(1).to_dict()
        {'condition': 0.3, 'context': 0.5}
        """
        self._check_if_trained(warn=False, message="This model is not trained. Call `model.train()` first.")
        if self.forecaster_ is None:
            raise ValueError(
                f"This {type(self).__name__} has no anchor, so there are no forecasts whose errors could be measured "
                "without training. Score it with `pc.tl.benchmark` on conditions that you hold out."
            )
        anchor = self.forecaster_.anchor
        p, found = anchor.populations, forecast_errors(anchor)
        rows = np.array([error.row for error in found], dtype=int)
        has_dosage = screen_metadata_from_registry(self.registry).has_dosage
        return pd.DataFrame(
            {
                "left_out": [error.left_out for error in found],
                "perturbation": [canonical_name(p.perturbation[row]) for row in rows],
                "dosage": np.asarray(p.dosage)[rows] if has_dosage else np.nan,
                "context": p.context[rows],
                "batch": p.batch[rows],
                "n_cells": np.asarray(p.n_perturbed)[rows],
                "n_controls": np.asarray(p.n_control)[rows],
                "squared_error": [error.squared_error for error in found],
                "squared_shift": [error.squared_shift for error in found],
                "shift_pearson": [error.pearson for error in found],
            }
        )
