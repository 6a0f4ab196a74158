"""Where in an AnnData or MuData the parts of a screen are."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from mudata import MuData

from pertcast.data._messages import did_you_mean, shorten

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from anndata import AnnData

__all__ = ["ScreenKeys"]


@dataclass(frozen=True)
class ScreenKeys:
    """The arguments of ``setup_anndata`` and ``setup_mudata``.

    Parameters
    ----------
    perturbation_key
        Column of ``obs`` with the perturbations.
    control
        Label of unperturbed cells.
    cell_type_key
        Column of ``obs`` with what is held fixed: cell type or cell line.
    batch_key
        Column of ``obs`` with the batch or donor.
    layer
        Key of ``layers`` with the expression; ``X`` by default.
    counts_layer
        Key of ``layers`` with raw counts.
    dosage_key
        Column of ``obs`` with the dosage.
    perturbation_embedding_key
        Key of ``uns`` with one vector for each single perturbation.
    categorical_covariate_keys
        Columns of ``obs`` that are part of the context.
    continuous_covariate_keys
        Numeric columns of ``obs``.
    split_key
        Column of ``obs`` that says which cells are for training, validation and test.
    modalities
        For MuData: name of one of these arguments to the modality that holds what it names. ``layer`` needs one;
        columns and ``uns`` are those of the MuData itself where none is given.
    """

    perturbation_key: str
    control: str = "control"
    cell_type_key: str | None = None
    batch_key: str | None = None
    layer: str | None = None
    counts_layer: str | None = None
    dosage_key: str | None = None
    perturbation_embedding_key: str | None = None
    categorical_covariate_keys: Sequence[str] | None = None
    continuous_covariate_keys: Sequence[str] | None = None
    split_key: str | None = None
    modalities: Mapping[str, str] | None = None

    @classmethod
    def from_setup(cls, arguments: Mapping[str, Any]) -> ScreenKeys:
        """Pick the keys from the arguments of a setup, which holds others too."""
        names = {field.name for field in fields(cls)}
        return cls(**{name: value for name, value in arguments.items() if name in names})

    def modality(self, argument: str) -> str | None:
        """Modality that holds what an argument names; ``None`` for the object itself."""
        modalities = self.modalities or {}
        if argument == "counts_layer":
            return modalities.get("counts_layer", modalities.get("layer"))
        return modalities.get(argument)

    def holder(self, adata: AnnData | MuData, argument: str) -> Any:
        """Return the AnnData, or the MuData, in which to look for what an argument names."""
        modality = self.modality(argument)
        return adata.mod[modality] if isinstance(adata, MuData) and modality is not None else adata

    def check_modalities(self, adata: AnnData | MuData) -> None:
        """Raise unless ``modalities`` fits the object.

        Raises
        ------
        ValueError
            If a modality or argument does not exist, or a MuData comes without the modality of ``layer``.
        """
        if not isinstance(adata, MuData):
            if self.modalities is not None:
                raise ValueError("`modalities` is for MuData; an AnnData has none.")
            return
        if self.modality("layer") is None:
            raise ValueError(
                "This is a MuData: register it with `setup_mudata`, where `modalities` must say which modality holds "
                f"the expression, for example modalities={{'layer': {next(iter(adata.mod))!r}}}; this MuData has "
                f"{shorten(adata.mod)}."
            )
        arguments = [field.name for field in fields(self) if field.name not in ("control", "modalities")]
        for argument, modality in (self.modalities or {}).items():
            if argument not in arguments:
                raise ValueError(
                    f"`modalities` names the argument {argument!r}, which does not exist."
                    f"{did_you_mean(argument, arguments)} Arguments are {', '.join(arguments)}."
                )
            if modality not in adata.mod:
                raise ValueError(
                    f"`modalities` names the modality {modality!r} for {argument!r}, but this MuData has "
                    f"{shorten(adata.mod)}."
                )

    def context_columns(self) -> list[tuple[str, str]]:
        """Columns that make up the context, each after the argument that names it."""
        columns = [] if self.cell_type_key is None else [("cell_type_key", self.cell_type_key)]
        return columns + [("categorical_covariate_keys", name) for name in self.categorical_covariate_keys or ()]

    def check_columns(self) -> None:
        """Raise if a list of columns is a string, or the perturbation column has a second role.

        Raises
        ------
        TypeError
            If a string is given in place of a list, or something else in place of the name of a column.
        ValueError
            If the perturbation is also the context, batch or split, or a context column is named twice.
        """
        for argument in ("perturbation_key", "cell_type_key", "batch_key", "dosage_key", "split_key"):
            named = getattr(self, argument)
            if not (isinstance(named, str) or (named is None and argument != "perturbation_key")):
                raise TypeError(
                    f"`{argument}` must be the name of one column, but found {named!r}. Further columns of the context "
                    "go into `categorical_covariate_keys`."
                )
        for argument in ("categorical_covariate_keys", "continuous_covariate_keys"):
            named = getattr(self, argument)
            if isinstance(named, str):
                raise TypeError(
                    f"`{argument}` must be a list of columns, but found the string {named!r}. Use [{named!r}]."
                )
        context = [column for _, column in self.context_columns()]
        repeated = sorted({column for column in context if context.count(column) > 1})
        if repeated:
            raise ValueError(f"Column {repeated[0]!r} is named more than once for the context. Name it once.")
        if self.perturbation_key in (*context, self.batch_key, self.split_key):
            raise ValueError(
                f"Column {self.perturbation_key!r} holds the perturbation, so it cannot also be cell type, batch, "
                "covariate or split: each perturbation would be a context of its own, without controls."
            )
