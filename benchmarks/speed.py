"""Speed and memory of training and prediction, as ratios to the published configuration and to matrix products.

python benchmarks/speed.py [--quick] [--device cuda] [--precision bf16-mixed] [--out FILE.md]

Every figure of a run comes from simulated screens on one machine. Each measurement has a process of its own, so its
peak memory is its own. `--quick` takes about a minute on two cores.
"""

from __future__ import annotations

import argparse
import logging
import multiprocessing as mp
import os
import platform
import sys
import time
import warnings
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import torch
from speed_cases import PUBLISHED, matmul_rate
from speed_fit import CostModel, fit
from speed_large import LARGE, ORDERS, extrapolation, file_row, large_lines, large_row, write_row
from speed_rows import CLOCKS, agreement_row, grid_row, index_row, memory_row, model_row, profile_row, same_size
from variants import MODELS

from pertcast.module import PRESETS

if TYPE_CHECKING:
    from collections.abc import Iterator

TIME_OF = {"wall": "Seconds are those of the wall.", "cpu": "Seconds are those of the processor, all threads added."}


def run(function: Any, job: dict[str, Any]) -> dict[str, float]:
    """Measure in a fresh process."""
    with mp.get_context("spawn").Pool(1, initializer=quiet) as pool:
        return pool.apply(function, (job,))


def quiet() -> None:
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)


def machine(device: str) -> str:
    """Name the machine, without its host."""
    if device == "cuda":
        return f"{torch.cuda.get_device_name()}, PyTorch {torch.__version__}"
    names = [line for line in _lines("/proc/cpuinfo") if line.startswith("model name")]
    name = names[0].split(":", 1)[1].strip() if names else platform.processor()
    return f"{name}, {torch.get_num_threads()} threads of {os.cpu_count()} cores, PyTorch {torch.__version__}"


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines() if Path(path).exists() else []


def table(header: list[str], rows: list[list[str]]) -> str:
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)]) + "\n"


