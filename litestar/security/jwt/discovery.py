from __future__ import annotations

from collections.abc import Awaitable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from math import inf
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal, NamedTuple, TypedDict, TypeVar, Unpack, cast
from urllib.parse import urlsplit

import jwt

from litestar.exceptions import ImproperlyConfiguredException
from litestar.security.jwt._documents import RemoteDocument, parse_json
from litestar.security.jwt._http import check_url
from litestar.security.jwt.jwks import JWKSetStatus, RemoteJWKSet
from litestar.security.jwt.keys import (
    ASYMMETRIC_ALGORITHMS,
    KeyNotFoundError,
    KeysUnavailableError,
    jwk_members,
    single_keys,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence
    from typing import Self

    from litestar import Litestar
    from litestar.security.jwt._documents import Snapshot
    from litestar.security.jwt._http import FetchFunction, HTTPClient
    from litestar.security.jwt.keys import Key
    from litestar.security.jwt.unverified import UnverifiedToken
    from litestar.stores.base import Store

__all__ = ("OpenIDProvider", "OpenIDProviderStatus", "RemoteOptions", "is_issuer", "of_issuer")

KeyT = TypeVar("KeyT", bound="Key")

# The name of a tenant's issuer, as Microsoft Entra ID writes it where any tenant may be meant.
_TENANT: Final = "{tenantid}"
_OPENID: Final = "openid-configuration"
# The options that concern each of the two documents, and not what is made of it.
_SHARED: Final = ("allow_http", "headers", "client", "store", "clock")
# What OpenID Connect Discovery 1.0, section 3, has every provider list.
_DEFAULT_ALGORITHMS: Final = ("RS256",)


class RemoteOptions(TypedDict, total=False):
    """The options that an :class:`OpenIDProvider` has in common with a :class:`RemoteJWKSet`, where they are described."""

    lifetime: float
    min_lifetime: float
    max_lifetime: float
    refresh_ahead: float
    cooldown: float
    timeout: float
    withdrawn_grace: float
    max_stale: float
    max_body_size: int
    max_keys: int
    allow_http: bool
    headers: Mapping[str, str] | None
    client: HTTPClient | FetchFunction | None
    store: Store | str | None
    prefetch: bool
    require_on_startup: bool
    clock: Callable[[], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenIDProviderStatus:
    """What an :class:`OpenIDProvider` knows at one moment."""

    issuer: str
    """The name of the issuer."""
    url: str
    """Where its discovery document is, without the query."""
    algorithms: tuple[str, ...]
    """The algorithms to accept, as far as the document lists them."""
    fetched_at: datetime | None
    """When the document was asked for."""
    expires_at: datetime | None
    """When it ceases to be fresh."""
    stale: bool
    """Whether it has."""
    last_error: str | None
    """Why the last fetch of the document failed, ``None`` if it did not."""
    fetches: int
    """How many times the document was asked for, not counting retries."""
    failures: int
    """How many fetches of it failed."""
    keys: JWKSetStatus | None
    """What is known of the keys, ``None`` as long as the document is not there."""


class _Metadata(NamedTuple):
    """What is used of a discovery document."""

    jwks_uri: str
    algorithms: tuple[str, ...]


class OpenIDProvider:
    """A key provider that finds the keys of an issuer by its name.

    The issuer's discovery document (`OpenID Connect Discovery 1.0, section 4
    <https://openid.net/specs/openid-connect-discovery-1_0.html#ProviderConfig>`_) says where the keys are and which algorithms
    they are used with. Both documents are kept and renewed as described at :class:`RemoteJWKSet`. If the document names
    another JWK Set one day, that one is used from then on, and the keys in memory until it is there. A document that cannot
    be had any more, or makes no sense, does no harm to keys that can.

    Of a backend without ``accepted_issuers`` and ``algorithm``, this verifies as well that tokens name the issuer exactly,
    trailing slash included, and have one of the asymmetric algorithms that the document lists for ID tokens, or else
    ``RS256``. No document says which algorithms access tokens have (`RFC 9068, section 2.1
    <https://datatracker.ietf.org/doc/html/rfc9068#section-2.1>`_): set ``algorithm`` if these are others. Nor does it tell
    access tokens from ID tokens: set ``accepted_types`` where the issuer does.

    Microsoft Entra ID has one discovery document for all its tenants. The issuer that this names has ``{tenantid}`` in the
    place of the tenant, and so has the ``issuer`` member of its keys. Give it like that, and the URL of the document:

    .. code-block:: python

        OpenIDProvider(
            "https://login.microsoftonline.com/{tenantid}/v2.0",
            discovery_url="https://login.microsoftonline.com/organizations/v2.0/.well-known/openid-configuration",
        )

    The tokens of a tenant then have to name an issuer that is the same with their ``tid`` claim filled in. This holds even
    with ``accepted_issuers``, which tell the tenants that are welcome. Without them, all tenants are.

    A key with an ``issuer`` member only verifies tokens of that issuer, whatever else is accepted.
    """

    __slots__ = (
        "_algorithms",
        "_clock",
        "_document",
        "_due_at",
        "_issuers",
        "_keys",
        "_prefetch",
        "_required",
        "_since",
        "_template",
        "issuer",
        "openid_connect_url",
    )

    enforces: ClassVar = frozenset({"alg", "iss"})
    """What this checks, unless the caller of :class:`UnverifiedToken` does."""
    issuer: str
    """The name of the issuer, exactly as it writes it."""
    openid_connect_url: str | None
    """Where the discovery document of OpenID Connect is, ``None`` if there is only one of OAuth 2.0."""

    def __init__(
        self,
        issuer: str,
        *,
        discovery_url: str | None = None,
        well_known: Literal["openid-configuration", "oauth-authorization-server"] = "openid-configuration",
        issuer_in_tokens: str | Sequence[str] = (),
        **options: Unpack[RemoteOptions],
    ) -> None:
        """Describe the issuer. Nothing is fetched yet.

        Args:
            issuer: The issuer, exactly as it names itself in its discovery document. As a rule, this is a URL that the URL of
                the document can be made of.
            discovery_url: Where the document is, if that is not the case: if the issuer has ``{tenantid}`` in its name, if
                the network knows it under another one, or if the URL needs a query. Made of ``issuer`` by default.
            well_known: Which document to look for. By default that of OpenID Connect, whose path comes after that of the
                issuer. ``oauth-authorization-server`` is that of OAuth 2.0, whose path comes in front of it (`RFC 8414,
                section 3 <https://datatracker.ietf.org/doc/html/rfc8414#section-3>`_).
            issuer_in_tokens: The issuer, or all its spellings, as tokens have it, if that differs from ``issuer``. Google,
                for one, has two.
            **options: All that :class:`RemoteJWKSet` takes besides its URL, with the same meanings and defaults. Each applies
                to the document and to the JWK Set. Header fields are sent to both.

        Raises:
            ImproperlyConfiguredException: If an option is out of its range, or the URL is not safe to fetch keys from.
            MissingDependencyException: If there is no client, and neither ``httpx2`` nor ``httpx`` is installed.
        """
        if not isinstance(issuer, str) or not issuer:
            raise ImproperlyConfiguredException("'issuer' is not the name of an issuer")
        url = discovery_url or _discovery_url(issuer, well_known)
        # The JWK Set moves to its own URL as soon as the document says where that is.
        own: RemoteOptions = {**options, "prefetch": False, "require_on_startup": False}
        self._keys = RemoteJWKSet(url, **own)
        self._document: RemoteDocument[_Metadata] = RemoteDocument(
            url,
            partial(_parse, issuer, allow_http=options.get("allow_http", False)),
            self._keys._document.options,
            accept="application/json",
            installed=self._install,
            **cast("Any", {name: value for name, value in options.items() if name in _SHARED}),
        )
        names = (issuer_in_tokens,) if isinstance(issuer_in_tokens, str) else tuple(issuer_in_tokens)
        self._issuers = frozenset(names or (issuer,))
        self._template = any(_TENANT in name for name in self._issuers)
        self._algorithms: tuple[str, ...] = ()
        self._clock = self._keys._clock
        self._prefetch = options.get("prefetch", True)
        self._required = options.get("require_on_startup", False)
        self._since = self._due_at = inf
        self.issuer = issuer
        self.openid_connect_url = url if well_known == _OPENID else None

    def __call__(self, token: UnverifiedToken, /) -> tuple[jwt.PyJWK, ...] | Awaitable[tuple[jwt.PyJWK, ...]]:
        """Find the keys that may verify a token.

        Args:
            token: The token. Its ``kid``, ``alg``, ``iss`` and, with tenants, ``tid`` are looked at.

        Returns:
            The keys, or an awaitable of them if something has to be fetched first.

        Raises:
            KeyNotFoundError: If there is no key for this token.
            KeysUnavailableError: If there are no keys to be had at the moment.
        """
        if not self._names_issuer(token):
            raise KeyNotFoundError("Invalid token")
        now = self._clock()
        if self._document.snapshot is None:
            return self._discover(token)
        if not self._since <= now < self._due_at:
            self._renew(now)
        self._check_algorithm(token)
        try:
            keys = self._keys(token)
        except KeyNotFoundError:
            if self._document.cooling(now):
                raise
            return self._search(token, self._document.started, None)
        if isinstance(keys, tuple):
            return of_issuer(keys, token)
        return self._search(token, self._document.started, keys)

    def status(self) -> OpenIDProviderStatus:
        """Return what is known at this moment, for health checks. This asks nobody."""
        document, now = self._document, self._clock()
        snapshot = document.snapshot
        return OpenIDProviderStatus(
            issuer=self.issuer,
            url=document.label,
            algorithms=self._algorithms,
            fetched_at=None if snapshot is None else datetime.fromtimestamp(snapshot.fetched_at, UTC),
            expires_at=None if snapshot is None else datetime.fromtimestamp(snapshot.expires_at, UTC),
            stale=snapshot is not None and not snapshot.fetched_at <= now < snapshot.expires_at,
            last_error=document.last_error,
            fetches=document.fetches,
            failures=document.failures,
            keys=None if snapshot is None else self._keys.status(),
        )

    async def refresh(self) -> None:
        """Ask for the document now, and then for the keys, even if it is only known where they used to be.

        Raises:
            KeysUnavailableError: If one of them cannot be had. What is in memory stays as it is.
        """
        try:
            await self._document.refresh()
        finally:
            if self._document.snapshot is not None:
                await self._keys.refresh()

    @asynccontextmanager
    async def lifespan(self, app: Litestar) -> AsyncIterator[None]:
        """Fetch document and keys when an application starts, and end what runs in the background with it.

        Args:
            app: The application.

        Raises:
            KeysUnavailableError: If the application must not start without keys.
        """
        async with self._document.lifespan(app), self._keys.lifespan(app):
            if self._prefetch or self._required:
                try:
                    await self._document.load()
                    await self._keys._document.load()
                except KeysUnavailableError:
                    if self._required:
                        raise
            yield

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.issuer!r})"

    def __deepcopy__(self, memo: Any) -> Self:
        """Return itself: Litestar copies the handlers of a controller, and all of them share what has been fetched."""
        return self

    def _can_name(self, issuer: str) -> bool:
        """Tell whether tokens of this issuer can give it a name."""
        return any(_matches(name, issuer) for name in self._issuers)

    def _names_issuer(self, token: UnverifiedToken) -> bool:
        if self._template:
            return any(is_issuer(name, token) for name in self._issuers)
        return "iss" in token.checked or token.issuer in self._issuers

    def _check_algorithm(self, token: UnverifiedToken) -> None:
        if token.algorithm not in self._algorithms and "alg" not in token.checked:
            raise KeyNotFoundError("Invalid token")

    def _renew(self, now: float) -> None:
        """See to it that the document is renewed in the background, however old it is."""
        if self._document.usable(now) is None:
            self._document.look_again_soon(_anything)

    async def _discover(self, token: UnverifiedToken) -> tuple[jwt.PyJWK, ...]:
        since = self._document.started
        await self._document.load()
        self._check_algorithm(token)
        return await self._search(token, since, None)

    async def _search(
        self, token: UnverifiedToken, since: int, found: Awaitable[tuple[jwt.PyJWK, ...]] | None
    ) -> tuple[jwt.PyJWK, ...]:
        """Wait for keys. If there are none, the issuer may have moved them: look at the document once more."""
        url = self._keys._document.url
        try:
            keys = await (found or self._ask(token))
        except (KeyNotFoundError, KeysUnavailableError):
            await self._document.look_again(partial(_names_other_url, url), since=since)
            if self._keys._document.url == url:
                raise
            keys = await self._ask(token)
        return of_issuer(keys, token)

    async def _ask(self, token: UnverifiedToken) -> tuple[jwt.PyJWK, ...]:
        keys = self._keys(token)
        return await keys if isinstance(keys, Awaitable) else keys

    def _install(self, snapshot: Snapshot[_Metadata]) -> None:
        jwks_uri, self._algorithms = snapshot.value
        if jwks_uri != self._keys._document.url:
            self._keys._document.move(jwks_uri)
        self._since, self._due_at = snapshot.fetched_at, self._document.due_at(snapshot)


