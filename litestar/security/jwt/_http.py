from __future__ import annotations

import re
import time
import zlib
from collections.abc import Awaitable, Callable, Mapping
from email.utils import parsedate_to_datetime
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from ipaddress import ip_address
from random import uniform
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol, TypeAlias, TypeVar, runtime_checkable
from urllib.parse import urlsplit

import anyio
import anyio.to_thread

from litestar.exceptions import ImproperlyConfiguredException, MissingDependencyException

if TYPE_CHECKING:
    import ssl
    from contextlib import AbstractAsyncContextManager

__all__ = (
    "FetchError",
    "FetchFunction",
    "Fetched",
    "HTTPClient",
    "HTTPResponse",
    "Transport",
    "check_headers",
    "check_url",
    "freshness",
    "in_thread",
    "label_of",
)

T = TypeVar("T")

_CLIENTS: Final = ("httpx2", "httpx")
_RETRIES: Final = 2
# Seconds before the first retry, and how much longer each further one waits.
_BACKOFF: Final = 0.2
_BACKOFF_FACTOR: Final = 4
_TOO_MANY_REQUESTS: Final = 429
_NOT_MODIFIED: Final = 304
_OK: Final = 200
_ZLIB_OR_GZIP: Final = 47
_URL: Final = re.compile(r"https?://[!#$%&'()*+,\-./0-9:;=?@A-Z\[\]_a-z~]+", re.ASCII)
_FIELD_NAME: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+", re.ASCII)
_FIELD_VALUE: Final = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
_MAX_AGE: Final = re.compile(r"(?:^|[\s,])max-age\s*=\s*\"?(\d{1,12})", re.ASCII | re.IGNORECASE)
_NO_REUSE: Final = re.compile(r"(?:^|[\s,])no-(?:cache|store)(?:$|[\s,])", re.ASCII | re.IGNORECASE)
_SECONDS: Final = re.compile(r"\d{1,12}", re.ASCII)


class HTTPResponse(Protocol):
    """What a fetch function returns. A response of ``httpx`` is one."""

    @property
    def status_code(self) -> int:
        """The status code."""
        ...

    @property
    def headers(self) -> Mapping[str, str]:
        """The header fields."""
        ...

    @property
    def content(self) -> bytes:
        """The body, decoded from any content coding."""
        ...


@runtime_checkable
class HTTPClient(Protocol):
    """What is used of an ``AsyncClient`` of ``httpx2`` or ``httpx``."""

    def stream(
        self, method: str, url: str, *, headers: Mapping[str, str], follow_redirects: bool
    ) -> AbstractAsyncContextManager[Any]:
        """Send a request, and give access to the response before its body has been read."""
        ...


FetchFunction: TypeAlias = Callable[[str, Mapping[str, str]], Awaitable[HTTPResponse]]
"""An ``async`` function that sends a ``GET`` request, given a URL and header fields."""


class Fetched(NamedTuple):
    """An answer that can be used: ``200``, or ``304`` without a body."""

    status_code: int
    headers: Mapping[str, str]
    """The header fields, their names in lower case."""
    body: bytes


class FetchError(Exception):
    """There is no answer that can be used. The message says why."""

    def __init__(self, message: str, *, transient: bool = False, retry_after: float | None = None) -> None:
        """Say what is wrong.

        Args:
            message: The reason.
            transient: Whether to try again.
            retry_after: Seconds after which to try again, if the other side named them.
        """
        super().__init__(message)
        self.transient = transient
        self.retry_after = retry_after


