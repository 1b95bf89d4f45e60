"""What every answer carries and no request may exceed, as plain ASGI around the whole application."""

from __future__ import annotations

from http import HTTPStatus

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from headworks.api.problems import Problem, response

LARGEST_BODY = 256 * 1024
"""Bytes; the largest request there is names a thousand alarms."""

_HEADERS = {
    # The console loads its own files and nothing else; it runs no inline script and sits in nobody's frame.
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:;"
    " connect-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}


class Guards:
    """Security headers on every answer (OWASP Secure Headers), no caching unless the answer says otherwise, and an end
    to bodies that are too large."""

    def __init__(self, app: ASGIApp, *, secure: bool) -> None:
        self._app = app
        headers = dict(_HEADERS)
        if secure:
            headers["strict-transport-security"] = "max-age=31536000"
        self._headers = [(name.encode(), value.encode()) for name, value in headers.items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        taken = 0
        too_large = False
        begun = False

        async def bounded() -> Message:
            nonlocal taken, too_large
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > LARGEST_BODY:
                too_large = True
                return {"type": "http.disconnect"}
            return message

        async def guarded(message: Message) -> None:
            nonlocal begun
            if too_large and not begun:
                return
            if message["type"] == "http.response.start":
                begun = True
                present = {name.lower() for name, _ in message["headers"]}
                message["headers"] = [*message["headers"], *self._headers]
                if b"cache-control" not in present:
                    message["headers"].append((b"cache-control", b"no-store"))
            await send(message)

        announced = dict(scope["headers"]).get(b"content-length", b"0")
        if announced.isdigit() and int(announced) > LARGEST_BODY:
            too_large = True
        else:
            try:
                await self._app(scope, bounded, guarded)
            except Exception:
                if not too_large:
                    raise
        if too_large and not begun:
            too_large = False
            problem = Problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"a body may have {LARGEST_BODY} bytes")
            await response(problem)(scope, receive, guarded)
