"""The page at `/docs`: Swagger UI, whose files come from here, so that it works without internet."""

from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse
from fastapi.staticfiles import StaticFiles

FILES = Path(__file__).parent / "static" / "swagger-ui"
PARAMETERS: dict[str, Any] = {"validatorUrl": None}  # else the page asks a service on the internet


def install(app: FastAPI) -> None:
    """Add the page and its files."""
    app.mount("/docs/files", StaticFiles(directory=FILES), name="docs-files")
    app.add_api_route("/docs", page, include_in_schema=False, response_class=HTMLResponse)


async def page(request: Request) -> HTMLResponse:
    """The page, whose addresses are below the root path."""
    root = str(request.scope.get("root_path", "")).rstrip("/")
    files = f"{root}/docs/files"
    return get_swagger_ui_html(
        openapi_url=f"{root}/openapi.json",
        title=request.app.title,
        swagger_js_url=f"{files}/swagger-ui-bundle.js",
        swagger_css_url=f"{files}/swagger-ui.css",
        swagger_favicon_url=f"{files}/favicon-32x32.png",
        swagger_ui_parameters=PARAMETERS,
    )
