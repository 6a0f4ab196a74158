"""From row requests to tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

import numpy as np
import torch
from torch.utils.data import Dataset

from pertcast.data._matrix import gather_rows
from pertcast.data._pseudobulk import population_means

if TYPE_CHECKING:
    from torch import Tensor

    from pertcast.data._controls import MatchedControls
    from pertcast.data._index import ConditionIndex
    from pertcast.data._matrix import Matrix
    from pertcast.data._sampler import SetRequest
    from pertcast.data._vocabulary import PerturbationVocabulary

__all__ = ["PopulationBatch", "PopulationDataset"]


class PopulationBatch(TypedDict):
    """Tensors of B sets: a plain dictionary, which Lightning moves to the device.

    Attributes
    ----------
    X
        Cells of each set, float32 ``[B, M, G]`` in the units of the data; padding is 0.
    mask
        Where ``X`` holds a cell, bool ``[B, M]``.
    control
        Matched control cells, float32 ``[B, N, G]``; padding is 0.
    control_mask
        Where ``control`` holds a cell, bool ``[B, N]``.
    part_ids
        Ids of the single perturbations in the vocabulary, int64 ``[B, K]``; padding is 0.
    part_mask
        Where ``part_ids`` holds a perturbation, bool ``[B, K]``; all ``False`` for controls.
    dosage
        Dosage, float32 ``[B]``; 0 for controls, 1 where the screen has no dosages.
    context
        Context code of the index, int64 ``[B]``.
    batch
        Batch code of the index, int64 ``[B]``.
    covariates
        Continuous covariates, the mean over all matched controls of the condition, float32 ``[B, V]``; V may be 0.
    condition
        Condition of the index, int64 ``[B]``.

    Examples
    --------
    >>> import pertcast as pc
    >>> adata = pc.data.simulate_screen(6, n_genes=20, n_cell_types=2, n_perturbations=2, combinations=0, seed=0)
    >>> pc.baselines.NoEffect.setup_anndata(adata, cell_type_key="cell_type")
    >>> screen = pc.data.screen_from_manager(pc.baselines.NoEffect(adata).adata_manager)
    >>> sizes = {"n_sets": 2, "set_size": 4, "n_controls": 3, "steps_per_epoch": 1}
    >>> data = pc.data.PopulationDataModule(screen, screen.split(), **sizes)
    >>> batch = next(iter(data.train_dataloader()))
    >>> tuple(batch["X"].shape), tuple(batch["control"].shape), batch["dosage"].tolist()
    ((2, 4, 20), (2, 3, 20), [1.0, 1.0])
    """

    X: Tensor
    mask: Tensor
    control: Tensor
    control_mask: Tensor
    part_ids: Tensor
    part_mask: Tensor
    dosage: Tensor
    context: Tensor
    batch: Tensor
    covariates: Tensor
    condition: Tensor


class PopulationDataset(Dataset[PopulationBatch]):
    """Answers a :class:`~pertcast.data.SetRequest` with a :class:`~pertcast.data.PopulationBatch`.

    Only the requested rows are made dense. Targets and controls of a request are gathered in one go.

    Parameters
    ----------
    X
        Matrix ``[cells, G]`` as :func:`~pertcast.data._matrix.row_major` returns it.
    index
        Index of the screen.
    controls
        Matched controls.
    vocabulary
        Perturbations and their ids.
    covariates
        Continuous covariates of each cell, ``[cells, V]``.

    Examples
    --------
    Cells 2 and 4 of a perturbation, and one control cell, padded to two:

    >>> import numpy as np
    >>> import pertcast as pc
    >>> index = pc.data.ConditionIndex.from_codes([0, 0, 1, 1, 1], ["control", "A"])
    >>> controls, vocabulary = pc.data.match_controls(index), pc.data.PerturbationVocabulary(["A"])
    >>> dataset = pc.data.PopulationDataset(np.arange(10.0).reshape(5, 2), index, controls, vocabulary)
    >>> batch = dataset[pc.data.SetRequest(np.array([1]), target=np.array([[2, 4]]), control=np.array([[1, -1]]))]
    >>> batch["X"].tolist(), batch["control"].tolist()
    ([[[4.0, 5.0], [8.0, 9.0]]], [[[2.0, 3.0], [0.0, 0.0]]])
    """

    def __init__(
        self,
        X: Matrix,
        index: ConditionIndex,
        controls: MatchedControls,
        vocabulary: PerturbationVocabulary,
        covariates: np.ndarray | None = None,
    ) -> None:
        self.X = X
        self._group = controls.group
        used = np.unique(index.perturbation[controls.group >= 0])
        self._part_ids, self._part_mask = vocabulary.encode([index.perturbation_names[code] for code in used])
        self._perturbation = np.searchsorted(used, index.perturbation)
        self._dosage, self._context, self._batch = index.dosage, index.context, index.batch
        if covariates is None:
            self._covariates = np.zeros((len(controls.groups), 0), dtype=np.float32)
        else:
            self._covariates = population_means(np.asarray(covariates), controls.groups).astype(np.float32)

    def __getitem__(self, request: SetRequest) -> PopulationBatch:
        """Gather the cells of one request."""
        n_target = request.target.size
        cells = gather_rows(self.X, np.concatenate([request.target.reshape(-1), request.control.reshape(-1)]))
        condition = request.condition
        perturbation = self._perturbation[condition]
        return PopulationBatch(
            X=torch.from_numpy(cells[:n_target].reshape(*request.target.shape, -1)),
            mask=torch.from_numpy(request.target_mask),
            control=torch.from_numpy(cells[n_target:].reshape(*request.control.shape, -1)),
            control_mask=torch.from_numpy(request.control_mask),
            part_ids=torch.from_numpy(self._part_ids[perturbation]),
            part_mask=torch.from_numpy(self._part_mask[perturbation]),
            dosage=torch.from_numpy(self._dosage[condition]),
            context=torch.from_numpy(self._context[condition].astype(np.int64)),
            batch=torch.from_numpy(self._batch[condition].astype(np.int64)),
            covariates=torch.from_numpy(self._covariates[self._group[condition]]),
            condition=torch.from_numpy(condition),
        )
