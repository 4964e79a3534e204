"""`/v1/models`."""

from fastapi import APIRouter
from pydantic import BaseModel

from contracts.schema.models import ModelCard
from service import examples
from service.openapi import example, problems
from service.resources import With

router = APIRouter(prefix="/v1/models", tags=["models"])


class ModelList(BaseModel, frozen=True):
    """The models that are served."""

    models: list[ModelCard]


@router.get("", responses={200: example({"models": [examples.MODEL]}, "every model"), **problems()})
async def list_models(resources: With) -> ModelList:
    """List the models that workers serve, by name, with what a request for each must keep to."""
    return ModelList(models=await resources.catalog.models())
