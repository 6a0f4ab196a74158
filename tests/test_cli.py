from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest

import pertcast as pc
from pertcast._cli import main
from pertcast._cli._demo import run_demo
from pertcast._cli._demo_screen import DemoSize, HeldOut, choose_held_out, format_scores

if TYPE_CHECKING:
    from pathlib import Path

MODELS = {"control", "mean shift", "weighted shift", "PerturbDiff", "noise ceiling"}
TINY = DemoSize(40, 60, n_cell_types=3, n_donors=1, n_perturbations=2, n_combinations=1, effect_size=3, max_epochs=1)


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo") / "new"
    run_demo(folder, TINY, seed=1)
    return folder


@pytest.fixture(scope="module")
def scores(out: Path) -> pd.DataFrame:
    return pd.read_csv(out / "scores.csv")


@pytest.fixture(scope="module")
def screen() -> Any:
    return pc.data.simulate_screen(
        40, n_genes=60, n_cell_types=3, n_donors=1, n_perturbations=2, combinations=1, effect_size=3,
        median_counts=3000, seed=1,
    )  # fmt: skip


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory, screen: Any) -> Path:
    path = tmp_path_factory.mktemp("data") / "screen.h5ad"
    screen.write_h5ad(path)
    return path


class TestDemo:
    def test_writes_plots(self, out: Path) -> None:
        files = {path.name for path in out.iterdir()}
        assert files == {"predicted.h5ad", "scores.csv", "mean_expression.png", "embedding.png"}
        for name in ("mean_expression.png", "embedding.png"):
            assert (out / name).read_bytes().startswith(b"\x89PNG")

    def test_every_held_out_condition_has_every_score(self, scores: pd.DataFrame) -> None:
        conditions = scores[["perturbation", "cell_type"]].drop_duplicates()
        assert len(conditions) == 3 + 2  # all three perturbations in one type, the combination in the two others
        assert set(scores["model"]) == MODELS
        keys = ["perturbation", "cell_type", "model", "metric"]
        assert not scores.duplicated(keys).any()
        assert len(scores) == len(conditions) * len(MODELS) * 2
        undefined = (scores["model"] == "control") & (scores["metric"] == "shift_pearson")
        assert scores["value"].isna().equals(undefined)

    def test_ceiling_is_below_control(self, scores: pd.DataFrame) -> None:
        energy = scores[scores["metric"] == "energy_distance"].groupby("model")["value"].mean()
        assert energy["noise ceiling"] < 0.2 * energy["control"]

    def test_ceiling_halves_are_disjoint(self, scores: pd.DataFrame) -> None:
        ceiling = scores["model"] == "noise ceiling"
        assert set(scores.loc[ceiling, "n_real"]) == set(scores.loc[ceiling, "n_predicted"]) == {20}
        assert set(scores.loc[~ceiling, "n_real"]) == {40}

    def test_control_score_is_the_distance_to_control_cells(self, scores: pd.DataFrame, screen: Any) -> None:
        chosen = scores[(scores["model"] == "control") & (scores["metric"] == "energy_distance")]
        for row in chosen.itertuples():
            in_type = screen.obs["cell_type"] == row.cell_type
            real = screen[(in_type & (screen.obs["perturbation"] == row.perturbation)).to_numpy()]
            control = screen[(in_type & (screen.obs["perturbation"] == "control")).to_numpy()]
            assert row.value == pytest.approx(pc.tl.energy_distance(real.X, control.X), rel=1e-5)

    def test_predictions_hold_the_held_out_conditions_only(self, out: Path, scores: pd.DataFrame, screen: Any) -> None:
        predicted = ad.read_h5ad(out / "predicted.h5ad")
        assert predicted.uns["pertcast"]["model"] == "PerturbDiff"
        assert predicted.var_names.equals(screen.var_names)
        found = set(zip(predicted.obs["perturbation"], predicted.obs["cell_type"], strict=True))
        held_out = choose_held_out(screen.obs, np.random.default_rng(1))
        expected = screen.obs[held_out.mask(screen.obs)]
        assert found == set(zip(expected["perturbation"], expected["cell_type"], strict=True))
        assert found == set(zip(scores["perturbation"], scores["cell_type"], strict=True))


