"""Logging in by OpenID Connect: a provider on loopback, our own HTTP door, a real database, a real browser."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from pydantic import SecretStr

from devices.profile import shipped_profiles
from headworks import clock
from headworks.api.context import Context, Ports
from headworks.http import HttpDoor
from headworks.oidc import provider as talking
from headworks.oidc.configuration import CALLBACK, Configuration
from headworks.oidc.handshake import Handshake
from headworks.oidc.id_token import LoginRefusedError, UnknownKeyError
from headworks.oidc.provider import REFETCH_SECONDS, Provider, ProviderError
from storage import tokens
from storage.database import connect
from storage.tokens import Role
from tests.integration import oidc_provider
from tests.integration.certificates import self_signed
from tests.integration.oidc_provider import CLIENT, SECRET, Key
from tests.integration.test_gateways import eventually, running
from tests.ports import free_port

get = partial(
    httpx.get, verify=False, timeout=60
)  # on loopback and in clear: it need not read all authorities each time
SHOTS = Path(os.environ.get("HEADWORKS_TEST_SHOTS", "build/console"))


@pytest.fixture
def there() -> Iterator[oidc_provider.Provider]:
    """The provider."""
    running = oidc_provider.Provider()
    yield running
    running.close()


@pytest.fixture
def ours(there: oidc_provider.Provider) -> Configuration:
    console = f"http://127.0.0.1:{free_port(socket.SOCK_STREAM)}"
    roles = {"crew": Role.OPERATOR, "it": Role.ADMIN}
    return Configuration(
        there.issuer, CLIENT, SecretStr(SECRET), roles, "groups", "openid profile", "Example ID", console + CALLBACK
    )


# --- the provider as we talk to it


class Clock:
    """Time as the test wants it."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def log_in(provider: Provider, handshake: Handshake | None = None, shown: Handshake | None = None) -> dict[str, Any]:
    """The whole way without a browser: what the provider says of whoever was sent there."""
    asked = handshake or Handshake()
    code = parse_qs(urlsplit(get(asyncio.run(provider.address(asked))).headers["Location"]).query)["code"][0]
    return asyncio.run(provider.claims(code, shown or asked))


def test_what_the_provider_publishes_is_kept_for_an_hour(there: oidc_provider.Provider, ours: Configuration) -> None:
    time = Clock()
    provider = Provider(ours, time)
    for seconds in (0.0, 3599.0, 3601.0):
        time.now = seconds
        assert log_in(provider)["preferred_username"] == "jane"
    assert there.asked.count("/.well-known/openid-configuration") == there.asked.count("/keys") == 2


def test_new_keys_are_taken_at_once_and_looked_for_once_a_minute(
    there: oidc_provider.Provider, ours: Configuration
) -> None:
    time = Clock()
    provider = Provider(ours, time)
    log_in(provider)
    for algorithm in ("RS256", "ES256"):
        there.key = Key(f"next-{algorithm}", algorithm)
        there.published = [there.key.jwk]
        assert log_in(provider)["sub"] == "4711"
        time.now += REFETCH_SECONDS
    there.key = Key("not published")
    for _ in range(3):
        with pytest.raises(UnknownKeyError):
            log_in(provider)
    assert there.asked.count("/keys") == 4


def test_a_code_alone_is_worth_nothing(there: oidc_provider.Provider, ours: Configuration) -> None:
    with pytest.raises(LoginRefusedError, match="invalid_grant"):
        log_in(Provider(ours), Handshake(), shown=Handshake())
    wrong = replace(ours, client_secret=SecretStr("guessed"))
    with pytest.raises(ProviderError, match="401, 'invalid_client'") as caught:
        log_in(Provider(wrong))
    assert "guessed" not in str(caught.value)
    there.auth_method = "client_secret_post"
    assert log_in(Provider(ours))["sub"] == "4711"


def test_a_claim_that_the_id_token_lacks_is_asked_of_userinfo(
    there: oidc_provider.Provider, ours: Configuration
) -> None:
    del there.person["groups"]
    there.userinfo = {"sub": "4711", "groups": ["it"], "preferred_username": "other"}
    found = log_in(Provider(ours))
    assert (found["groups"], found["preferred_username"]) == (["it"], "jane")
    there.userinfo["sub"] = "4712"
    with pytest.raises(LoginRefusedError, match="somebody else"):
        log_in(Provider(ours))


