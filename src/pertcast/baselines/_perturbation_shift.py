"""The baseline that adds the mean shift of a perturbation."""

from __future__ import annotations

from pertcast.baselines._shifts import ShiftBaseline

__all__ = ["PerturbationShift"]


class PerturbationShift(ShiftBaseline):
    """Adds to each control cell the mean shift of the perturbation over the training contexts, all weighted equally.

    The shift in a context is the mean over its populations (batches). A context that was trained on counts like the
    others, also where it is predicted. A combination that was not measured gets the sum of the shifts of its parts, at
    the same dosage. What was measured at other dosages only gets the shift at the nearest one, on a log scale. Values
    are not clipped, so the sum may be below 0.

    Parameters
    ----------
    adata
        Screen that was registered with :meth:`setup_anndata` or :meth:`setup_mudata`.
    registry
        Registry of a saved model, in place of the screen.

    Examples
    --------
    The shifts of the two cell types are (1, 0) and (3, 1), their mean is (2, 0.5).

    >>> import anndata as ad
    >>> import numpy as np
    >>> import pandas as pd
    >>> import pertcast as pc
    >>> obs = pd.DataFrame(
    ...     {"perturbation": ["control", "a"] * 2, "cell_type": ["B", "B", "T", "T"]}, index=list("wxyz")
    ... )
    >>> adata = ad.AnnData(np.array([[0.5, 1], [1.5, 1], [2.5, 0], [5.5, 1]], dtype=np.float32), obs=obs)
    >>> pc.baselines.PerturbationShift.setup_anndata(adata, cell_type_key="cell_type")
    >>> model = pc.baselines.PerturbationShift(adata)
    >>> model.train()
    >>> model.predict(adata, ["a"], progressbar=False).X
    array([[2.5, 1.5],
           [4.5, 0.5]], dtype=float32)
    """
