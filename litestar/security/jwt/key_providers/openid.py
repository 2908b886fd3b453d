"""A key provider that finds the keys of an issuer by the issuer's name."""

from __future__ import annotations

from logging import getLogger
from math import inf
from typing import TYPE_CHECKING, Any, Final, Literal, TypedDict, Unpack
from urllib.parse import urlsplit

import anyio
from jwt.exceptions import InvalidIssuerError

from litestar.exceptions import ImproperlyConfiguredException
from litestar.security.jwt.key_providers._fetch import FetchError, fetch_json, is_loopback, url_problem
from litestar.security.jwt.key_providers.jwks import RemoteJWKSet
from litestar.security.jwt.keys import KeyNotFoundException, KeySet

if TYPE_CHECKING:
    from collections.abc import Awaitable, Mapping, Sequence
    from datetime import timedelta

    from litestar.security.jwt.key_providers._fetch import AsyncHTTPClient, FetchFunction
    from litestar.security.jwt.keys import SelectedKeys
    from litestar.security.jwt.unverified import UnverifiedToken
    from litestar.stores.base import Store

__all__ = ("OpenIDProvider", "RemoteOptions")

_logger: Final = getLogger("litestar.security.jwt")

# What stands for the tenant in the names that Microsoft Entra ID gives to issuers.
_TENANT: Final = "{tenantid}"
_WELL_KNOWN: Final = ("openid-configuration", "oauth-authorization-server")
# The part of the deadline that discovery gets if it is known where the keys are, so that there is time to ask for them.
_DISCOVERY_SHARE: Final = 0.5
# How much of a foreign name an error message shows.
_SHOWN_CHARACTERS: Final = 200


class RemoteOptions(TypedDict, total=False):
    """The options that an :class:`OpenIDProvider` shares with a :class:`RemoteJWKSet`, which describes them."""

    lifetime: float | timedelta | None
    max_stale: float | timedelta
    withdrawn_grace: float | timedelta
    timeout: float | timedelta
    allow_http: bool
    headers: Mapping[str, str] | None
    client: AsyncHTTPClient | FetchFunction | None
    store: Store | str | None
    require_on_startup: bool


