from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anndata
import numpy as np
import pandas as pd
import pytest
import torch

from pertcast.baselines import LatentAdditive, LatentShift
from pertcast.baselines._latent_additive import AdditiveNetwork
from pertcast.baselines._latent_shift import VariationalNetwork
from pertcast.baselines._pairs import sorted_by_name
from pertcast.data._groups import RowGroups

if TYPE_CHECKING:
    from pertcast.baselines._base import Baseline

N_GENES = 10
NOISE = 0.4
SETUP = {"batch_key": None}
QUICK = {"max_steps": 5}
NETWORKS = [LatentAdditive, LatentShift]


def truth(seed: int = 0) -> dict[str, np.ndarray]:
    """Shifts of two perturbations, the same in all cell types."""
    rng = np.random.default_rng(seed)
    return {name: rng.normal(0, 1.0, N_GENES) for name in ("A", "B")}


def screen(shifts: dict[str, np.ndarray], *, n_cells: int = 100, cell_types: tuple[str, ...] = ("T", "B", "NK")) -> Any:
    """Gaussian cells whose perturbations shift the mean; NK cells lie between T and B cells."""
    rng = np.random.default_rng(1)
    values, rows = [], []
    centres = {"T": rng.normal(0, 1, N_GENES), "B": rng.normal(0, 1, N_GENES)}
    centres["NK"] = (centres["T"] + centres["B"]) / 2
    for cell_type in cell_types:
        centre = centres[cell_type]
        for name in ["control", *shifts]:
            values.append(centre + shifts.get(name, 0) + rng.normal(0, NOISE, (n_cells, N_GENES)))
            rows += [(name, cell_type)] * n_cells
    obs = pd.DataFrame(rows, columns=["perturbation", "cell_type"])
    obs.index = [f"cell{i}" for i in range(len(obs))]
    return anndata.AnnData(np.concatenate(values), obs=obs, var=pd.DataFrame(index=[f"g{i}" for i in range(N_GENES)]))


@pytest.fixture(scope="module")
def adata() -> Any:
    return screen(truth())


@pytest.mark.parametrize("cls", NETWORKS)
def test_recovers_an_additive_shift(adata: Any, cls: type[Baseline], fit: Any, controls_of: Any) -> None:
    held_out = (adata.obs["cell_type"] == "NK") & (adata.obs["perturbation"] != "control")
    model = fit(cls, adata[~held_out], setup=SETUP)
    controls = controls_of(adata, "NK")
    for name, expected in truth().items():
        cells = model.predict(controls, [name], progressbar=False).X
        error = cells.mean(0) - controls.X.mean(0) - expected
        assert np.linalg.norm(error) < 0.2 * np.linalg.norm(expected)
        np.testing.assert_allclose(cells.std(0), controls.X.std(0), rtol=0.25)  # residuals are kept
    losses = model.history["train_loss"]["train_loss"]
    assert len(losses) == 500
    assert losses[-20:].mean() < 0.7 * losses[:20].mean()


@pytest.mark.parametrize(("cls", "tolerance"), [(LatentAdditive, 0.6), (LatentShift, 0.3)])
def test_forecasts_combinations_that_were_not_measured(
    cls: type[Baseline], tolerance: float, fit: Any, controls_of: Any
) -> None:
    rng = np.random.default_rng(5)
    single = {name: rng.normal(0, 1, N_GENES) for name in "ABCD"}
    doubles = {name: single[name[0]] + single[name[2]] for name in ("A+B", "B+C", "C+D", "A+D")}
    adata = screen(single | doubles, n_cells=40, cell_types=("T", "B"))
    model, controls = fit(cls, adata, setup=SETUP), controls_of(adata, "T")
    for name, share in (("A+B", 0.2), ("A+C", tolerance), ("D+B", tolerance)):
        expected = single[name[0]] + single[name[2]]
        cells = model.predict(controls, [name], progressbar=False).X
        assert np.linalg.norm(cells.mean(0) - controls.X.mean(0) - expected) < share * np.linalg.norm(expected)


def test_a_latent_shift_of_zero_gives_the_control_cells(adata: Any, fit: Any, controls_of: Any) -> None:
    model = fit(LatentShift, adata, setup=SETUP, train=QUICK)
    controls = controls_of(adata, "T")
    moved = model.predict(controls, ["A"], progressbar=False)
    assert np.abs(moved.X - controls[moved.obs["source_cell"]].X).max() > 1e-3
    model.shifts_ = np.zeros_like(model.shifts_)
    same = model.predict(controls, ["A"], progressbar=False)
    np.testing.assert_array_equal(same.X, controls[same.obs["source_cell"]].X.astype(np.float32))


