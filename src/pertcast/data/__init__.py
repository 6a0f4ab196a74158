"""Screens as data: registration, vocabulary, conditions, matched controls, sets of cells, simulated screens.

Names are imported on first use: the grammar, the vocabulary and the index need only NumPy, pandas and SciPy, while
registration needs scvi-tools.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

__all__ = [
    "REGISTRY_KEYS",
    "ConditionIndex",
    "ConditionSplit",
    "ControlPopulation",
    "ControlQuery",
    "MatchLevel",
    "MatchedControls",
    "PerturbationVocabulary",
    "PopulationBatch",
    "PopulationDataModule",
    "PopulationDataset",
    "PopulationSampler",
    "Request",
    "RowGroups",
    "Screen",
    "ScreenMetadata",
    "SequentialPopulations",
    "SetRequest",
    "ShiftTable",
    "align_genes",
    "canonical_name",
    "check_matrix",
    "drug_embedding",
    "effect_embedding",
    "example_screen",
    "gather_rows",
    "match_controls",
    "parse_perturbation",
    "population_means",
    "population_moments",
    "register_anndata",
    "row_major",
    "screen_from_manager",
    "screen_metadata_from_registry",
    "simulate_population",
    "simulate_screen",
    "split_conditions",
]

_MODULE_OF_NAME = {
    "REGISTRY_KEYS": "_constants",
    "ConditionIndex": "_index",
    "ConditionSplit": "_split",
    "ControlPopulation": "_query",
    "ControlQuery": "_query",
    "MatchLevel": "_controls",
    "MatchedControls": "_controls",
    "PerturbationVocabulary": "_vocabulary",
    "PopulationBatch": "_dataset",
    "PopulationDataModule": "_datamodule",
    "PopulationDataset": "_dataset",
    "PopulationSampler": "_sampler",
    "Request": "_request",
    "RowGroups": "_groups",
    "Screen": "_screen",
    "ScreenMetadata": "_screen",
    "SequentialPopulations": "_sampler",
    "SetRequest": "_sampler",
    "ShiftTable": "_pseudobulk",
    "align_genes": "_genes",
    "canonical_name": "_grammar",
    "check_matrix": "_matrix_checks",
    "drug_embedding": "_drugs",
    "effect_embedding": "_effects",
    "example_screen": "_examples",
    "gather_rows": "_matrix",
    "match_controls": "_controls",
    "parse_perturbation": "_grammar",
    "population_means": "_pseudobulk",
    "population_moments": "_pseudobulk",
    "register_anndata": "_registration",
    "row_major": "_matrix",
    "screen_from_manager": "_screen",
    "screen_metadata_from_registry": "_screen",
    "simulate_population": "_simulate_population",
    "simulate_screen": "_simulate",
    "split_conditions": "_split",
}

if TYPE_CHECKING:
    from pertcast.data._constants import REGISTRY_KEYS
    from pertcast.data._controls import MatchedControls, MatchLevel, match_controls
    from pertcast.data._datamodule import PopulationDataModule
    from pertcast.data._dataset import PopulationBatch, PopulationDataset
    from pertcast.data._drugs import drug_embedding
    from pertcast.data._effects import effect_embedding
    from pertcast.data._examples import example_screen
    from pertcast.data._genes import align_genes
    from pertcast.data._grammar import canonical_name, parse_perturbation
    from pertcast.data._groups import RowGroups
    from pertcast.data._index import ConditionIndex
    from pertcast.data._matrix import gather_rows, row_major
    from pertcast.data._matrix_checks import check_matrix
    from pertcast.data._pseudobulk import ShiftTable, population_means, population_moments
    from pertcast.data._query import ControlPopulation, ControlQuery
    from pertcast.data._registration import register_anndata
    from pertcast.data._request import Request
    from pertcast.data._sampler import PopulationSampler, SequentialPopulations, SetRequest
    from pertcast.data._screen import Screen, ScreenMetadata, screen_from_manager, screen_metadata_from_registry
    from pertcast.data._simulate import simulate_screen
    from pertcast.data._simulate_population import simulate_population
    from pertcast.data._split import ConditionSplit, split_conditions
    from pertcast.data._vocabulary import PerturbationVocabulary
else:

    def __getattr__(name: str) -> object:
        """Import a name when it is first used (PEP 562)."""
        from importlib import import_module

        if name in _MODULE_OF_NAME:
            return getattr(import_module(f"pertcast.data.{_MODULE_OF_NAME[name]}"), name)
        raise AttributeError(f"module 'pertcast.data' has no attribute {name!r}.")


def __dir__() -> list[str]:
    return sorted(__all__)
