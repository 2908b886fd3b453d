"""One bounded HTTP GET of a JSON document, and the rules for what may be fetched."""

from __future__ import annotations

import re
import time
from collections.abc import Awaitable, Callable, Mapping
from email.utils import mktime_tz, parsedate_tz
from importlib import import_module
from importlib.util import find_spec
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, Final, TypeAlias
from urllib.parse import urlsplit

import anyio
import anyio.to_thread
import msgspec

from litestar.exceptions import ImproperlyConfiguredException, MissingDependencyException

if TYPE_CHECKING:
    import httpx
    import httpx2

__all__ = ("MAX_LIFETIME", "FetchError", "FetchFunction", "check_options", "fetch_json")

# The largest set in the wild has about 30 keys with certificates, which is some 100 KiB.
_MAX_BODY_SIZE: Final = 512 * 1024
# Seconds for which an answer is fresh: if it does not say, and whatever it says. Issuers rotate keys within days, not minutes.
_DEFAULT_LIFETIME: Final = 600.0
_MIN_LIFETIME: Final = 60.0
MAX_LIFETIME: Final = 86_400.0
# The part of the remaining time that connecting may take.
_CONNECT_SHARE: Final = 0.9
# A URL by RFC 3986 without credentials and a fragment. Braces and angle brackets are left over from templates.
_URL: Final = re.compile(
    r"https?://(\[[\d:.a-f]+\]|[\w.-]+)(:[1-9]\d{0,4})?([/?][\w/?:@!$&'()*+,;=.~%\[\]-]*)?", re.A | re.I
)
_MAX_AGE: Final = re.compile(r"(?<![\w-])max-age\s*=\s*\"?(\d{1,12})", re.ASCII)
_SECONDS: Final = re.compile(r"\d{1,12}", re.ASCII)

AsyncHTTPClient: TypeAlias = "httpx2.AsyncClient | httpx.AsyncClient"
FetchFunction: TypeAlias = Callable[[str, Mapping[str, str]], Awaitable[Any]]
"""An async function from a URL and header fields to a response with ``status_code``, ``headers`` and ``content``."""


class FetchError(Exception):
    """A fetch has failed. The message says why, and shows neither a query nor a header field."""

    def __init__(self, message: str, *, retry_after: float = 0) -> None:
        """Describe the failure.

        Args:
            message: What is wrong.
            retry_after: Seconds after which the server wants to be asked again.
        """
        super().__init__(message)
        self.retry_after = retry_after


async def fetch_json(url: str, headers: Mapping[str, str], client: Any = None) -> tuple[Any, float]:
    """Get a JSON document. The caller sets the deadline.

    Args:
        url: Where the document is. Redirects are not followed.
        headers: Header fields to send, with names in lower case.
        client: An asynchronous client or a function that sends the request. By default, a client is made for this request.

    Returns:
        The document, and the seconds for which it is fresh, from the moment of the request.

    Raises:
        FetchError: If there is no usable answer. Clients have errors of their own besides.
    """
    headers = {"accept": "application/jwk-set+json, application/json", **headers, "accept-encoding": "identity"}
    if client is None:
        # Importing the library and reading CA files takes tens of milliseconds, which the event loop must not miss. The thread
        # is an extra one, as the application's own may all be busy.
        made = await anyio.to_thread.run_sync(_make_client, url, limiter=anyio.CapacityLimiter(1))
        # A TLS handshake that is cancelled leaves its socket open, so the client's own timeout has to come first.
        remaining = anyio.current_effective_deadline() - anyio.current_time()
        made.timeout = (_CONNECT_SHARE * remaining, None, None, None)
        async with made as own:
            fields, body = await _stream(own, url, headers)
    elif hasattr(client, "aclose"):
        fields, body = await _stream(client, url, headers)
    else:
        response = await client(url, headers)
        fields, body = _checked_fields(response), response.content
    if len(body) > _MAX_BODY_SIZE:
        raise FetchError(f"the answer has more than {_MAX_BODY_SIZE:,} bytes")
    try:
        return msgspec.json.decode(body.removeprefix(b"\xef\xbb\xbf")), _lifetime(fields)  # without a BOM
    except (msgspec.DecodeError, ValueError, RecursionError) as e:
        raise FetchError("the answer is not JSON") from e


