"""`/v1/datasets`: create, list, get, follow, pause, resume, cancel, export, delete."""
# ruff: noqa: FAST003  # the `dataset_id` of a path is read by `record_of`

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Path, Query, Request, Response
from fastapi.responses import StreamingResponse
from fastapi.sse import EventSourceResponse, ServerSentEvent
from pydantic import BaseModel, Field

from contracts.schema.datasets import Counts, DatasetRecord, DatasetRequest, DatasetState, DatasetSummary
from contracts.schema.errors import Code
from contracts.schema.fields import JobId
from contracts.schema.jobs import new_job_id, utc_now
from contracts.state import keys
from contracts.state.datasets import Datasets, summary_of
from ovam.core.export import FormName, Split
from service import examples
from service.bodies import BodyRoute
from service.datasets.exporting import Outlines, Rest, exported, form_of
from service.datasets.files import write_prompts
from service.events import START
from service.openapi import ANY_BODY, SUBMISSION, body, example, problems
from service.queue import Once
from service.resources import With
from service.routes.submission import IdempotencyKey, root_of
from service.validation import datasets as validation

router = APIRouter(prefix="/v1/datasets", tags=["datasets"], route_class=BodyRoute)
FINAL = frozenset(state for state in DatasetState if state.final)


class DatasetList(BaseModel, frozen=True):
    """A page of data sets, newest first."""

    datasets: list[DatasetSummary]
    next: str | None = Field(description="`cursor` of the next page; null on the last")


async def record_of(dataset_id: Annotated[JobId, Path(examples=[examples.DATASET_ID])], resources: With) -> DatasetRecord:
    """The record of the data set in the path."""
    return await resources.datasets.get(dataset_id)


Record = Annotated[DatasetRecord, Depends(record_of)]


@router.post(
    "",
    status_code=202,
    response_model=DatasetRecord,
    responses={
        202: example(examples.DATASET, "queued; follow `Location`"),
        **problems(
            *(each for each in SUBMISSION if each not in (Code.QUEUE_FULL, Code.UNKNOWN_JOB, Code.IDEMPOTENCY_KEY_IN_FLIGHT)),
            Code.PROMPT_TOO_LONG,
            Code.SIZE_NOT_DIVISIBLE,
            Code.SIZE_TOO_LARGE,
            Code.TOO_MANY_STEPS,
            Code.UNKNOWN_SCHEDULER,
            Code.UNKNOWN_ADAPTER,
            Code.ADAPTER_UNFIT,
            Code.SETTINGS_CONTRADICT,
            Code.SELECTION_INVALID,
            Code.WORD_NOT_IN_PROMPT,
            Code.UNKNOWN_TOKEN,
            Code.UNKNOWN_CLASS,
            Code.TOKEN_OF_OTHER_MODEL,
            Code.TOKEN_OF_OTHER_FAMILY,
            Code.ATTENTION_UNAVAILABLE,
            Code.EMBEDDING_OF_OTHER_WIDTH,
            Code.EMBEDDING_NOT_FINITE,
            Code.NO_SELF_ATTENTION,
            Code.NO_FEATURES,
            Code.NO_CONTRIBUTIONS,
            Code.NO_NETWORK,
            Code.NO_CLIP,
            Code.STORE_UNAVAILABLE,
        ),
    },
)
async def create_dataset(
    request: Annotated[DatasetRequest, body(examples.DATASET_REQUEST, jsonl=examples.DATASET_JSONL)],
    http: Request,
    resources: With,
    key: IdempotencyKey = None,
) -> Response:
    """Generate images of prompts, find classes in them, and keep those that pass the filters."""
    datasets: Datasets = resources.datasets
    once = (key, (await asyncio.to_thread(Once.of, key, request, 0)).fingerprint) if key else None
    before = await datasets.filed(*once) if once else None
    if before is not None:
        return answer(http, await datasets.get(before), replayed=True)
    found = await validation.filled(request, resources.lookups)
    record = DatasetRecord(
        id=new_job_id(),
        tenant=resources.ledger.tenant or "",
        name=found.job.name,
        state=DatasetState.QUEUED,
        counts=Counts(entries=found.job.entries),
        estimate=found.estimate,
        created_at=utc_now(),
        request=found.job,
    )
    await write_prompts(resources.store, record.id, found.prompts)
    filed = await datasets.file(record, resources.queue.client.limits, once)
    if filed != record.id:
        await resources.store.delete_folder(keys.dataset_folder(record.id))
        record = await datasets.get(filed)
    resources.dataset_due.set()
    return answer(http, record, replayed=filed != record.id)


def answer(http: Request, record: DatasetRecord, *, replayed: bool) -> Response:
    """202 with the record."""
    headers = {"Location": f"{root_of(http)}/v1/datasets/{record.id}", "Retry-After": "1"}
    if replayed:
        headers["Idempotent-Replayed"] = "true"
    return Response(record.model_dump_json(), 202, headers, "application/json")


