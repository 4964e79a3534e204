"""Images and masks that clients send are unpacked for a bounded time: small ones in a thread, others in a process.

A decoder cannot be stopped in a thread, and some of its work holds Python's lock. A process can be ended, and holds nobody up.
"""

import asyncio
import math
from collections.abc import Sequence
from contextlib import suppress

from contracts.rules import annotations
from contracts.schema.errors import Code, ServiceError
from contracts.schema.images import Upload
from contracts.schema.masks import Mask
from contracts.schema.optimize import OptimizeRequest
from ovam.core.mask_files import size_of_png
from service.aside import Aside, LateError
from service.images import LaboriousError, inspected, transparent

WITHIN = 10.0  # seconds; a large photograph takes one
AT_A_TIME = 2  # processes
SMALL_FILE = 2**18  # bytes
SMALL_WORK = 2**22  # pixels, each as often as it is gone over: some ten milliseconds


class Decoders:
    """What unpacks images and masks, and ends its processes when it is closed."""

    def __init__(self) -> None:
        self.aside = Aside(AT_A_TIME)

    async def inspect(self, data: bytes, *, field: str) -> Upload:
        """What an image is, once all of it was unpacked. Raises image-unreadable, image-too-large or image-unsupported."""
        if len(data) <= SMALL_FILE:
            with suppress(LaboriousError):
                return await asyncio.to_thread(inspected, data, field, SMALL_WORK)
        detail = f"`{field}` takes more than {WITHIN:.0f} seconds to unpack; save it again, without progressive scans"
        try:
            return await self.aside.call(WITHIN, inspected, data, field)
        except LateError as error:
            raise ServiceError(Code.IMAGE_TOO_LARGE, detail, field=field) from error

    async def check(self, request: OptimizeRequest, sizes: Sequence[annotations.Size]) -> None:
        """Raise what is wrong with the annotations of images of these sizes: see `contracts.rules.annotations`."""
        if annotations.pixels(request, sizes) <= SMALL_WORK:
            await asyncio.to_thread(annotations.check, request, sizes)
            return
        detail = f"the masks take more than {WITHIN:.0f} seconds to read; send them at the size of their images"
        try:
            await self.aside.call(WITHIN, annotations.check, request, [*sizes])
        except LateError as error:
            raise ServiceError(Code.IMAGE_TOO_LARGE, detail, field="examples") from error

    async def check_mask(self, mask: Mask, size: annotations.Size, *, field: str) -> None:
        """Raise what is wrong with a mask of an image of this size."""
        if math.prod(annotations.promised(mask, size)) <= SMALL_WORK:
            await asyncio.to_thread(annotations.check_mask, mask, size, field)
            return
        detail = f"`{field}` takes more than {WITHIN:.0f} seconds to read; send it at the size of its image"
        try:
            await self.aside.call(WITHIN, annotations.check_mask, mask, size, field)
        except LateError as error:
            raise ServiceError(Code.IMAGE_TOO_LARGE, detail, field=field) from error

    async def transparent(self, data: bytes, *, field: str) -> str:
        """The transparent part of a PNG, as a mask in base64. Raises mask-not-an-image, mask-unreadable or image-too-large."""
        if math.prod(size_of_png(data) or (0, 0)) <= SMALL_WORK:
            return await asyncio.to_thread(transparent, data, field)
        try:
            return await self.aside.call(WITHIN, transparent, data, field)
        except LateError as error:
            detail = f"`{field}` takes more than {WITHIN:.0f} seconds to unpack"
            raise ServiceError(Code.IMAGE_TOO_LARGE, detail, field=field) from error

    def close(self) -> None:
        """End the processes."""
        self.aside.close()
