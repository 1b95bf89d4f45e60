"""Puts the API together: routes, errors, its description (OpenAPI)."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from headworks.api import administration, alarms, operations, plant, problems
from headworks.api.context import Context

VERSION = "1"

_DESCRIPTION = """\
Alarms, assets and readings of pumps and valves, and the work on alarms by ISA-18.2.

Times are ISO 8601 in UTC, values in the metric's canonical unit. Lists come in pages: hand `next` back as `cursor`.
Errors are problem details (RFC 9457)."""
_ERRORS = {
    401: "No token or session, or one that is not valid (any more).",
    403: "The role does not allow it, or the CSRF token is missing.",
    404: "There is nothing of that name or number.",
    409: "Not possible now; the detail says why.",
    413: "The body is too large.",
    422: "The request is not what this description says.",
    429: "Too many requests; Retry-After says when to go on.",
    503: "The database does not answer; Retry-After says when to try again.",
}


def api(context: Context) -> FastAPI:
    """The application, to be mounted at `/api/v1`."""
    app = FastAPI(
        title="Headworks",
        version=VERSION,
        description=_DESCRIPTION,
        docs_url=None,  # they load scripts from elsewhere
        redoc_url=None,
        openapi_url="/openapi.json",
        redirect_slashes=False,
    )
    app.state.context = context
    problems.install(app)
    for router in (alarms.router, plant.router, operations.router, administration.router):
        app.include_router(router)
    app.openapi = lambda: _described(app)  # type: ignore[method-assign]  # as FastAPI's manual says
    return app


def _described(app: FastAPI) -> dict[str, Any]:
    """FastAPI's own description, with the errors as they are."""
    if app.openapi_schema is None:
        schema = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
        schema["servers"] = [{"url": f"/api/v{VERSION}"}]
        components = schema["components"]["schemas"]
        for name in ("HTTPValidationError", "ValidationError"):
            components.pop(name, None)
        components["Problem"] = problems.SCHEMA
        content = {problems.MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
        for operations_ in schema["paths"].values():
            for operation in operations_.values():
                for status, description in _ERRORS.items():
                    operation["responses"][str(status)] = {"description": description, "content": content}
        app.openapi_schema = schema
    return app.openapi_schema
