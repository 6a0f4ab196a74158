"""Registering a screen: the one implementation behind every ``setup_anndata`` and ``setup_mudata``."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mudata import MuData
from scvi.data import AnnDataManager
from scvi.data.fields import MuDataWrapper, NumericalJointObsField

from pertcast.data._checks import (
    check_container,
    check_covariate,
    check_dosage,
    check_embedding,
    check_labels,
    check_numbers,
    check_perturbations,
    require_column,
    usual_controls,
)
from pertcast.data._constants import REGISTRY_KEYS
from pertcast.data._controls import match_controls
from pertcast.data._factors import ScreenFactors
from pertcast.data._fields import DosageField, ExpressionField, JointLabelField, LabelField, UnsTableField
from pertcast.data._index import ConditionIndex
from pertcast.data._keys import ScreenKeys
from pertcast.data._messages import did_you_mean, shorten
from pertcast.data._predicted import check_obs_columns
from pertcast.data._split import Part, read_split_labels, split_of_conditions

if TYPE_CHECKING:
    from collections.abc import Mapping

    from anndata import AnnData
    from scvi.data.fields import BaseAnnDataField
    from scvi.model.base import BaseModelClass

__all__ = ["build_fields", "check_screen", "register_anndata"]

logger = logging.getLogger(__name__)


def register_anndata(
    cls: type[BaseModelClass],
    adata: AnnData | MuData,
    *,
    setup_method_args: dict[str, Any],
    perturbation_key: str,
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
    """Check a screen and register it with a model class.

    Everything is checked before anything is written: if an error is raised, the object is as it was.

    Parameters
    ----------
    cls
        Model class.
    adata
        Screen. On success it holds the columns and keys ``_scvi_*`` of scvi-tools.
    setup_method_args
        What ``cls._get_setup_method_args(**locals())`` returned. Its setup arguments must hold ``perturbation_key``,
        ``control`` and every other argument below that is not left at its default, under the same names, because they
        are read back from the registry.
    perturbation_key, control, cell_type_key, batch_key, layer, counts_layer, dosage_key, perturbation_embedding_key, \
    categorical_covariate_keys, continuous_covariate_keys, split_key, modalities
        As in ``setup_anndata`` of the models, such as :meth:`pertcast.PerturbDiff.setup_anndata`.
    **kwargs
        Passed on to :meth:`scvi.data.AnnDataManager.register_fields`: ``source_registry`` and ``extend_categories``
        where a saved model is given other data.

    Raises
    ------
    KeyError
        If a column, layer or key does not exist.
    TypeError
        If something has the wrong type, or an argument does not exist.
    ValueError
        If the data are not a screen that a model can learn from. The message says why and what to do.

    Examples
    --------
    >>> import pertcast as pc
    >>> from scvi.model.base import BaseModelClass
    >>> class Own(BaseModelClass):
    ...     @classmethod
    ...     def setup_anndata(cls, adata, perturbation_key="perturbation", control="control", cell_type_key=None):
    ...         args = cls._get_setup_method_args(**locals())
    ...         pc.data.register_anndata(cls, adata, setup_method_args=args, **args["setup_args"])
    >>> adata = pc.data.simulate_screen(6, n_genes=20, n_cell_types=2, n_perturbations=2, combinations=0, seed=0)
    >>> Own.setup_anndata(adata, cell_type_key="cell_type")
    >>> [column for column in adata.obs if column.startswith("_scvi")]
    ['_scvi_perturbation', '_scvi_cell_type', '_scvi_batch']
    """
    _check_options(setup_method_args, kwargs)
    keys = ScreenKeys(
        perturbation_key=perturbation_key,
        control=control,
        cell_type_key=cell_type_key,
        batch_key=batch_key,
        layer=layer,
        counts_layer=counts_layer,
        dosage_key=dosage_key,
        perturbation_embedding_key=perturbation_embedding_key,
        categorical_covariate_keys=categorical_covariate_keys,
        continuous_covariate_keys=continuous_covariate_keys,
        split_key=split_key,
        modalities=modalities,
    )
    check_screen(adata, keys, is_transfer=kwargs.get("source_registry") is not None)
    fields = build_fields(keys, for_mudata=isinstance(adata, MuData))
    manager = AnnDataManager(fields=fields, setup_method_args=setup_method_args)
    manager.register_fields(adata, **kwargs)
    cls.register_manager(manager)


def _check_options(setup_method_args: Mapping[str, Any], options: Mapping[str, Any]) -> None:
    """Raise if options were given that only a transfer from a saved model has, most likely misspelt arguments."""
    if options and "source_registry" not in options:
        method = setup_method_args.get("setup_method_name", "setup_anndata")
        known, unknown = list(setup_method_args["setup_args"]), next(iter(options))
        raise TypeError(
            f"`{method}` has no argument {unknown!r}.{did_you_mean(unknown, known)} Arguments are {', '.join(known)}."
        )


def build_fields(keys: ScreenKeys, *, for_mudata: bool = False) -> list[BaseAnnDataField]:
    """Build the fields of a screen, for AnnData and MuData from one list.

    The matrices come first: their checks are the last that can fail, and nothing is written before them.

    Parameters
    ----------
    keys
        Where the parts of the screen are.
    for_mudata
        Whether the screen is a MuData.
    """

    def make(field: Any, registry_key: str, argument: str, **options: Any) -> BaseAnnDataField:
        named = getattr(keys, argument)
        if isinstance(named, Sequence) and not isinstance(named, str):
            named = list(named)
        if for_mudata:
            return MuDataWrapper(field)(registry_key, named, mod_key=keys.modality(argument), **options)
        return field(registry_key, named, **options)

    fields = [make(ExpressionField, REGISTRY_KEYS.X, "layer")]
    if keys.counts_layer is not None:
        fields.append(make(ExpressionField, REGISTRY_KEYS.COUNTS, "counts_layer", counts=True))
    fields += [
        make(LabelField, REGISTRY_KEYS.PERTURBATION, "perturbation_key"),
        make(LabelField, REGISTRY_KEYS.CELL_TYPE, "cell_type_key"),
        make(LabelField, REGISTRY_KEYS.BATCH, "batch_key"),
    ]
    if keys.dosage_key is not None:
        fields.append(make(DosageField, REGISTRY_KEYS.DOSAGE, "dosage_key"))
    if keys.categorical_covariate_keys:
        fields.append(make(JointLabelField, REGISTRY_KEYS.COVARIATES, "categorical_covariate_keys"))
    if keys.continuous_covariate_keys:
        fields.append(make(NumericalJointObsField, REGISTRY_KEYS.CONTINUOUS, "continuous_covariate_keys"))
    if keys.split_key is not None:
        fields.append(make(LabelField, REGISTRY_KEYS.SPLIT, "split_key", optional_on_transfer=True))
    if keys.perturbation_embedding_key is not None:
        fields.append(make(UnsTableField, REGISTRY_KEYS.EMBEDDING, "perturbation_embedding_key", control=keys.control))
    return fields


def check_screen(adata: AnnData | MuData, keys: ScreenKeys, *, is_transfer: bool = False) -> None:
    """Raise unless a screen can be registered; the matrices are left to their fields.

    Parameters
    ----------
    adata
        Screen.
    keys
        Where its parts are.
    is_transfer
        Whether the screen is given to a saved model. It then needs no perturbed cells, embedding, split or dosage.

    Raises
    ------
    KeyError, TypeError, ValueError
        See :func:`register_anndata`.
    """
    check_container(adata)
    keys.check_modalities(adata)
    keys.check_columns()
    check_obs_columns(keys)

    perturbation = require_column(adata, keys, keys.perturbation_key, "perturbation_key")
    codes, names = check_labels(perturbation, keys.perturbation_key, allowed=keys.control)
    is_perturbed = check_perturbations(
        codes, names, keys.perturbation_key, keys.control, needs_perturbed=not is_transfer
    )
    contexts = {column: require_column(adata, keys, column, argument) for argument, column in keys.context_columns()}
    for column, labels in contexts.items():
        check_labels(labels, column)
    batch = None
    if keys.batch_key is not None:
        batch = require_column(adata, keys, keys.batch_key, "batch_key")
        check_labels(batch, keys.batch_key)
    for column in keys.continuous_covariate_keys or ():
        covariate = require_column(adata, keys, column, "continuous_covariate_keys")
        check_covariate(check_numbers(covariate, column, "continuous_covariate_keys"), column, covariate.index)
    dosage = None
    if keys.dosage_key is not None and not (
        is_transfer and keys.dosage_key not in keys.holder(adata, "dosage_key").obs
    ):
        dosage = require_column(adata, keys, keys.dosage_key, "dosage_key")
        values = check_numbers(dosage, keys.dosage_key, "dosage_key")
        check_dosage(values, is_perturbed, keys.dosage_key, dosage.index)
    if is_transfer:
        return
    check_embedding(adata, keys, names)
    others = [name for name in usual_controls(names) if name.strip() != keys.control]
    if others:
        logger.warning(
            "The cells labelled %s in column %r count as perturbed, because `control` is %r. If they are controls too, "
            "give them that label.",
            shorten(others),
            keys.perturbation_key,
            keys.control,
        )
    index = ConditionIndex.from_factors(
        ScreenFactors.from_columns(perturbation, keys.control, contexts=contexts, batch=batch, dosage=dosage)
    )
    _check_split_and_controls(adata, keys, index)


def _check_split_and_controls(adata: AnnData | MuData, keys: ScreenKeys, index: ConditionIndex) -> None:
    """Raise if the split leaks, or if a context that is not only tested has no controls."""
    if keys.split_key is None:
        match_controls(index, log=False)
        return
    codes, names = check_labels(require_column(adata, keys, keys.split_key, "split_key"), keys.split_key)
    parts = read_split_labels(names)[codes]
    seen = index.perturbed[split_of_conditions(index, parts)[index.perturbed] != Part.TEST]
    match_controls(index, conditions=seen, usable=parts != Part.TEST, log=False)
