"""`/v1/methods`."""

from fastapi import APIRouter
from pydantic import BaseModel

from contracts.attribution import MethodCard
from service import examples
from service.openapi import example, problems
from service.resources import With

router = APIRouter(prefix="/v1/methods", tags=["models"])


class MethodList(BaseModel, frozen=True):
    """The published methods."""

    methods: list[MethodCard]


@router.get("", responses={200: example({"methods": examples.METHODS}, "every method"), **problems()})
async def list_methods(resources: With) -> MethodList:
    """List the published methods, by name, with all their settings for words and for learned tokens."""
    return MethodList(methods=await resources.catalog.methods())