def test_a_provider_that_is_down_is_left_alone_for_a_while(
    there: oidc_provider.Provider, ours: Configuration, monkeypatch: pytest.MonkeyPatch
) -> None:
    time = Clock()
    there.close()
    provider = Provider(ours, time)
    with pytest.raises(ProviderError, match="does not answer: ConnectError"):
        log_in(provider)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setattr(talking, "PATIENCE_SECONDS", 0.05)
        port = silent.getsockname()[1]
        hanging = Provider(replace(ours, issuer=f"http://127.0.0.1:{port}"), time)
        with pytest.raises(ProviderError, match="does not answer"):
            log_in(hanging)
        silent.accept()[0].close()
        silent.settimeout(0)
        with pytest.raises(ProviderError, match="does not answer"):
            log_in(hanging)
        with pytest.raises(BlockingIOError):
            silent.accept()


def test_a_provider_of_another_name_is_not_talked_to(there: oidc_provider.Provider, ours: Configuration) -> None:
    with pytest.raises(ProviderError, match="calls itself"):
        log_in(Provider(replace(ours, issuer=there.issuer + "/")))


# --- the console's own addresses


@pytest.fixture
def start(registered: str, ours: Configuration) -> Iterator[Callable[..., str]]:
    """Starts the platform's door; returns its address."""
    doors: list[HttpDoor] = []

    def starting(oidc: Configuration | None = ours, *, secure: bool = False, certificate: Path | None = None) -> str:
        ports = Ports(
            registered,
            health=lambda: {"database": "ok"},
            rules=list,
            failing=dict,
            idle=dict,
            profiles=shipped_profiles(),
            now=clock.now,
            oidc=oidc,
            secure=secure,
        )
        for door in doors:
            door.close(5)
        port = urlsplit(ours.callback).port or 0
        doors[:] = [HttpDoor("127.0.0.1", port, dict, Context(ports), certificate)]
        doors[0].open()
        doors[0].start()
        return f"{'http' if certificate is None else 'https'}://127.0.0.1:{port}"

    yield starting
    for door in doors:
        door.close(5)


@pytest.fixture
def browser() -> Iterator[httpx.Client]:
    with httpx.Client(verify=False, timeout=60) as client:
        yield client


def sign_in(browser: httpx.Client, console: str) -> httpx.Response:
    """By way of the provider; what the callback answers."""
    there = get(browser.get(f"{console}/oidc/begin").headers["Location"])
    return browser.get(there.headers["Location"])


def audit(url: str) -> list[tuple[str, str, str, dict[str, object]]]:
    with connect(url) as connection:
        return [(line.actor, line.action, line.outcome, line.detail) for line in tokens.trail(connection)]


def test_who_has_a_group_gets_its_role_and_a_session_like_any_other(
    there: oidc_provider.Provider, start: Callable[..., str], browser: httpx.Client, registered: str
) -> None:
    console = start()
    name = f"jane ({urlsplit(there.issuer).netloc})"
    assert browser.get(f"{console}/api/v1/session/ways").json() == {"oidc": "Example ID"}
    answer = sign_in(browser, console)
    assert (answer.status_code, answer.headers["Location"]) == (303, "../")
    assert set(browser.cookies) == {"headworks"}, "the cookie of the log-in is used up"
    session = browser.get(f"{console}/api/v1/session").json()
    assert (session["name"], session["role"]) == (name, "operator")
    assert browser.get(f"{console}/api/v1/tokens").status_code == 403

    acknowledge = f"{console}/api/v1/alarms/acknowledge"
    assert browser.post(acknowledge, json={"alarms": [1]}).status_code == 403
    csrf = {"X-CSRF-Token": session["csrf"]}
    assert browser.post(acknowledge, json={"alarms": [1]}, headers=csrf).status_code == 200
    assert browser.delete(f"{console}/api/v1/session", headers=csrf).status_code == 204
    assert browser.get(f"{console}/api/v1/session").status_code == 401
    whose = {"issuer": there.issuer, "sub": "4711"}
    lines = audit(registered)
    assert {line[0] for line in lines} == {name}
    assert all(whose.items() <= line[3].items() for line in lines)
    assert [line[1] for line in (lines[0], lines[-1])] == ["session.end", "session.begin"]


