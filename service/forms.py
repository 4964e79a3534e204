"""Forms with files (`multipart/form-data`), as OpenAI's clients send images."""

import base64
import re
from email.message import Message

from contracts.schema.errors import Code, ServiceError

MOST_PARTS = 64
END_OF_HEAD = b"\r\n\r\n"
NAME = re.compile(rb'content-disposition:[^\r\n]*?;\s*name="([^"\r\n]{1,64})"', re.IGNORECASE)
FILE = re.compile(rb"content-disposition:[^\r\n]*?;\s*filename", re.IGNORECASE)


def boundary_of(content_type: str) -> bytes | None:
    """What separates the parts of a form; None for a body that is declared as something else."""
    message = Message()
    message["Content-Type"] = content_type
    boundary = message.get_boundary() if message.get_content_type() == "multipart/form-data" else None
    return boundary.encode("latin-1", "replace") if boundary else None


def fields_of(body: bytes | bytearray, boundary: bytes) -> dict[str, str]:
    """The fields of a form, files in base64. Raises invalid-request for a body that is none, or has a field twice."""
    first, *parts = (b"\r\n" + body).split(b"\r\n--" + boundary, MOST_PARTS + 1)
    if first.strip() or not parts or not parts[-1].startswith(b"--"):
        detail = f"the body is not a form of up to {MOST_PARTS} fields between lines of its `boundary`"
        raise ServiceError(Code.INVALID_REQUEST, detail, field="Content-Type")
    found: dict[str, str] = {}
    for part in parts[:-1]:
        head, _, data = part.partition(END_OF_HEAD)
        name = NAME.search(head)
        if name is None:
            raise ServiceError(Code.INVALID_REQUEST, "a part of the form has no name", field="Content-Disposition")
        field = name[1].decode("utf-8", "replace").removesuffix("[]")
        if field in found:
            raise ServiceError(Code.INVALID_REQUEST, f"the form has `{field}` twice; allowed: once", field=field)
        found[field] = base64.b64encode(data).decode() if FILE.search(head) else data.decode("utf-8", "replace")
    return found