class Transport:
    """Gets small documents over HTTP: bounded in size, without redirects, with retries until the caller's deadline."""

    __slots__ = ("_client", "_max_body_size")

    def __init__(self, client: HTTPClient | FetchFunction | None, *, max_body_size: int) -> None:
        """Choose what sends the requests.

        Args:
            client: The caller's own client or function, which is never closed here. Otherwise one of ``httpx2``, or of
                ``httpx`` where only that is installed.
            max_body_size: Bytes of the largest body to accept.

        Raises:
            ImproperlyConfiguredException: If the client is not one.
            MissingDependencyException: If there is none, and no package that has one.
        """
        if client is None and not any(find_spec(package) for package in _CLIENTS):
            raise MissingDependencyException(_CLIENTS[0], extra="jwt")
        if client is not None and not isinstance(client, HTTPClient) and not callable(client):
            raise ImproperlyConfiguredException("'client' is neither an asynchronous HTTP client nor a function")
        self._client = client
        self._max_body_size = max_body_size

    async def get(self, url: str, headers: Mapping[str, str]) -> Fetched:
        """Get a document, trying again after errors that may pass.

        A retry takes place only if it can start before the deadline of the surrounding cancel scope.

        Args:
            url: Where to get it.
            headers: Header fields to send.

        Returns:
            The answer.

        Raises:
            FetchError: If there is none that can be used.
        """
        attempt = 0
        while True:
            try:
                return await self._try(url, headers)
            except FetchError as e:
                delay = _BACKOFF * _BACKOFF_FACTOR**attempt * uniform(0.5, 1.5)  # noqa: S311
                if e.retry_after is not None:
                    delay = e.retry_after
                in_time = anyio.current_time() + delay < anyio.current_effective_deadline()
                if attempt == _RETRIES or not e.transient or not in_time:
                    raise
            attempt += 1
            await anyio.sleep(delay)

    async def _try(self, url: str, headers: Mapping[str, str]) -> Fetched:
        try:
            if self._client is None:
                client = await in_thread(_new_client)
                async with client:
                    return await self._stream(client, url, headers)
            if isinstance(self._client, HTTPClient):
                return await self._stream(self._client, url, headers)
            return self._checked(await self._client(url, headers))
        except FetchError:
            raise
        except Exception as e:  # each client has errors of its own
            raise FetchError(f"{type(e).__name__}: {_reason(e)}", transient=True) from e

    async def _stream(self, client: HTTPClient, url: str, headers: Mapping[str, str]) -> Fetched:
        headers = {"Accept-Encoding": "identity", **headers}
        async with client.stream("GET", url, headers=headers, follow_redirects=False) as response:
            fields = _lower(response.headers)
            _check_status(response.status_code, fields)
            body = bytearray()
            with anyio.CancelScope() as enough:
                async for chunk in response.aiter_raw():
                    body += chunk
                    if len(body) > self._max_body_size:
                        # To leave the loop would leave generators of the client unfinished. Cancellation ends them.
                        enough.cancel()
            self._check_size(len(body))
        decoded = self._decoded(bytes(body), fields.get("content-encoding", ""))
        return Fetched(response.status_code, fields, decoded)

    def _checked(self, response: HTTPResponse) -> Fetched:
        fields = _lower(response.headers)
        _check_status(response.status_code, fields)
        self._check_size(len(response.content))
        return Fetched(response.status_code, fields, response.content)

    def _check_size(self, size: int) -> None:
        if size > self._max_body_size:
            raise FetchError(f"the body has more than {self._max_body_size} bytes")

    def _decoded(self, body: bytes, coding: str) -> bytes:
        """Undo a content coding that was not asked for. No more is inflated than is accepted."""
        if not body or coding.strip().lower() in {"", "identity"}:
            return body
        if coding.strip().lower() not in {"gzip", "x-gzip", "deflate"}:
            raise FetchError("unsupported content coding")
        inflate = zlib.decompressobj(_ZLIB_OR_GZIP)
        try:
            decoded = inflate.decompress(body, self._max_body_size + 1)
        except zlib.error as e:
            raise FetchError("the compressed body is damaged") from e
        self._check_size(len(decoded))
        if not inflate.eof:
            raise FetchError("the compressed body is cut off")
        return decoded


async def in_thread(function: Callable[..., T], *args: Any) -> T:
    """Call a function in a worker thread. It does not queue behind the application's own synchronous handlers."""
    return await anyio.to_thread.run_sync(function, *args, limiter=anyio.CapacityLimiter(1))


