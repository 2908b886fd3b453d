"""A key provider that finds the keys of an issuer by the issuer's name."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, field
from logging import getLogger
from typing import TYPE_CHECKING, Final, Literal
from urllib.parse import urlsplit

import anyio

from litestar.exceptions import ImproperlyConfiguredException
from litestar.security.jwt.key_providers.fetch import FetchError, is_loopback, label_of, url_problem
from litestar.security.jwt.key_providers.remote import RemoteJWKSet
from litestar.security.jwt.key_set import TENANT, is_issuer
from litestar.security.jwt.keys import UnknownIssuerException, names_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Sequence

    from litestar.security.jwt.key_providers.fetch import Document
    from litestar.security.jwt.keys import SelectedKeys
    from litestar.security.jwt.unverified import UnverifiedToken

__all__ = ("OpenIDProvider",)

_logger: Final = getLogger("litestar.security.jwt")

_WELL_KNOWN: Final = ("openid-configuration", "oauth-authorization-server")
# The part of the deadline that discovery gets if it is known where the keys are, so that there is time to fetch them.
_DISCOVERY_SHARE: Final = 0.5
# How much of a foreign name a log line shows.
_SHOWN_CHARACTERS: Final = 200
_HOW_TO_REACH: Final = (
    "If this application reaches the keys under another URL, use RemoteJWKSet with that URL, and 'accepted_issuers'"
)


class _Discovery:
    """What changes in an :class:`OpenIDProvider` besides what changes in each :class:`RemoteJWKSet`."""

    def __init__(self) -> None:
        self.jwks_uri: str | None = None
        """Where the keys are, by the last discovery document. ``OpenIDProvider._discover`` changes it."""


@dataclass(frozen=True, eq=False, repr=False)
class OpenIDProvider(RemoteJWKSet):
    """A key provider that finds the keys of an issuer by the issuer's name.

    It is a :class:`RemoteJWKSet` that first reads in the issuer's discovery document where the keys are (`OpenID Connect Discovery
    1.0, section 4 <https://openid.net/specs/openid-connect-discovery-1_0.html#ProviderConfig>`_). If the document cannot be
    fetched, it fetches the keys from where they were before.

    It always checks that the ``iss`` claim of a token is the name of the issuer, trailing slash included.

    Microsoft Entra ID has one discovery document for all its tenants, with ``{tenantid}`` in place of the tenant.
    Pass this issuer and the URL of the document. ``iss`` of a token must then be the issuer with the ``tid`` claim of the
    token in place of ``{tenantid}``. Use ``accepted_issuers`` of the backend to choose the tenants. By default, all are
    accepted:

    .. code-block:: python

        ENTRA = "https://login.microsoftonline.com"

        OpenIDProvider(
            f"{ENTRA}/{{tenantid}}/v2.0",
            discovery_url=f"{ENTRA}/organizations/v2.0/.well-known/openid-configuration",
        )

    A key that has an ``issuer`` member with another name, as some keys of Entra have, verifies only tokens of that issuer.
    """

    url: str = field(init=False)
    """Where the discovery document is."""
    issuer: str
    """The issuer, exactly as it names itself in its discovery document."""
    _: KW_ONLY
    discovery_url: str | None = None
    """Where the document is. By default, the URL is derived from ``issuer``."""
    issuer_in_tokens: str | Sequence[str] = ()
    """The value or values of ``iss`` in tokens, if they differ from ``issuer``. Google has two, for example."""
    well_known: Literal["openid-configuration", "oauth-authorization-server"] = "openid-configuration"
    """The document to fetch. By default, it is the one of OpenID Connect, below the issuer. ``oauth-authorization-server`` is
    the one of OAuth 2.0, at the root of the host (`RFC 8414, section 3
    <https://datatracker.ietf.org/doc/html/rfc8414#section-3>`_)."""
    _names: tuple[str, ...] = field(init=False)
    """What ``iss`` of a token may be."""
    _discovery: _Discovery = field(init=False)
    """All that changes besides the keys."""

    def __post_init__(self) -> None:
        """Check the options. Nothing is fetched yet.

        Raises:
            ImproperlyConfiguredException: If a URL is not safe to fetch keys from, or an option is not valid.
            MissingDependencyException: If there is no ``client``, and neither ``httpx2`` nor ``httpx`` is installed.
        """
        names = names_of(self.issuer_in_tokens)
        if not all(isinstance(name, str) and name for name in names):
            raise ImproperlyConfiguredException(f"'issuer_in_tokens' is {names!r}. Pass names as strings")
        # A dataclass that is frozen for its users is not for its own constructor.
        object.__setattr__(self, "_names", names or (self.issuer,))
        object.__setattr__(self, "_discovery", _Discovery())
        object.__setattr__(self, "url", _discovery_url(self.issuer, self.discovery_url, self.well_known))
        super().__post_init__()

    @property
    def issuers(self) -> tuple[str, ...]:
        """The name of the issuer, or none if each tenant has its own."""
        return () if TENANT in self.issuer else (self.issuer,)

    @property
    def openid_connect_url(self) -> str | None:
        """Where the discovery document of OpenID Connect is, ``None`` if there is none or its URL has a query, maybe a secret."""
        return self.url if self.well_known == _WELL_KNOWN[0] and "?" not in self.url else None

    def __call__(self, token: UnverifiedToken, /) -> SelectedKeys | Awaitable[SelectedKeys]:
        """Find the keys that may verify a token.

        Args:
            token: The token. Its ``kid``, ``alg``, ``iss`` and, where tenants share keys, ``tid`` are looked at.

        Returns:
            The keys, or an awaitable of them, as :class:`RemoteJWKSet` does.

        Raises:
            UnknownIssuerException: If the token is not from this issuer.
        """
        if not any(is_issuer(name, token) for name in self._names):
            raise UnknownIssuerException(*self._names)
        return super().__call__(token)

    @property
    def _issuer_name(self) -> str:
        return self.issuer

    async def _request(self, deadline: float, no_cache: bool) -> Document:
        jwks_uri = await self._discover(deadline, no_cache)
        try:
            document = await self._fetcher.fetch(jwks_uri, deadline, no_cache=no_cache)
        except FetchError as e:
            if e.is_unreachable and urlsplit(jwks_uri).hostname != urlsplit(self.url).hostname:
                e.args = (f"{e}. {_HOW_TO_REACH}",)
            raise
        content = document.content
        for jwk in content.get("keys") or () if isinstance(content, dict) else ():
            # A key that is bound to this issuer needs no further check, as ``iss`` of each token is checked.
            if isinstance(jwk, dict) and jwk.get("issuer") == self.issuer:
                del jwk["issuer"]
        return document

    async def _discover(self, deadline: float, no_cache: bool) -> str:
        """Return where the keys are."""
        known = self._discovery.jwks_uri
        if known is not None:
            now = anyio.current_time()
            deadline = now + (deadline - now) * _DISCOVERY_SHARE
        try:
            document = await self._fetcher.fetch(self.url, deadline, no_cache=no_cache)
            self._discovery.jwks_uri = jwks_uri = self._checked_jwks_uri(document.content)
        except FetchError as e:
            if known is None:
                raise
            _logger.warning("%r: discovery failed (%s), the keys are fetched from where they were", self, e)
            return known
        return jwks_uri

    def _checked_jwks_uri(self, document: object) -> str:
        """Check what is used of a discovery document."""
        document = document if isinstance(document, dict) else {}
        # An equal name proves that the document is the issuer's own (OpenID Connect Discovery 1.0, section 4.3, and RFC 8414,
        # section 3.3).
        theirs, jwks_uri = str(document.get("issuer")), str(document.get("jwks_uri"))
        if theirs != self.issuer:
            shown = label_of(theirs)[:_SHOWN_CHARACTERS]
            raise FetchError(
                f"'issuer' is {self.issuer!r}, but the discovery document at {label_of(self.url)} names {shown!r}"
            )
        if problem := url_problem(jwks_uri, allow_http=self.allow_http):
            raise FetchError(f"the 'jwks_uri' of the discovery document at {label_of(self.url)} {problem}")
        if is_loopback(jwks_uri) and not is_loopback(self.url):
            raise FetchError(
                f"the 'jwks_uri' of the discovery document at {label_of(self.url)} is {label_of(jwks_uri)!r}, on the loopback "
                f"interface of the issuer. {_HOW_TO_REACH}"
            )
        return jwks_uri


def _discovery_url(issuer: object, url: str | None, well_known: str) -> str:
    """Return where the discovery document is, which also finds names that cannot be right."""
    if not isinstance(issuer, str) or not issuer or issuer != issuer.strip():
        raise ImproperlyConfiguredException(f"'issuer' is {issuer!r}. Set it to the name of your issuer, a full URL")
    if "<" in issuer:
        raise ImproperlyConfiguredException(f"'issuer' is {issuer!r}. Replace the placeholder in it with its value")
    if "/.well-known/" in issuer:
        raise ImproperlyConfiguredException(f"'issuer' is {issuer!r}. Remove the part from '/.well-known/' on")
    if well_known not in _WELL_KNOWN:
        raise ImproperlyConfiguredException(f"'well_known' is {well_known!r}. Use one of {', '.join(_WELL_KNOWN)}")
    if url is not None:
        return url
    parts = urlsplit(issuer)
    if TENANT in issuer or parts.scheme not in {"https", "http"} or parts.query:  # RFC 8414, section 2
        raise ImproperlyConfiguredException(f"'issuer' is {issuer!r}, not a full URL. Set 'discovery_url', too")
    if well_known == _WELL_KNOWN[0]:
        return f"{issuer.removesuffix('/')}/.well-known/{well_known}"
    return f"{parts.scheme}://{parts.netloc}/.well-known/{well_known}{parts.path.removesuffix('/')}"
