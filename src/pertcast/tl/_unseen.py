"""Whether a model that was made before a benchmark has seen its test part."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from pertcast.data import screen_from_manager

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["check_unseen"]


def check_unseen(name: str, model: Any, test: AnnData, split_key: str) -> None:
    """Raise if cells of the test part are among those that a model was trained on, or would be.

    A trained model knows the names of its training conditions, whatever became of the split since. Cells are the same
    if they have the same name, perturbation and context: samples of a screen may use the same barcodes. Of a model
    without data nothing can be said.

    Parameters
    ----------
    name
        Name of the model.
    model
        Model of this package, or another, which is passed over.
    test
        Perturbed cells of the test part.
    split_key
        Column with the split, for the message.

    Raises
    ------
    ValueError
        With the number of cells.
    """
    if getattr(model, "adata", None) is None or not hasattr(model, "adata_manager"):
        return
    setup = model.registry["setup_args"]
    known: Any = [setup.get(key) for key in ("perturbation_key", "cell_type_key", "batch_key")]
    columns = [key for key in known if key in model.adata.obs and key in test.obs]
    rows = np.sort(_training_rows(model))
    own, tested = (
        pd.MultiIndex.from_arrays([obs.index, *(obs[key].astype(str) for key in columns)])
        for obs in (model.adata.obs.iloc[rows], test.obs)
    )
    seen = own.intersection(tested)
    if len(seen):
        done = "was trained" if model.is_trained_ else "would be trained"
        raise ValueError(
            f"The model {name!r} {done} on {len(seen)} cells of the test part. Make the split first, set the model up "
            f"with `split_key={split_key!r}` and train it then, or give the model class, which is set up here."
        )


def _training_rows(model: Any) -> np.ndarray:
    """Perturbed cells of the conditions that a model was trained on, or that it would be."""
    screen = getattr(model, "screen", None) or screen_from_manager(model.adata_manager)
    index = screen.index
    if model.is_trained_:
        is_known = np.isin(index.names(index.perturbed), model.trained_conditions_)
        conditions = index.perturbed[is_known]
    else:
        split = screen.split(validation_size=0)
        conditions = np.union1d(split.train, split.validation)
    return np.concatenate([np.empty(0, dtype=np.int64), *(index.rows(condition) for condition in conditions)])
