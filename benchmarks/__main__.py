"""`python -m benchmarks [name ...]`: measure speed and memory one after the other, and write what came out."""

import argparse
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch

from benchmarks.batches import batches
from benchmarks.crf import crf
from benchmarks.exports import exports
from benchmarks.full_size import full_size
from benchmarks.gateway import gateway_import
from benchmarks.growth import growth
from benchmarks.joint import joint
from benchmarks.library import capture, optimisation, self_attention
from benchmarks.over_http import attribute, targets, worker_memory
from benchmarks.report import summarise, write
from benchmarks.result import ROOT, Result, Setup, circumstances
from benchmarks.speed import attribution, learning, refinement
from benchmarks.stored import stored
from benchmarks.submitting import submitting
from benchmarks.tiers import busy, crf_over_http, tiers
from benchmarks.variants import variants

MEASURES: dict[str, Callable[[Setup], Result | Iterator[Result]]] = {
    "attribution": attribution,
    "learning": learning,
    "refinement": refinement,
    "crf": crf,
    "growth": growth,
    "capture": capture,
    "self_attention": self_attention,
    "variants": variants,
    "stored": stored,
    "batches": batches,
    "attribute": attribute,
    "tiers": tiers,
    "crf_over_http": crf_over_http,
    "busy": busy,
    "submitting": submitting,
    "targets": targets,
    "optimisation": optimisation,
    "worker_memory": worker_memory,
    "gateway_import": gateway_import,
    "exports": exports,
    "joint": joint,
}
LONG: dict[str, Callable[[Setup], Result | Iterator[Result]]] = {"full_size": full_size}
"""What is measured only where it is named: on a CPU SDXL takes 14 GB of memory, and many minutes."""


def options(words: Sequence[str]) -> argparse.Namespace:
    """The options of the command line."""
    names = ", ".join([*MEASURES, *LONG])
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "names", nargs="*", metavar="name", help=f"what to measure, by default all but {', '.join(LONG)}: {names}"
    )
    parser.add_argument("--model", type=Path, default=ROOT / "models" / "world", help="folder of a Stable Diffusion pipeline")
    parser.add_argument("--repeats", type=int, help="repeat everything so often instead of as usual, for a quick look")
    parser.add_argument("--seconds", type=float, default=120.0, help="begin no further repeat after so long (default 120)")
    parser.add_argument("--threads", type=int, help="CPU threads of torch; its own choice without it")
    parser.add_argument(
        "--cpu-time", action="store_true", help="compare by the processor's seconds, on one thread: for a busy machine"
    )
    parser.add_argument("--rows", default="", help="only rows whose names contain this, such as 'SD 1.5/77 tokens/10'")
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks" / "results", help="folder that is written to")
    asked = parser.parse_args(words)
    if unknown := sorted(set(asked.names) - set(MEASURES) - set(LONG)):
        parser.error(f"no measurement {', '.join(unknown)}; there are {names}")
    if not (asked.model / "model_index.json").is_file():
        parser.error(f"--model: {asked.model} holds no pipeline (no model_index.json)")
    if asked.repeats is not None and asked.repeats < 1:
        parser.error("--repeats: at least 1")
    return asked


def main(words: Sequence[str]) -> int:
    """Measure what the options name; returns how many measurements failed."""
    asked = options(words)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    threads = 1 if asked.cpu_time else asked.threads
    setup = Setup(asked.model.resolve(), asked.repeats, asked.seconds, threads, device, asked.results, asked.rows, asked.cpu_time)
    if threads:
        torch.set_num_threads(threads)
    around = circumstances(setup)  # before anything runs: the load is to be that of others
    failures = 0
    for name in asked.names or MEASURES:
        print(f"{name} ...", flush=True)
        try:
            found = (MEASURES | LONG)[name](setup)
            for result in [found] if isinstance(found, Result) else found:
                write(asked.results, result, around)
                print(f"  {result.name}: {result.value:.4g} {result.unit}", flush=True)
        except Exception:  # noqa: BLE001  # the others are still worth having
            traceback.print_exc()
            failures += 1
    print(summarise(asked.results))
    return failures


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
