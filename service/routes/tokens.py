"""`/v1/tokens`."""

from typing import Annotated

from fastapi import APIRouter, Path
from pydantic import BaseModel

from contracts import keys
from contracts.errors import Code
from contracts.tokens import TokenCard
from service import examples
from service.openapi import example, problems
from service.resources import With

router = APIRouter(prefix="/v1/tokens", tags=["tokens"])
TokenName = Annotated[str, Path(examples=["car-1"])]


class TokenList(BaseModel, frozen=True):
    """Every learned token."""

    tokens: list[TokenCard]


@router.get("", responses={200: example({"tokens": [examples.TOKEN]}, "every token"), **problems()})
async def list_tokens(resources: With) -> TokenList:
    """List the learned tokens, by name."""
    return TokenList(tokens=await resources.catalog.tokens())


@router.get("/{name}", responses={200: example(examples.TOKEN, "the token"), **problems(Code.UNKNOWN_TOKEN)})
async def get_token(name: TokenName, resources: With) -> TokenCard:
    """Look at a token: its model, where it was learned, and how well."""
    return await resources.catalog.token(name, field="name")


@router.delete(
    "/{name}",
    status_code=204,
    responses={204: {"description": "gone"}, **problems(Code.UNKNOWN_TOKEN, Code.STORE_UNAVAILABLE)},
)
async def delete_token(name: TokenName, resources: With) -> None:
    """Delete a token; its name is free again."""
    card = await resources.catalog.token(name, field="name")
    await resources.catalog.forget_token(name)
    await resources.store.delete(keys.token_object(name, card.job_id))