def check_url(url: str, *, allow_http: bool = False) -> None:
    """Check that keys may be fetched from a URL.

    Args:
        url: The URL.
        allow_http: Whether plain HTTP is good enough. On the loopback interface it always is.

    Raises:
        ValueError: If they must not be.
    """
    if not isinstance(url, str) or not _URL.fullmatch(url):
        raise ValueError("not an HTTP URL")
    parts = urlsplit(url)
    if parts.username is not None or parts.password is not None:
        raise ValueError("a URL must not hold credentials")
    if not parts.hostname or parts.fragment or not _has_valid_port(parts.netloc):
        raise ValueError("not an HTTP URL")
    if parts.scheme != "https" and not allow_http and not _is_loopback(parts.hostname):
        raise ValueError("https is required, set 'allow_http' to do without")


def label_of(url: str) -> str:
    """Return what logs may show of a URL: a query may hold a secret."""
    return url.partition("?")[0]


def _has_valid_port(netloc: str) -> bool:
    port = netloc.rpartition("]")[2].partition(":")[2]
    return not port or (port.isdigit() and 0 < int(port[:6]) <= 65_535)


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def check_headers(headers: Mapping[str, str]) -> None:
    """Check header fields, as their values would otherwise turn up in the error message of a client.

    Args:
        headers: The header fields.

    Raises:
        ValueError: If a name or value is not one.
    """
    for name, value in headers.items():
        if not _FIELD_NAME.fullmatch(name) or not _FIELD_VALUE.fullmatch(value):
            raise ValueError("not a header field")


def freshness(headers: Mapping[str, str], *, now: float) -> float | None:
    """Tell for how long an answer is fresh (`RFC 9111, section 4.2 <https://datatracker.ietf.org/doc/html/rfc9111>`_).

    Args:
        headers: Header fields of the answer, their names in lower case.
        now: The time, in seconds since the epoch.

    Returns:
        Seconds, or ``None`` where the answer does not say.
    """
    control = headers.get("cache-control", "")
    if _NO_REUSE.search(control):
        return 0
    if match := _MAX_AGE.search(control):
        age = _SECONDS.fullmatch(headers.get("age", "").strip())
        return max(0.0, float(match[1]) - float(age[0] if age else 0))
    if "max-age" in control.lower():
        return 0
    if (expires := headers.get("expires")) is None:
        return None
    # Dates that are not ones, "0" above all, lie in the past (section 5.3).
    return max(0.0, _timestamp(expires, 0) - _timestamp(headers.get("date", ""), now))


def _timestamp(date: str, default: float) -> float:
    try:
        return parsedate_to_datetime(date).timestamp()
    except (ValueError, TypeError, OverflowError):
        return default


def _reason(error: BaseException) -> str:
    """Return what an error says, or else what led to it."""
    cause = error.__cause__ or error.__context__
    return str(error) or (_reason(cause) if cause is not None else "")


def _lower(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


def _check_status(status_code: int, headers: Mapping[str, str]) -> None:
    if status_code in {_OK, _NOT_MODIFIED}:
        return
    if 300 <= status_code < 400:
        raise FetchError(f"status {status_code}: redirects are not followed")
    transient = status_code == _TOO_MANY_REQUESTS or status_code >= 500
    raise FetchError(f"status {status_code}", transient=transient, retry_after=_retry_after(headers))


def _retry_after(headers: Mapping[str, str]) -> float | None:
    value = headers.get("retry-after", "").strip()
    if _SECONDS.fullmatch(value):
        return float(value)
    at = _timestamp(value, 0)
    return max(0.0, at - time.time()) if at else None


def _new_client() -> Any:
    """Make a client for one fetch: documents are fetched so rarely that a connection is not worth keeping.

    Importing the package and reading CA certificates take tens of milliseconds, so this is for a worker thread.
    """
    package = import_module(next(package for package in _CLIENTS if find_spec(package)))
    return package.AsyncClient(verify=_ssl_context(package.__name__), timeout=None)


@cache
def _ssl_context(package: str) -> ssl.SSLContext:
    context: ssl.SSLContext = import_module(package).create_ssl_context()
    return context
