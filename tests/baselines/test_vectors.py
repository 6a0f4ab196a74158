from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import anndata
import numpy as np
import pandas as pd
import pytest

from pertcast.baselines import BilinearRidge, NearestNeighbours, PerturbationShift
from pertcast.baselines._bilinear_ridge import solve_bilinear

if TYPE_CHECKING:
    from pertcast.baselines._base import Baseline

GENES = [f"g{i}" for i in range(9)]
NAMES = ["g0", "g1", "g2", "g3", "g4", "drug"]
"""Measured perturbations; g5 and the following genes are never perturbed."""
SETUP = {"batch_key": None}
ANGLES = {"g0": 0, "g1": 20, "g2": 60, "g3": 180, "g4": 250, "drug": 300, "new": 15, "new2": 190}


def screen(seed: int = 0, *, dosages: tuple[float, ...] = (1.0,), names: list[str] = NAMES) -> Any:
    rng = np.random.default_rng(seed)
    values, rows = [], []
    for cell_type in ("T", "B", "NK"):
        centre = rng.normal(2, 1, len(GENES))
        for name in ["control", *names]:
            for dosage in dosages if name != "control" else (0.0,):
                shift = rng.normal(0, 1, len(GENES)) if name != "control" else 0
                values.append(centre + shift + rng.normal(0, 0.3, (6, len(GENES))))
                rows += [(name, cell_type, dosage)] * 6
    obs = pd.DataFrame(rows, columns=["perturbation", "cell_type", "dose"])
    obs.index = [f"cell{i}" for i in range(len(obs))]
    adata = anndata.AnnData(np.concatenate(values), obs=obs, var=pd.DataFrame(index=GENES))
    radians = {name: np.deg2rad(angle) for name, angle in ANGLES.items()}
    adata.uns["emb"] = {name: [np.cos(angle) + 3, np.sin(angle) - 1] for name, angle in radians.items()}
    return adata


