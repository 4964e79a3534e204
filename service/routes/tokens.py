"""`/v1/tokens`: list, get, download, import, rename, delete."""

import hashlib
from typing import Annotated

from fastapi import APIRouter, Header, Path, Query, Request, Response
from pydantic import BaseModel, Field

from contracts.schema.errors import Code
from contracts.schema.fields import Artifact, Name, TokenRef
from contracts.schema.jobs import JobRecord
from contracts.schema.tokens import ImportRequest, RenameRequest, TokenCard, TokenFormat, TokenListing
from contracts.state import keys
from contracts.state.registry import unknown
from service import artifacts, examples
from service.bodies import BodyRoute
from service.openapi import ANY_BODY, BODY, SUBMISSION, body, example, problems
from service.resources import With
from service.routes.jobs import BINARY
from service.routes.submission import IdempotencyKey, Prefer, accept
from service.terms import TermsOf
from service.validation import imports as validation

router = APIRouter(prefix="/v1/tokens", tags=["tokens"], route_class=BodyRoute)
BareName = Annotated[Name, Path(examples=["car"], description="`name`, without a version")]
Reference = Annotated[TokenRef, Path(examples=["car@1"], description="`name@version`, or `name`")]
REVALIDATED = "private, no-cache"  # a name may come to mean another token
ENDINGS: dict[TokenFormat, str] = {
    "safetensors": ".safetensors",
    "textual-inversion": ".textual-inversion.safetensors",
    "npy": ".npy",
}


class TokenList(BaseModel, frozen=True):
    """A page of learned tokens: the newest version of every name."""

    tokens: list[TokenListing]
    next: str | None = Field(description="`cursor` of the next page; null on the last")


class VersionList(BaseModel, frozen=True):
    """Every version of a token, the newest first."""

    versions: list[TokenCard]


@router.get("", responses={200: example(examples.TOKENS, "a page of tokens"), **problems()})
async def list_tokens(
    resources: With,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    cursor: Annotated[Name | None, Query(description="`next` of the page before")] = None,
) -> TokenList:
    """List the learned tokens, by name."""
    found = await resources.catalog.registry.page(cursor or "", limit + 1)
    return TokenList(tokens=found[:limit], next=found[limit - 1].name if len(found) > limit else None)


@router.post(
    "",
    status_code=202,
    response_model=JobRecord,
    responses={
        201: example(examples.IMPORT_SUCCEEDED, "finished within `Prefer: wait`", model=JobRecord),
        202: example(examples.IMPORT_QUEUED, "queued; follow `Location`"),
        **problems(*SUBMISSION, Code.TOKEN_FILE_UNREADABLE),
    },
)
async def import_tokens(
    request: Annotated[ImportRequest, body(examples.IMPORT)],
    http: Request,
    resources: With,
    terms: TermsOf,
    key: IdempotencyKey = None,
    prefer: Prefer = None,
) -> Response:
    """Import tokens from a file: ours, a textual inversion, a `.npy`, or the pickled dict of many that was published."""
    return await accept(http, request, validation.filled, resources, terms, key, prefer)


@router.get("/{reference}", responses={200: example(examples.TOKEN, "the token"), **problems(Code.UNKNOWN_TOKEN)})
async def get_token(reference: Reference, resources: With) -> TokenCard:
    """Get a version of a token, or its newest one: its model, where it was learned, and how well."""
    return await resources.catalog.token(reference, field="reference")


@router.get(
    "/{reference}/versions",
    responses={200: example({"versions": [examples.TOKEN]}, "every version"), **problems(Code.UNKNOWN_TOKEN)},
)
async def list_versions(reference: BareName, resources: With) -> VersionList:
    """List the versions of a token, the newest first."""
    return VersionList(versions=await resources.catalog.registry.versions(reference, field="reference"))


@router.get(
    "/{reference}/file",
    response_class=Response,
    responses={
        200: {"description": "the file", "content": {"application/octet-stream": BINARY}},
        206: {"description": "the range of `Range`", "content": {"application/octet-stream": BINARY}},
        304: {"description": "the client has it already"},
        **problems(Code.UNKNOWN_TOKEN, Code.RANGE_NOT_SATISFIABLE, Code.STORE_UNAVAILABLE),
    },
)
async def get_token_file(
    reference: Reference,
    resources: With,
    form: Annotated[TokenFormat, Query(alias="format")] = "safetensors",
    known: Annotated[str | None, Header(alias="If-None-Match")] = None,
    wanted: Annotated[str | None, Header(alias="Range")] = None,
    if_range: Annotated[str | None, Header(alias="If-Range")] = None,
) -> Response:
    """Download a token as a file: its rows, the background's first."""
    card = await resources.catalog.token(reference, field="reference")
    key = keys.token_object(card.id, form)
    data = await resources.store.get(key)
    if data is None:  # it was deleted in this moment
        raise unknown(reference, "reference")
    name = f"{card.reference}{ENDINGS[form]}"
    digest = hashlib.sha256(data).hexdigest()
    file = Artifact(name=name, media_type="application/octet-stream", size=len(data), sha256=digest, url="")
    more = {"Cache-Control": REVALIDATED, "Content-Disposition": f'attachment; filename="{name}"'}
    return await artifacts.answer(resources.store, key, file, known=known, wanted=wanted, if_range=if_range, more=more)


@router.patch(
    "/{reference}",
    responses={200: example(examples.TOKEN, "renamed"), **problems(*BODY, Code.UNKNOWN_TOKEN, Code.TOKEN_EXISTS)},
)
async def rename_token(
    reference: BareName, request: Annotated[RenameRequest, body({"name": "car"})], resources: With
) -> TokenCard:
    """Give a token another name; its versions keep their numbers."""
    return await resources.catalog.registry.rename(reference, request.name)


@router.delete(
    "/{reference}",
    status_code=204,
    responses={204: {"description": "gone"}, **problems(*ANY_BODY, Code.UNKNOWN_TOKEN, Code.STORE_UNAVAILABLE)},
)
async def delete_token(reference: Reference, resources: With) -> None:
    """Delete a version of a token; with a bare name all of them, after which the name is free again."""
    for card in await resources.catalog.registry.remove(reference, field="reference"):
        await resources.store.delete_folder(keys.token_folder(card.id))