def test_the_cookies_are_as_narrow_as_they_can_be(start: Callable[..., str]) -> None:
    console = start(secure=True)
    begun = get(f"{console}/oidc/begin")
    lax = begun.headers["Set-Cookie"]
    assert lax.startswith("__Host-headworks-oidc=")
    assert {part.strip() for part in lax.split(";")[1:]} == {
        "HttpOnly",
        "Max-Age=600",
        "Path=/",
        "SameSite=lax",
        "Secure",
    }
    back = get(begun.headers["Location"]).headers["Location"]
    done = get(back, headers={"Cookie": lax.partition(";")[0]})
    strict, gone = done.headers.get_list("Set-Cookie")
    assert strict.startswith("__Host-headworks=")
    assert {"HttpOnly", "SameSite=strict", "Secure", "Path=/"} <= {part.strip() for part in strict.split(";")}
    assert gone.startswith('__Host-headworks-oidc="";')
    assert done.headers["Cache-Control"] == "no-store"
    assert done.headers["Referrer-Policy"] == "no-referrer"


def test_an_answer_that_was_not_asked_for_here_begins_no_session(
    there: oidc_provider.Provider, start: Callable[..., str], registered: str, capfd: pytest.CaptureFixture[str]
) -> None:
    console = start()

    def back(change: Callable[[str], str], *, cookie: bool = True) -> str:
        with httpx.Client(verify=False, timeout=60) as one:
            address = get(one.get(f"{console}/oidc/begin").headers["Location"]).headers["Location"]
            if not cookie:
                one.cookies.clear()
            answer = one.get(change(address))
            assert not set(one.cookies) & {"headworks"}
            return str(answer.headers["Location"])

    assert back(lambda address: address, cookie=False) == "../?login=expired"
    assert back(lambda address: address.replace("state=", "state=x")) == "../?login=expired"
    assert back(lambda address: address.replace("iss=", "iss=x")) == "../?login=refused"
    assert back(lambda address: address.replace("code=", "error=access_denied&x=")) == "../?login=refused"
    there.change = lambda claims: claims | {"nonce": "of another log-in"}
    assert back(lambda address: address) == "../?login=refused"
    there.change = lambda claims: claims | {"groups": ["canteen"]}
    assert back(lambda address: address) == "../?login=no_role"
    lines = audit(registered)
    assert {line[1:3] for line in lines} == {("session.begin", "denied")}
    assert len(lines) == 4, "what was not begun here is no attempt of anybody"
    assert (lines[0][0], lines[0][3]["sub"]) == (f"jane ({urlsplit(there.issuer).netloc})", "4711")
    eventually(
        lambda: back(lambda address: address.replace("iss=", "iss=x")) == "../?login=often", "it is told to slow down"
    )
    assert back(lambda address: address, cookie=False) == "../?login=expired"
    assert get(f"{console}/api/v1/session").status_code == 401, "and not 429: tokens go on"
    said = "".join(capfd.readouterr())
    assert "oidc.refused" in said
    assert "eyJ" not in said, "no token is in the log"
    assert SECRET not in said


def test_a_provider_without_a_place_to_sign_out_leads_back(
    there: oidc_provider.Provider, start: Callable[..., str]
) -> None:
    there.has_logout = False
    assert get(f"{start()}/oidc/end").headers["Location"] == "../?login=no_end"


def test_while_the_provider_is_down_tokens_and_sessions_go_on(
    there: oidc_provider.Provider, start: Callable[..., str], browser: httpx.Client, registered: str
) -> None:
    console = start()
    sign_in(browser, console)
    there.close()
    with connect(registered) as connection:
        token = tokens.make(connection, "kim", Role.VIEWER, "test")
    console = start()  # with nothing of the provider at hand
    assert get(f"{console}/oidc/begin").headers["Location"] == "../?login=unavailable"
    assert httpx.post(verify=False, url=f"{console}/api/v1/session", json={"token": token}).status_code == 200
    assert browser.get(f"{console}/api/v1/session").json()["role"] == "operator"


