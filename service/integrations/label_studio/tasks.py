"""From a task of Label Studio to the image of a job that is asked."""

import base64
import re
from urllib.parse import urlsplit

from contracts.schema.errors import Code, ServiceError
from contracts.state.corrections import Corrections
from service.fetching import fetched
from service.images import decoded
from service.integrations.asking import Asking, Picture
from service.integrations.label_studio.shapes import Params, Task

INLINE = re.compile(r"data:image/[a-z.+-]+;base64,", re.IGNORECASE)
JOB = re.compile(r"([0-9a-z]{26})(?:/(\d{1,4}))?")
IMAGE_OF_JOB = re.compile(r".*/v1/jobs/([0-9a-z]{26})/artifacts/image-(\d{1,4})\.png")


async def picture_of(task: Task, key: str, project: str, params: Params, asking: Asking, *, field: str) -> Picture:
    """The image of a task: one of our jobs' (by its id, `id/index` or address), in the task itself, or at an address."""
    value = task.data.get(key)
    if not isinstance(value, str) or not value:
        detail = f"`{field}` has no text {key!r}, where the label config says that the image is"
        raise ServiceError(Code.INVALID_ARGUMENT, detail, field=field)
    if found := JOB.fullmatch(value):
        return await asking.job(found[1], int(found[2] or 0), field=field)
    if found := INLINE.match(value):
        return await asking.file(decoded(value[found.end() :], field=field))
    found = IMAGE_OF_JOB.fullmatch(path_of(value))
    if found and await asking.resources.ledger.find(found[1]) is not None:
        return await asking.job(found[1], int(found[2]), field=field)
    return await asking.file(await file_of(value, project, params, asking, field))


async def file_of(value: str, project: str, params: Params, asking: Asking, field: str) -> bytes:
    """What is at an address. Relative ones are in the Label Studio that connected the project, which gave its token then."""
    resources = asking.resources
    home = await Corrections(resources.redis, resources.queue.client.tenant).home(project)
    base = home.hostname.rstrip("/") if home else ""
    if value.startswith("/"):
        if not base:
            where = "Label Studio has not said where it is: set its LABEL_STUDIO_HOST and connect the project again"
            detail = f"`{field}` is {value[:100]!r}, and {where}"
            raise ServiceError(Code.INVALID_ARGUMENT, detail, field=field, value=value[:100])
        value = f"{base}{value}"
    headers = dict[str, str]()
    if home and home.access_token and value.startswith(f"{base}/"):
        headers = {"Authorization": f"Token {home.access_token}"}
    elif params.login and params.password:
        headers = {"Authorization": f"Basic {base64.b64encode(f'{params.login}:{params.password}'.encode()).decode()}"}
    return await fetched(value, resources.settings, headers, field=field)


def path_of(url: str) -> str:
    """The path of an address; nothing for none."""
    try:
        return urlsplit(url).path
    except ValueError:
        return ""