def is_issuer(name: str, token: UnverifiedToken) -> bool:
    """Tell whether a token claims to be of an issuer.

    Args:
        name: The name of the issuer. If it has ``{tenantid}`` in it, that stands for the ``tid`` claim of the token.
        token: The token.
    """
    if _TENANT not in name:
        return name == token.issuer
    tenant = token.claims.get("tid")
    return isinstance(tenant, str) and name.replace(_TENANT, tenant) == token.issuer


def of_issuer(key: KeyT, token: UnverifiedToken) -> KeyT:
    """Leave out the keys that belong to another issuer than the one that a token claims to be of.

    The ``issuer`` member of a key is not a registered one. Microsoft Entra ID has it, as its tenants share their keys with
    issuers that anybody can get tokens from.

    Args:
        key: A key or several.
        token: The token.

    Returns:
        The keys that are left.

    Raises:
        KeyNotFoundError: If there are none.
    """
    keys = key if isinstance(key, tuple) else single_keys(key)
    if not any(map(_issuer_of, keys)):
        return key
    own = tuple(k for k in keys if not (name := _issuer_of(k)) or is_issuer(name, token))
    if not own:
        raise KeyNotFoundError("Invalid token")
    return cast("KeyT", own)


def _issuer_of(key: Any) -> str | None:
    return jwk_members(key).get("issuer") if isinstance(key, jwt.PyJWK) else None