def means_of(adata: Any, dosage: float = 1.0) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Mean shift of each perturbation over the cell types, and all pseudobulks, from the definitions."""
    shifts: dict[str, list[np.ndarray]] = {}
    bulks = []
    for cell_type in ("T", "B", "NK"):
        here = adata[adata.obs["cell_type"] == cell_type]
        control = here[here.obs["perturbation"] == "control"].X.mean(0)
        bulks.append(control)
        for name in sorted(set(adata.obs["perturbation"]) - {"control"}):
            for each in here.obs["dose"][here.obs["perturbation"] == name].unique():
                mean = here[(here.obs["perturbation"] == name) & (here.obs["dose"] == each)].X.mean(0)
                bulks.append(mean)
                if each == dosage:
                    shifts.setdefault(name, []).append(mean - control)
    return {name: np.mean(each, axis=0) for name, each in shifts.items()}, np.array(bulks)


def loadings_of(bulks: np.ndarray, n_components: int) -> np.ndarray:
    """Eigenvectors of the covariance between genes times the square root of their eigenvalues."""
    values, vectors = np.linalg.eigh(np.cov(bulks.T))
    order = np.argsort(-values)[:n_components]
    return vectors[:, order] * np.sqrt(values[order])


def least_squares(Y: np.ndarray, A: np.ndarray, B: np.ndarray, ridge: float) -> np.ndarray:
    """Minimise the penalised sum of squares over the vectorised weights, without its closed form."""
    A_padded = np.concatenate([A, np.sqrt(ridge) * np.eye(A.shape[1])])
    B_padded = np.concatenate([B, np.sqrt(ridge) * np.eye(B.shape[1])])
    Y_padded = np.zeros((len(A_padded), len(B_padded)))
    Y_padded[: len(A), : len(B)] = Y
    solution = np.linalg.lstsq(np.kron(A_padded, B_padded), Y_padded.ravel(), rcond=None)[0]
    return solution.reshape(A.shape[1], B.shape[1])


@pytest.fixture
def shift_of(fit: Any, shift_in: Any) -> Any:
    """Give the shift that a baseline predicts."""

    def shift(model: Any, name: str, **arguments: Any) -> np.ndarray:
        adata = model.adata
        controls = adata[(adata.obs["perturbation"] == "control") & (adata.obs["cell_type"] == "T")].copy()
        return shift_in(model.predict(controls, [name], progressbar=False, **arguments), controls)

    return shift


@pytest.mark.parametrize("ridge", [0.1, 3.0])
def test_bilinear_weights_solve_the_vectorised_ridge_problem(ridge: float) -> None:
    rng = np.random.default_rng(1)
    Y, A, B = rng.normal(size=(12, 7)), rng.normal(size=(12, 3)), rng.normal(size=(7, 4))
    np.testing.assert_allclose(solve_bilinear(Y, A, B, ridge), least_squares(Y, A, B, ridge), atol=1e-10)


@pytest.mark.parametrize("name", ["g0", "drug", "new", "g1+new"])
def test_ridge_with_registered_vectors(fit: Any, shift_of: Any, name: str) -> None:
    adata = screen()
    model = fit(BilinearRidge, adata, setup=SETUP | {"perturbation_embedding_key": "emb"}, n_components=4, ridge=0.3)
    shifts, bulks = means_of(adata)
    Y = np.stack(list(shifts.values()), axis=1)
    mean, A = Y.mean(1), loadings_of(bulks, 4)
    W = least_squares(Y - mean[:, None], A, np.array([adata.uns["emb"][each] for each in shifts]), 0.3)
    vector = np.sum([adata.uns["emb"][part] for part in name.split("+")], axis=0)
    np.testing.assert_allclose(shift_of(model, name), A @ W @ vector + mean, atol=1e-5)


def test_the_embedding_of_a_trained_combination_is_the_sum_of_its_parts(fit: Any, shift_of: Any) -> None:
    adata = screen(names=["g0", "g1", "g2", "g3", "g0+g3"])
    model = fit(BilinearRidge, adata, setup=SETUP | {"perturbation_embedding_key": "emb"}, n_components=4, ridge=0.3)
    shifts, bulks = means_of(adata)
    Y, A = np.stack(list(shifts.values()), axis=1), loadings_of(bulks, 4)
    B = np.array([np.sum([adata.uns["emb"][part] for part in name.split("+")], axis=0) for name in shifts])
    W = least_squares(Y - Y.mean(1)[:, None], A, B, 0.3)
    found = shift_of(model, "new")
    np.testing.assert_allclose(found, A @ W @ np.array(adata.uns["emb"]["new"]) + Y.mean(1), atol=1e-5)


@pytest.mark.parametrize("name", ["g0", "g7", "g2+g7"])
def test_ridge_with_genes_for_vectors(fit: Any, shift_of: Any, name: str, caplog: pytest.LogCaptureFixture) -> None:
    adata = screen()
    with caplog.at_level(logging.WARNING, logger="pertcast"):
        model = fit(BilinearRidge, adata, setup=SETUP, n_components=3)
    assert "1 training perturbations have no embedding and are left out: 'drug'" in caplog.text
    shifts, bulks = means_of(adata)
    del shifts["drug"]
    Y = np.stack(list(shifts.values()), axis=1)
    mean, A = Y.mean(1), loadings_of(bulks, 3)
    W = least_squares(Y - mean[:, None], A, A[[GENES.index(each) for each in shifts]], 0.1)
    vector = A[[GENES.index(part) for part in name.split("+")]].sum(0)
    np.testing.assert_allclose(shift_of(model, name), A @ W @ vector + mean, atol=1e-5)


def test_ridge_without_penalty_and_with_all_components_returns_the_measured_shifts(fit: Any, shift_of: Any) -> None:
    adata = screen()
    adata.uns["emb"] = dict(zip(NAMES, np.eye(len(NAMES)), strict=True))
    model = fit(BilinearRidge, adata, setup=SETUP | {"perturbation_embedding_key": "emb"}, n_components=99, ridge=1e-9)
    for name, shift in means_of(adata)[0].items():
        np.testing.assert_allclose(shift_of(model, name), shift, atol=1e-5)


def test_ridge_has_a_regression_for_each_dosage(fit: Any, shift_of: Any) -> None:
    adata = screen(dosages=(1.0, 0.1))
    setup = SETUP | {"dosage_key": "dose", "perturbation_embedding_key": "emb"}
    model = fit(BilinearRidge, adata, setup=setup)
    for dosage in (0.1, 1.0):
        shifts, bulks = means_of(adata, dosage)
        Y = np.stack(list(shifts.values()), axis=1)
        mean, A = Y.mean(1), loadings_of(bulks, 10)
        W = least_squares(Y - mean[:, None], A, np.array([adata.uns["emb"][each] for each in shifts]), 0.1)
        expected = A @ W @ np.array(adata.uns["emb"]["new"]) + mean
        np.testing.assert_allclose(shift_of(model, "new", dosages=dosage), expected, atol=1e-5)
    np.testing.assert_array_equal(shift_of(model, "new", dosages=0.5), shift_of(model, "new", dosages=1.0))


def test_ridge_needs_an_embedding(fit: Any) -> None:
    adata = screen(names=["drug", "drug2"])
    with pytest.raises(ValueError, match=r"None of the training perturbations \('drug', 'drug2'\) has an embedding"):
        fit(BilinearRidge, adata, setup=SETUP)


@pytest.mark.parametrize("cls", [BilinearRidge, NearestNeighbours])
def test_what_has_no_vector_is_an_error(fit: Any, shift_of: Any, cls: type[Baseline]) -> None:
    with_genes = fit(cls, screen(), setup=SETUP)
    with pytest.raises(ValueError, match=r"Nothing is known of the perturbation 'other' \(in 'g1\+other'\)"):
        shift_of(with_genes, "g1+other")
    with pytest.raises(ValueError, match="no vectors were registered.*Did you mean 'g4'"):
        shift_of(with_genes, "G4")
    with_vectors = fit(cls, screen(), setup=SETUP | {"perturbation_embedding_key": "emb"})
    with pytest.raises(ValueError, match="Unknown perturbation 'g7': the table of `perturbation_embedding_key`"):
        shift_of(with_vectors, "g7")


def test_ridge_refuses_a_measured_perturbation_without_a_vector(fit: Any, shift_of: Any) -> None:
    with pytest.raises(ValueError, match="Nothing is known of the perturbation 'drug'"):
        shift_of(fit(BilinearRidge, screen(), setup=SETUP), "drug")


@pytest.mark.parametrize(
    ("name", "k", "neighbours"),
    [
        ("new", 1, ["g1"]),
        ("new", 2, ["g1", "g0"]),
        ("new", 3, ["g1", "g0", "g2"]),
        ("new2", 1, ["g3"]),
        ("new2", 2, ["g3", "g4"]),
        ("new", 99, NAMES),
    ],
)
def test_neighbours_are_those_with_the_most_similar_vectors(
    fit: Any, shift_of: Any, name: str, k: int, neighbours: list[str]
) -> None:
    adata = screen()
    model = fit(NearestNeighbours, adata, setup=SETUP | {"perturbation_embedding_key": "emb"}, n_neighbours=k)
    shifts, _ = means_of(adata)
    expected = np.mean([shifts[each] for each in neighbours], axis=0)
    np.testing.assert_allclose(shift_of(model, name), expected, atol=1e-5)
    np.testing.assert_allclose(shift_of(model, f"{name}+g2"), expected + shifts["g2"], atol=1e-5)


def test_neighbours_are_compared_after_centring(fit: Any, shift_of: Any) -> None:
    adata = screen(names=["g0", "g1"])
    adata.uns["emb"] = {"g0": [10.0, 0.0], "g1": [11.0, 1.0], "new": [12.0, 0.0]}  # cosine alone would choose g0
    model = fit(NearestNeighbours, adata, setup=SETUP | {"perturbation_embedding_key": "emb"}, n_neighbours=1)
    np.testing.assert_allclose(shift_of(model, "new"), means_of(adata)[0]["g1"], atol=1e-5)


def test_measured_perturbations_have_their_own_shift(fit: Any) -> None:
    adata = screen()
    first, second = (
        fit(cls, adata, setup=SETUP).predict(progressbar=False).X for cls in (NearestNeighbours, PerturbationShift)
    )
    np.testing.assert_array_equal(first, second)


def test_genes_have_the_neighbours_that_their_loadings_say(
    fit: Any, shift_of: Any, caplog: pytest.LogCaptureFixture
) -> None:
    adata = screen()
    model = fit(NearestNeighbours, adata, setup=SETUP, n_neighbours=2, n_components=3)
    shifts, bulks = means_of(adata)
    A, measured = loadings_of(bulks, 3), NAMES[:5]
    vectors = A[[GENES.index(each) for each in measured]]
    others, vector = vectors - vectors.mean(0), A[GENES.index("g6")] - vectors.mean(0)
    cosine = others @ vector / np.linalg.norm(others, axis=1) / np.linalg.norm(vector)
    nearest = [measured[i] for i in np.argsort(-cosine)[:2]]
    with caplog.at_level(logging.INFO, logger="pertcast"):
        found = shift_of(model, "g6")
    np.testing.assert_allclose(found, np.mean([shifts[each] for each in nearest], axis=0), atol=1e-5)
    assert f"g6 was not measured; its neighbours are '{nearest[0]}', '{nearest[1]}'" in caplog.text


def test_neighbours_were_measured_at_the_dosage(fit: Any, shift_of: Any) -> None:
    adata = screen(dosages=(1.0, 0.1))
    adata = adata[(adata.obs["perturbation"] != "g1") | (adata.obs["dose"] != 0.1)].copy()
    setup = SETUP | {"dosage_key": "dose", "perturbation_embedding_key": "emb"}
    model = fit(NearestNeighbours, adata, setup=setup, n_neighbours=1)
    for dosage, nearest, measured in ((1.0, "g1", 1.0), (0.1, "g0", 0.1), (3.0, "g1", 1.0), (0.2, "g1", 1.0)):
        expected = means_of(adata, measured)[0][nearest]
        np.testing.assert_allclose(shift_of(model, "new", dosages=dosage), expected, atol=1e-5)


def test_bad_numbers(fit: Any) -> None:
    adata = screen()
    for cls, arguments, error, message in (
        (NearestNeighbours, {"n_neighbours": 0}, ValueError, "`n_neighbours` must be at least 1, but found 0"),
        (NearestNeighbours, {"n_components": 1.5}, TypeError, "`n_components` must be a whole number, but found 1.5"),
        (BilinearRidge, {"ridge": 0}, ValueError, "`ridge` must be above 0, but found 0"),
        (BilinearRidge, {"ridge": "x"}, TypeError, "`ridge` must be a number, but found 'x'"),
        (BilinearRidge, {"n_components": 0}, ValueError, "`n_components` must be at least 1, but found 0"),
    ):
        with pytest.raises(error, match=message):
            fit(cls, adata, setup=SETUP, **arguments)
