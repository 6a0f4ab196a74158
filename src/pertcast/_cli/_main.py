"""Arguments of the command line."""

from __future__ import annotations

import argparse
import logging
import re
import sys
import tempfile
import warnings
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pertcast as pc
from pertcast._cli._benchmark import BenchmarkOptions, run_benchmark
from pertcast._cli._demo import run_demo
from pertcast._cli._demo_screen import DEFAULT, QUICK

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

__all__ = ["main"]

_OTHER_WORDS = {"`perturbation_embedding_key`": "--embedding-key", " (or `categorical_covariate_keys`)": ""}
"""What has another name on the command line, or no option."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line.

    Parameters
    ----------
    arguments
        Words of the command line; those of the process by default.
    """
    parser = argparse.ArgumentParser(prog="pertcast", description=pc.__doc__.partition("\n")[0])
    parser.add_argument("-v", "--version", action="version", version=f"pertcast {pc.__version__}")
    commands = parser.add_subparsers(dest="command", required=True)
    demo = _add_demo(commands)
    benchmark = _add_benchmark(commands)
    options = parser.parse_args(arguments)
    command = demo if options.command == "demo" else benchmark
    if options.seed < 0:
        command.error(f"--seed must be at least 0, but found {options.seed}.")
    if options.command == "benchmark" and not options.file.is_file():
        command.error(f"{options.file} {'is a folder, not a file' if options.file.is_dir() else 'does not exist'}.")
    with _folder(options.out, command):
        _show_messages()
        if options.command == "demo":
            run_demo(options.out, QUICK if options.quick else DEFAULT, seed=options.seed)
            return
        values = {name: value for name, value in vars(options).items() if name not in ("command", "file", "out")}
        try:
            run_benchmark(options.file, options.out, BenchmarkOptions(**values))
        except (KeyError, TypeError, ValueError) as error:
            sys.exit(f"pertcast benchmark: {_in_options(str(error.args[0] if error.args else error), values)}")


@contextmanager
def _folder(out: Path, command: argparse.ArgumentParser) -> Iterator[None]:
    """Make the folder of the results before any work; take it away if nothing was written."""
    if out.exists() and not out.is_dir():
        command.error(f"--out must be a folder, but {out} is a file.")
    missing = [each for each in (out, *out.parents) if not each.exists()]
    try:
        out.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=out).close()
    except OSError as error:
        command.error(f"--out {out}: nothing can be written there ({error.strerror}). Name another folder.")
    try:
        yield
    finally:
        for folder in missing:
            if not any(folder.iterdir()):
                folder.rmdir()


def _in_options(message: str, names: Iterable[str]) -> str:
    """Replace arguments that a message names by the options of the command line."""
    for argument, words in _OTHER_WORDS.items():
        message = message.replace(argument, words)
    options = {f"`{name}`": f"--{name.replace('_', '-')}" for name in names}
    return re.sub(r"`\w+`", lambda found: options.get(found[0], found[0]), message)


def _add_demo(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    text = "Simulate a screen, train PerturbDiff on part of it, and score its prediction of the rest."
    parser = commands.add_parser("demo", help=text, description=text)
    parser.add_argument("--out", type=Path, default=Path("pertcast-demo"), help="folder of the results (%(default)s)")
    parser.add_argument("--quick", action="store_true", help="a smaller screen")
    parser.add_argument("--seed", type=int, default=0, help="seed of the screen and of training (%(default)s)")
    return parser


def _add_benchmark(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    text = "Hold conditions of a screen out, train models on the rest, and score them beside all baselines."
    parser = commands.add_parser("benchmark", help=text, description=text)
    parser.add_argument("file", type=Path, help="AnnData (.h5ad) with control and perturbed cells")
    parser.add_argument(
        "--out", type=Path, default=Path("pertcast-benchmark"), help="folder of the results (%(default)s)"
    )
    data = parser.add_argument_group("columns of obs")
    data.add_argument("--perturbation-key", default="perturbation", help="perturbation of each cell (%(default)s)")
    data.add_argument("--control", default="control", help="label of control cells (%(default)s)")
    data.add_argument("--cell-type-key", help="cell type or cell line, the context")
    data.add_argument("--batch-key", help="batch or donor")
    data.add_argument("--dosage-key", help="dosage")
    data.add_argument("--embedding-key", help="key of uns with vectors of perturbations")
    data.add_argument("--layer", help="layer with the expression; X by default")
    data.add_argument(
        "--normalize", action="store_true", help="X holds counts: bring cells to 10,000 counts and take log1p"
    )
    split = parser.add_argument_group("what to hold out")
    split.add_argument(
        "--split",
        default="context",
        help="context, donor, perturbation, combination, condition or dosage (%(default)s)",
    )
    split.add_argument(
        "--hold-out",
        nargs="+",
        metavar="NAME",
        help="names to hold out, for --split condition 'PERTURBATION | CONTEXT'; a random share by default",
    )
    split.add_argument("--test-size", type=float, default=0.2, help="share to hold out (%(default)s)")
    split.add_argument("--split-key", help="column with train, validation and test, in place of --split")
    scoring = parser.add_argument_group("models and scores")
    scoring.add_argument(
        "--models", nargs="+", metavar="NAME", default=["PerturbDiff"], help="models to train (PerturbDiff)"
    )
    scoring.add_argument("--baselines", nargs="+", metavar="NAME", help="baselines; all by default")
    scoring.add_argument("--metrics", nargs="+", metavar="NAME", help="metrics or groups of them; all by default")
    scoring.add_argument("--max-epochs", type=int, help="epochs of training; chosen from the data by default")
    scoring.add_argument("--n-jobs", type=int, default=1, help="conditions to score at once (%(default)s)")
    scoring.add_argument("--seed", type=int, default=0, help="seed of everything (%(default)s)")
    return parser


def _show_messages() -> None:
    """Show what pertcast decides, and hide Lightning's notes on hardware."""
    import lightning.pytorch  # noqa: F401 - on import it sets the level that is changed below

    logger = logging.getLogger("pertcast")
    logger.setLevel(logging.INFO)
    logger.addHandler(logging.StreamHandler())
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", module=r"lightning\.")