def same_size_table(options: dict[str, Any]) -> str:
    """The published configuration against the default at its size; the quick form takes the size of the default."""
    size: dict[str, Any] = {name: getattr(PRESETS["default"], name) for name in PUBLISHED}
    if not options["quick"]:
        size = PUBLISHED
    n_sets = {"n_sets": 8 if options["device"] == "cuda" else max(1, 256 // size["set_size"])}
    reference = {"preset": "reference"} | size | n_sets
    jobs = {
        "published network": {"published": True, "config": reference},
        '`preset="reference"`': {"config": reference},
        "default at the same size": {"config": size | n_sets},
    }
    if not options["quick"]:
        jobs["default"] = {"config": {}}
    found = {name: same_size(options | job) for name, job in jobs.items()}
    published, base = list(found.values())[:2]
    rows = [
        [
            name,
            f"{r['calls']:.0f}",
            f"{r['operations'] / 1e6:.3g}",
            f"{r['train']:.3g}",
            f"{r['train'] / base['train']:.3g}",
            f"{r['train'] / published['train']:.3g}",
            f"{r['predict']:.3g}",
            f"{r['predict'] / base['predict']:.3g}",
            f"{r['predict'] / published['predict']:.3g}",
            f"{r['network']:.0%}",
            f"{r['whole']:.0%}",
            f"{r['outside']:.0%}",
            f"{r['waited']:.1%}",
        ]
        for name, r in found.items()
    ]
    header = [
        "model", "calls a cell", "Mop a call", "training cells/s", "/ reference", "/ published", "predicted cells/s",
        "/ reference", "/ published", "rate in the network", "rate of prediction", "time outside", "training waits",
    ]  # fmt: skip
    return table(header, rows)


def agreement_table(options: dict[str, Any]) -> str:
    """Energy distance and speed of the published sampler and loss and of the default, at the size of the default."""
    names = ("n_hidden", "n_layers", "n_heads", "set_size", "n_controls", "n_sets")
    size = {name: getattr(PRESETS["default"], name) for name in names}
    reference = {"preset": "reference", "embed_context": False}  # the cell type is held out
    jobs = {'`preset="reference"`': reference | size, "default": size}
    found = {name: run(agreement_row, options | {"config": config}) for name, config in jobs.items()}
    base = next(iter(found.values()))
    rows = [
        [
            name,
            f"{r['steps']:.0f}",
            f"{r['calls']:.0f}",
            f"{r['predict']:.3g}",
            f"{r['predict'] / base['predict']:.3g}",
            f"{r['energy']:.3f}",
        ]
        for name, r in found.items()
    ]
    header = ["model", "steps of training", "calls a cell", "predicted cells/s", "/ reference", "energy distance"]
    return table(header, rows) + f"\nMean shift: {base['shift']:.3f}; ceiling: {base['ceiling']:.3f}.\n"


def grid(options: dict[str, Any]) -> list[dict[str, float]]:
    """Rows around the default configuration, one thing changed at a time."""
    steps = 6 if options["quick"] else 8
    jobs: list[dict[str, Any]] = [{"genes": n, "config": {}} for n in (300, 1000, 2000, 12_626)]
    jobs += [{"genes": 2000, "config": {"set_size": n, "n_sets": max(1, 256 // n)}} for n in (32, 256)]
    jobs += [{"genes": 2000, "config": {"n_hidden": d, "n_layers": n}} for d, n in ((256, 4), (512, 8))]
    jobs += [{"genes": 2000, "config": {}, "perturbations": 50, "cells": 30}]
    if options["quick"]:
        jobs = jobs[:1]
    return [run(grid_row, options | {"steps": steps} | job) for job in jobs]


def grid_table(rows: list[dict[str, float]]) -> str:
    header = [
        "genes", "set size", "width x depth", "conditions", "training cells/s", "first batch after, s",
        "predicted cells/s", "peak of training, MiB", "peak of prediction without output, MiB",
    ]  # fmt: skip
    return table(
        header,
        [
            [
                f"{r['genes']:,.0f}",
                f"{r['set_size']:.0f}",
                f"{r['n_hidden']:.0f} x {r['n_layers']:.0f}",
                f"{r['conditions']:,.0f}",
                f"{r['train']:,.0f}",
                f"{r['first']:.1f}",
                f"{r['predict']:,.0f}",
                f"{r['train_peak']:,.0f}",
                f"{r['peak']:,.0f}",
            ]
            for r in rows
        ],
    )


def models_table(options: dict[str, Any]) -> str:
    """Every class of models, with its defaults."""
    classes = [name for name, model in MODELS.items() if isinstance(model, type)]  # not those with other sizes
    found = {name: run(model_row, options | {"model": name}) for name in classes}
    rows = [
        [name, f"{r['train']:,.0f}", f"{r['steps']:,.0f}", f"{r['seconds']:.0f}", f"{r['predict']:,.0f}"]
        for name, r in found.items()
    ]
    return table(["model", "training cells/s", "steps", "seconds to train", "predicted cells/s"], rows)


def memory_table(options: dict[str, Any]) -> str:
    many, large = {"cells": 60, "controls": 60, "contexts": 100}, {"conditions": 1, "controls": 120_000, "contexts": 1}
    jobs = [many | {"conditions": n} for n in ((10, 200) if options["quick"] else (10, 1000))]
    jobs += [] if options["quick"] else [large | {"cells": n} for n in (30_000, 120_000)]
    rows = [run(memory_row, options | job) for job in jobs]
    rest = [r["peak"] - r["output"] for r in rows]
    ratios = " and ".join(f"{b / a:.2f}" for a, b in zip(rest[::2], rest[1::2], strict=True))
    lines = [
        [
            f"{r['conditions']:,.0f}",
            f"{r['cells']:,.0f}",
            f"{r['seconds']:.1f}",
            f"{r['before']:,.0f}",
            f"{r['peak']:,.0f}",
            f"{r['output']:,.0f}",
            f"{r['peak'] - r['output']:,.0f}",
        ]
        for r in rows
    ]
    header = ["conditions", "cells", "s", "resident before, MiB", "peak, MiB", "output, MiB", "peak - output, MiB"]
    return table(header, lines) + f"\nRatio of the peaks without output: {ratios}.\n"


def file_table(options: dict[str, Any]) -> str:
    """Training on a large screen in memory and in a file."""
    with TemporaryDirectory() as folder:
        here = options | {"folder": Path(folder), "cells": 5000}
        run(write_row, here)
        jobs = [(order, backed) for backed in (False, True) for order in ORDERS]
        found = {job: run(file_row, here | {"order": job[0], "backed": job[1]}) for job in jobs}
    rows = [
        [
            "in a file" if backed else "in memory",
            order,
            f"{r['first']:.1f}",
            f"{r['train']:,.0f}",
            f"{r['waited']:.0%}",
            f"{r['peak']:,.0f}",
        ]
        for (order, backed), r in found.items()
    ]
    header = ["expression", "order of cells", "first batch after, s", "training cells/s", "training waits", "peak, MiB"]
    return table(header, rows)


def cost_models(rows: list[dict[str, float]]) -> dict[str, CostModel]:
    return {
        "seconds of a training step": fit(rows, ["step", "Gop trained", "value trained"], "step_seconds"),
        "seconds of a prediction": fit(rows, ["population", "Gop predicted", "value predicted"], "predict_seconds"),
    }


def report(options: dict[str, Any]) -> Iterator[str]:
    """Measure, section by section."""
    device, begin = options["device"], time.perf_counter()
    clock = CLOCKS[options["clock"]]
    rates = [f"{matmul_rate(n, 2048, device=device, clock=clock) / 1e9:,.0f}" for n in (128, 512)]
    yield (
        f"{machine(device)}. {TIME_OF[options['clock']]} Matrix products of the shapes of a block in float32: "
        f"{rates[0]} Gop/s at a width of 128, {rates[1]} at 512.\n"
    )
    yield "## Against the published configuration\n\n" + same_size_table(options)
    if not options["quick"]:
        yield "## Energy distance at the same size\n\n" + agreement_table(options)
        yield "## All models\n\n" + models_table(options)
    yield "## Memory of a prediction\n\n" + memory_table(options)
    rows = grid(options)
    yield "## One thing changed at a time\n\n" + grid_table(rows)
    n = 10_000 if options["quick"] else 100_000
    index = index_row(options | {"cells": 10 * n, "conditions": n})
    yield (
        f"Indexing {index['cells']:,.0f} cells of {index['conditions']:,.0f} conditions and matching their controls "
        f"takes {index['seconds']:.2f} s.\n"
    )
    if not options["quick"]:
        shares = sorted(profile_row(options).items(), key=lambda each: -each[1])
        text = table(["part of a prediction", "share of its time"], [[name, f"{share:.0%}"] for name, share in shares])
        yield "## Where the time of a prediction goes\n\n" + text
        models = cost_models(rows)
        yield "## Cost model\n\n" + "\n".join(f"* {name} = {model}" for name, model in models.items()) + "\n"
        large = [run(large_row, options | job) for job in LARGE]
        yield "## Many cells, many conditions\n\n" + table(*large_lines(large))
        yield "## From a file\n\n" + file_table(options)
        default = next(r for r in rows if r["genes"] == 2000 and r["set_size"] == 64 and r["n_hidden"] == 128)
        yield "## Large screens\n\n" + table(*extrapolation(models, default, large))
    yield f"This run took {time.perf_counter() - begin:.0f} s of the wall.\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer rows, about a minute")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--precision", default=None, help="precision of training, such as bf16-mixed")
    parser.add_argument(
        "--cpu-time",
        action="store_true",
        help="count the time of the processor, not that of the wall: for a machine that others use too",
    )
    parser.add_argument("--out", type=Path, help="also write the report here")
    arguments = parser.parse_args()
    if arguments.device == "cuda" and not torch.cuda.is_available():
        sys.exit("PyTorch finds no GPU. Leave out `--device cuda`, or install a build of PyTorch for the GPU.")
    quiet()
    trainer = {} if arguments.precision is None else {"precision": arguments.precision}
    clock = "cpu" if arguments.cpu_time else "wall"
    options = {"device": arguments.device, "quick": arguments.quick, "trainer": trainer, "clock": clock}
    sections = []
    for section in report(options):
        print(section, flush=True)
        sections.append(section)
        if arguments.out is not None:
            arguments.out.write_text("\n".join(sections), encoding="utf-8")


if __name__ == "__main__":
    main()
