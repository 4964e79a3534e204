"""`python -m proofs NAME` runs a proof (exit code 1: a claim does not hold); `... page` writes docs/reliability.md again."""

import argparse
import asyncio
import importlib
import os
import sys
import time
from collections.abc import Sequence

from launcher.signals import signals_interrupt
from proofs import page
from proofs.claims import Log, Proof, keep, told

NAMES = ("restore", "chaos", "fuzz", "load", "datasets")


def options(words: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m proofs", description=__doc__)
    parser.add_argument("name", choices=[*NAMES, "page"])
    parser.add_argument("--short", action="store_true", help="minutes; docs/reliability.md stays as it is")
    parser.add_argument("--seed", type=int, default=1, help="of everything that is drawn by chance")
    parser.add_argument("--dry", action="store_true", help="all of it; docs/reliability.md stays as it is")
    return parser.parse_args(words)


def prove(name: str, *, short: bool, seed: int) -> Proof:
    """Run a proof; its module is loaded only then, since some load torch."""
    module = importlib.import_module(f"proofs.{name}")
    log, begin = Log(name), time.monotonic()
    try:
        with signals_interrupt():  # a proof that is stopped stops what it has started
            proof: Proof = asyncio.run(module.run(short=short, seed=seed, log=log))
    finally:
        log.close()
    return Proof(
        proof.name, proof.claims, {**proof.done, "seed": seed, "minutes": round((time.monotonic() - begin) / 60, 1)}, proof.faults
    )


def main(words: Sequence[str]) -> int:
    """Do what the command line says; returns the exit code."""
    asked = options(words)
    if asked.name == "page":
        page.write()
        return 0
    proof = prove(asked.name, short=asked.short, seed=asked.seed)
    print(f"{proof.name}: {told(proof.done)}")
    if proof.faults:
        print(f"faults: {told(proof.faults)}")
    for claim in proof.claims:
        print(claim)
    if not asked.short and not asked.dry:
        print(keep(proof), page.write(), sep="\n")
    return 0 if proof.holds else 1


if __name__ == "__main__":
    code = main(sys.argv[1:])
    sys.stdout.flush()
    os._exit(code) if code else sys.exit(0)