def _make_client(url: str) -> Any:
    """Make a client for one request. Its CA files are read now, so a renewed file takes effect without a restart."""
    library = import_module("httpx2" if find_spec("httpx2") else "httpx")
    # A proxy has a loopback interface of its own, so it cannot reach ours.
    return library.AsyncClient(verify=library.create_ssl_context(), trust_env=not is_loopback(url))


async def _stream(client: Any, url: str, headers: Mapping[str, str]) -> tuple[dict[str, str], bytes]:
    async with client.stream("GET", url, headers=headers, follow_redirects=False) as response:
        fields = _checked_fields(response)
        if fields.get("content-encoding", "identity").strip().lower() != "identity":
            raise FetchError("the answer is compressed, although no compression was asked for")
        body = bytearray()
        # Cancellation ends the client's nested generators properly. Leaving the loop early would not.
        with anyio.CancelScope() as scope:
            async for chunk in response.aiter_raw():
                body += chunk
                if len(body) > _MAX_BODY_SIZE:
                    scope.cancel()
    return fields, bytes(body)


def _checked_fields(response: Any) -> dict[str, str]:
    """Return the header fields of a good answer, with names in lower case."""
    fields = {name.lower(): value for name, value in response.headers.items()}
    if response.status_code != 200:
        note = ", and redirects are not followed" if 300 <= response.status_code < 400 else ""
        raise FetchError(f"status {response.status_code}{note}", retry_after=_seconds(fields, "retry-after"))
    return fields


def _lifetime(fields: Mapping[str, str]) -> float:
    """Return the seconds for which an answer is fresh (RFC 9111, section 4.2)."""
    if max_age := _MAX_AGE.search(fields.get("cache-control", "").lower()):
        lifetime = float(max_age[1])
    elif "expires" in fields:
        # A date that is not one, "0" above all, lies in the past (section 5.3).
        lifetime = _timestamp(fields["expires"], default=0) - _timestamp(fields.get("date", ""), default=time.time())
    else:
        return _DEFAULT_LIFETIME
    return min(max(lifetime - _seconds(fields, "age"), _MIN_LIFETIME), MAX_LIFETIME)


def _seconds(fields: Mapping[str, str], name: str) -> float:
    value = _SECONDS.fullmatch(fields.get(name, "").strip())
    return float(value[0]) if value else 0


def _timestamp(date: str, *, default: float) -> float:
    parsed = parsedate_tz(date)
    return default if parsed is None else float(mktime_tz(parsed))


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
    """Tell whether a URL is on this machine."""
    try:
        host = str(urlsplit(url).hostname)
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def label_of(url: str) -> str:
    """Return what logs may show of a URL: its query and its credentials may be secrets."""
    return re.sub(r"//[^/]*@", "//", url.partition("?")[0])


def check_options(
    url: str, headers: Mapping[str, str] | None, client: AsyncHTTPClient | FetchFunction | None, *, allow_http: bool
) -> dict[str, str]:
    """Check at construction what requests are made of.

    Args:
        url: Where keys are fetched from.
        headers: Header fields to send.
        client: What sends the requests.
        allow_http: Whether plain http is good enough.

    Returns:
        The header fields, with names in lower case.

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
        raise ImproperlyConfiguredException(f"'client' is a {type(client).__name__}. Pass an async client or function")
    fields = {name.lower(): value for name, value in (headers or {}).items()}
    for text in (*fields, *fields.values()):
        # The error message of a client would show it in the log.
        if not isinstance(text, str) or not text.isascii() or not text.isprintable() or text != text.strip():
            raise ImproperlyConfiguredException("'headers' has something in it that is not visible ASCII text")
    return fields
