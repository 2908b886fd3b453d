"""A key provider that finds the keys of an issuer by the issuer's name."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, field
from logging import getLogger
from math import inf
from typing import TYPE_CHECKING, Any, Final, Literal
from urllib.parse import urlsplit

import anyio
from jwt.exceptions import InvalidIssuerError

from litestar.exceptions import ImproperlyConfiguredException
from litestar.security.jwt.key_providers._fetch import FetchError, fetch_json, is_loopback, url_problem
from litestar.security.jwt.key_providers.jwks import RemoteJWKSet
from litestar.security.jwt.keys import KeyNotFoundException, KeySet, names_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Sequence

    from litestar.security.jwt.keys import SelectedKeys
    from litestar.security.jwt.unverified import UnverifiedToken

__all__ = ("OpenIDProvider",)

_logger: Final = getLogger("litestar.security.jwt")

# What stands for the tenant in the names that Microsoft Entra ID gives to issuers.
_TENANT: Final = "{tenantid}"
_WELL_KNOWN: Final = ("openid-configuration", "oauth-authorization-server")
# The part of the deadline that discovery gets if it is known where the keys are, so that there is time to ask for them.
_DISCOVERY_SHARE: Final = 0.5


@dataclass(eq=False, repr=False)
class OpenIDProvider(RemoteJWKSet):
    """A key provider that finds the keys of an issuer by the issuer's name.

    It is a :class:`RemoteJWKSet` that first asks the issuer's discovery document where the keys are (`OpenID Connect Discovery
    1.0, section 4 <https://openid.net/specs/openid-connect-discovery-1_0.html#ProviderConfig>`_). If the document cannot be
    fetched, it asks for the keys where they were before.

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

    A key that has an ``issuer`` member itself, like the keys of Entra, verifies only tokens of that issuer, unless
    ``issuer_in_tokens`` has the name of the token's issuer literally.
    """

    url: str = field(init=False)
    """Where the discovery document is."""
    issuer: str
    """The issuer, exactly as it names itself in its discovery document."""
    _: KW_ONLY
    discovery_url: str | None = None
    """Where the document is. By default, the URL is made of ``issuer``."""
    issuer_in_tokens: str | Sequence[str] = ()
    """The value or values of ``iss`` in tokens, if they differ from ``issuer``. Google has two, for example."""
    well_known: Literal["openid-configuration", "oauth-authorization-server"] = "openid-configuration"
    """The document to fetch. By default, it is the one of OpenID Connect, below the issuer. ``oauth-authorization-server`` is
    the one of OAuth 2.0, at the root of the host (`RFC 8414, section 3
    <https://datatracker.ietf.org/doc/html/rfc8414#section-3>`_)."""

    def __post_init__(self) -> None:
        """Check the options. Nothing is fetched yet.

        Raises:
            ImproperlyConfiguredException: If a URL is not safe to fetch keys from, or an option is not valid.
            MissingDependencyException: If there is no ``client``, and neither ``httpx2`` nor ``httpx`` is installed.
        """
        self._names = names_of(self.issuer_in_tokens)
        if not all(isinstance(name, str) and name for name in self._names):
            raise ImproperlyConfiguredException(f"'issuer_in_tokens' is {self._names!r}. Pass names as strings")
        self.url = _discovery_url(self.issuer, self.discovery_url, self.well_known)
        self._issuer = self.issuer
        self._jwks_uri: str | None = None
        super().__post_init__()

    @property
    def issuers(self) -> tuple[str, ...]:
        """The name of the issuer, or none if each tenant has its own."""
        return () if _TENANT in self.issuer else (self.issuer,)

    @property
    def openid_connect_url(self) -> str | None:
        """Where the discovery document of OpenID Connect is, ``None`` if there is only one of OAuth 2.0."""
        return self.url if self.well_known == _WELL_KNOWN[0] else None

    def __call__(self, token: UnverifiedToken, /) -> SelectedKeys | Awaitable[SelectedKeys]:
        """Find the keys that may verify a token.

        Args:
            token: The token. Its ``kid``, ``alg``, ``iss`` and, where tenants share keys, ``tid`` are looked at.

        Returns:
            The keys, or an awaitable of them, as :class:`RemoteJWKSet` does.

        Raises:
            KeyNotFoundException: If the token is not of this issuer.
        """
        names = self._names or (self.issuer,)
        if not any(_is_name_of_issuer(name, token) for name in names):
            raise KeyNotFoundException("Invalid token") from InvalidIssuerError(" or ".join(names))
        return super().__call__(token)

    async def _ask(self) -> tuple[Any, float]:
        try:
            with anyio.fail_after(self._timeout * _DISCOVERY_SHARE if self._jwks_uri else inf):
                document, _ = await fetch_json(self.url, self._headers, self.client)
            self._jwks_uri = self._find_jwks_uri(document)
        except Exception as e:
            if self._jwks_uri is None:
                raise
            _logger.warning("%r: discovery failed (%r), the keys are asked for where they were", self, e)
        return await fetch_json(self._jwks_uri, self._headers, self.client)

    def _find_jwks_uri(self, document: Any) -> str:
        """Judge a discovery document by what is used of it."""
        document = document if isinstance(document, dict) else {}
        # An equal name proves that the document is the issuer's own (OpenID Connect Discovery 1.0, section 4.3, and RFC 8414,
        # section 3.3).
        theirs, jwks_uri = str(document.get("issuer")), str(document.get("jwks_uri"))
        if theirs != self.issuer:
            raise FetchError(f"'issuer' is {self.issuer!r}, but the discovery document names {theirs[:200]!r}")
        if problem := url_problem(jwks_uri, allow_http=self.allow_http):
            raise FetchError(f"the 'jwks_uri' of the discovery document {problem}")
        if is_loopback(jwks_uri) and not is_loopback(self.url):
            raise FetchError("the 'jwks_uri' of the discovery document is on the loopback interface")
        return jwks_uri

    def _select(self, token: UnverifiedToken) -> SelectedKeys:
        """Choose among the keys that are not bound to another issuer.

        Tenants of Microsoft Entra ID share their keys with issuers that anybody can get tokens from.
        """
        if token.issuer in self._names or not any(key.issuer for key in self._keys.keys):
            return super()._select(token)
        named = [key for key in self._keys.keys if key.kid == token.kid or None in (key.kid, token.kid)]
        return KeySet(key for key in named if key.issuer is None or _is_name_of_issuer(key.issuer, token)).select(token)


def _is_name_of_issuer(name: str, token: UnverifiedToken) -> bool:
    """Tell whether a token is of the issuer that has a name, which may have the token's own tenant to be filled in."""
    tenant = token.claims.get("tid")
    return token.issuer == name.replace(_TENANT, tenant if isinstance(tenant, str) else _TENANT)


def _discovery_url(issuer: object, url: str | None, well_known: str) -> str:
    """Return where the discovery document is, which tells the names that cannot be right, too."""
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
    if _TENANT in issuer or parts.scheme not in {"https", "http"} or parts.query:  # RFC 8414, section 2
        raise ImproperlyConfiguredException(f"'issuer' is {issuer!r}, not a full URL. Set 'discovery_url', too")
    if well_known == _WELL_KNOWN[0]:
        return f"{issuer.removesuffix('/')}/.well-known/{well_known}"
    return f"{parts.scheme}://{parts.netloc}/.well-known/{well_known}{parts.path.removesuffix('/')}"
