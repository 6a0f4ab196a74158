"""The baseline that adds the mean shift of a perturbation."""

from __future__ import annotations

from pertcast.baselines._shifts import ShiftBaseline

__all__ = ["PerturbationShift"]


class PerturbationShift(ShiftBaseline):
    """Adds to each control cell the mean shift of the perturbation over the training contexts, all weighted equally.

    The shift in a context is the mean over its populations (batches). A context that was trained on counts like the
    others, also where it is predicted. A combination that was not measured gets the sum of the shifts of its parts, at
    the same dosage. Values are not clipped, so the sum may be below 0.

    Parameters
    ----------
    adata
        Screen that was registered with :meth:`setup_anndata` or :meth:`setup_mudata`.
    registry
        Registry of a saved model, in place of the screen.
    """
