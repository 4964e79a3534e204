"""`/integrations/label-studio`: what Label Studio asks of an ML backend.

It is not in the API's own description: the contract is Label Studio's, and its clients are Label Studios.
"""

import asyncio

import structlog
from fastapi import APIRouter
from fastapi.responses import JSONResponse
from starlette.background import BackgroundTask

from contracts.schema.errors import ServiceError
from contracts.state.corrections import Corrections, Home
from service.bodies import BodyRoute
from service.integrations.label_studio.config import parsed
from service.integrations.label_studio.learning import EVENTS, Outcome, learned
from service.integrations.label_studio.meaning import meaning_of, version_of
from service.integrations.label_studio.predicting import Prediction, predicted
from service.integrations.label_studio.shapes import Event, Predict, Setup
from service.resources import With

ANSWERED_WITHIN = 0.7  # seconds: Label Studio waits one second for the answer to a webhook (WEBHOOK_TIMEOUT)
log = structlog.get_logger("ovam.gateway")
router = APIRouter(prefix="/integrations/label-studio", route_class=BodyRoute, include_in_schema=False)


@router.get("/health")
async def label_studio_health() -> dict[str, str]:
    """Say that somebody is there."""
    return {"status": "UP", "model_class": "OVAM"}


@router.post("/setup")
async def label_studio_setup(request: Setup, resources: With) -> dict[str, str]:
    """Connect a project: its labels are checked, and where its files are is remembered."""
    config = parsed(request.config, field="schema")
    card = await resources.catalog.model(None)
    if request.hostname:
        home = Home(hostname=request.hostname, access_token=request.access_token)
        await Corrections(resources.redis, resources.queue.client.tenant).set_home(request.project, home)
    registry = resources.catalog.registry
    meanings = [await meaning_of(label, request.project, card.name, registry) for label in config.labels.values()]
    return {"model_version": version_of(card.name, meanings)}


@router.post("/predict")
async def label_studio_predict(request: Predict, resources: With) -> dict[str, list[Prediction]]:
    """Predict the regions of all labels in each task, or of one label where a smart tool points."""
    return {"results": await predicted(request, resources)}


@router.post("/webhook", status_code=201)
async def label_studio_webhook(request: Event, resources: With) -> JSONResponse:
    """Learn from an annotation. What takes longer than Label Studio waits goes on after the answer."""
    if request.action not in EVENTS:
        return JSONResponse({"status": "Unknown event"})
    work = asyncio.create_task(learned(request, resources))
    done, _ = await asyncio.wait([work], timeout=ANSWERED_WITHIN)
    if done:
        return JSONResponse({"status": "ok", "result": work.result()}, 201)
    answer = {"status": "ok", "result": "the image is looked at first; then its labels are learned"}
    return JSONResponse(answer, 201, background=BackgroundTask(finished, work))


async def finished(work: "asyncio.Task[dict[str, Outcome]]") -> None:
    """Wait for what goes on after its answer; its failure is logged, since nobody is there to be told."""
    try:
        log.info("label-studio-learns", labels=await work)
    except ServiceError as error:
        log.warning("label-studio-not-learned", code=error.code, detail=error.detail)
