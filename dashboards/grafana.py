"""A Grafana server by its HTTP API: the five things that pushing dashboards needs of it.

By httpx, which is here anyway: the living client library (grafana-client 5) brings a fork of urllib3 that takes the
original's place for everything else in the environment.
"""

from __future__ import annotations

from types import TracebackType
from typing import Any, Self

import httpx

Json = dict[str, Any]

OLDEST = 9
"""The oldest major version whose API and panels these dashboards fit at all."""
OUR_VERSION = (11, 6)
"""The version whose panels they are made for; older ones show most of them."""


class GrafanaError(Exception):
    """Grafana cannot be reached or has refused something; the message says what to do."""


class Grafana:
    """A server and a token for it. The token is in no message and no log."""

    def __init__(self, url: str, token: str, timeout: float = 20.0) -> None:
        self._url = url.rstrip("/")
        self._client = httpx.Client(
            base_url=f"{self._url}/api",
            headers={"Authorization": f"Bearer {token}", "Accept": "application/json"},
            timeout=timeout,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    def version(self) -> tuple[int, ...]:
        """Major, minor and patch. `GrafanaError` for one that is too old."""
        # Servers may hide it from strangers in the one place and never in the other.
        told = str((self._call("GET", "/health") or {}).get("version") or "")
        if not told:
            told = str(((self._call("GET", "/frontend/settings") or {}).get("buildInfo") or {}).get("version") or "")
        numbers = tuple(int(part) for part in told.split("-")[0].split("+")[0].split(".") if part.isdigit())
        if not numbers:
            raise GrafanaError(f"{self._url} does not say which version it is; is that a Grafana?")
        if numbers[0] < OLDEST:
            raise GrafanaError(f"{self._url} is Grafana {told}; the oldest that these dashboards fit is {OLDEST}")
        return numbers

    def data_source(self, uid: str) -> Json | None:
        """A data source, without its secrets; None if there is none."""
        return self._call("GET", f"/datasources/uid/{uid}", missing=True)

    def put_data_source(self, wanted: Json, *, new: bool) -> None:
        """Create or replace a data source."""
        if new:
            self._call("POST", "/datasources", wanted)
        else:
            self._call("PUT", f"/datasources/uid/{wanted['uid']}", wanted)

    def data_source_health(self, uid: str) -> str:
        """What Grafana finds when it uses it; empty where all is well."""
        try:
            found = self._call("GET", f"/datasources/uid/{uid}/health", missing=True)
        except GrafanaError as error:
            return str(error)
        return "" if found is None or found.get("status") == "OK" else str(found.get("message", "it does not answer"))

    def folder(self, uid: str) -> Json | None:
        """A folder; None if there is none."""
        return self._call("GET", f"/folders/{uid}", missing=True)

    def create_folder(self, uid: str, title: str) -> None:
        """Create a folder."""
        self._call("POST", "/folders", {"uid": uid, "title": title})

    def dashboard(self, uid: str) -> Json | None:
        """A dashboard with its `meta`; None if there is none."""
        return self._call("GET", f"/dashboards/uid/{uid}", missing=True)

    def put_dashboard(self, dashboard: Json, folder: str, message: str) -> None:
        """Create a dashboard, or replace it with a new version."""
        self._call(
            "POST",
            "/dashboards/db",
            {"dashboard": dashboard | {"id": None}, "folderUid": folder, "overwrite": True, "message": message},
        )

    def _call(self, method: str, path: str, body: Json | None = None, *, missing: bool = False) -> Json | None:
        try:
            response = self._client.request(method, path, json=body)
        except httpx.HTTPError as error:
            raise GrafanaError(
                f"{self._url} cannot be reached ({type(error).__name__}: {error}); check --url, and the proxy between"
            ) from None
        if response.status_code == 404 and missing:
            return None
        if response.is_success:
            try:
                found = response.json()
            except ValueError:
                raise GrafanaError(
                    f"{self._url}: {method} {path} was not answered by JSON; is the path of --url the one of Grafana?"
                ) from None
            return found if isinstance(found, dict) else None
        raise GrafanaError(f"{self._url}: {method} {path}: {_why(response)}")


def _why(response: httpx.Response) -> str:
    try:
        message = str(response.json().get("message", ""))
    except (ValueError, AttributeError):
        message = response.text[:200]
    hint = {
        401: "the token is not valid; make one for a service account under Administration, Service accounts",
        403: "the token may not do this; give its service account the role Admin (data sources need it), or leave"
        " --database-url out and push dashboards as Editor",
        404: "there is no such thing here; is the path of --url the one of Grafana?",
        412: "somebody else has changed it in between; push again",
    }.get(response.status_code, "see Grafana's own log" if response.status_code >= 500 else "")
    return f"{response.status_code} {message}{'; ' if hint else ''}{hint}"
