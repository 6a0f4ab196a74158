"""Splitting a screen for honest evaluation."""

from __future__ import annotations

import logging
import warnings
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from pertcast.data._checks import check_container
from pertcast.data._controls import match_controls
from pertcast.data._keys import ScreenKeys
from pertcast.data._messages import shorten
from pertcast.data._split import Part
from pertcast.pp._leaks import require_no_leak, unseen_names
from pertcast.pp._plan import plan_split
from pertcast.pp._record import check_key_added, provenance
from pertcast.pp._request import SplitRequest, require_keys
from pertcast.pp._screen import read_index

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from anndata import AnnData
    from mudata import MuData

    from pertcast.data._index import ConditionIndex
    from pertcast.pp._plan import SplitPlan
    from pertcast.pp._request import SplitKind

__all__ = ["split"]

logger = logging.getLogger(__name__)


def split(
    adata: AnnData | MuData,
    kind: SplitKind,
    *,
    perturbation_key: str = "perturbation",
    control: str = "control",
    cell_type_key: str | None = None,
    batch_key: str | None = None,
    dosage_key: str | None = None,
    categorical_covariate_keys: Sequence[str] | None = None,
    hold_out: str | float | tuple[object, ...] | Iterable[object] | None = None,
    test_size: float = 0.2,
    validation_size: float = 0.0,
    n_folds: int | None = None,
    fold: int = 0,
    n_seen: int | None = None,
    seed: int = 0,
    key_added: str = "split",
    copy: bool = False,
) -> AnnData | MuData | None:
    """Label the cells of a screen for training, validation and test.

    Whole units are held out, never single cells, so that the test part asks what a model is for: what do cells do that
    were not measured? Control cells always stay in training, those of held-out contexts and donors as well, because
    predictions start from them. What is a unit depends on `kind`:

    * ``"context"``: all perturbed cells of a context, which is a cell type together with the categorical covariates.
      A known perturbation in an unseen context.
    * ``"donor"``: all perturbed cells of a donor or batch. A known perturbation in an unseen donor.
    * ``"perturbation"``: all cells that received a single perturbation, at any dosage and in any combination. If ``A``
      is held out, so is ``A+B``, although ``B`` may stay in training. An unseen perturbation.
    * ``"combination"``: all cells of a combination. How much of it training sees is set by `n_seen`.
    * ``"condition"``: all cells of a perturbation, at one dosage, in one context, over all batches. The gaps of a
      screen.
    * ``"dosage"``: all cells of a perturbation at one dosage: by default the highest `test_size` of its dosages. An
      unseen dosage of a known perturbation.

    Units are named by `hold_out`, or dealt into `n_folds` folds, or drawn at random. Where they are drawn, only units
    are taken that training can spare: for ``"context"`` and ``"donor"``, each single perturbation is left in another
    context or donor; for ``"condition"``, each perturbation is left in another condition, and each context keeps a
    condition; for ``"perturbation"`` and ``"combination"``, each context keeps a condition. Fewer than `test_size` may
    then be drawn. If no unit can be spared, the wish is dropped, except that contexts keep a condition for
    ``"condition"``.

    Parameters
    ----------
    adata
        Screen with control and perturbed cells.
    kind
        What is held out, see above.
    perturbation_key
        Column of ``obs`` with the perturbation of each cell. ``+`` joins the parts of a combination, in any order.
    control
        Label of unperturbed cells in that column.
    cell_type_key
        Column of ``obs`` with the cell type or cell line.
    batch_key
        Column of ``obs`` with the donor or batch.
    dosage_key
        Numeric column of ``obs`` with the dosage; that of control cells is ignored.
    categorical_covariate_keys
        Columns of ``obs`` that are part of the context.
    hold_out
        What to hold out for testing; `test_size` is then not used. One name or a list of them: contexts (with several
        columns, their labels joined by ``" | "``), donors, single perturbations, combinations (``"A+B"`` in any
        order), conditions as tuples ``(perturbation, context)`` or ``(perturbation, context, dosage)``, or dosages as
        numbers.
    test_size
        Share of the units to draw for testing, rounded; at least one is drawn, and something is left for training.
    validation_size
        Share of the units that are left to draw for validation, in the same way. With the default of 0, models hold
        out some of the training part themselves.
    n_folds
        Number of folds of cross-validation. Each unit is held out in exactly one fold, and folds are of equal size, to
        within one. For ``"dosage"``, whole dosages are dealt into folds.
    fold
        The fold to hold out, from 0 to ``n_folds - 1``.
    n_seen
        For ``"combination"``: of how many of its parts training sees the single perturbation. By default of all of
        them: singles stay in training, and combinations are drawn from those whose parts were all measured alone. For
        pairs, 2 says the same. With 1 or 0, the other parts are withheld: training has them neither alone nor in any
        combination, and all their cells are held out as well, also those of combinations with another number of seen
        parts. Without `hold_out`, parts are withheld until a share `test_size` of the combinations fits. This is the
        distinction of 0/2, 1/2 and 2/2 seen by Roohani et al. (Nat. Biotechnol. 42:927, 2024).
    seed
        Seed of every random choice. The outcome depends on names and seed, not on the order of cells or categories.
    key_added
        Column of ``obs`` and key of ``uns`` to write to. An earlier split is replaced: a column with a record of this
        function in ``uns``, or one that holds no labels but those of a split (train, training, validation, valid, val,
        test).
    copy
        Whether to return a copy and leave `adata` as it is.

    Returns
    -------
    `None`, or a copy if `copy` is true. Sets these fields, and replaces them if they are there; nothing else changes,
    and nothing at all if an error is raised:

    `adata.obs[key_added]`
        Categorical with those of ``"train"``, ``"validation"`` and ``"test"`` that occur.
    `adata.uns[key_added]`
        How the split was made: ``kind``, ``seed``, ``version``, ``held_out`` (names of the units of the test part),
        ``validation`` (of the validation part, if there is one), ``withheld`` (single perturbations, if `n_seen`
        withholds any) and ``params`` (the other arguments that were used).

    Raises
    ------
    KeyError
        If a column does not exist.
    TypeError
        If an argument or column has the wrong type.
    ValueError
        If an argument is out of range, a cell has no label, a context has no control cells, `hold_out` names something
        that the screen does not hold, nothing can be held out, nothing is left for training, or `key_added` is the
        name of a column of ``obs`` or an entry of ``uns`` that is no earlier split.

    Warns
    -----
    UserWarning
        If training has no perturbed cells at all of a held-out perturbation or context, although the kind of the split
        says that it should.

    See Also
    --------
    check_split : check a split that was made in another way.

    Examples
    --------
    >>> import pertcast as pc
    >>> adata = pc.data.simulate_screen(5, n_genes=20, combinations=False)
    >>> pc.pp.split(adata, "context", cell_type_key="cell_type", hold_out="type_1")
    >>> adata.obs.groupby("split", observed=True)["cell_type"].unique()["test"].tolist()
    ['type_1']
    >>> adata.uns["split"]["held_out"].tolist()
    ['type_1']
    """
    request = SplitRequest(kind, hold_out, test_size, validation_size, n_folds, fold, n_seen, seed)
    keys = ScreenKeys(
        perturbation_key=perturbation_key,
        control=control,
        cell_type_key=cell_type_key,
        batch_key=batch_key,
        dosage_key=dosage_key,
        categorical_covariate_keys=categorical_covariate_keys,
        split_key=key_added,
    )
    if copy:
        adata = adata.copy()
    check_container(adata)
    require_keys(kind, keys)
    check_key_added(adata, keys, key_added)
    index = read_index(adata, keys)
    match_controls(index, log=False)
    plan = plan_split(index, request)
    require_no_leak(index, plan.part, kind)

    unseen = _describe_unseen(index, request, plan)
    if unseen:
        warnings.warn(unseen, UserWarning, stacklevel=2)
    _log(index, request, plan)
    codes = np.empty(adata.n_obs, dtype=np.int8)
    codes[index.order] = np.repeat(plan.part, index.n_cells)
    found = np.unique(codes)
    names = pd.Index([Part(code).name.lower() for code in found])
    adata.obs[key_added] = pd.Categorical.from_codes(np.searchsorted(found, codes), categories=names)
    adata.uns[key_added] = provenance(keys, request, plan)
    return adata if copy else None


def _describe_unseen(index: ConditionIndex, request: SplitRequest, plan: SplitPlan) -> str:
    """Say what training does not see although it should; empty if all is well."""
    perturbations, contexts = unseen_names(index, plan.part)
    if request.kind == "perturbation" or plan.withheld:
        perturbations = []
    if request.kind == "context":
        contexts = []
    found = [
        f"the {noun}(s) {shorten(names)}"
        for noun, names in (("perturbation", perturbations), ("context", contexts))
        if names
    ]
    if not found:
        return ""
    return (
        f"Training has no perturbed cells of {' and '.join(found)}, so that their held-out cells ask for more than "
        f"kind={request.kind!r} says. Hold out less, or report them separately."
    )


def _log(index: ConditionIndex, request: SplitRequest, plan: SplitPlan) -> None:
    part, sizes = plan.part[index.perturbed], index.n_cells[index.perturbed]
    counts = ", ".join(
        f"{np.count_nonzero(part == code)} conditions ({sizes[part == code].sum()} cells) for {code.name.lower()}"
        for code in Part
    )
    logger.info("Split by %s: %s; held out: %s.", request.kind, counts, shorten(plan.test))