class OpenIDProvider(RemoteJWKSet):
    """A key provider that finds the keys of an issuer by the issuer's name.

    It is a :class:`RemoteJWKSet` that first asks the issuer's discovery document where the keys are (`OpenID Connect Discovery
    1.0, section 4 <https://openid.net/specs/openid-connect-discovery-1_0.html#ProviderConfig>`_). If the document cannot be
    fetched, it asks for the keys where they were before.

    It always checks that the ``iss`` claim of a token is the name of the issuer, trailing slash included.

    Microsoft Entra ID has one discovery document for all its tenants, with ``{tenantid}`` in the place of the tenant. Give the
    issuer like that, together with the URL of the document. A token then has to name the issuer with its own ``tid`` claim
    filled in. All tenants are accepted unless ``accepted_issuers`` of the backend says which:

    .. code-block:: python

        OpenIDProvider(
            "https://login.microsoftonline.com/{tenantid}/v2.0",
            discovery_url="https://login.microsoftonline.com/organizations/v2.0/.well-known/openid-configuration",
        )

    A key that has an ``issuer`` member itself, like the keys of Entra, verifies only tokens of that issuer, unless
    ``issuer_in_tokens`` has the name of the token's issuer literally.
    """

    def __init__(
        self,
        issuer: str,
        *,
        discovery_url: str | None = None,
        issuer_in_tokens: str | Sequence[str] = (),
        well_known: Literal["openid-configuration", "oauth-authorization-server"] = "openid-configuration",
        **options: Unpack[RemoteOptions],
    ) -> None:
        """Describe the issuer. Nothing is fetched yet.

        Args:
            issuer: The issuer, exactly as it names itself in its discovery document.
            discovery_url: Where the document is. By default, the URL is made of ``issuer``.
            issuer_in_tokens: The name or names of the issuer in tokens, if they differ from ``issuer``. Google, for one, has
                two.
            well_known: Which document to ask for. By default that of OpenID Connect, whose path comes after that of the
                issuer. ``oauth-authorization-server`` is that of OAuth 2.0, whose path comes in front of it (`RFC 8414,
                section 3 <https://datatracker.ietf.org/doc/html/rfc8414#section-3>`_).
            **options: All that :class:`RemoteJWKSet` takes besides its URL, with the same meanings and defaults. The header
                fields are sent to both URLs, and ``timeout`` is for both requests together.

        Raises:
            ImproperlyConfiguredException: If a URL is not safe to fetch keys from, or an option is not valid.
            MissingDependencyException: If there is no ``client``, and neither ``httpx2`` nor ``httpx`` is installed.
        """
        _check_issuer(issuer, well_known)
        self._allow_http = options.get("allow_http", False)
        if discovery_url is None:
            discovery_url = _discovery_url(issuer, well_known)
        names = (issuer_in_tokens,) if isinstance(issuer_in_tokens, str) else tuple(issuer_in_tokens)
        if not all(isinstance(name, str) and name for name in names):
            raise ImproperlyConfiguredException(f"'issuer_in_tokens' is {names!r}. Give names of issuers as strings")
        self._issuer = self._name = issuer
        self._names = names
        self._well_known = well_known
        self._jwks_uri: str | None = None
        # The issuers that keys are bound to, and the keys for tokens that match some of them.
        self._owners: frozenset[str | None] = frozenset()
        self._keys_by_owners: dict[frozenset[str | None], KeySet] = {}
        super().__init__(discovery_url, **options)

    @property
    def issuers(self) -> tuple[str, ...]:
        """The name of the issuer, if it is the same for all tokens."""
        return () if _TENANT in self._name else (self._name,)

    @property
    def openid_connect_url(self) -> str | None:
        """Where the discovery document of OpenID Connect is, ``None`` if there is only one of OAuth 2.0."""
        return self._url if self._well_known == _WELL_KNOWN[0] else None

    def __call__(self, token: UnverifiedToken, /) -> SelectedKeys | Awaitable[SelectedKeys]:
        """Find the keys that may verify a token.

        Args:
            token: The token. Its ``kid``, ``alg``, ``iss`` and, where tenants share keys, ``tid`` are looked at.

        Returns:
            The keys, or an awaitable of them, as :class:`RemoteJWKSet` does.

        Raises:
            KeyNotFoundException: If the token is not of this issuer.
        """
        names = self._names or (self._name,)
        if not any(_is_name_of_issuer(name, token) for name in names):
            raise KeyNotFoundException("Invalid token") from InvalidIssuerError(" or ".join(names))
        return super().__call__(token)

    async def _ask(self) -> tuple[Any, float]:
        try:
            with anyio.fail_after(self._timeout * _DISCOVERY_SHARE if self._jwks_uri else inf):
                document, _ = await fetch_json(self._url, self._headers, self._client)
            self._jwks_uri = self._find_jwks_uri(document)
        except (FetchError, TimeoutError) as e:
            if self._jwks_uri is None:
                raise
            _logger.warning("%r: discovery failed (%r), the keys are asked for where they were", self, e)
        return await fetch_json(self._jwks_uri, self._headers, self._client)

    def _find_jwks_uri(self, document: Any) -> str:
        """Judge a discovery document by what is used of it."""
        if not isinstance(document, dict):
            raise FetchError("the discovery document is not a JSON object")
        # An equal name proves that the document is the issuer's own (OpenID Connect Discovery 1.0, section 4.3, and RFC 8414,
        # section 3.3).
        theirs, jwks_uri = str(document.get("issuer")), str(document.get("jwks_uri"))
        if theirs != self._name:
            shown = theirs[:_SHOWN_CHARACTERS]
            raise FetchError(f"the discovery document is of the issuer {shown!r}, but 'issuer' is {self._name!r}")
        if problem := url_problem(jwks_uri, allow_http=self._allow_http):
            raise FetchError(f"the 'jwks_uri' of the discovery document {problem}")
        if is_loopback(jwks_uri) and not is_loopback(self._url):
            raise FetchError("the 'jwks_uri' of the discovery document is on the loopback interface")
        return jwks_uri

    def _accept(self, now: float) -> None:
        super()._accept(now)
        self._owners = frozenset(key.issuer for key in self._keys.keys)
        self._keys_by_owners = {}

    def _select(self, token: UnverifiedToken) -> SelectedKeys:
        """Choose among the keys that are not bound to another issuer.

        Tenants of Microsoft Entra ID share their keys with issuers that anybody can get tokens from.
        """
        if self._owners <= {None} or token.issuer in self._names:
            return super()._select(token)
        owners = frozenset(owner for owner in self._owners if owner is None or _is_name_of_issuer(owner, token))
        if owners not in self._keys_by_owners:
            self._keys_by_owners[owners] = KeySet(key for key in self._keys.keys if key.issuer in owners)
        return self._keys_by_owners[owners].select(token)


def _is_name_of_issuer(name: str, token: UnverifiedToken) -> bool:
    """Tell whether a token is of the issuer that has a name, which may have the token's own tenant to be filled in."""
    if _TENANT not in name:
        return name == token.issuer
    tenant = token.claims.get("tid")
    return isinstance(tenant, str) and name.replace(_TENANT, tenant) == token.issuer


def _check_issuer(issuer: object, well_known: str) -> None:
    if not isinstance(issuer, str) or not issuer or issuer != issuer.strip() or "<" in issuer:
        raise ImproperlyConfiguredException(f"'issuer' is {issuer!r}. Give its name, with placeholders filled in")
    if "/.well-known/" in issuer:
        raise ImproperlyConfiguredException(f"'issuer' is {issuer!r}. Give the issuer, and this URL as 'discovery_url'")
    if well_known not in _WELL_KNOWN:
        raise ImproperlyConfiguredException(f"'well_known' is {well_known!r}. Use one of {', '.join(_WELL_KNOWN)}")


def _discovery_url(issuer: str, well_known: str) -> str:
    if _TENANT in issuer:
        raise ImproperlyConfiguredException(f"'issuer' is {issuer!r}, of any tenant. Set 'discovery_url', too")
    if not issuer.startswith(("https://", "http://")) or "?" in issuer:  # RFC 8414, section 2
        raise ImproperlyConfiguredException(f"'issuer' is {issuer!r}, which is no URL. Set 'discovery_url', too")
    if well_known == _WELL_KNOWN[0]:
        return f"{issuer.removesuffix('/')}/.well-known/{well_known}"
    parts = urlsplit(issuer)
    return f"{parts.scheme}://{parts.netloc}/.well-known/{well_known}{parts.path.removesuffix('/')}"
