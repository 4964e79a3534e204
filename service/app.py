"""The gateway's app: routes, errors, and what lives as long as it does."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypedDict

from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware
from fastapi.routing import APIRoute

from ovam import __version__
from service import docs, openapi, page, problems, tracing
from service.access import Access
from service.datasets.driver import drive_forever
from service.guard import Guard
from service.integrations import openai_edits, openai_images, x_anylabeling
from service.integrations.label_studio import routes as label_studio
from service.memory import trim_forever
from service.middleware import HeadAsGet, Observed, RootPath
from service.observability import Metrics
from service.resources import Resources, beside, opened
from service.routes import attribute, datasets, generate, health, image, jobs, methods, models, optimize, probe, tokens, webhooks
from service.settings import GatewaySettings

DESCRIPTION = """Generate images with Stable Diffusion, then ask where in them anything is: words, in the prompt or not, and
learned tokens, as heatmaps and masks. Work is done by jobs: `202` with a `Location`, or `201` with the finished job
when it ends within `Prefer: wait=N`."""


ROUTERS = [
    module.router
    for module in (
        generate,
        image,
        attribute,
        probe,
        optimize,
        jobs,
        tokens,
        datasets,
        webhooks,
        models,
        methods,
        openai_images,
        openai_edits,
        label_studio,
        x_anylabeling,
        health,
    )
]
EXPOSED = [  # headers of answers that a page of another origin may read
    "X-Content-Type-Options",
    "Accept-Ranges",
    "Content-Disposition",
    "Content-Range",
    "ETag",
    "Idempotent-Replayed",
    "Location",
    "Preference-Applied",
    "RateLimit",
    "RateLimit-Policy",
    "Retry-After",
    "WWW-Authenticate",
    "X-Request-Id",
]


class State(TypedDict):
    """What every request finds in `request.state`."""

    resources: Resources
    metrics: Metrics


def create_app(settings: GatewaySettings) -> FastAPI:
    """An app with settings of its own; several may live in one process."""
    metrics = Metrics()

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[State]:
        async with opened(settings) as resources, beside(drive_forever(resources)), beside(trim_forever()):
            yield {"resources": resources, "metrics": metrics}

    app = FastAPI(
        title="OVAM",
        version=__version__,
        description=DESCRIPTION,
        lifespan=lifespan,
        redirect_slashes=False,
        docs_url=None,
        redoc_url=None,
        generate_unique_id_function=operation_id,
        telemetry=tracing.FASTAPI,
    )
    for router in ROUTERS:
        app.include_router(router)
    problems.install(app)
    openapi.describe(app, [route for router in ROUTERS for route in router.routes], keys=settings.keys_required)
    docs.install(app)
    page.install(app)
    app.add_middleware(HeadAsGet)  # the first that is added is the innermost
    app.add_middleware(Access, required=settings.keys_required)
    app.add_middleware(Guard, hosts=settings.hosts, origins=settings.origins)
    app.add_middleware(Observed, metrics=metrics)
    app.add_middleware(tracing.TraceContext)
    if settings.root_path:
        app.add_middleware(RootPath, path=settings.root_path)
    if settings.origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.origins,
            allow_methods=["*"],
            allow_headers=["*"],
            expose_headers=EXPOSED,
        )
    return app


def operation_id(route: APIRoute) -> str:
    """The function's name: short, and the same in every client."""
    return route.name
