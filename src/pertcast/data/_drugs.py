"""Vectors of drugs from their structures."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from pertcast.data._messages import shorten

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["drug_embedding"]

logger = logging.getLogger(__name__)

_LEAST_SPREAD = 0.01


def drug_embedding(
    smiles: Mapping[str, str] | pd.Series,
    kind: Literal["morgan", "descriptors"] = "morgan",
    *,
    radius: int = 2,
    n_bits: int = 2048,
) -> pd.DataFrame:
    """Describe drugs by their structures, which need no measurement.

    The table goes into ``adata.uns``, and its key into ``setup_anndata(..., perturbation_embedding_key=)``. Give all
    drugs that will ever be predicted: descriptors are scaled by the drugs of the table.

    Parameters
    ----------
    smiles
        Name of each drug, as in the perturbation column, to its structure in SMILES.
    kind
        ``"morgan"`` for circular fingerprints (Rogers and Hahn 2010), bits that say which substructures are there.
        ``"descriptors"`` for the physical and topological descriptors of RDKit, each scaled to mean 0 and standard
        deviation 1. Descriptors that are not finite for a drug are left out with a warning, and so are those with a
        standard deviation of 0.01 or less, without one.
    radius
        Bonds between the centre and the edge of a substructure of a fingerprint.
    n_bits
        Length of a fingerprint.

    Returns
    -------
    One row for each drug, in the given order: float32 ``[P, n_bits]``, or ``[P, descriptors]``.

    Raises
    ------
    ImportError
        If RDKit is not installed: ``pip install rdkit``.
    TypeError
        If ``smiles`` is neither a mapping nor a series.
    ValueError
        If a name is repeated, a structure is missing or cannot be read, no drug is given, or no descriptor is left.

    Examples
    --------
    >>> import pertcast as pc
    >>> table = pc.data.drug_embedding({"aspirin": "CC(=O)Oc1ccccc1C(=O)O", "ethanol": "CCO"})  # doctest: +SKIP
    >>> table.shape  # doctest: +SKIP
    (2, 2048)
    """
    if kind not in ("morgan", "descriptors"):
        raise ValueError(f"`kind` is {kind!r}; it must be 'morgan' or 'descriptors'.")
    if radius < 0 or n_bits < 1:
        raise ValueError(f"`radius` is {radius} and `n_bits` {n_bits}; they must be at least 0 and 1.")
    names, molecules = _read(smiles)
    if kind == "descriptors":
        return _descriptors(names, molecules)
    from rdkit.Chem import rdFingerprintGenerator

    generator = rdFingerprintGenerator.GetMorganGenerator(radius=radius, fpSize=n_bits)
    bits = np.stack([generator.GetFingerprintAsNumPy(molecule) for molecule in molecules])
    columns = [f"bit_{i}" for i in range(n_bits)]
    return pd.DataFrame(bits.astype(np.float32), index=pd.Index(names, name="perturbation"), columns=columns)


def _read(smiles: Mapping[str, str] | pd.Series) -> tuple[list[str], list[Any]]:
    """Names and molecules, after a check of both."""
    if isinstance(smiles, pd.Series):
        repeated = smiles.index[smiles.index.duplicated()].unique()
        if len(repeated):
            raise ValueError(f"`smiles` names {shorten(repeated)} more than once. Keep one structure for each drug.")
        smiles = {str(name): text for name, text in smiles.items()}
    elif not isinstance(smiles, Mapping):
        raise TypeError(
            f"`smiles` must be a dict or a Series (drug name -> SMILES), but it is a {type(smiles).__name__}. Of a "
            "table, take `table.set_index(<names>)[<SMILES>]`."
        )
    if not smiles:
        raise ValueError("`smiles` is empty. Give the structure of at least one drug.")
    missing = [name for name, text in smiles.items() if not isinstance(text, str) or not text.strip()]
    if missing:
        raise ValueError(f"No SMILES given for {shorten(missing)}. Add the structures, or leave these drugs out.")
    try:
        from rdkit import Chem, rdBase
    except ImportError as error:
        raise ImportError("`drug_embedding` needs RDKit: `pip install rdkit`.") from error
    with rdBase.BlockLogs():
        molecules = {name: Chem.MolFromSmiles(text) for name, text in smiles.items()}
    broken = [f"{name} ({smiles[name]!r})" for name, molecule in molecules.items() if molecule is None]
    if broken:
        raise ValueError(f"RDKit cannot read the SMILES of {shorten(broken)}. Correct them, or leave these drugs out.")
    return [str(name) for name in molecules], list(molecules.values())


def _descriptors(names: list[str], molecules: Sequence[Any]) -> pd.DataFrame:
    """Descriptors that are finite for every drug and differ between drugs, scaled."""
    from rdkit import rdBase
    from rdkit.Chem import Descriptors

    functions: list[tuple[str, Callable[[Any], float]]] = Descriptors.descList
    with rdBase.BlockLogs():
        values = np.array([[function(molecule) for _, function in functions] for molecule in molecules], dtype=float)
    table = pd.DataFrame(values, index=pd.Index(names, name="perturbation"), columns=[name for name, _ in functions])
    finite = np.isfinite(values)
    if not finite.all():
        lost, drugs = table.columns[~finite.all(0)], table.index[~finite.all(1)]
        logger.warning(
            "%d descriptors are not finite for %d drugs and are left out. Descriptors: %s. Drugs: %s.",
            *(len(lost), len(drugs), shorten(lost, 10), shorten(drugs, 10)),
        )
        table = table.loc[:, finite.all(0)]
    table = table.loc[:, table.std(ddof=0) > _LEAST_SPREAD]
    if not table.shape[1]:
        raise ValueError(
            f"No descriptor differs between the drugs {shorten(names)}. Give all drugs of the screen, or use "
            "kind='morgan'."
        )
    return ((table - table.mean()) / table.std(ddof=0)).astype(np.float32)
