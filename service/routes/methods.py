"""`/v1/methods`."""

from fastapi import APIRouter

from contracts.schema.fields import Schema
from contracts.schema.methods import MethodCard
from ovam.core.methods import METHODS
from service.openapi import example, problems

router = APIRouter(prefix="/v1/methods", tags=["models"])


class MethodList(Schema):
    """The published methods."""

    methods: list[MethodCard]


EVERY = MethodList(
    methods=[
        MethodCard(name=name, source=method.source, words=method.words, tokens=method.tokens)
        for name, method in sorted(METHODS.items())
    ]
)


@router.get("", responses={200: example(EVERY.model_dump(mode="json"), "every method"), **problems()})
async def list_methods() -> MethodList:
    """List the published methods, by name, with all their settings for words and for learned tokens."""
    return EVERY