def test_a_latent_shift_is_the_difference_of_latent_means(adata: Any, fit: Any, controls_of: Any) -> None:
    model = fit(LatentShift, adata, setup=SETUP, train=QUICK, residuals=False)
    with torch.no_grad():
        latent = model.module.encode(torch.from_numpy(adata.X.astype(np.float32))).numpy()
    deltas = {}
    for name in ("A", "B"):
        rows = [(adata.obs["cell_type"] == each).to_numpy() for each in ("T", "B", "NK")]
        chosen, control = ((adata.obs["perturbation"] == each).to_numpy() for each in (name, "control"))
        deltas[name] = np.mean(
            [latent[here & chosen].mean(0) - latent[here & control].mean(0) for here in rows], axis=0
        )
    controls = controls_of(adata, "T")
    for name in ("A", "B", "A+B"):
        delta = torch.from_numpy(sum(deltas[part] for part in name.split("+")))
        predicted = model.predict(controls, [name], progressbar=False)
        cells = torch.from_numpy(controls[predicted.obs["source_cell"]].X.astype(np.float32))
        with torch.no_grad():
            expected = model.module.decode(model.module.encode(cells) + delta).numpy()
        np.testing.assert_allclose(predicted.X, expected, atol=1e-5)


def test_a_latent_additive_prediction_is_the_change_of_the_decoded_cell(adata: Any, fit: Any, controls_of: Any) -> None:
    model = fit(LatentAdditive, adata, setup=SETUP, train=QUICK)
    controls, module = controls_of(adata, "T"), model.module
    encodings = module.perturbation.weight[:, : module.n_latent].detach()
    for name, rows in (("A", [0]), ("B", [1]), ("A+B", [0, 1])):
        predicted = model.predict(controls, [name], progressbar=False)
        cells = torch.from_numpy(controls[predicted.obs["source_cell"]].X.astype(np.float32))
        with torch.no_grad():
            z = module.encode(cells)
            expected = cells + module.decode(z + encodings[rows].sum(0)) - module.decode(z)
        np.testing.assert_allclose(predicted.X, expected.numpy(), atol=1e-5)


@pytest.mark.parametrize("cls", NETWORKS)
def test_training_is_seeded_and_leaves_global_generators_alone(
    adata: Any, cls: type[Baseline], fit: Any, controls_of: Any
) -> None:
    before, numpy_before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    first, second, other = (
        fit(cls, adata, setup=SETUP, train=QUICK, seed=seed).predict(controls_of(adata, "T"), progressbar=False).X
        for seed in (0, 0, 1)
    )
    assert torch.equal(torch.get_rng_state(), before)
    np.testing.assert_array_equal(np.random.get_state()[1], numpy_before)  # noqa: NPY002
    np.testing.assert_array_equal(first, second)
    assert np.abs(first - other).max() > 1e-4


@pytest.mark.parametrize("cls", NETWORKS)
def test_weights_and_noise_are_seeded(adata: Any, cls: type[Baseline], fit: Any) -> None:
    models = [fit(cls, adata, setup=SETUP, train={"max_steps": 1}, seed=seed) for seed in (0, 1)]
    first, other = ([*model.module.encoder.parameters()][0].detach() for model in models)
    assert (first - other).abs().max() > 0.01
    losses = [model.history["train_loss"]["train_loss"][0] for model in models]
    assert abs(losses[0] - losses[1]) > 1e-3


def test_training_further_adds_to_the_history(adata: Any, fit: Any) -> None:
    model = fit(LatentShift, adata, setup=SETUP, train=QUICK)
    first = model.history["train_loss"]["train_loss"].tolist()
    model.train(max_steps=3, progressbar=False)
    history = model.history["train_loss"]["train_loss"]
    assert history.index.tolist() == list(range(8))
    assert history[:5].tolist() == first


