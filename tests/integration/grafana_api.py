"""A server that speaks the part of Grafana's HTTP API that pushing needs, and keeps what it is given, as Grafana does:
it numbers dashboards and versions, keeps secrets to itself, and adds fields of its own to a data source."""

from __future__ import annotations

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any, Self

TOKEN = "glsa_secret"
Json = dict[str, Any]


class GrafanaApi:
    """The server; `with` it runs. `requests` are those that changed something."""

    def __init__(self, version: str = "11.6.0", status: int | None = None) -> None:
        self.version = version
        self.status = status
        """What every request is answered with, if set."""
        self.sources: dict[str, Json] = {}
        self.folders: dict[str, Json] = {}
        self.boards: dict[str, Json] = {}
        self.requests: list[tuple[str, str]] = []
        self.database_works = True
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def _do(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                body = json.loads(self.rfile.read(length)) if length else None
                code, answer = outer.answer(self.command, self.path, self.headers.get("Authorization", ""), body)
                text = json.dumps(answer).encode()
                self.send_response(code)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            do_GET = do_POST = do_PUT = _do  # noqa: N815 - the library's names

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    @property
    def url(self) -> str:
        """Where it is, below a path as behind a proxy."""
        return f"http://127.0.0.1:{self._server.server_address[1]}/grafana/"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def answer(self, method: str, path: str, authorization: str, body: Json | None) -> tuple[int, object]:
        """What a request is answered with."""
        if self.status is not None:
            return self.status, {"message": "as the test wants it"}
        assert path.startswith("/grafana/api/")
        parts = path.removeprefix("/grafana/api/").split("/")
        if parts == ["health"]:
            return 200, {"database": "ok", "version": self.version}
        if authorization != f"Bearer {TOKEN}":
            return 401, {"message": "Invalid API key"}
        if method != "GET":
            self.requests.append((method, "/".join(parts)))
        match parts:
            case ["datasources", "uid", uid, "health"]:
                works = {"status": "OK"} if self.database_works else {"status": "ERROR", "message": "no pg_hba entry"}
                return 200 if self.database_works else 400, works
            case ["datasources", "uid", uid] if method == "GET":
                return self._found(self.sources, uid)
            case ["datasources"] | ["datasources", "uid", _]:
                assert body is not None
                secrets = {key: True for key, value in body.pop("secureJsonData", {}).items() if value}
                self.sources[body["uid"]] = body | {"secureJsonFields": secrets, "orgId": 1, "readOnly": False}
                return 200, {"message": "Datasource added"}
            case ["folders", uid] if method == "GET":
                return self._found(self.folders, uid)
            case ["folders"]:
                assert body is not None
                self.folders[body["uid"]] = body
                return 200, body
            case ["dashboards", "uid", uid]:
                return self._found(self.boards, uid)
            case ["dashboards", "db"]:
                assert body is not None
                return self._save(body)
        return 404, {"message": "Not found"}

    def _found(self, held: dict[str, Json], uid: str) -> tuple[int, object]:
        return (200, held[uid]) if uid in held else (404, {"message": "not found"})

    def _save(self, body: Json) -> tuple[int, object]:
        if body["folderUid"] not in self.folders:
            return 400, {"message": "folder not found"}
        board = body["dashboard"]
        assert board["id"] is None
        version = self.boards.get(board["uid"], {"dashboard": {"version": 0}})["dashboard"]["version"] + 1
        number = len(self.boards) + 1
        meta = {
            "folderUid": body["folderUid"],
            "folderTitle": self.folders[body["folderUid"]]["title"],
            "version": version,
        }
        self.boards[board["uid"]] = {"dashboard": board | {"id": number, "version": version}, "meta": meta}
        return 200, {"status": "success", "version": version}
