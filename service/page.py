"""The page at `/` for people: static files, and headers that let in nothing from elsewhere."""

import os
from pathlib import Path
from types import MappingProxyType

from fastapi import FastAPI, Request, Response
from starlette.responses import FileResponse
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

FILES = Path(__file__).parent / "web"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
    "form-action 'none'; base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)
HEADERS = MappingProxyType(
    {
        "Content-Security-Policy": POLICY,
        "Referrer-Policy": "no-referrer",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cache-Control": "no-cache",  # asks each time, and is answered 304: no part of the page is older than the others
    }
)


class PageFiles(StaticFiles):
    """The page's files, with its headers."""

    def file_response(
        self, full_path: str | os.PathLike[str], stat_result: os.stat_result, scope: Scope, status_code: int = 200
    ) -> Response:
        """Return a file, or the word that the browser has it."""
        response = super().file_response(full_path, stat_result, scope, status_code)
        response.headers.update(HEADERS)
        return response


def install(app: FastAPI) -> None:
    """Add the page and its files."""
    app.mount("/web", PageFiles(directory=FILES), name="page-files")
    app.add_api_route("/", page, include_in_schema=False, response_class=FileResponse)


async def page(request: Request) -> Response:
    """The page; its addresses are relative, so that it works below any root path."""
    return await PageFiles(directory=FILES).get_response("index.html", request.scope)
