"""What a worker reads for a job is its tenant's, whatever the job names."""

import pytest

from contracts.schema.errors import Code, ServiceError
from contracts.schema.targets import TokenTarget
from contracts.schema.tokens import TokenCard
from contracts.state.ledger import write
from contracts.state.registry import enter
from contracts.state.usage import bytes_of
from tests.contracts.test_registry import new
from tests.worker.client import Client
from worker.app import opened
from worker.device import Priority
from worker.settings import WorkerSettings
from worker.targets import learned_tokens
from worker.tasks import seen_by
from worker.traces import Traces, Wanted


async def test_another_tenants_token_and_image_are_unknown_to_a_job(client: Client, settings: WorkerSettings) -> None:
    record = (await client.record(client.generation())).changed(tenant="anne")
    source = record.id
    async with client.redis.pipeline() as pipe:
        write(pipe, record)
        enter(pipe, [TokenCard(name="cat", version=1, **dict(new("cat").facts))], "anne")
        await pipe.execute()
    job = await client.attribution(source, TokenTarget(token="cat@1"))
    async with opened(settings) as resources:
        own, other = seen_by("anne", resources), seen_by("bert", resources)
        assert (await own.registry.get("cat@1")).name == "cat"
        assert (await own.ledger.get(source)).tenant == "anne"
        for code, work in (
            (Code.UNKNOWN_TOKEN, learned_tokens(job, other)),
            (Code.UNKNOWN_JOB, Traces(None, other, None, Priority.OPTIMIZE).scene(source, 0, Wanted([]), field="job_id")),
        ):
            with pytest.raises(ServiceError) as caught:
                await work
            assert caught.value.code is code


@pytest.mark.usefixtures("worker")
async def test_what_is_counted_of_a_job_are_all_of_its_files(client: Client) -> None:
    source = await client.generated(num_images=2)
    asked = await client.attributed(source, maps=["block", "head"], semantic={"least_gap": 0.05})
    learned = await client.run(client.optimization([client.example(source)]))
    for record in (source, asked, learned):
        files = await client.store.manifest(record.id, record.attempt)
        assert bytes_of(record) == sum(file.size for file in files) > 0, record.error
