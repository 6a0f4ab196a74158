"""The verbs with which every model takes in a screen, and what a model says of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pertcast.data._describe import describe_model
from pertcast.data._registration import register_anndata

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from anndata import AnnData
    from mudata import MuData
    from scvi.model.base import BaseModelClass

__all__ = ["ScreenSetupMixin"]


class ScreenSetupMixin:
    """Gives a model ``setup_anndata``, ``setup_mudata`` and a text that says what was registered.

    Mix it in before :class:`~scvi.model.base.BaseModelClass`.

    Every model class keeps its own register, so call the method of the class that you will train.
    """

    def __repr__(self) -> str:
        """Return the settings, whether the model is trained, and what was registered."""
        return describe_model(self)

    @classmethod
    def setup_anndata(
        cls: type[BaseModelClass],
        adata: AnnData,
        perturbation_key: str = "perturbation",
        control: str = "control",
        cell_type_key: str | None = None,
        batch_key: str | None = None,
        layer: str | None = None,
        counts_layer: str | None = None,
        dosage_key: str | None = None,
        perturbation_embedding_key: str | None = None,
        categorical_covariate_keys: Sequence[str] | None = None,
        continuous_covariate_keys: Sequence[str] | None = None,
        split_key: str | None = None,
        **kwargs: Any,
    ) -> None:
        """Check a screen and register it with this model class.

        Everything is checked first: if an error is raised, the AnnData is as it was. On success it holds the columns
        and keys ``_scvi_*`` of scvi-tools and nothing else is changed.

        Parameters
        ----------
        adata
            Screen with control and perturbed cells, in memory or backed by a file. Expression is log-normalised, or any
            other real-valued measurement such as protein intensities; raw counts are refused.
        perturbation_key
            Column of ``obs`` with the perturbation of each cell. ``+`` joins the parts of a combination.
        control
            Label of unperturbed cells in that column.
        cell_type_key
            Column of ``obs`` with what is held fixed, the context: cell type or cell line.
        batch_key
            Column of ``obs`` with the batch or donor.
        layer
            Key of ``layers`` with the expression; ``X`` by default.
        counts_layer
            Key of ``layers`` with raw counts; no model reads them so far.
        dosage_key
            Numeric column of ``obs`` with the dosage, at least 0; that of control cells is ignored.
        perturbation_embedding_key
            Key of ``uns`` with a vector for each single perturbation: a data frame with names as its index, or a dict.
            Perturbations that are only in this table can be predicted without having been measured.
        categorical_covariate_keys
            Columns of ``obs`` that are part of the context.
        continuous_covariate_keys
            Numeric columns of ``obs``, such as an age. Networks read the mean over the controls of a population, in
            units of the spread between training controls; anchors and baselines do not use it.
        split_key
            Column of ``obs`` with ``"train"``, ``"validation"`` or ``"test"`` for each cell. Test conditions are never
            trained on.
        **kwargs
            Passed on to :meth:`scvi.data.AnnDataManager.register_fields`; needed only by scvi-tools itself.

        Raises
        ------
        KeyError
            If a column, layer or key does not exist.
        TypeError
            If something has the wrong type.
        ValueError
            If the data are not a screen that a model can learn from. The message says why and what to do.
        """
        args = cls._get_setup_method_args(**locals())
        register_anndata(cls, adata, setup_method_args=args, **args["setup_args"], **kwargs)

    @classmethod
    def setup_mudata(
        cls: type[BaseModelClass],
        mdata: MuData,
        perturbation_key: str = "perturbation",
        control: str = "control",
        cell_type_key: str | None = None,
        batch_key: str | None = None,
        layer: str | None = None,
        counts_layer: str | None = None,
        dosage_key: str | None = None,
        perturbation_embedding_key: str | None = None,
        categorical_covariate_keys: Sequence[str] | None = None,
        continuous_covariate_keys: Sequence[str] | None = None,
        split_key: str | None = None,
        modalities: Mapping[str, str] | None = None,
        **kwargs: Any,
    ) -> None:
        """Check a screen in a MuData and register it with this model class.

        Parameters
        ----------
        mdata
            Screen, see :meth:`setup_anndata`. One of its modalities is modelled.
        perturbation_key
            Column with the perturbation of each cell. ``+`` joins the parts of a combination.
        control
            Label of unperturbed cells in that column.
        cell_type_key
            Column with what is held fixed, the context: cell type or cell line.
        batch_key
            Column with the batch or donor.
        layer
            Key of ``layers`` of the modality with the expression; its ``X`` by default.
        counts_layer
            Key of ``layers`` with raw counts, by default in the modality of ``layer``.
        dosage_key
            Numeric column with the dosage, at least 0; that of control cells is ignored.
        perturbation_embedding_key
            Key of ``uns`` with a vector for each single perturbation.
        categorical_covariate_keys
            Columns that are part of the context.
        continuous_covariate_keys
            Numeric columns, which networks read (see :meth:`setup_anndata`).
        split_key
            Column with ``"train"``, ``"validation"`` or ``"test"`` for each cell.
        modalities
            Name of an argument above to the modality that holds what it names. ``layer`` is required, for example
            ``{"layer": "rna"}``; columns are those of the MuData itself unless a modality is given for them.
        **kwargs
            Passed on to :meth:`scvi.data.AnnDataManager.register_fields`; needed only by scvi-tools itself.

        Raises
        ------
        KeyError, TypeError, ValueError
            As :meth:`setup_anndata`; also if ``modalities`` does not fit the MuData.
        """
        args = cls._get_setup_method_args(**locals())
        register_anndata(cls, mdata, setup_method_args=args, **args["setup_args"], **kwargs)
