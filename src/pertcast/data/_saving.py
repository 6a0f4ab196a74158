"""Saving a model, and loading it with or without data."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import pandas as pd
from scvi.model.base import BaseModelClass

from pertcast.data._messages import did_you_mean, shorten

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData

__all__ = ["NO_DATA", "SavingMixin"]

NO_DATA = "This {} was loaded without its training data. Give them to `load`."
"""What to say where these are needed, with a gap for the name of the class."""

_SAVE_OPTIONS = {"pickle_protocol": 5}
"""The default of PyTorch, protocol 2, turns arrays into text: half as much again on disk, and several copies."""


class SavingMixin(BaseModelClass):
    """Lets a model be loaded without data: it predicts from control cells given later."""

    summary_: str

    @property
    def _model_summary_string(self) -> str:
        """First line of the text of a model; scvi-tools saves attributes that end in an underscore."""
        return self.summary_

    @_model_summary_string.setter
    def _model_summary_string(self, text: str) -> None:
        self.summary_ = text

    def save(self, dir_path: str | Path, prefix: str | None = None, overwrite: bool = False, **kwargs: Any) -> None:
        """Save the model: weights, names and means of populations, and cells only with ``save_anndata=True``.

        Parameters
        ----------
        dir_path
            Folder to write.
        prefix
            Text to put before the names of files.
        overwrite
            Whether to replace a model that is in the folder.
        **kwargs
            Further arguments of :meth:`scvi.model.base.BaseModelClass.save`, such as ``save_anndata``.

        Raises
        ------
        ValueError
            If the folder exists and ``overwrite`` is not set, or cells are to be saved with a table in ``uns`` that
            anndata cannot write.
        """
        if Path(dir_path).exists() and not overwrite:
            raise ValueError(
                f"The folder {str(dir_path)!r} exists. Save to another one, or replace what is in it with "
                "`overwrite=True`."
            )
        if kwargs.get("save_anndata"):
            _check_tables(self.adata)
        options = {**_SAVE_OPTIONS, **(kwargs.pop("save_kwargs", None) or {})}
        super().save(str(dir_path), prefix=prefix, overwrite=overwrite, save_kwargs=options, **kwargs)

    def view_anndata_setup(self, adata: AnnData | MuData | None = None, hide_state_registries: bool = False) -> None:
        """Print what was registered, as tables.

        Parameters
        ----------
        adata
            Data that were set up; those of the model by default.
        hide_state_registries
            Whether to leave out the categories of each column.

        Raises
        ------
        ValueError
            If the model has no data and none are given.
        """
        if adata is None and self.adata is None:
            raise ValueError(
                f"This {type(self).__name__} was loaded without its training data, of which there is nothing to view. "
                "`print(model)` says what was registered, and `model.registry['setup_args']` how."
            )
        super().view_anndata_setup(adata, hide_state_registries)

    @classmethod
    def load(
        cls,
        dir_path: str | Path,
        adata: AnnData | MuData | Literal[False] | None = None,
        **kwargs: Any,
    ) -> Self:
        """Load a saved model.

        Parameters
        ----------
        dir_path
            Folder that ``save`` wrote. It holds a pickle: load only files that you trust.
        adata
            Data to attach. None attaches saved data where there are any and otherwise none: such a model predicts from
            the control cells that are given to ``predict``.
        **kwargs
            Further arguments of :meth:`scvi.model.base.BaseModelClass.load`.

        Returns
        -------
        The model, with the data if there are any.

        Raises
        ------
        ValueError
            If there is no saved model, it is of another class, or the data do not fit it.
        """
        folder, prefix = Path(dir_path), kwargs.get("prefix") or ""
        if "backup_url" not in kwargs and not (folder / f"{prefix}model.pt").is_file():
            beside = [path.name for path in folder.absolute().parent.glob("*") if path.is_dir()]
            raise ValueError(
                f"There is no saved model in {str(dir_path)!r}: it holds no file {prefix}model.pt. Give the folder "
                f"that `model.save` wrote.{did_you_mean(folder.name, [name for name in beside if name != folder.name])}"
            )
        saved = (folder / f"{prefix}adata.h5ad", folder / f"{prefix}mdata.h5mu")
        if adata is None and not any(path.exists() for path in saved):
            adata = False
        return super().load(str(dir_path), adata, **kwargs)


def _check_tables(adata: AnnData | MuData | None) -> None:
    """Raise for a table in ``uns`` with names of columns that are no text, before anything is written."""
    for data in [] if adata is None else [adata, *getattr(adata, "mod", {}).values()]:
        for key, table in data.uns.items():
            if isinstance(table, pd.DataFrame) and not all(isinstance(name, str) for name in table.columns):
                raise ValueError(
                    f"Nothing is saved: the columns of the table adata.uns[{key!r}] are {shorten(table.columns)}, and "
                    "anndata writes columns only if their names are text. Rename them, for example "
                    f"`adata.uns[{key!r}].columns = adata.uns[{key!r}].columns.astype(str)`."
                )
