"""The console: one small web application of static files, served beside the API that it uses. No build step.

Everything it shows it asks the API for, with the session of whoever is logged in; nothing is rendered here.
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

FOLDER = Path(str(files("headworks.console"))) / "static"


class _Pages(StaticFiles):
    """Files that a browser keeps, and asks about each time whether they have changed."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        """A file, or 404."""
        response = await super().get_response(path, scope)
        response.headers["Cache-Control"] = "no-cache"
        return response


def pages() -> StaticFiles:
    """The application that serves the console's files."""
    return _Pages(directory=FOLDER, html=True)
