"""The kernels' logic, run by Triton's interpreter: in a process of its own, since a variable decides for the whole process."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

KERNELS = Path(__file__).with_name("fused_kernels.py")


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="needs Triton")
def test_the_kernels_agree_with_double_precision_in_the_interpreter() -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-n", "0", "--no-header", str(KERNELS)]
    run = subprocess.run(
        command, env=os.environ | {"TRITON_INTERPRET": "1"}, capture_output=True, text=True, timeout=280, check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert " passed" in run.stdout


COMPILE = """
import json, torch, triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from ovam.attention import fused

def shared(kernel, pointers, constants, **options):
    kinds = {name: "constexpr" if name in constants else pointers.get(name, "i32") for name in kernel.arg_names}
    source = ASTSource(fn=kernel, signature=kinds, constexprs=constants)
    return triton.compile(source, target=GPUTarget("cuda", 80, 32), options=options).metadata.shared

found = []
half = {"queries": "*fp16", "keys": "*fp16", "ends": "*i64", "total": "*fp32"}
for dim, tokens in ((40, 77), (160, 77), (160, 2)):
    sizes = fused.sizes_of(torch.empty(1, 1, 1, dim, dtype=torch.float16), tokens)
    constants = {"dim": sizes.dim, "wide": sizes.wide, "tokens": sizes.tokens, "tile": sizes.tile}
    found.append(shared(fused._attention_sums, half, constants, num_stages=sizes.stages, num_warps=sizes.warps))
single = {"queries": "*fp16", "difference": "*fp32", "slope": "*fp32", "total": "*fp32"}
for kernel in (fused._sigmoid_sum, fused._sigmoid_slope):
    found.append(shared(kernel, single, {"dim": 160, "wide": 256, "tile": 64}))
print(json.dumps(found))
"""


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="needs Triton")
def test_the_kernels_compile_and_fit_into_a_gpu_s_shared_memory() -> None:
    """Compiled for compute capability 8.0, which needs no GPU; the smallest since then have 99 KiB for a program."""
    around = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    run = subprocess.run([sys.executable, "-c", COMPILE], env=around, capture_output=True, text=True, timeout=280, check=False)
    assert run.returncode == 0, run.stderr
    assert max(json.loads(run.stdout)) <= 99 * 1024
