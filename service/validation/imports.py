"""Checks of a file of tokens. What is in it only a worker can read."""

import base64
import binascii

from contracts.errors import Code, ServiceError
from contracts.tokens import ImportRequest
from service.validation.lookups import Lookups


async def checked(request: ImportRequest, lookups: Lookups) -> ImportRequest:
    """The request with its model filled in, if there is one and the file is base64."""
    card = await lookups.catalog.model(request.model)
    try:
        base64.b64decode(request.file, validate=True)
    except (binascii.Error, ValueError) as error:
        detail = "the file is not base64; send its bytes, base64 in one line"
        raise ServiceError(Code.TOKEN_FILE_UNREADABLE, detail, field="file", value=request.file[:40]) from error
    return request.model_copy(update={"model": card.name})
