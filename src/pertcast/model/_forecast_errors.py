"""How well the anchor of a model forecasts its own training conditions."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from pertcast.anchor import forecast_errors
from pertcast.data import screen_metadata_from_registry
from pertcast.data._dosages import dosage_key
from pertcast.data._grammar import canonical_name

if TYPE_CHECKING:
    from pertcast.model._forecast import Forecaster

__all__ = ["ForecastErrorMixin"]

logger = logging.getLogger(__name__)


class ForecastErrorMixin:
    """Gives a model with an anchor the errors of its forecasts of what it was trained on."""

    if TYPE_CHECKING:
        registry: dict[str, Any]
        forecaster_: Forecaster | None

        def _check_if_trained(self, warn: bool = ..., message: str = ...) -> None: ...

    def get_forecast_errors(self) -> pd.DataFrame:
        """Errors of the forecast mean shift of training conditions that are left out in turn.

        They say before anything is measured how far forecasts of this screen can be trusted: of a context, a batch, a
        perturbation in one context, a combination or a perturbation that it has not seen. Only the anchor is asked,
        whose forecasts are closed-form; the network, which also has a part in the mean of predicted cells, is not
        trained again.

        Returns
        -------
        One row for each training condition, in each batch, and way to leave it out. In the first three ways, that is
        those conditions whose perturbation is also measured elsewhere; of many conditions some are drawn in every way,
        120 of up to 200 training conditions and 40 of 600 or more:

        * ``left_out``: all conditions of its ``"context"`` or of its ``"batch"``; its perturbation in its context, at
          all dosages (``"condition"``); its ``"combination"``, whether or not its parts are measured elsewhere; or its
          ``"perturbation"``, alone and in combinations, which is then forecast by its vector, if it has one, and by
          what perturbations share. What there are fewer than three of is not left out.
        * ``perturbation``, ``dosage`` (NaN without dosages), ``context``, ``batch`` (``"all"`` without a batch column),
          ``n_cells``, ``n_controls``.
        * ``squared_error`` and ``squared_shift``: squared distance of the forecast from the measured shift, and squared
          length of the measured shift, over all genes. The sampling noise of the mean of the perturbed cells is taken
          off by the variance of an average population: right on average over rows, and below 0 at times. The sum of the
          errors over that of the shifts is 0 for perfect forecasts and 1 for those of no effect.
        * ``control_noise``: what of ``squared_shift`` must be sampling noise of the mean of the controls. Where that is
          most of it, there is hardly any effect, and a small error says that conditions share their controls.
        * ``shift_pearson``: correlation of forecast and measured shift over genes; NaN where one is constant.

        Raises
        ------
        RuntimeError
            If the model is not trained.
        ValueError
            If the model has no anchor.

        Notes
        -----
        The sums tell the typical error of a screen. A single context can be forecast much better or worse, above all
        one that is unlike all training contexts. Errors are slightly too small, because how to forecast was chosen by
        them; those of perturbations that are genes are too large, because what a perturbation does to its own gene is
        not counted. :func:`pertcast.tl.benchmark` scores whole predictions of what you hold out.

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
        if not found:
            logger.info(
                "There are fewer than three contexts, batches, combinations and perturbations to leave out whose "
                "conditions others tell something of."
            )
        rows = np.array([error.row for error in found], dtype=int)
        has_dosage = screen_metadata_from_registry(self.registry).has_dosage
        return pd.DataFrame(
            {
                "left_out": np.array([error.left_out for error in found], dtype=object),
                "perturbation": np.array([canonical_name(p.perturbation[row]) for row in rows], dtype=object),
                "dosage": [dosage_key(p.dosage[row]) if has_dosage else np.nan for row in rows],
                "context": p.context[rows],
                "batch": p.batch[rows],
                "n_cells": np.asarray(p.n_perturbed)[rows],
                "n_controls": np.asarray(p.n_control)[rows],
                "squared_error": [error.squared_error for error in found],
                "squared_shift": [error.squared_shift for error in found],
                "control_noise": [error.control_noise for error in found],
                "shift_pearson": [error.pearson for error in found],
            }
        )
