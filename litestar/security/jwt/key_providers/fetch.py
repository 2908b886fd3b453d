"""One bounded HTTP GET of a JSON document, and the rules for URLs."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from email.utils import mktime_tz, parsedate_tz
from importlib import import_module
from importlib.util import find_spec
from ipaddress import IPv4Address, IPv6Address, ip_address
from socket import inet_aton
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias, cast
from urllib.parse import urlsplit

import anyio
import anyio.to_thread
import msgspec

from litestar.exceptions import ImproperlyConfiguredException, MissingDependencyException

if TYPE_CHECKING:
    import httpx
    import httpx2

__all__ = (
    "AsyncHTTPClient",
    "Document",
    "FetchError",
    "FetchFunction",
    "Fetcher",
    "is_loopback",
    "label_of",
    "url_problem",
)

# The largest set in the wild has about 30 keys with certificates, which is some 100 KiB.
_MAX_BODY_SIZE: Final = 512 * 1024
# Seconds for which an answer is fresh: if it does not say, and whatever it says. Issuers rotate keys within days, not minutes.
_DEFAULT_LIFETIME: Final = 600.0
_MIN_LIFETIME: Final = 60.0
MAX_LIFETIME: Final = 86_400.0
# The part of the remaining time that connecting may take.
_CONNECT_SHARE: Final = 0.9
# How much of an exception's text a log line shows.
_SHOWN_CHARACTERS: Final = 300
# Firewalls refuse the names that HTTP clients have by default.
_USER_AGENT: Final = "Litestar"
_DEFAULT_USER_AGENT: Final = re.compile(r"python-httpx2?/")
# A URL by RFC 3986 without credentials and a fragment. Braces and angle brackets are left over from templates.
_URL: Final = re.compile(
    r"https?://(\[[\d:.a-f]+\]|[\w.-]+)(:[1-9]\d{0,4})?([/?][\w/?:@!$&'()*+,;=.~%\[\]-]*)?", re.A | re.I
)
_QUERY: Final = re.compile(r"\?[^\s'\"<>]*")
_CREDENTIALS: Final = re.compile(r"//[^/\s]*@")
_MAX_AGE: Final = re.compile(r"(?<![\w-])max-age\s*=\s*\"?(\d{1,12})", re.ASCII)
_NO_STORE: Final = re.compile(r"(?<![\w-])no-store(?![\w-])", re.ASCII)
_SECONDS: Final = re.compile(r"\d{1,12}", re.ASCII)

AsyncHTTPClient: TypeAlias = "httpx2.AsyncClient | httpx.AsyncClient"
FetchFunction: TypeAlias = Callable[[str, Mapping[str, str]], Awaitable[Any]]
"""An async function from a URL and header fields to a response with ``status_code``, ``headers`` and ``content``."""
Client: TypeAlias = "AsyncHTTPClient | FetchFunction | None"
Headers: TypeAlias = Mapping[str, str]


class FetchError(Exception):
    """A fetch has failed. The message says why, and shows neither a query nor a header field."""

    def __init__(self, message: str, *, retry_after: float = 0, is_unreachable: bool = False) -> None:
        """Describe the failure.

        Args:
            message: What is wrong.
            retry_after: Seconds after which the server wants to get the next request.
            is_unreachable: Whether there was no answer at all.
        """
        super().__init__(message)
        self.retry_after = retry_after
        self.is_unreachable = is_unreachable


class Document(NamedTuple):
    """A JSON document that was fetched."""

    url: str
    """Where it is, as logs show it."""
    content: object
    """The document, decoded."""
    lifetime: float
    """The seconds for which it is fresh, from the moment of the request."""


class Fetcher:
    """Sends requests for JSON documents."""

    def __init__(self, url: str, headers: Headers | None, client: Client, timeout: float, *, allow_http: bool) -> None:
        """Check what requests are made of.

        Args:
            url: Where documents are fetched from first. ``headers`` are sent to its origin, and to no other.
            headers: Header fields to send.
            client: What sends the requests. By default, a client is created for each request.
            timeout: Seconds that fetching may take in all, for messages.
            allow_http: Whether plain http is good enough.

        Raises:
            ImproperlyConfiguredException: If one of them cannot work.
            MissingDependencyException: If there is no client, and neither ``httpx2`` nor ``httpx`` is installed.
        """
        if problem := url_problem(url, allow_http=allow_http):
            raise ImproperlyConfiguredException(f"The URL {problem}")
        if client is None and not find_spec("httpx2") and not find_spec("httpx"):
            raise MissingDependencyException("httpx2", extra="jwks")
        is_async = hasattr(client, "aclose") or callable(client)
        if client is not None and (not is_async or isinstance(client, type)):
            raise ImproperlyConfiguredException(
                f"'client' is a {type(client).__name__}. Pass an async client or function"
            )
        self.headers = _checked_headers(headers or {})
        """Header fields to send, with names in lower case. Nobody changes them."""
        self._url, self._client, self._timeout = url, cast("Any", client), timeout
        """The arguments. Nobody changes them."""

    async def fetch(self, url: str, deadline: float, *, no_cache: bool = False) -> Document:
        """Get a JSON document.

        Args:
            url: Where the document is. Redirects are not followed.
            deadline: When to give up, by the clock of the event loop.
            no_cache: Whether caches in between must not answer on their own (RFC 9111, section 5.2.1.4).

        Returns:
            The document.

        Raises:
            FetchError: If there is no usable answer, whatever the reason.
        """
        try:
            received = None
            with anyio.CancelScope(deadline=deadline):
                received = await self._send(url, self._fields_for(url, no_cache=no_cache))
            if received is None:
                raise FetchError(f"no complete answer within {self._timeout:g} s", is_unreachable=True)
            fields, body = received
            if len(body) > _MAX_BODY_SIZE:
                raise FetchError(f"the answer has more than {_MAX_BODY_SIZE:,} bytes")
            return Document(label_of(url), _decode(body), _lifetime(fields))
        except FetchError as e:
            e.args = (f"{label_of(url)}: {e}",)
            raise
        except Exception as e:
            raise FetchError(f"{label_of(url)}: {self._describe(e)}", is_unreachable=True) from e

    def _fields_for(self, url: str, *, no_cache: bool) -> dict[str, str]:
        fields = {"accept": "application/jwk-set+json, application/json"}
        names = getattr(self._client, "headers", None)
        if names is None or _DEFAULT_USER_AGENT.match(names.get("user-agent", "")):
            fields["user-agent"] = _USER_AGENT
        if _origin(url) == _origin(self._url):
            fields |= self.headers
        if no_cache:
            fields["cache-control"] = "no-cache"
        return {**fields, "accept-encoding": "identity"}

    async def _send(self, url: str, fields: dict[str, str]) -> tuple[dict[str, str], bytes]:
        if self._client is None:
            # Importing the library and reading CA files takes tens of milliseconds, which the event loop must not miss. The
            # thread is an extra one, as the application's own may all be busy.
            client = await anyio.to_thread.run_sync(_create_client, url, limiter=anyio.CapacityLimiter(1))
            # A TLS handshake that is cancelled leaves its socket open, so the client's own timeout has to come first.
            remaining = anyio.current_effective_deadline() - anyio.current_time()
            client.timeout = (_CONNECT_SHARE * remaining, None, None, None)
            async with client:
                return await _stream(client, url, fields)
        if hasattr(self._client, "aclose"):
            return await _stream(self._client, url, fields)
        response = await self._client(url, fields)
        return _checked_fields(response), response.content

    def _describe(self, error: Exception) -> str:
        """Return what logs show of another library's exception: no query, no credentials and no header field."""
        try:
            text = repr(error)
        except Exception:  # noqa: BLE001
            text = type(error).__name__
        for value in self.headers.values():
            text = text.replace(value, "...") if value else text
        return _CREDENTIALS.sub("//", _QUERY.sub("", text))[:_SHOWN_CHARACTERS]


