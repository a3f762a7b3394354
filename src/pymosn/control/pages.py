"""The dashboard: its files are read once and served under `/ui/`.

It has no build step and loads nothing from elsewhere. The content security policy allows its own files only, so that text
that got into the page could neither run nor send anything.
"""

from __future__ import annotations

from functools import partial
from importlib.resources import files
from typing import Final

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from pymosn.control.access import Power
from pymosn.control.handlers import Call

#: The files, and their types.
FILES: Final = {
    "index.html": "text/html",
    "style.css": "text/css",
    "icon.svg": "image/svg+xml",
    "app.js": "text/javascript",
    "charts.js": "text/javascript",
    "data.js": "text/javascript",
    "dom.js": "text/javascript",
    "format.js": "text/javascript",
    "grid.js": "text/javascript",
    "views.js": "text/javascript",
    "config_view.js": "text/javascript",
    "exchange_list.js": "text/javascript",
    "exchanges_view.js": "text/javascript",
    "explain_view.js": "text/javascript",
    "flame.js": "text/javascript",
    "profile_view.js": "text/javascript",
    "tap_view.js": "text/javascript",
}
POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS: Final = {
    "content-security-policy": POLICY,
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}


def routes() -> list[Call]:
    """`/ui/` and its files."""
    folder = files("pymosn.control") / "ui"
    calls = [Call("/ui", "GET", Power.READ, _redirect)]
    for name, media_type in FILES.items():
        show = partial(_file, (folder / name).read_bytes(), media_type)
        calls.append(Call(f"/ui/{name}", "GET", Power.READ, show))
        if name == "index.html":
            calls.append(Call("/ui/", "GET", Power.READ, show))
    return calls


async def _redirect(request: Request) -> Response:
    return RedirectResponse("/ui/", 308)


async def _file(content: bytes, media_type: str, request: Request) -> Response:
    return Response(content, headers=_HEADERS, media_type=media_type)
