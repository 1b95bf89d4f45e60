"""Errors as problem details (RFC 9457): one shape for all of them, with what to do next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http import HTTPStatus

import psycopg
import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from devices.errors import UnavailableError

log = structlog.get_logger()

MEDIA_TYPE = "application/problem+json"
RETRY_SECONDS = 5
"""When to try again while the database is away."""


class Problem(Exception):  # noqa: N818 - the standard's word
    """An error that whoever asked can do something about."""

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        headers: Mapping[str, str] | None = None,
        errors: Sequence[Mapping[str, object]] = (),
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = dict(headers or {})
        self.errors = errors


SCHEMA = {
    "title": "Problem",
    "description": "What went wrong (RFC 9457).",
    "type": "object",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "errors": {
            "description": "What is wrong with which part of the request.",
            "type": "array",
            "items": {
                "type": "object",
                "required": ["where", "what"],
                "properties": {"where": {"type": "string"}, "what": {"type": "string"}},
            },
        },
    },
}


def response(problem: Problem) -> JSONResponse:
    """The answer."""
    body: dict[str, object] = {
        "type": "about:blank",
        "title": HTTPStatus(problem.status).phrase,
        "status": problem.status,
        "detail": problem.detail,
    }
    if problem.errors:
        body["errors"] = list(problem.errors)
    return JSONResponse(body, problem.status, headers=problem.headers, media_type=MEDIA_TYPE)


def install(app: FastAPI) -> None:
    """Have the application answer every error like this."""

    async def known(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, Problem)
        return response(error)

    async def routing(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        detail = "there is nothing of that address" if error.status_code == HTTPStatus.NOT_FOUND else str(error.detail)
        if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
            detail = f"{request.method} is not possible here; see the header Allow"
        return response(Problem(error.status_code, detail, headers=error.headers))

    async def invalid(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        errors = [
            {"where": ".".join(str(step) for step in entry["loc"]), "what": entry["msg"].removeprefix("Value error, ")}
            for entry in error.errors()
        ]
        detail = "; ".join(f"{entry['where']}: {entry['what']}" for entry in errors[:5])
        return response(Problem(422, detail, errors=errors[:50]))

    async def away(_: Request, error: Exception) -> JSONResponse:
        log.warning("api.unavailable", why=str(error))
        return response(
            Problem(503, "the database does not answer; try again", headers={"Retry-After": str(RETRY_SECONDS)})
        )

    async def refused(_: Request, error: Exception) -> JSONResponse:
        log.warning("api.refused_by_database", why=str(error).splitlines()[0])
        return response(Problem(422, "the database does not take a value of this request"))

    app.add_exception_handler(Problem, known)
    app.add_exception_handler(HTTPException, routing)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(UnavailableError, away)
    app.add_exception_handler(psycopg.DataError, refused)
