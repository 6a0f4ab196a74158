from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest

import pertcast

ROOT = Path(__file__).resolve().parents[1]
PUBLIC = {
    "ConditionalMonge",
    "Doloris",
    "FlowMatching",
    "PerturbDiff",
    "PopulationEncoder",
    "SetTransformer",
    "Unlasting",
    "__version__",
    "anchor",
    "baselines",
    "data",
    "diffusion",
    "model",
    "module",
    "network",
    "nn",
    "pl",
    "pp",
    "representation",
    "tl",
    "transport",
}


def loaded_after(statement: str) -> set[str]:
    """Names of top-level modules that a fresh interpreter has loaded after a statement."""
    code = f"import sys\n{statement}\nsys.stdout.write(' '.join({{name.partition('.')[0] for name in sys.modules}}))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(run.stdout.split())


def readme_commands() -> list[str]:
    section = (ROOT / "README.md").read_text(encoding="utf-8").split("\n## Set up\n", 1)[1].split("\n## ", 1)[0]
    block = section.split("```bash\n", 1)[1].split("```", 1)[0]
    return [line for line in block.splitlines() if line.strip()]


def test_import_is_light() -> None:
    loaded = loaded_after("import pertcast; dir(pertcast); pertcast.__version__")
    assert "pertcast" in loaded
    assert loaded.isdisjoint({"torch", "lightning", "scvi", "scanpy", "anndata", "pertpy", "matplotlib"})


def test_version_agrees_everywhere() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    citation = re.search(r"^version: (.+)$", (ROOT / "CITATION.cff").read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert citation is not None
    assert pertcast.__version__ == version("pertcast") == declared == citation[1]


def test_tab_completion_lists_the_public_names() -> None:
    assert set(dir(pertcast)) == set(pertcast.__all__) == PUBLIC


def test_names_are_imported_on_first_use() -> None:
    assert "torch" in loaded_after("import pertcast; pertcast.diffusion")
    assert "torch" in loaded_after("from pertcast import PerturbDiff; assert PerturbDiff.__name__ == 'PerturbDiff'")


def test_unknown_name_is_an_attribute_error() -> None:
    expected = r"'pertcast' has no attribute 'Perturbdiff'; it has ConditionalMonge, Doloris, FlowMatching"
    with pytest.raises(AttributeError, match=expected):
        _ = getattr(pertcast, "Perturbdiff")  # noqa: B009 - mypy knows that the name does not exist


def test_package_says_that_it_is_typed() -> None:
    assert (Path(pertcast.__file__).parent / "py.typed").is_file()


def test_readme_sets_up_in_two_commands() -> None:
    assert readme_commands() == [
        'python3 -m venv .venv && .venv/bin/pip install -e ".[test]" && .venv/bin/pertcast demo',
        ".venv/bin/python -m pytest -n 2 --dist loadfile",
    ]


def test_python_floor_covers_the_recommended_python() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    recommended = (ROOT / ".python-version").read_text(encoding="utf-8").strip()
    floor = project["requires-python"].removeprefix(">=")
    assert [int(part) for part in recommended.split(".")] >= [int(part) for part in floor.split(".")]
    assert f"Programming Language :: Python :: {recommended}" in project["classifiers"]
