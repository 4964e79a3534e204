"""From a file of tokens to the job. What is in the file only a worker can read."""

import base64
import binascii

from contracts.schema.errors import Code, ServiceError
from contracts.schema.tokens import ImportJob, ImportRequest
from service.validation.lookups import Lookups


async def filled(request: ImportRequest, lookups: Lookups) -> ImportJob:
    """The job, if there is a model and the file is base64."""
    card = await lookups.catalog.model(request.model)
    try:
        base64.b64decode(request.file, validate=True)
    except (binascii.Error, ValueError) as error:
        detail = "the file is not base64; send its bytes, base64 in one line"
        raise ServiceError(Code.TOKEN_FILE_UNREADABLE, detail, field="file", value=request.file[:40]) from error
    return ImportJob.model_validate(dict(request) | {"model": card.name})