@router.get("", responses={200: example(examples.DATASETS, "a page of data sets"), **problems()})
async def list_datasets(
    resources: With,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    cursor: Annotated[JobId | None, Query(description="`next` of the page before")] = None,
) -> DatasetList:
    """List data sets, newest first."""
    found = await resources.datasets.newest(cursor, limit + 1)
    page = [summary_of(record) for record in found[:limit]]
    return DatasetList(datasets=page, next=page[-1].id if len(found) > limit else None)


@router.get("/{dataset_id}", responses={200: example(examples.DATASET_DONE, "the data set"), **problems(Code.UNKNOWN_DATASET)})
async def get_dataset(record: Record) -> DatasetRecord:
    """Get a data set: its state, how many images are done, accepted, rejected and why, failed."""
    return record


@router.get(
    "/{dataset_id}/events",
    response_class=EventSourceResponse,
    responses={
        200: {"description": "events until it ends", "content": {"text/event-stream": {"example": examples.DATASET_EVENTS}}},
        **problems(Code.UNKNOWN_DATASET),
    },
)
async def follow_dataset(
    record: Record,
    resources: With,
    last: Annotated[
        str, Header(alias="Last-Event-ID", pattern=r"^[0-9]{1,15}-[0-9]{1,15}$", description="continue after this event")
    ] = START,
) -> AsyncIterator[ServerSentEvent]:
    """Follow a data set: about an event a second with its state and counts, until it ends."""
    async for event in resources.events.follow(record.id, last, resources.datasets):
        yield ServerSentEvent(raw_data=event.data, event=event.name, id=event.id)


def changing(*codes: Code, done: str) -> dict:
    """The answers of an operation that changes a data set."""
    return {200: example(examples.DATASET_DONE, done), **problems(*ANY_BODY, Code.UNKNOWN_DATASET, *codes)}


@router.post("/{dataset_id}/pause", responses=changing(Code.JOB_FINISHED, done="no further image is begun"))
async def pause_dataset(record: Record, resources: With) -> DatasetRecord:
    """Begin no further image; those under way are finished. What there is can be exported."""
    return await resources.datasets.pause(record)


@router.post("/{dataset_id}/resume", responses=changing(Code.JOB_FINISHED, done="it goes on"))
async def resume_dataset(record: Record, resources: With) -> DatasetRecord:
    """Go on with a data set that was paused, or that failed."""
    resumed = await resources.datasets.resume(record)
    resources.dataset_due.set()
    return resumed


@router.post("/{dataset_id}/cancel", responses=changing(Code.JOB_FINISHED, done="it has ended"))
async def cancel_dataset(record: Record, resources: With) -> DatasetRecord:
    """End a data set for good. Images under way are given up; what there is can be exported."""
    return await resources.datasets.cancel(record)


@router.delete(
    "/{dataset_id}",
    status_code=204,
    responses={204: {"description": "gone"}, **problems(*ANY_BODY, Code.UNKNOWN_DATASET, Code.STORE_UNAVAILABLE)},
)
async def delete_dataset(record: Record, resources: With) -> None:
    """Delete a data set with its images and masks. One that runs is stopped."""
    await resources.datasets.forget(record)
    await resources.store.delete_folder(keys.dataset_folder(record.id))


@router.get(
    "/{dataset_id}/export",
    response_class=StreamingResponse,
    responses={
        200: {
            "description": "a tar; it is whole if its last file, `datasheet.json`, is there",
            "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
        },
        **problems(Code.UNKNOWN_DATASET, Code.JOB_NOT_FINISHED, Code.STORE_UNAVAILABLE, Code.PACKAGE_MISSING),
    },
)
async def export_dataset(
    record: Record,
    resources: With,
    form: Annotated[FormName, Query(alias="format", description="which tools shall read it")] = "coco",
    split: Annotated[float, Query(ge=0, lt=1, description="the share of images that are for validation")] = 0.1,
    split_seed: Annotated[int, Query(ge=0, lt=2**63, description="which ones")] = 0,
    rest: Annotated[
        Rest | None,
        Query(description="label of what is no class, in `voc`, `webdataset` and `huggingface`: background, or unsure"),
    ] = None,
    outlines: Annotated[
        Outlines | None, Query(description="masks of `coco` (by default `rle`) and `labelme` (`polygons`)")
    ] = None,
) -> StreamingResponse:
    """Download the accepted images with their masks as a tar, in a form that other tools read."""
    unsealed = await resources.datasets.open_entries(record.id)
    options = Split(validation=split, seed=split_seed)
    tar = await asyncio.to_thread(exported, resources.store, record, unsealed, form_of(form, rest, outlines), options)
    headers = {"Content-Disposition": f'attachment; filename="{record.id}-{form}.tar"'}
    return StreamingResponse(tar, media_type="application/octet-stream", headers=headers)