class TestBenchmark:
    def test_writes_tables_predictions_and_plots(
        self, file: Path, tmp_path: Path, screen: Any, capsys: pytest.CaptureFixture[str]
    ) -> None:
        out = tmp_path / "out"
        words = ["benchmark", str(file), "--cell-type-key", "cell_type", "--split", "context", "--hold-out", "type_1"]
        words += ["--models", "PerturbDiff", "PerturbedMean", "--baselines", "PerturbationShift", "--metrics", "shift"]
        main([*words, "energy_distance", "--max-epochs", "1", "--out", str(out)])
        scores, summary = pd.read_csv(out / "scores.csv"), pd.read_csv(out / "summary.csv")
        models = {"PerturbDiff", "PerturbedMean", "PerturbationShift", "NoEffect", "ceiling"}
        assert set(scores["model"]) == set(summary["model"]) == models
        assert set(scores["context"]) == {"type_1"}
        predicted = ad.read_h5ad(out / "predicted_PerturbDiff.h5ad")
        assert set(predicted.obs["perturbation"]) == set(screen.obs["perturbation"]) - {"control"}
        assert (out / "energy_distance.png").read_bytes().startswith(b"\x89PNG")
        written = capsys.readouterr()
        shown = written.out
        assert shown.lstrip().startswith("shift_pearson") or shown.lstrip().startswith(
            "energy_distance"
        )  # no log, no bars
        assert "Epoch" not in shown
        assert "energy_distance (lower is better)" in shown
        mean = scores[(scores["model"] == "PerturbDiff") & (scores["metric"] == "energy_distance")]["value"].mean()
        assert f"{mean:.3f}" in shown

    @pytest.mark.parametrize(
        ("words", "message"),
        [
            (["--cell-type-key", "celltype"], "--cell-type-key names the column 'celltype'"),
            ([], "needs --cell-type-key[^`]*$"),
            (["--cell-type-key", "cell_type", "--hold-out", "type_9"], "type_9"),
            (
                ["--cell-type-key", "cell_type", "--split", "condition", "--hold-out", "pert_0"],
                r"'pert_0' names no cond",
            ),
            (["--cell-type-key", "cell_type", "--models", "PerturbDif"], "Unknown model 'PerturbDif'"),
            (["--cell-type-key", "cell_type", "--models", "PopulationEncoder"], "which has no 'predict'"),
            (["--cell-type-key", "cell_type", "--layer", "counts", "--normalize"], "--layer counts is read in place"),
            (["--cell-type-key", "cell_type", "--embedding-key", "vectors"], "--embedding-key"),
        ],
    )
    def test_bad_requests_end_with_a_message(self, file: Path, tmp_path: Path, words: list[str], message: str) -> None:
        with pytest.raises(SystemExit, match=message):
            main(["benchmark", str(file), "--out", str(tmp_path / "out"), *words])
        assert not (tmp_path / "out").exists()

    def test_counts_are_refused_before_any_work(self, tmp_path: Path, screen: Any) -> None:
        counts = ad.AnnData(screen.layers["counts"].copy(), obs=screen.obs, var=screen.var)
        counts.write_h5ad(tmp_path / "counts.h5ad")
        with pytest.raises(SystemExit, match="counts.h5ad holds raw counts.*Add --normalize"):
            main(["benchmark", str(tmp_path / "counts.h5ad"), "--cell-type-key", "cell_type"])

    def test_what_is_no_anndata_with_expression_is_refused(self, tmp_path: Path, screen: Any) -> None:
        text, other, empty = (tmp_path / name for name in ("text.h5ad", "other.h5ad", "empty.h5ad"))
        text.write_text("cells")
        with h5py.File(other, "w") as file:
            file["cells"] = [1, 2]
        ad.AnnData(obs=screen.obs, var=screen.var, layers={"ln": screen.X}).write_h5ad(empty)
        for path in (text, other):
            with pytest.raises(SystemExit, match=rf"{path.name} cannot be read as an AnnData \(.h5ad\): "):
                main(["benchmark", str(path), "--cell-type-key", "cell_type"])
        for words in ([], ["--normalize"]):
            with pytest.raises(SystemExit, match="empty.h5ad has no X. Name a layer with --layer; there are 'ln'"):
                main(["benchmark", str(empty), "--cell-type-key", "cell_type", *words])

    def test_one_modality_of_a_mudata_is_expected(self, tmp_path: Path) -> None:
        path = tmp_path / "screen.h5mu"
        path.touch()
        with pytest.raises(SystemExit, match=r"holds a MuData.*mdata\['rna'\].write_h5ad"):
            main(["benchmark", str(path), "--cell-type-key", "cell_type", "--out", str(tmp_path / "a" / "b")])
        assert not (tmp_path / "a").exists()

    @pytest.mark.parametrize("words", [["demo"], ["benchmark"]])
    def test_results_must_have_a_place_before_any_work(
        self, words: list[str], file: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        words = [*words, *([str(file)] if words == ["benchmark"] else [])]
        for out in (file / "below", file):
            with pytest.raises(SystemExit) as stop:
                main([*words, "--out", str(out)])
            assert stop.value.code == 2
            shown = capsys.readouterr().err
            assert "Name another folder" in shown or "is a file" in shown

    def test_file_must_exist(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit):
            main(["benchmark", str(tmp_path / "nothing.h5ad")])
        assert "does not exist" in capsys.readouterr().err
        with pytest.raises(SystemExit):
            main(["benchmark", str(tmp_path)])
        assert "is a folder, not a file" in capsys.readouterr().err


class TestHeldOut:
    def test_mask_spares_controls_and_parts(self) -> None:
        obs = pd.DataFrame(
            {
                "perturbation": ["control", "A", "A+B", "A", "A+B", "control", "B+C"],
                "cell_type": ["t", "t", "t", "u", "u", "u", "u"],
            }
        )
        assert HeldOut("t", "A+B").mask(obs).tolist() == [False, True, True, False, True, False, False]

    def test_needs_a_combination(self) -> None:
        obs = pd.DataFrame({"perturbation": ["control", "A"], "cell_type": ["t", "t"]})
        with pytest.raises(ValueError, match="no combination of perturbations to hold out"):
            choose_held_out(obs, np.random.default_rng(0))


def test_table_has_measured_conditions_and_their_mean() -> None:
    rows = [("A", "t", "x", 1.0), ("A", "t", "y", 3.0), ("B", "u", "x", 2.0), ("B", "u", "y", np.nan)]
    scores = pd.DataFrame(rows, columns=["perturbation", "cell_type", "model", "value"]).assign(metric="m")
    lines = [line.split() for line in format_scores(scores, "m").splitlines()]
    assert lines[1:] == [["A", "t", "1.000", "3.000"], ["B", "u", "2.000", "-"], ["mean", "1.500", "3.000"]]


class TestArguments:
    @pytest.mark.parametrize("flag", ["--version", "-v"])
    def test_version(self, flag: str, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit) as stop:
            main([flag])
        assert stop.value.code == 0
        assert capsys.readouterr().out == f"pertcast {pc.__version__}\n"

    @pytest.mark.parametrize(("words", "shown"), [(["--help"], "demo"), (["demo", "--help"], "--quick")])
    def test_help(self, words: list[str], shown: str, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit) as stop:
            main(words)
        assert stop.value.code == 0
        assert shown in capsys.readouterr().out

    def test_bad_arguments_are_usage_errors(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        file = tmp_path / "file"
        file.touch()
        for words, message in [
            ([], "required"),
            (["demo", "--seed", "-1"], "--seed must be at least 0"),
            (["demo", "--out", str(file)], "is a file"),
        ]:
            with pytest.raises(SystemExit) as stop:
                main(words)
            assert stop.value.code == 2
            assert message in capsys.readouterr().err
