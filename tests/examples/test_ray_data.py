"""The library in Ray Data, without the service: two actors write shards that webdataset reads."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.e2e
@pytest.mark.skipif(find_spec("ray") is None, reason="needs ray: pip install 'ovam-service[ray]'")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # webdataset leaves shards open
def test_two_actors_make_every_image_once_in_shards(tmp_path: Path) -> None:
    wanted = ["--images", "4", "--shard", "2", "--actors", "2", "--steps", "4", "--classes", "car", "cat", "--out", str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "RAY_USAGE_STATS_ENABLED": "0", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "examples/ray_data.py", *wanted]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=500)
    assert done.returncode == 0, done.stderr[-3000:]

    import webdataset  # noqa: PLC0415 - imports torch

    shards = sorted(str(path) for path in tmp_path.iterdir())
    rows = list(webdataset.WebDataset(shards, shardshuffle=False).decode("pil"))
    assert sorted(row["__key__"] for row in rows) == [f"{number:09d}" for number in range(4)]
    for row in rows:
        assert row["png"].size == row["mask.png"].size == (128, 128)
        assert row["json"]["prompt"] == f"a photograph of a {['car', 'cat'][row['json']['seed'] % 2]}"
        assert 0 < np.asarray(row["mask.png"]).any(axis=-1).mean() < 1
