"""Sentences on what a model was registered with."""

from __future__ import annotations

from textwrap import fill
from typing import TYPE_CHECKING, Any

import numpy as np

from pertcast.data._index import ConditionIndex
from pertcast.data._messages import shorten
from pertcast.data._screen import screen_metadata_from_registry

if TYPE_CHECKING:
    from pertcast.data._screen import ScreenMetadata

__all__ = ["describe_index", "describe_metadata", "describe_model"]

_WIDTH = 100


def describe_model(model: Any) -> str:
    """Say what a model is, whether it is trained, and what was registered: one line for each.

    Parameters
    ----------
    model
        Model with :class:`~pertcast.data._setup.ScreenSetupMixin`.
    """
    lines = [model._model_summary_string, f"Training status: {'Trained' if model.is_trained_ else 'Not Trained'}"]
    if model.adata is None:
        lines.append(describe_metadata(screen_metadata_from_registry(model.registry)))
    else:
        screen = getattr(model, "screen", None)
        index = ConditionIndex.from_manager(model.adata_manager) if screen is None else screen.index
        lines += describe_index(index, n_genes=int(model.summary_stats["n_vars"])).splitlines()
    return "\n".join(fill(line, _WIDTH, subsequent_indent="  ", break_long_words=False) for line in lines)


def describe_index(index: ConditionIndex, *, n_genes: int) -> str:
    """Say how many conditions, contexts, controls and cells there are, and what is skipped.

    Parameters
    ----------
    index
        Index of the screen.
    n_genes
        Number of genes.

    Examples
    --------
    >>> index = ConditionIndex.from_codes([0, 0, 1, 1, 2], ["control", "A", "B"])
    >>> describe_index(index, n_genes=7)
    'Registered: 5 cells x 7 genes; 2 control cells; 2 conditions of 2 perturbations in 1 context and 1 batch'
    """
    sizes = index.n_cells
    used = index.perturbed
    counts = [
        _count(len(used), "condition"),
        _count(len(np.unique(index.perturbation[used])), "perturbation"),
        _count(len(np.unique(index.context[used])), "context"),
        _count(len(np.unique(index.batch[used])), "batch", "batches"),
    ]
    text = (
        f"Registered: {_count(sizes.sum(), 'cell')} x {_count(n_genes, 'gene')}; "
        f"{_count(sizes[index.is_control].sum(), 'control cell')}; "
        f"{counts[0]} of {counts[1]} in {counts[2]} and {counts[3]}"
    )
    skipped = np.flatnonzero(index.skipped)
    if not skipped.size:
        return text
    named = (f"{name} ({size})" for name, size in zip(index.names(skipped), sizes[skipped], strict=True))
    return f"{text}\nSkipped for too few cells: {_count(len(skipped), 'condition')}: {shorten(named, 3)}"


def describe_metadata(metadata: ScreenMetadata) -> str:
    """Say what a model without data knows of its training data.

    Parameters
    ----------
    metadata
        What its registry says.
    """
    return (
        f"No data attached; registered: {_count(len(metadata.var_names), 'gene')}; "
        f"{_count(len(metadata.perturbations), 'perturbation')}, {_count(len(metadata.cell_types), 'cell type')} and "
        f"{_count(len(metadata.batches), 'batch', 'batches')}"
    )


def _count(number: int | np.integer, one: str, many: str | None = None) -> str:
    """Write a number and its noun."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"
