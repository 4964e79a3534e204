"""A data set while what makes it is killed."""

from pathlib import Path

import httpx2
import pytest

from proofs.claims import Log
from proofs.datasets import create, entries_of, export_of, finished, killed
from proofs.stage import ready, stage, tiny_models
from proofs.stub import COMMAND, SECONDS

pytestmark = pytest.mark.e2e
IMAGES = 12


async def test_every_image_is_there_once_although_worker_and_gateway_are_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proofs.claims.RAW", tmp_path)
    settings = {"OVAM_MODELS": tiny_models(tmp_path / "model"), "OVAM_PRELOAD": "false", "OVAM_REDELIVERY_SECONDS": "1"}
    with stage(tmp_path / "data", tmp_path / "logs", **settings, **{SECONDS: "0.2"}) as service:
        worker, (gateway, url) = service.worker("worker", COMMAND), service.gateway("gateway")
        await ready(url)
        async with httpx2.AsyncClient(base_url=url, timeout=5) as client:
            dataset_id, log = await create(client, IMAGES, filters={"duplicates": "exact"}), Log("datasets")
            await finished(client, dataset_id, log, images=4)
            for victim in (gateway, worker):
                await killed(victim, service)
            record = await finished(client, dataset_id, log)
            log.close()
            assert (record["state"], record["counts"]["done"], record["counts"]["failed"]) == ("succeeded", IMAGES, 0)
            assert sorted(await entries_of(service, record)) == [*range(IMAGES)]
            assert [line["seed"] for line in await export_of(client, dataset_id)] == [*range(IMAGES)]
