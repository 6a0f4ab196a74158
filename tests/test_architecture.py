from __future__ import annotations

import ast
import importlib
import inspect
import re
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import ModuleType

ROOT = Path(__file__).resolve().parents[1]
SRC = ROOT / "src" / "pertcast"
FILES = sorted(SRC.rglob("*.py"))
MAX_LINES = 500

# What a folder may import from the rest of pertcast. A private module at the top level (`_name.py`) is a shared leaf:
# it imports nothing from pertcast, and every folder but the four pure ones may use it.
ALLOWED: dict[str, set[str]] = {
    "anchor": set(),
    "baselines": {"anchor", "data"},
    "data": {"transport"},
    "diffusion": set(),
    "model": {"anchor", "data", "diffusion", "module", "network", "nn", "representation"},
    "module": {"anchor", "diffusion", "nn", "representation", "transport"},
    "network": set(),
    "nn": set(),
    "pl": {"anchor", "data", "tl"},
    "pp": {"anchor", "data"},
    "representation": {"anchor", "data"},
    "tl": {"anchor", "baselines", "data", "pp", "representation", "transport"},
    "transport": set(),
}
# Folders of plain mathematics, and the only libraries they know.
PURE = {
    "anchor": {"numpy", "scipy", "sklearn", "threadpoolctl"},
    "diffusion": {"torch"},
    "nn": {"torch"},
    "transport": {"torch"},
}
# Imported inside functions only: slow, noisy on import, or optional.
LAZY = {"annbatch", "cell_eval", "decoupler", "matplotlib", "pertpy", "rdkit"}
DISTRIBUTIONS = {"scvi": "scvi-tools", "sklearn": "scikit-learn", "cell_eval": "cell-eval"}


class Import(NamedTuple):
    """One imported module: dotted name, line, and whether it is loaded when the file is imported."""

    name: str
    line: int
    eager: bool

    @property
    def top(self) -> str:
        return self.name.partition(".")[0]

    @property
    def folder(self) -> str | None:
        """First name below pertcast; None for other libraries, '' for pertcast itself."""
        return self.name.partition(".")[2].partition(".")[0] if self.top == "pertcast" else None


def imports(source: str, package: str) -> Iterator[Import]:
    """Every import of a file. `package` is the dotted package that relative imports start from."""

    def visit(node: ast.AST, *, eager: bool) -> Iterator[Import]:
        if isinstance(node, ast.Import):
            yield from (Import(alias.name, node.lineno, eager) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*parents, base] if base else parents)
            # `from package import name` may name a submodule, so the name belongs to what is imported.
            yield from (Import(f"{base}.{alias.name}", node.lineno, eager) for alias in node.names)
        later = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        guarded = node.body if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING") else []
        for child in ast.iter_child_nodes(node):
            yield from visit(child, eager=eager and not later and child not in guarded)

    yield from visit(ast.parse(source), eager=True)


def package_of(path: Path) -> str:
    return ".".join(["pertcast", *path.relative_to(SRC).parent.parts])


def module_name(path: Path) -> str:
    return package_of(path) if path.stem == "__init__" else f"{package_of(path)}.{path.stem}"


def folder_of(path: Path) -> str:
    """Folder, or file at the top level, that a source file belongs to."""
    return path.relative_to(SRC).parts[0].removesuffix(".py")


def imports_of(path: Path) -> list[Import]:
    return list(imports(path.read_text(encoding="utf-8"), package_of(path)))


def complaints(path: Path, found: list[Import]) -> list[str]:
    """What a file imports from pertcast against the rules."""
    folder = folder_of(path)
    if folder in {"__init__", "_cli", "__main__"}:
        return []
    allowed = ALLOWED.get(folder, set()) | {folder, "__version__"}
    if folder in ALLOWED.keys() - PURE.keys():
        allowed |= {item.folder for item in found if item.folder and item.folder.startswith("_")} - {"_cli"}
    targets = [(item.folder, f"line {item.line}: {item.name}") for item in found]
    return [text for target, text in targets if target is not None and target not in allowed]


def relative(path: Path) -> str:
    return path.relative_to(SRC).as_posix()


class TestReader:
    """The reader of imports itself, on sources whose imports are known."""

    def test_finds_relative_nested_and_guarded_imports(self) -> None:
        source = (
            "import os, torch.nn\n"
            "from . import _grid\n"
            "from .._compat import fix\n"
            "if TYPE_CHECKING:\n    from anndata import AnnData\nelse:\n    import mudata\n"
            "try:\n    import zarr\nexcept ImportError:\n    pass\n"
            "class A:\n    import json\n    def f(self):\n        import pertpy as pt\n"
        )
        found = [(item.name, item.eager) for item in imports(source, "pertcast.diffusion")]
        assert found == [
            ("os", True),
            ("torch.nn", True),
            ("pertcast.diffusion._grid", True),
            ("pertcast._compat.fix", True),
            ("anndata.AnnData", False),
            ("mudata", True),
            ("zarr", True),
            ("json", True),
            ("pertpy", False),
        ]

    @pytest.mark.parametrize(
        ("file", "source", "legal"),
        [
            ("diffusion/_a.py", "from pertcast.nn import Block", False),
            ("diffusion/_a.py", "from pertcast._shared import x", False),
            ("diffusion/_a.py", "from ._b import x", True),
            ("data/_a.py", "def f():\n    from pertcast import model", False),
            ("data/_a.py", "from pertcast._shared import x", True),
            ("model/_a.py", "from ..module import Module", True),
            ("tl/_a.py", "import pertcast", False),
            ("tl/_a.py", "from pertcast import __version__", True),
            ("model/_a.py", "from pertcast._cli import main", False),
            ("_shared.py", "from pertcast.data import x", False),
            ("_cli/_demo.py", "import pertcast as pc", True),
        ],
    )
    def test_judges(self, file: str, source: str, legal: bool) -> None:
        path = SRC / file
        assert (complaints(path, list(imports(source, package_of(path)))) == []) is legal


