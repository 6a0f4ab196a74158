"""What a model has an identity of, and what training never showed it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import pertcast as pc

from .conftest import QUICK, controls_of

if TYPE_CHECKING:
    from pathlib import Path

SETUP = {"cell_type_key": "cell_type", "batch_key": "donor"}
SIZES: dict[str, Any] = {"n_hidden": 16, "n_layers": 1, "set_size": 8, "seed": 0}
STEPS: dict[str, Any] = {"max_epochs": 1, "steps_per_epoch": 2, **QUICK}


def label(adata: Any, where: Any, part: str) -> None:
    adata.obs["split"] = np.where(where & (adata.obs["perturbation"] != "control"), part, "train")


@pytest.mark.parametrize("part", ["validation", "test"])
@pytest.mark.parametrize(("column", "key"), [("cell_type", "context"), ("donor", "batch")])
def test_held_out_identities_are_refused(screen: Any, part: str, column: str, key: str) -> None:
    held, other = sorted(screen.obs[column].unique())[:2]
    label(screen, screen.obs[column] == held, part)
    pc.PerturbDiff.setup_anndata(screen, split_key="split", **SETUP)
    embed: dict[str, Any] = {f"embed_{key}": True}
    model = pc.PerturbDiff(screen, **embed, **SIZES)
    model.train(**STEPS)
    controls = controls_of(screen)
    with pytest.raises(ValueError, match=f"embeds the identity of every {key}, and was not trained on .*{held!r}"):
        model.predict(controls, ["pert_0"], progressbar=False)
    seen = controls[(controls.obs[column] == other).to_numpy()].copy()
    assert model.predict(seen, ["pert_0"], progressbar=False).n_obs == seen.n_obs


def test_identities_stay_in_training_unless_labels_say_otherwise(screen: Any) -> None:
    screen = screen[screen.obs["perturbation"].isin(["control", "pert_0"]).to_numpy()].copy()
    pc.PerturbDiff.setup_anndata(screen, **SETUP)
    held, named = {}, {}
    for embed in (False, True):
        model = pc.PerturbDiff(screen, embed_context=embed, **SIZES)
        model.train(**STEPS)
        index = model.screen.index
        held[embed] = set(index.context[model.split_.validation]) - set(index.context[model.split_.train])
        named[embed] = model.split_.kind, model.split_.held_out
        predicted = model.predict(controls_of(screen), ["pert_0"], progressbar=False)
        assert predicted.obs["cell_type"].nunique() == 4
    assert held[False]
    assert named[False][0] == "context"
    assert named[False][1]
    assert not held[True]
    assert named[True] == ("none", ())


@pytest.mark.parametrize("name", ["SetTransformer", "FlowMatching", "ConditionalMonge"])
def test_networks_without_an_anchor_know_what_they_were_trained_on(screen: Any, name: str) -> None:
    label(screen, screen.obs["perturbation"] == "pert_1", "validation")
    cls = getattr(pc, name)
    cls.setup_anndata(screen, cell_type_key="cell_type", split_key="split")
    model = cls(screen, n_hidden=16, seed=0)
    model.train(**STEPS)
    controls = controls_of(screen, "type_1")
    assert model.predict(controls, ["pert_0"], progressbar=False).n_obs == controls.n_obs
    with pytest.raises(ValueError, match="pert_1"):
        model.predict(controls, ["pert_1"], progressbar=False)


def test_the_anchor_knows_what_is_held_out_for_validation(screen: Any) -> None:
    label(screen, screen.obs["perturbation"] == "pert_1", "validation")
    pc.PerturbDiff.setup_anndata(screen, cell_type_key="cell_type", split_key="split")
    model = pc.PerturbDiff(screen, **SIZES)
    model.train(**STEPS)
    controls = controls_of(screen, "type_1")
    assert model.predict(controls, ["pert_1"], progressbar=False).n_obs == controls.n_obs


@pytest.mark.parametrize(("column", "key"), [("cell_type", "context"), ("donor", "batch")])
def test_other_identities_need_a_new_model(screen: Any, tmp_path: Path, column: str, key: str) -> None:
    pc.PerturbDiff.setup_anndata(screen, **SETUP)
    embed: dict[str, Any] = {f"embed_{key}": True}
    model = pc.PerturbDiff(screen, **embed, **SIZES)
    model.train(**STEPS)
    model.save(str(tmp_path / "model"))
    new = screen.copy()
    new.obs[column] = new.obs[column].astype(str) + "_x"
    loaded = pc.PerturbDiff.load(str(tmp_path / "model"), adata=new)
    with pytest.raises(ValueError, match=f"embeds the identity of every {key}. It was trained on data with"):
        loaded.train(**STEPS)
    pc.PerturbDiff.load(str(tmp_path / "model"), adata=screen).train(**STEPS)
