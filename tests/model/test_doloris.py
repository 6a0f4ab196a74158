"""What Doloris promises beyond the other models: genes by name, cells that keep their identity, masks, privacy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.neighbors import NearestNeighbors

import pertcast as pc

from .conftest import QUICK, controls_of

if TYPE_CHECKING:
    from pathlib import Path

SMALL: dict[str, Any] = {
    "n_hidden": 16,
    "n_layers": 1,
    "set_size": 16,
    "n_controls": 16,
    "n_input": 16,
    "seed": 0,
    "anchor": "none",
}
N_GENES = 41  # no other size in the model


def dense(x: Any) -> np.ndarray:
    return np.asarray(x.toarray() if hasattr(x, "toarray") else x)


@pytest.fixture(scope="module")
def gene_screen() -> Any:
    """A screen whose perturbations are named like the first four genes."""
    adata = pc.data.simulate_screen(
        16, n_genes=N_GENES, n_cell_types=3, n_donors=1, n_perturbations=4, combinations=1, seed=3
    )
    adata.var_names = [f"G{i}" for i in range(N_GENES)]
    names = adata.obs["perturbation"].astype(str).str.replace("pert_", "G")
    adata.obs["perturbation"] = pd.Categorical(list(names))
    return adata


def ring(n: int = N_GENES) -> pd.DataFrame:
    return pd.DataFrame({"source": [f"G{i}" for i in range(n)], "target": [f"G{(i + 5) % n}" for i in range(n)]})


def fit(adata: Any, model_class: Any = pc.Doloris, n_epochs: int = 2, **options: Any) -> Any:
    adata = adata.copy()
    model_class.setup_anndata(adata, cell_type_key="cell_type")
    model = model_class(adata, **SMALL | options)
    model.train(max_epochs=n_epochs, steps_per_epoch=5, **QUICK)
    model.module.gate.set(1.0)
    return model


@pytest.fixture(scope="module")
def genes_model(gene_screen: Any) -> Any:
    return fit(gene_screen, network=ring())


def test_edges_name_genes_whatever_their_order(gene_screen: Any) -> None:
    """The same weights, gene by gene, on data with shuffled genes: edges must still join the right ones."""
    model = fit(gene_screen, network=ring(), zeros="relu")
    order = np.random.default_rng(0).permutation(N_GENES)
    other = fit(gene_screen[:, order], network=ring(), zeros="relu")
    own = {"edges", "gene_of_part"}
    target = other.module.state_dict()
    for key, value in model.module.state_dict().items():
        if key.rpartition(".")[2] in own:
            continue
        for axis in [axis for axis, size in enumerate(value.shape) if size == N_GENES]:
            value = value.index_select(axis, torch.from_numpy(order))
        target[key].copy_(value)
    pd.testing.assert_frame_equal(
        other.get_perturbation_embedding(), model.get_perturbation_embedding(), atol=1e-5, rtol=1e-4
    )
    controls = controls_of(gene_screen)
    here, there = (each.predict(controls, ["G1", "G30"], progressbar=False) for each in (model, other))
    np.testing.assert_allclose(dense(there[:, here.var_names].X), dense(here.X), atol=2e-4)
    wrong = fit(gene_screen, network=pc.network.shuffle_edges(ring(), seed=1), zeros="relu")
    edges = wrong.module.state_dict()["network.condition.genes.edges"]
    wrong.module.load_state_dict(model.module.state_dict())
    for network in (wrong.module.network, wrong.module.average.network):
        network["condition"].genes.edges = edges
    shuffled = wrong.get_perturbation_embedding()
    assert np.abs(shuffled - model.get_perturbation_embedding()).to_numpy().max() > 1e-2


def test_unseen_genes_are_read_from_their_nodes(genes_model: Any, gene_screen: Any) -> None:
    controls = controls_of(gene_screen)
    predicted = genes_model.predict(controls, ["G20", "G21", "G0+G22"], progressbar=False)
    assert list(predicted.obs["perturbation"].unique()) == ["G20", "G21", "G0+G22"]
    means = [dense(predicted[(predicted.obs["perturbation"] == name).to_numpy()].X).mean(0) for name in ("G20", "G21")]
    assert np.abs(means[0] - means[1]).max() > 1e-4
    assert "stand_ins" not in predicted.uns["pertcast"]["params"]
    with pytest.raises(ValueError, match="Unknown perturbation 'TP53'"):
        genes_model.predict(controls, ["TP53"], progressbar=False)
    filled = genes_model.predict(controls, ["TP53"], unseen="mean", progressbar=False)
    assert list(filled.uns["pertcast"]["params"]["unseen_perturbations"]) == ["TP53"]


def test_perturbations_that_are_no_genes_have_no_nodes(screen: Any, caplog: pytest.LogCaptureFixture) -> None:
    model = fit(screen)
    assert not [record for record in caplog.records if record.levelname == "WARNING" and "network" in record.msg]
    fit(screen, n_epochs=1, network="shuffled")
    assert "The network of genes is not used: fewer than 2 perturbations have the name of a gene" in caplog.text
    with pytest.raises(ValueError, match="Unknown perturbation"):
        model.predict(controls_of(screen), [str(screen.var_names[5])], progressbar=False)
    assert model.get_network().empty  # there is nothing to read it for


def test_a_gene_without_a_vector_is_an_error_where_others_have_one(gene_screen: Any) -> None:
    adata = gene_screen.copy()
    adata.uns["vectors"] = {f"G{i}": np.arange(3.0) + i**2 for i in range(6)}
    pc.Doloris.setup_anndata(adata, cell_type_key="cell_type", perturbation_embedding_key="vectors")
    model = pc.Doloris(adata, network=ring(), **SMALL)
    model.train(max_epochs=1, steps_per_epoch=2, **QUICK)
    assert model.predict(controls_of(adata), ["G5"], progressbar=False).n_obs
    with pytest.raises(ValueError, match="Unknown perturbation 'G20'"):
        model.predict(controls_of(adata), ["G20"], progressbar=False)


def test_networks(gene_screen: Any) -> None:
    def ends(model: Any) -> set[frozenset[str]]:
        return set(map(frozenset, model.get_network().to_numpy().tolist()))

    assert ends(fit(gene_screen, n_epochs=1, network=ring())) == set(map(frozenset, ring().to_numpy().tolist()))
    own, shuffled = (fit(gene_screen, n_epochs=1, network=name) for name in ("coexpression", "shuffled"))
    assert len(ends(own)) == len(ends(shuffled))
    assert len(ends(own) & ends(shuffled)) < len(ends(own))
    assert fit(gene_screen, n_epochs=1, network=None).get_network().empty
    with pytest.raises(ValueError, match="network is 'string'"):
        fit(gene_screen, network="string")
    with pytest.raises(ValueError, match="None of the 1 edges"):
        fit(gene_screen, network=pd.DataFrame({"source": ["a"], "target": ["b"]}))


def test_saved_model_holds_the_network_and_no_cells(gene_screen: Any, genes_model: Any, tmp_path: Path) -> None:
    genes_model.save(tmp_path / "model", overwrite=True)
    loaded = pc.Doloris.load(tmp_path / "model", accelerator="cpu")
    pd.testing.assert_frame_equal(loaded.get_network(), genes_model.get_network())
    controls = controls_of(gene_screen)
    here, there = (each.predict(controls, ["G1", "G9"], progressbar=False) for each in (genes_model, loaded))
    np.testing.assert_array_equal(dense(here.X), dense(there.X))
    cells = {tuple(row) for row in dense(gene_screen.X).astype(np.float32)}
    patterns = {row for row in ((tuple(cell > 0)) for cell in map(np.array, cells)) if 0 < sum(row) < N_GENES}
    saved = torch.load(tmp_path / "model" / "model.pt", weights_only=False)["model_state_dict"]
    tensors = [value for value in saved.values() if isinstance(value, torch.Tensor) and value.shape[-1:] == (N_GENES,)]
    rows = [row for value in tensors for row in value.reshape(-1, N_GENES)]
    assert rows
    assert not any(tuple(row.float().numpy()) in cells for row in rows)
    binary = [row for row in rows if set(row.unique().tolist()) <= {0.0, 1.0}]
    assert not any(tuple((row > 0).numpy()) in patterns for row in binary)


def neighbours_kept(before: np.ndarray, after: np.ndarray, k: int = 10) -> float:
    """Share of the nearest neighbours of a cell that are still among its nearest neighbours."""
    found = [
        NearestNeighbors(n_neighbors=k + 1).fit(cells).kneighbors(return_distance=False, X=None)[:, :k]
        for cells in (before, after)
    ]
    return float(np.mean([len(set(a) & set(b)) / k for a, b in zip(*found, strict=True)]))


def test_bridge_keeps_the_identity_of_cells() -> None:
    """Control cells next to each other stay so; cells that are decoded from fresh noise are anywhere."""
    adata = pc.data.simulate_screen(
        60, n_genes=50, n_cell_types=2, n_donors=1, n_perturbations=2, combinations=0, median_counts=3000, seed=5
    )
    adata.obs["cell_type"] = "all"  # what tells the cells apart is left to the bridge
    model = fit(adata, zeros="relu", n_epochs=40, set_size=64, n_controls=64, n_hidden=32)
    controls = controls_of(adata)
    predicted = model.predict(controls, ["pert_0"], progressbar=False)
    source = dense(controls[predicted.obs["source_cell"].to_numpy()].X)
    unpaired = dense(predicted.X)[np.random.default_rng(0).permutation(len(source))]
    kept, chance = neighbours_kept(source, dense(predicted.X)), neighbours_kept(source, unpaired)
    assert kept > chance + 0.3
    assert chance < 0.2


def test_switched_masks_keep_genes_that_go_together() -> None:
    """Correlations between detected genes: closer to the real ones than with independent Bernoulli masks."""
    adata = pc.data.simulate_screen(
        1000, n_genes=60, n_cell_types=1, n_donors=1, n_perturbations=1, combinations=0, state_sd=1.0, seed=6
    )
    predicted = {}
    for zeros in ("switch", "bernoulli"):
        model = fit(adata, zeros=zeros, n_epochs=20, set_size=128, n_controls=128)
        predicted[zeros] = dense(model.predict(controls_of(adata), ["pert_0"], progressbar=False).X)
    real = dense(adata[(adata.obs["perturbation"] == "pert_0").to_numpy()].X)
    share = (real > 0).mean(0)
    genes = (share > 0.1) & (share < 0.9)
    pairs = np.triu_indices(int(genes.sum()), 1)

    def together(cells: np.ndarray) -> np.ndarray:
        return np.asarray(np.corrcoef((cells[:, genes] > 0).T))[pairs]

    errors = {zeros: np.square(together(cells) - together(real)).mean() for zeros, cells in predicted.items()}
    assert errors["switch"] < 0.7 * errors["bernoulli"], errors
    for cells in predicted.values():
        assert np.abs((cells > 0).mean(0) - share).mean() < 0.1


def test_real_valued_data_have_no_masks(screen: Any) -> None:
    screen.X = dense(screen.X) - 1.0
    model = fit(screen)
    assert not model.module.masked
    predicted = dense(model.predict(controls_of(screen), ["pert_0"], progressbar=False).X)
    assert predicted.min() < 0


def test_one_count_moves_the_scale_little(screen: Any) -> None:
    """The largest value would make it ten times as large."""
    clean = float(fit(screen, n_epochs=1).module.scale)
    X = dense(screen.X).copy()
    X[3, 7] = 10 * X.max()
    screen.X = X
    assert float(fit(screen, n_epochs=1).module.scale) < 1.5 * clean


def test_unlasting_is_doloris_with_other_defaults(gene_screen: Any, tmp_path: Path) -> None:
    model = fit(gene_screen, pc.Unlasting, network=ring())
    config = model.config
    assert (config.zeros, config.gene_embedding, config.gene_readout) == ("bernoulli", "learned", "knockout")
    assert model._model_summary_string.startswith("Unlasting")
    options: dict[str, Any] = {"zeros": "bernoulli", "gene_embedding": "learned", "gene_readout": "knockout"}
    same = fit(gene_screen, pc.Doloris, network=ring(), **options)
    controls = controls_of(gene_screen)
    first, second = (dense(each.predict(controls, ["G2"], progressbar=False).X) for each in (model, same))
    np.testing.assert_array_equal(first, second)
    model.save(tmp_path / "model")
    loaded = pc.Unlasting.load(tmp_path / "model", accelerator="cpu")
    assert loaded.config == model.config