@pytest.mark.parametrize("folder", ["data", "diffusion"])
def test_core_folders_exist(folder: str) -> None:
    assert list((SRC / folder).glob("*.py"))


def test_every_folder_has_a_rule() -> None:
    folders = {folder_of(path) for path in FILES}
    assert {folder for folder in folders if not folder.startswith("_")} <= set(ALLOWED)


def test_imports_within_the_package_point_down() -> None:
    found = {relative(path): complaints(path, imports_of(path)) for path in FILES}
    assert {file: bad for file, bad in found.items() if bad} == {}


def test_pure_folders_know_few_libraries() -> None:
    strangers = {
        (relative(path), item.name)
        for path in FILES
        if folder_of(path) in PURE
        for item in imports_of(path)
        if item.top not in sys.stdlib_module_names | PURE[folder_of(path)] | {"pertcast"}
    }
    assert strangers == set()


def test_heavy_libraries_are_imported_in_functions() -> None:
    eager = {(relative(path), item) for path in FILES for item in imports_of(path) if item.eager and item.top in LAZY}
    assert eager == set()


def test_every_library_is_declared() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    specs = [
        *project["dependencies"],
        *(spec for name in ("disk", "drug", "eval", "network", "tune") for spec in extras[name]),
    ]
    declared = {re.split(r"[\[<>=!~; ]", spec)[0] for spec in specs}
    tops = {item.top for path in FILES for item in imports_of(path)} - sys.stdlib_module_names - {"pertcast"}
    assert {DISTRIBUTIONS.get(top, top) for top in tops} <= declared


def test_files_are_short() -> None:
    lengths = {relative(path): len(path.read_text(encoding="utf-8").splitlines()) for path in FILES}
    assert {file: length for file, length in lengths.items() if length > MAX_LINES} == {}


def test_library_never_prints() -> None:
    prints = {
        (relative(path), node.lineno)
        for path in FILES
        if folder_of(path) != "_cli"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    }
    assert prints == set()


def own_members(owner: type) -> Iterator[tuple[str, object]]:
    """Public methods and properties that a class defines itself."""
    for name, member in vars(owner).items():
        if not name.startswith("_") and (inspect.isroutine(member) or isinstance(member, property)):
            yield name, member


def documented(module: ModuleType) -> Iterator[tuple[str, str]]:
    """(name, docstring) of what a module makes public, methods included."""
    for name in module.__all__:
        value = getattr(module, name)
        if inspect.isclass(value) or inspect.isroutine(value):
            yield name, value.__doc__ or ""
        if inspect.isclass(value) and value.__module__.startswith("pertcast."):
            for member, _ in own_members(value):
                yield f"{name}.{member}", inspect.getdoc(getattr(value, member)) or ""


@pytest.mark.parametrize("path", [path for path in FILES if path.stem != "__main__"], ids=relative)
def test_public_names_exist_and_are_documented(path: Path) -> None:
    module = importlib.import_module(module_name(path))
    assert isinstance(getattr(module, "__all__", None), list | tuple), "every module says what it makes public"
    assert [name for name in module.__all__ if not hasattr(module, name)] == []
    docs = dict(documented(module))
    assert [name for name, doc in docs.items() if not doc] == []
    raw = {name: re.findall(r"%\(\w+\)s", doc) for name, doc in docs.items()}
    assert {name: found for name, found in raw.items() if found} == {}, "docrep left a placeholder unfilled"


@pytest.mark.parametrize("folder", sorted({folder_of(path) for path in FILES} & set(ALLOWED)))
def test_package_says_what_it_holds(folder: str) -> None:
    module = importlib.import_module(f"pertcast.{folder}")
    assert module.__doc__
    assert module.__all__


@pytest.mark.parametrize("folder", ["", *sorted({folder_of(path) for path in FILES} & set(ALLOWED))])
def test_public_docstrings_are_whole(folder: str) -> None:
    module = importlib.import_module(f"pertcast.{folder}".rstrip("."))
    public = {name: getattr(module, name) for name in module.__all__}
    callables = {name: value for name, value in public.items() if inspect.isclass(value) or inspect.isfunction(value)}
    docs = {name: inspect.getdoc(value) or "" for name, value in callables.items()}
    assert [name for name, doc in docs.items() if "Examples\n--------\n" not in doc or ">>> " not in doc] == []
    gives = {name for name, value in callables.items() if inspect.isfunction(value) and returns(value)}
    assert [name for name in gives if "Returns\n-------\n" not in docs[name]] == []


def returns(function: Callable[..., object]) -> bool:
    """Whether a function returns something, by its annotation."""
    return inspect.signature(function).return_annotation not in (None, "None")