def test_a_session_ends_with_its_provider_or_by_an_admins_word(
    there: oidc_provider.Provider,
    ours: Configuration,
    start: Callable[..., str],
    browser: httpx.Client,
    registered: str,
) -> None:
    console = start()
    sign_in(browser, console)
    assert browser.get(f"{console}/api/v1/session").status_code == 200
    start(None)
    assert browser.get(f"{console}/api/v1/session").status_code == 401
    assert browser.get(f"{console}/api/v1/session/ways").json() == {"oidc": None}
    assert browser.get(f"{console}/oidc/begin").status_code == 404
    start(replace(ours, issuer="https://other.example.org"))
    assert browser.get(f"{console}/api/v1/session").status_code == 401
    start()
    assert browser.get(f"{console}/api/v1/session").status_code == 200
    with connect(registered) as connection:
        connection.execute("UPDATE console_session SET seen_at = now() - %s", (tokens.SESSION_IDLE,))
    assert browser.get(f"{console}/api/v1/session").status_code == 401
    sign_in(browser, console)
    assert browser.get(f"{console}/api/v1/session").status_code == 200
    with connect(registered) as connection:
        assert tokens.revoke(connection, f"jane ({urlsplit(there.issuer).netloc})", "test")
    assert browser.get(f"{console}/api/v1/session").status_code == 401


def test_a_running_platform_has_it_by_its_settings(
    there: oidc_provider.Provider, browser: httpx.Client, registered: str, broker_url: str
) -> None:
    told: dict[str, Any] = {
        "console_url": "http://127.0.0.1:9",  # where people come from is a proxy's business
        "oidc_issuer": there.issuer,
        "oidc_client_id": CLIENT,
        "oidc_client_secret": SecretStr(SECRET),
        "oidc_roles": "crew=engineer",
        "oidc_claim": "realm.roles",
    }
    there.person["realm"] = {"roles": ["crew"]}
    with running(registered, broker_url, **told) as doors:
        back = get(browser.get(f"{doors.http}/oidc/begin").headers["Location"]).headers["Location"]
        assert back.startswith("http://127.0.0.1:9/oidc/callback?")
        assert browser.get(back.replace("http://127.0.0.1:9", doors.http)).headers["Location"] == "../"
        assert browser.get(f"{doors.http}/api/v1/session").json()["role"] == "engineer"


def test_in_a_browser_the_strict_cookie_is_there_after_the_way_back(
    there: oidc_provider.Provider, ours: Configuration, start: Callable[..., str], tmp_path: Path
) -> None:
    """Over HTTPS, as only then the cookies have their whole names; and the provider is another site."""
    driver = pytest.importorskip("playwright.sync_api", reason="no Playwright: `make browser` installs it")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("no Chromium: Debian's package chromium has it")
    over_tls = replace(ours, callback=ours.callback.replace("http://", "https://"))
    console = start(over_tls, secure=True, certificate=self_signed(tmp_path / "door.pem"))
    there.person["groups"] = ["canteen"]
    with driver.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = opened.new_page(locale="zh-CN", ignore_https_errors=True)
        page.set_default_timeout(60_000)
        page.goto(f"{console}/#/kpis")
        page.get_by_role("link", name="通过 Example ID 登录").click()
        page.get_by_text("您的身份已确认，但在此没有角色。").wait_for()
        page.get_by_label("令牌").wait_for()
        SHOTS.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=str(SHOTS / "oidc.png"))
        assert page.url == f"{console}/#/kpis"
        there.person["groups"] = ["it"]
        page.get_by_role("link", name="通过 Example ID 登录").click()
        page.get_by_text("jane (localhost").wait_for()
        assert page.url == f"{console}/#/kpis", "no code in the address, and the page that was asked for"
        cookies = {cookie["name"]: cookie["sameSite"] for cookie in page.context.cookies(console)}
        assert cookies == {"__Host-headworks": "Strict"}
        page.reload()
        page.get_by_role("button", name="退出").click()
        page.get_by_role("link", name="通过 Example ID 登录").wait_for()
        page.get_by_role("link", name="在那里退出").click()
        page.wait_for_url(f"{there.issuer}/logout?client_id={CLIENT}")
        opened.close()
