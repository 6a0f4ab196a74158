"""Loading a saved model with or without data."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from scvi.model.base import BaseModelClass

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData

__all__ = ["LoadMixin"]


class LoadMixin(BaseModelClass):
    """Lets a model be loaded without data: it predicts from control cells given later."""

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
            the control cells that are given to :meth:`predict`.
        **kwargs
            Further arguments of :meth:`scvi.model.base.BaseModelClass.load`.
        """
        saved = Path(dir_path) / f"{kwargs.get('prefix') or ''}adata.h5ad"
        if adata is None and not saved.exists() and not saved.with_name(saved.name.replace("adata", "mdata")).exists():
            adata = False
        return super().load(str(dir_path), adata, **kwargs)