def _discovery_url(issuer: str, well_known: str) -> str:
    """Make the URL of a discovery document."""
    try:
        check_url(issuer, allow_http=True)
        if "?" in issuer:
            raise ValueError("an issuer has no query")
    except ValueError as e:
        raise ImproperlyConfiguredException(
            f"{issuer!r} is not a URL that a 'discovery_url' can be made of: {e}"
        ) from e
    issuer = issuer.removesuffix("/")
    if well_known == _OPENID:
        return f"{issuer}/.well-known/{well_known}"
    parts = urlsplit(issuer)
    return f"{parts.scheme}://{parts.netloc}/.well-known/{well_known}{parts.path}"


def _parse(issuer: str, body: bytes, *, allow_http: bool) -> _Metadata:
    """Judge a discovery document by what is used of it."""
    document = parse_json(body)
    if not isinstance(document, dict):
        raise ValueError("not a JSON object")
    for name in ("issuer", "jwks_uri"):
        if name not in document:
            raise ValueError(f"no {name!r}")
        if not isinstance(document[name], str):
            raise ValueError(f"{name!r} is not a string")
    # OpenID Connect Discovery 1.0, section 4.3, and RFC 8414, section 3.3.
    if document["issuer"] != issuer:
        raise ValueError(f"'issuer' is {document['issuer'][:200]!r}, not {issuer!r}")
    try:
        check_url(document["jwks_uri"], allow_http=allow_http)
    except ValueError as e:
        raise ValueError(f"'jwks_uri': {e}") from e
    return _Metadata(document["jwks_uri"], _usable(document.get("id_token_signing_alg_values_supported", [])))


def _usable(algorithms: Any) -> tuple[str, ...]:
    """Choose among the algorithms that a document lists: ``none`` and those with shared secrets are not for keys."""
    if not isinstance(algorithms, list) or not all(isinstance(name, str) for name in algorithms):
        raise ValueError("'id_token_signing_alg_values_supported' is not a list of strings")
    return tuple(name for name in algorithms if name in ASYMMETRIC_ALGORITHMS) or _DEFAULT_ALGORITHMS


def _names_other_url(url: str, metadata: _Metadata) -> bool:
    return metadata.jwks_uri != url


def _anything(metadata: _Metadata) -> bool:
    return True


def _matches(name: str, issuer: str) -> bool:
    start, tenant, end = name.partition(_TENANT)
    return issuer.startswith(start) and issuer.endswith(end) if tenant else issuer == name
