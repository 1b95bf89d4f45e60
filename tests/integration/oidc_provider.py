"""An OpenID Connect provider on loopback for the tests: discovery, keys, authorization with PKCE, token, userinfo.

It checks what a provider has to check (client, redirect URI, verifier, each code once), and signs with real keys by
PyJWT. Whoever is sent to it is logged in as `person` at once. Tests change its attributes to have it err.
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote_plus, urlencode, urlsplit

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

CLIENT, SECRET = "headworks", "s3cret with a + and a :"


class Key:
    """A signing key and its public half as a JWK."""

    def __init__(self, name: str, algorithm: str = "ES256") -> None:
        self.name, self.algorithm = name, algorithm
        self.private: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
        if algorithm == "ES256":
            self.private = ec.generate_private_key(ec.SECP256R1())
            public = jwt.algorithms.ECAlgorithm.to_jwk(self.private.public_key(), as_dict=True)
        else:
            self.private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
            public = jwt.algorithms.RSAAlgorithm.to_jwk(self.private.public_key(), as_dict=True)
        self.pem = self.private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        self.jwk = public | {"kid": name, "alg": algorithm, "use": "sig"}

    def sign(self, claims: dict[str, Any]) -> str:
        """An ID token."""
        return jwt.encode(claims, self.private, self.algorithm, headers={"kid": self.name})


class Provider:
    """The provider; `close` it."""

    def __init__(self) -> None:
        self.key = Key("first")
        self.published = [self.key.jwk]
        self.person: dict[str, Any] = {"sub": "4711", "preferred_username": "jane", "groups": ["crew", "canteen"]}
        self.userinfo: dict[str, Any] = {}
        self.change: Callable[[dict[str, Any]], dict[str, Any]] = lambda claims: claims
        """What is done to the claims of an ID token before it is signed."""
        self.auth_method = "client_secret_basic"
        self.has_logout = True
        self.asked: list[str] = []
        """The paths that were asked for."""
        self._codes: dict[str, dict[str, str]] = {}
        provider = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                provider._get(self)

            def do_POST(self) -> None:
                provider._post(self)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        # Another site than the console's 127.0.0.1, as in the world.
        self.issuer = f"http://localhost:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    def close(self) -> None:
        """Be down from now on."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
            self._server.server_close()

    def _get(self, request: BaseHTTPRequestHandler) -> None:
        parts = urlsplit(request.path)
        self.asked.append(parts.path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        if parts.path == "/.well-known/openid-configuration":
            names = {"authorization": "authorize", "token": "token", "userinfo": "userinfo"}
            names |= {"end_session": "logout"} if self.has_logout else {}
            endpoints = {f"{name}_endpoint": f"{self.issuer}/{path}" for name, path in names.items()}
            methods = {"token_endpoint_auth_methods_supported": [self.auth_method]}
            _answer(request, {"issuer": self.issuer, "jwks_uri": f"{self.issuer}/keys"} | endpoints | methods)
        elif parts.path == "/keys":
            _answer(request, {"keys": self.published})
        elif parts.path == "/authorize":
            assert query["client_id"] == CLIENT
            assert (query["response_type"], query["code_challenge_method"]) == ("code", "S256")
            assert "openid" in query["scope"].split()
            code = secrets.token_urlsafe(16)
            self._codes[code] = query
            _redirect(request, query["redirect_uri"], code=code, state=query["state"], iss=self.issuer)
        elif parts.path == "/userinfo" and request.headers["Authorization"] == "Bearer access":
            _answer(request, self.userinfo)
        else:
            _answer(request, {"error": "not_found"}, 404)

    def _post(self, request: BaseHTTPRequestHandler) -> None:
        self.asked.append(request.path)
        body = request.rfile.read(int(request.headers["Content-Length"])).decode()
        form = {name: values[0] for name, values in parse_qs(body).items()}
        if self.auth_method == "client_secret_basic":
            shown = base64.b64decode(request.headers["Authorization"].removeprefix("Basic ")).decode()
            client, _, secret = shown.partition(":")
            login = (unquote_plus(client), unquote_plus(secret))
        else:
            login = (form["client_id"], form["client_secret"])
        if login != (CLIENT, SECRET):
            _answer(request, {"error": "invalid_client"}, 401)
            return
        asked = self._codes.pop(form["code"], None)
        digest = hashlib.sha256(form["code_verifier"].encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).decode().rstrip("=")
        if asked is None or asked["code_challenge"] != challenge or asked["redirect_uri"] != form["redirect_uri"]:
            _answer(request, {"error": "invalid_grant"}, 400)
            return
        now = int(time.time())
        claims = self.person | {
            "iss": self.issuer, "aud": CLIENT, "iat": now, "exp": now + 300, "nonce": asked["nonce"],
        }  # fmt: skip
        token = self.key.sign(self.change(claims))
        _answer(request, {"access_token": "access", "token_type": "Bearer", "id_token": token})


def _answer(request: BaseHTTPRequestHandler, body: object, status: int = 200) -> None:
    text = json.dumps(body).encode()
    request.send_response(status)
    request.send_header("Content-Type", "application/json")
    request.send_header("Content-Length", str(len(text)))
    request.end_headers()
    request.wfile.write(text)


def _redirect(request: BaseHTTPRequestHandler, address: str, **query: str) -> None:
    request.send_response(302)
    request.send_header("Location", f"{address}?{urlencode(query)}")
    request.send_header("Content-Length", "0")
    request.end_headers()
