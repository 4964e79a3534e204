"""Data-parallel processes of a training, and what they tell each other.

On a CPU that is busy with other work too, two threads of one process wait for each other at every operation; two
single-threaded processes that average their gradients do so once a step. Hence data parallelism is the only kind of
parallelism here. On a GPU one process does it all.
"""

import os
import time
from collections.abc import Callable

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor


def averaged(tensors: list[Tensor], elapsed: float) -> float:
    """Average tensors over all processes in one message; returns the average time, so that all agree on it."""
    if not dist.is_initialized():
        return elapsed
    flat = torch.cat([t.reshape(-1) for t in tensors] + [torch.tensor([elapsed])])
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    for tensor, piece in zip(tensors, flat[:-1].split([t.numel() for t in tensors]), strict=True):
        tensor.copy_(piece.view_as(tensor))
    return float(flat[-1])


def clock() -> float:
    """Seconds of this process's own work; on a GPU, of the wall's clock.

    A training in the background of other work then learns as much in its budget as one alone does.
    """
    return time.monotonic() if torch.cuda.is_available() else time.process_time()


def wait_for_all() -> None:
    """Wait until every process has come here."""
    if dist.is_initialized():
        dist.barrier()


def worker(rank: int, processes: int, port: int, task: Callable[..., None], arguments: tuple[object, ...]) -> None:
    """One process of a data-parallel training."""
    if processes > 1 or not torch.cuda.is_available():
        torch.set_num_threads(1)
    torch.set_float32_matmul_precision("high")  # TF32 where there is a GPU
    if processes > 1:
        os.setsid()  # Linux shares a CPU fairly among sessions, whatever the number of their processes
        os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
        dist.init_process_group("gloo", rank=rank, world_size=processes)
    try:
        task(rank, processes, *arguments)
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


def launch(task: Callable[..., None], processes: int, port: int, *arguments: object) -> None:
    """Run task(rank, processes, *arguments) in that many processes and wait for them."""
    # glibc otherwise returns every large tensor to the kernel and faults it in again.
    os.environ |= {"MALLOC_MMAP_THRESHOLD_": str(2**25), "MALLOC_TRIM_THRESHOLD_": str(2**34)}
    if processes == 1:
        worker(0, 1, port, task, arguments)
    else:
        mp.spawn(worker, args=(processes, port, task, arguments), nprocs=processes)


def device() -> torch.device:
    """The GPU if there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
