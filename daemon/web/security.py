"""Who may ask the pages for something: this host's own browser, through pages that this process served.

The pages know no passwords. They therefore bind to loopback only; from elsewhere they are reached by an SSH tunnel or
through a reverse proxy that authenticates (its address is `web.public_origin`). What remains are other web sites open
in the same browser: the `Host` header is checked against DNS rebinding, every POST needs the same origin and a token
that only our own pages can read, and no page may run a script that is not a file of this package.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass, field
from urllib.parse import quote, unquote, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cell.errors import ConfigurationError, DataError
from cell.settings import Settings

SESSION_COOKIE = "inspectd_session"
REVIEWER_COOKIE = "inspectd_reviewer"
TOKEN_HEADER = "x-csrf-token"  # noqa: S105 (a header's name)
_REVIEWER_DAYS = 180
_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
_SESSION = re.compile(r"[0-9a-f]{32}")

_HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; font-src 'self'; img-src 'self' blob:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
}


def check_host(settings: Settings) -> None:
    """Raise `ConfigurationError` when the pages would listen where other machines can reach them."""
    host = settings.web.host
    if host not in _LOOPBACK:
        raise ConfigurationError(
            f"web.host {host} can be reached from other machines and the pages know no passwords; set it to 127.0.0.1 "
            "and come through `ssh -L` or a reverse proxy that authenticates (web.public_origin)"
        )
    origin = settings.web.public_origin
    if origin and not re.fullmatch(r"https?://[A-Za-z0-9.\-\[\]:]+", origin):
        raise ConfigurationError(f"web.public_origin {origin!r} is not an origin; write it like https://cell7.example")


@dataclass(frozen=True)
class Tokens:
    """Makes and checks the token of a browser session: HMAC-SHA-256 over the session's id by a key of this process."""

    key: bytes = field(default_factory=lambda: secrets.token_bytes(32), repr=False)

    def of(self, session: str) -> str:
        """Return the token that pages of this session carry."""
        return hmac.new(self.key, session.encode(), hashlib.sha256).hexdigest()

    def valid(self, session: str, token: str) -> bool:
        """Tell whether a request of this session carries its token."""
        return bool(_SESSION.fullmatch(session)) and hmac.compare_digest(self.of(session), token)


def session_of(request: Request) -> str:
    """Return the browser's session id, a fresh one when it has none."""
    session = request.cookies.get(SESSION_COOKIE, "")
    return session if _SESSION.fullmatch(session) else secrets.token_hex(16)


def reviewer_of(request: Request) -> str:
    """Return the name that the person at this browser typed, or an empty string."""
    try:
        return checked_name(unquote(request.cookies.get(REVIEWER_COOKIE, "")))
    except DataError:
        return ""


def checked_name(name: str) -> str:
    """Return a reviewer's name without outer spaces. Raises `DataError` when it names nobody."""
    name = " ".join(name.split())
    if not 2 <= len(name) <= 64 or not name.isprintable() or not any(character.isalpha() for character in name):
        raise DataError("type your name, 2 to 64 characters: every decision is recorded under it")
    return name


def reviewer_cookie(name: str) -> dict[str, str | int | bool]:
    """Return the arguments of `set_cookie` that keep a reviewer's name in the browser."""
    return {
        "key": REVIEWER_COOKIE,
        "value": quote(name),
        "max_age": _REVIEWER_DAYS * 86400,
        "samesite": "strict",
        "httponly": True,
    }


class Guard:
    """ASGI middleware: refuses foreign hosts, foreign origins and requests without the page's token; sets headers."""

    def __init__(self, app: ASGIApp, tokens: Tokens, public_origin: str = "") -> None:
        self._app = app
        self._tokens = tokens
        self._public_origin = public_origin
        self._hosts = _LOOPBACK | ({urlsplit(public_origin).hostname or ""} if public_origin else set())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on what may pass."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
                headers.setdefault("cache-control", "no-store")
            await send(message)

        problem = self._problem(scope)
        if problem:
            response = JSONResponse({"error": problem[0], "message": problem[1]}, status_code=403)
            await response(scope, receive, send_guarded)
            return
        await self._app(scope, receive, send_guarded)

    def _problem(self, scope: Scope) -> tuple[str, str] | None:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        try:
            known = urlsplit(f"//{host}").hostname in self._hosts
        except ValueError:
            known = False
        if not known:
            return "host", f"this page is not served as {host!r}; open it by 127.0.0.1 or set web.public_origin"
        if scope["method"] in {"GET", "HEAD"}:
            return None
        if not self._same_origin(headers, host):
            return "origin", "this came from another web site and was refused"
        cookies = Request(scope).cookies
        if not self._tokens.valid(cookies.get(SESSION_COOKIE, ""), headers.get(TOKEN_HEADER, "")):
            return "token", "this page is from before the last start of inspectd-web; load it again"
        return None

    def _same_origin(self, headers: Headers, host: str) -> bool:
        if headers.get("sec-fetch-site", "same-origin") != "same-origin":
            return False
        origin = headers.get("origin")
        # Browsers send Origin with every POST; without one it is no browser, and the token decides.
        return origin is None or origin in {f"http://{host}", f"https://{host}", self._public_origin}