@pytest.mark.parametrize(("cls", "cells"), [(LatentAdditive, 20), (LatentShift, 20)])
def test_the_batch_size_is_the_number_of_cells_of_a_step(
    adata: Any, cls: type[Baseline], cells: int, fit: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, gather = [], cls._cells

    def counted(self: Any, screen: Any, rows: np.ndarray) -> torch.Tensor:
        read.append(len(rows))
        return gather(self, screen, rows)

    monkeypatch.setattr(cls, "_cells", counted)
    fit(cls, adata, setup=SETUP, train={"max_steps": 3, "batch_size": 20})
    assert cells in read


def test_negative_elbo_by_hand() -> None:
    """(x - d(m + s e))^2 / 2 in scaled units, plus 5e-5 (m^2 + s^2 - 1 - log s^2) / 2 for each gene."""
    network = VariationalNetwork(4, 2, 8, 1)
    rng = np.random.default_rng(0)
    cells, noise = (torch.from_numpy(rng.normal(3, 2, (50, n)).astype(np.float32)) for n in (4, 2))
    network.set_scale(cells)
    unit = network.standardise(cells)
    np.testing.assert_allclose(unit.mean(0).numpy(), 0, atol=1e-5)
    np.testing.assert_allclose(unit.var(0, correction=0).mean(), 1, rtol=1e-5)
    with torch.no_grad():
        last: Any = network.encoder[-1]
        last.bias[2:] = 40.0  # far above the largest logarithm of the variance, 10
        encoded = network.encoder(unit).double().numpy()
        mean, log_variance = encoded[:, :2], np.clip(encoded[:, 2:], -10, 10)
        latent = torch.from_numpy((mean + np.exp(log_variance / 2) * noise.numpy()).astype(np.float32))
        error = np.square(network.decoder(latent).numpy() - unit.numpy()).mean() / 2
        found = float(network.negative_elbo(cells, noise))
    divergence = (mean**2 + np.exp(log_variance) - 1 - log_variance).sum(1).mean() / 2
    assert 5e-5 * divergence / 4 > 0.05
    np.testing.assert_allclose(found, error + 5e-5 * divergence / 4, rtol=1e-4)


def test_vectors_are_centred_and_scaled_by_the_measured_ones() -> None:
    vectors = torch.tensor([[1.0, 2.0], [3.0, 6.0], [100.0, -50.0]])
    network = AdditiveNetwork(4, 2, 8, 1, n_perturbations=2, vectors=vectors)
    np.testing.assert_allclose(network.vectors, (vectors - torch.tensor([2.0, 4.0])) / np.sqrt(2.5), rtol=1e-6)


@pytest.mark.parametrize("cls", NETWORKS)
def test_the_order_of_the_training_cells_does_not_matter(adata: Any, cls: type[Baseline], fit: Any) -> None:
    controls = adata[adata.obs["perturbation"] == "control"].copy()
    mixed = adata[np.random.default_rng(0).permutation(adata.n_obs)].copy()
    first, second = (
        fit(cls, each, setup=SETUP, train={"max_steps": 50}).predict(controls, ["A"], progressbar=False).X
        for each in (adata, mixed)
    )
    np.testing.assert_allclose(first, second, atol=1e-5)


def test_repeated_names_of_cells_keep_the_order_of_the_file(caplog: pytest.LogCaptureFixture) -> None:
    groups = RowGroups(np.array([3, 1, 0, 2]), np.array([0, 2]), np.array([2, 4]))
    by_name = sorted_by_name(groups, pd.Index(["d", "b", "c", "a"]))
    assert [by_name.rows(group).tolist() for group in range(2)] == [[3, 1], [2, 0]]
    with caplog.at_level("INFO", logger="pertcast"):
        assert sorted_by_name(groups, pd.Index(["a", "b", "c", "a"])) is groups
    assert "names of the cells are not unique" in caplog.text


def test_vectors_extend_to_unmeasured_perturbations(fit: Any, controls_of: Any) -> None:
    basis = np.random.default_rng(3).normal(0, 1, (2, N_GENES))
    angles = {f"p{i}": 2 * np.pi * i / 12 for i in range(12)} | {"new": 2 * np.pi * 1.5 / 12}
    vectors = {name: [np.cos(angle), np.sin(angle)] for name, angle in angles.items()}
    shifts = {name: np.array(vector) @ basis for name, vector in vectors.items()}
    expected = shifts.pop("new")
    adata = screen(shifts, n_cells=30, cell_types=("T", "B"))
    adata.uns["emb"] = vectors
    model = fit(LatentAdditive, adata, setup=SETUP | {"perturbation_embedding_key": "emb"}, train={"max_steps": 800})
    controls = controls_of(adata, "T")
    found = model.predict(controls, ["new"], progressbar=False).X.mean(0) - controls.X.mean(0)
    assert np.linalg.norm(found - expected) < 0.3 * np.linalg.norm(expected)
    with pytest.raises(ValueError, match="Unknown perturbation 'q'"):
        model.predict(controls, ["q"], progressbar=False)


def test_the_effect_grows_with_the_log_of_the_dosage(fit: Any, controls_of: Any) -> None:
    rng, direction = np.random.default_rng(4), truth()["A"]
    adata = screen({})
    levels = {0.1: 0.0, 1.0: 1.0, 10.0: 2.0}
    parts = []
    adata.obs["dose"] = 0.0
    for dosage, size in levels.items():
        part = adata[rng.permutation(adata.n_obs)[:150]].copy()
        part.X = part.X + size * direction
        part.obs["perturbation"], part.obs["dose"] = "A", dosage
        part.obs_names = [f"{dosage}-{name}" for name in part.obs_names]
        parts.append(part)
    model = fit(LatentAdditive, anndata.concat([adata, *parts]), setup=SETUP | {"dosage_key": "dose"})
    controls = controls_of(adata, "T")

    def size_at(dosage: float) -> float:
        shift = model.predict(controls, ["A"], dosages=dosage, progressbar=False).X.mean(0) - controls.X.mean(0)
        return float(shift @ direction / (direction @ direction))

    sizes = [size_at(dosage) for dosage in (0.1, 1.0, 10.0**0.5, 10.0)]
    np.testing.assert_allclose(sizes, [0, 1, 1.5, 2], atol=0.35)


def test_dosages_of_latent_shifts_are_those_of_the_training_data(make_screen: Any, fit: Any) -> None:
    model = fit(LatentShift, make_screen(dosages=(1.0, 0.1)), setup={"dosage_key": "dose"}, train=QUICK)
    assert model.predict(perturbations=["A"], progressbar=False).obs["dose"].unique().tolist() == [0.1, 1.0]
    found, nearest = (model.predict(perturbations=["A"], dosages=each, progressbar=False).X for each in (0.5, 1.0))
    np.testing.assert_array_equal(found, nearest)


@pytest.mark.parametrize(("cls", "what"), [(LatentAdditive, "encoding"), (LatentShift, "shift")])
def test_what_was_not_trained_on_is_an_error(adata: Any, cls: type[Baseline], what: str, fit: Any) -> None:
    labelled = adata.copy()
    labelled.obs["split"] = np.where(adata.obs["perturbation"] == "B", "test", "train")
    model = fit(cls, labelled, setup=SETUP | {"split_key": "split"}, train=QUICK)
    with pytest.raises(ValueError, match=rf"{cls.__name__} knows no {what} of 'B' \(of 'A\+B'\)"):
        model.predict(perturbations=["A+B"], progressbar=False)
    with pytest.raises(ValueError, match="Unknown perturbation 'a'"):
        model.predict(perturbations=["a"], progressbar=False)


@pytest.mark.parametrize("cls", NETWORKS)
def test_test_conditions_are_never_used(adata: Any, cls: type[Baseline], fit: Any, controls_of: Any) -> None:
    labelled = adata.copy()
    held_out = ((adata.obs["cell_type"] == "NK") & (adata.obs["perturbation"] != "control")).to_numpy()
    labelled.obs["split"] = np.where(held_out, "test", "train")
    spoiled = labelled.copy()
    spoiled.X[held_out] += 100
    first, second = (
        fit(cls, each, setup=SETUP | {"split_key": "split"}, train=QUICK)
        .predict(controls_of(adata, "NK"), ["A"], progressbar=False)
        .X
        for each in (labelled, spoiled)
    )
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("cls", NETWORKS)
def test_bad_numbers(adata: Any, cls: type[Baseline], fit: Any) -> None:
    for arguments, train, error, message in (
        ({"n_latent": 0}, {}, ValueError, "`n_latent` must be at least 1, but found 0"),
        ({"n_layers": 1.0}, {}, TypeError, "`n_layers` must be a whole number"),
        ({"seed": -1}, {}, ValueError, "`seed` must be at least 0, but found -1"),
        ({}, {"max_steps": 0}, ValueError, "`max_steps` must be at least 1"),
        ({}, {"learning_rate": 0}, ValueError, "`learning_rate` must be above 0, but found 0"),
        ({}, {"learning_rate": float("nan")}, ValueError, "`learning_rate` must be finite, but found nan"),
        ({}, {"learning_rate": "x"}, TypeError, "`learning_rate` must be a number, but found 'x'"),
    ):
        with pytest.raises(error, match=message):
            fit(cls, adata, setup=SETUP, train=train, **arguments)