def _checked_headers(headers: Mapping[str, str]) -> dict[str, str]:
    fields = {}
    for name, value in headers.items():
        for text in (name, value):
            # The error message of a client would show it in the log.
            if not isinstance(text, str) or not text.isascii() or not text.isprintable() or text != text.strip():
                raise ImproperlyConfiguredException(f"'headers': {name!r} or its value is not visible ASCII text")
        fields[name.lower()] = value
    return fields


def _create_client(url: str) -> Any:
    """Create a client for one request. Its CA files are read now, so a renewed file takes effect without a restart."""
    library = import_module("httpx2" if find_spec("httpx2") else "httpx")
    try:
        context = library.create_ssl_context()
    except OSError as e:
        files = {name: os.environ[name] for name in ("SSL_CERT_FILE", "SSL_CERT_DIR") if name in os.environ}
        raise FetchError(f"the CA files cannot be loaded ({files or 'the default ones'}): {e}") from e
    # A proxy has a loopback interface of its own, so it cannot reach ours.
    return library.AsyncClient(verify=context, trust_env=not is_loopback(url))


async def _stream(client: Any, url: str, fields: dict[str, str]) -> tuple[dict[str, str], bytes]:
    async with client.stream("GET", url, headers=fields, follow_redirects=False) as response:
        received = _checked_fields(response)
        if received.get("content-encoding", "identity").strip().lower() != "identity":
            raise FetchError("the answer is compressed, although no compression was requested")
        body = bytearray()
        # Cancellation ends the client's nested generators properly. Leaving the loop early would not.
        with anyio.CancelScope() as scope:
            async for chunk in response.aiter_raw():
                body += chunk
                if len(body) > _MAX_BODY_SIZE:
                    scope.cancel()
    return received, bytes(body)


