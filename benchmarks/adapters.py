"""Adapters come and go: the memory of a worker's process, and its live tensors, over two hundred jobs with adapters.

`python -m benchmarks.adapters [jobs]`: a tiny model, and a LoRA, a textual inversion and an IP-Adapter of it, loaded for each job
beside the model's own weights, used for two evaluations whose queries are kept, and dropped.
"""

import gc
import json
import re
import sys
import tempfile
import time
from pathlib import Path

import torch
from PIL import Image

from ovam.tracing.capture import capture_replay
from tests.e2e.steering import saved_inversion, saved_ip_adapter, saved_lora
from tests.families import tiny_family
from worker.adapted import adapted
from worker.adapters import read_adapter
from worker.models import hide_progress_bars

WARM = 20  # jobs, until what happens only once has happened
MB = 1024


def resident() -> float:
    """Megabytes that the process has in memory."""
    return int(re.findall(r"VmRSS:\s+(\d+)", Path("/proc/self/status").read_text())[0]) / MB


def tensors() -> int:
    """How many tensors are alive."""
    gc.collect()
    return sum(isinstance(each, torch.Tensor) for each in gc.get_objects())


def main(jobs: int) -> None:
    """Print a row of JSON."""
    hide_progress_bars()
    pipeline, seconds = tiny_family("sd1"), 0.0
    start = (0.0, 0)
    before = {name: tensor.clone() for name, tensor in pipeline.unet.state_dict().items()}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sources = {
            "style": saved_lora("sd1", folder / "style"),
            "toy": saved_inversion("sd1", folder / "toy.safetensors"),
            "looks": saved_ip_adapter("sd1", folder / "looks"),
        }
        uses = [(read_adapter(each, str(source)), 1.0) for each, source in sources.items()]
        for job in range(jobs + WARM):
            if job == WARM:
                start = resident(), tensors()
            begun = time.perf_counter()
            found = adapted(pipeline, uses)
            seconds += time.perf_counter() - begun
            with capture_replay(found) as replays:
                found("a <toy>", num_inference_steps=2, height=64, width=64, ip_adapter_image=Image.new("RGB", (64, 64)))
            del found, replays
        end = resident(), tensors()
    same = all(torch.equal(tensor, before[name]) for name, tensor in pipeline.unet.state_dict().items())
    row = {
        "jobs": jobs,
        "resident_mb": [round(start[0], 1), round(end[0], 1)],
        "tensors": [start[1], end[1]],
        "load_seconds": round(seconds / (jobs + WARM), 3),
        "model_unchanged": same,
    }
    print(json.dumps(row))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 200)
