from __future__ import annotations

import base64
import builtins
import os
import re
import sys
from importlib.metadata import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import nbformat

if TYPE_CHECKING:
    from docutils.nodes import Element, TextElement
    from sphinx.addnodes import pending_xref
    from sphinx.application import Sphinx
    from sphinx.environment import BuildEnvironment

info = metadata("pertcast")
project = info["Name"]
author = info["Author"]
copyright = f"2026, {author}"  # the name is Sphinx's
version = release = info["Version"]
repository = "https://github.com/pertcast/pertcast"

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.intersphinx",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
    "sphinx_autodoc_typehints",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinxcontrib.bibtex",
    "sphinxext.opengraph",
]
templates_path = ["_templates"]
exclude_patterns = ["_build", "**.ipynb_checkpoints"]

# API pages: what a package re-exports in __all__ is what it documents.
autosummary_generate = True
autosummary_ignore_module_all = False
autosummary_imported_members = True  # `pertcast.data` imports its names on first use
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
typehints_defaults = "braces"
# A dataclass cannot resolve the type of a field that it inherits from another module; it is then shown as written.
suppress_warnings = ["sphinx_autodoc_typehints.forward_reference"]
always_use_bars_union = True
default_role = "literal"  # what single backticks mean in docstrings
napoleon_google_docstring = False
napoleon_numpy_docstring = True
napoleon_use_rtype = True
napoleon_use_param = True

# Notebooks are committed with their output and shown as they are.
nb_execution_mode = "off"
myst_enable_extensions = ["amsmath", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3

bibtex_bibfiles = ["references.bib"]
bibtex_reference_style = "author_year"
bibtex_default_style = "plain"

# Every reference must resolve. Read the Docs can reach the inventories of other projects; elsewhere (CI, offline work)
# their names cannot be looked up, and only references inside pertcast are checked.
nitpicky = True
nitpick_ignore = [("py:class", "_typeshed.DataclassInstance")]  # exists for type checkers only
if os.environ.get("READTHEDOCS"):
    intersphinx_mapping = {
        "anndata": ("https://anndata.readthedocs.io/en/stable/", None),
        "lightning": ("https://lightning.ai/docs/pytorch/stable/", None),
        "matplotlib": ("https://matplotlib.org/stable/", None),
        "mudata": ("https://mudata.readthedocs.io/stable/", None),
        "numpy": ("https://numpy.org/doc/stable/", None),
        "pandas": ("https://pandas.pydata.org/docs/", None),
        "pertpy": ("https://pertpy.readthedocs.io/en/stable/", None),
        "python": ("https://docs.python.org/3/", None),
        "scanpy": ("https://scanpy.readthedocs.io/en/stable/", None),
        "scipy": ("https://docs.scipy.org/doc/scipy/", None),
        "scvi": ("https://docs.scvi-tools.org/en/stable/", None),
        "sklearn": ("https://scikit-learn.org/stable/", None),
        "torch": ("https://docs.pytorch.org/docs/stable/", None),
    }
else:
    libraries = {"anndata", "lightning", "matplotlib", "mudata", "numpy", "pandas", "pertpy", "scanpy", "scipy", "scvi"}
    libraries |= {"np", "pd", "sklearn", "torch", *sys.stdlib_module_names}
    nitpick_ignore_regex = [
        ("py:.*", rf"({'|'.join(libraries)})(\..*)?"),
        ("py:.*", "|".join(name for name in dir(builtins) if not name.startswith("_"))),
    ]

html_theme = "sphinx_book_theme"
html_title = project
html_static_path = ["_static"]
html_css_files = ["pertcast.css"]
html_theme_options = {
    "repository_url": repository,
    "repository_branch": "main",
    "path_to_docs": "docs",
    "use_repository_button": True,
    "use_issues_button": True,
    "use_edit_page_button": True,
    "navbar_persistent": [],  # the sidebar has the search
}
toc_object_entries_show_parents = "hide"
ogp_site_url = "https://pertcast.readthedocs.io/"
# A text-only preview: drawing preview images would need fonts from the network.
ogp_social_cards = {"enable": False}


def resolve_reexport(app: Sphinx, env: BuildEnvironment, node: pending_xref, content: TextElement) -> Element | None:
    """Link ``pertcast.data._index.Name``, where a class is defined, to ``pertcast.data.Name``, its public name.

    ``pertcast.Name`` is a shortcut to ``pertcast.model.Name``. What a private module defines and no package re-exports,
    such as a base class, has no page of its own and stays plain text.
    """
    target = node.get("reftarget", "")
    public = re.sub(r"(?<=\.)_\w+\.", "", target)
    private = public != target or public.rpartition(".")[2].startswith("_")
    public = re.sub(r"^pertcast\.(?=[A-Z])", "pertcast.model.", public)
    if node.get("refdomain") != "py" or not target.startswith("pertcast."):
        return None
    python = env.domains["py"]
    found = python.resolve_xref(env, node["refdoc"], app.builder, node["reftype"], public, node, content)
    return content if found is None and private else found


def write_thumbnails(app: Sphinx) -> None:
    """Write a picture of each notebook for the gallery: that of the cell tagged ``thumbnail``, or else the last one."""
    folder = Path(app.srcdir, "generated", "thumbnails")
    folder.mkdir(parents=True, exist_ok=True)
    for path in Path(app.srcdir, "tutorials").glob("*.ipynb"):
        notebook = nbformat.read(path, as_version=4)
        pictures = [
            ("thumbnail" in cell.metadata.get("tags", ()), output.data["image/png"])
            for cell in notebook.cells
            for output in cell.get("outputs", ())
            if "image/png" in output.get("data", ())
        ]
        if pictures:
            _, picture = max(enumerate(pictures), key=lambda each: (each[1][0], each[0]))
            folder.joinpath(f"{path.stem}.png").write_bytes(base64.b64decode(picture[1]))


def link_tutorials(app: Sphinx, path: Path, docname: str, content: list[str]) -> None:
    """Links of the README to the files of tutorials lead to their pages."""
    content[0] = re.sub(r"\[([^]]+)\]\(tutorials/(\w+)\.ipynb\)", r"{doc}`\1 <tutorials/\2>`", content[0])


def setup(app: Sphinx) -> None:
    app.connect("builder-inited", write_thumbnails)
    app.connect("include-read", link_tutorials)
    app.connect("missing-reference", resolve_reexport)