def _checked_fields(response: Any) -> dict[str, str]:
    """Return the header fields of a good answer, with names in lower case."""
    fields = {name.lower(): value for name, value in response.headers.items()}
    status = response.status_code
    if status != 200:
        note = ", and redirects are not followed" if 300 <= status < 400 else ""
        if status == 403:
            note = f". If a firewall refuses the User-Agent {_USER_AGENT!r}, set another one in 'headers'"
        raise FetchError(f"status {status}{note}", retry_after=_retry_after(fields))
    return fields


def _decode(body: bytes) -> object:
    try:
        return msgspec.json.decode(body.removeprefix(b"\xef\xbb\xbf"))  # without a BOM
    except (msgspec.DecodeError, ValueError, RecursionError) as e:
        raise FetchError("the answer is not JSON") from e


def _lifetime(fields: Mapping[str, str]) -> float:
    """Return the seconds for which an answer is fresh (RFC 9111, section 4.2)."""
    cache_control = fields.get("cache-control", "").lower()
    if _NO_STORE.search(cache_control):
        return _MIN_LIFETIME
    if max_age := _MAX_AGE.search(cache_control):
        lifetime = float(max_age[1])
    elif "expires" in fields:
        now = _timestamp(fields.get("date", ""), default=time.time())
        # A date that is not one, "0" above all, lies in the past (section 5.3).
        lifetime = _timestamp(fields["expires"], default=0) - now
    else:
        return _DEFAULT_LIFETIME
    return min(max(lifetime - _seconds(fields.get("age", "")), _MIN_LIFETIME), MAX_LIFETIME)


def _retry_after(fields: Mapping[str, str]) -> float:
    """Return the seconds of a ``Retry-After``, which may be a date (RFC 9110, section 10.2.3)."""
    value = fields.get("retry-after", "")
    return _seconds(value) or max(_timestamp(value, default=0) - time.time(), 0)


def _seconds(value: str) -> float:
    matched = _SECONDS.fullmatch(value.strip())
    return float(matched[0]) if matched else 0


def _timestamp(date: str, *, default: float) -> float:
    try:
        parsed = parsedate_tz(date)
        return default if parsed is None else float(mktime_tz(parsed))
    except (ValueError, OverflowError):  # the year 10000, for example
        return default


def url_problem(url: object, *, allow_http: bool) -> str | None:
    """Tell why keys must not be fetched from a URL.

    Args:
        url: The URL.
        allow_http: Whether plain http is good enough. On the loopback interface it always is.

    Returns:
        The end of a sentence that starts with the name of the URL, or ``None`` if there is no problem.
    """
    if not isinstance(url, str) or not _URL.fullmatch(url):
        return f"is {label_of(str(url))!r}. Set it to a full https URL, without placeholders, credentials and fragment"
    if url.lower().startswith("http:") and allow_http is not True and not is_loopback(url):
        return f"is {label_of(url)!r}: keys fetched over plain http can be replaced. Use https, or set allow_http=True"
    return None


def is_loopback(url: str) -> bool:
    """Tell whether a URL is on this machine, in whatever spelling: ``127.1``, ``0``, ``2130706433``, ``::ffff:127.0.0.1``."""
    host = (urlsplit(url).hostname or "").rstrip(".")
    if host == "localhost" or host.endswith(".localhost"):  # RFC 6761, section 6.3
        return True
    try:
        address: IPv4Address | IPv6Address = ip_address(inet_aton(host)) if ":" not in host else ip_address(host)
    except (OSError, ValueError):
        return False
    address = getattr(address, "ipv4_mapped", None) or address
    return address.is_loopback or address.is_unspecified


def label_of(url: str) -> str:
    """Return what logs may show of a URL: its query and its credentials may be secrets."""
    return _CREDENTIALS.sub("//", url.partition("?")[0])


def _origin(url: str) -> tuple[str, str | None, int]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or {"https": 443}.get(parts.scheme, 80)
