"""A key provider for several issuers, known when the application starts or at run time."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeAlias

import anyio
from jwt.exceptions import InvalidIssuerError

from litestar.exceptions import ImproperlyConfiguredException
from litestar.security.jwt.key_providers.jwks import RemoteJWKSet
from litestar.security.jwt.keys import Key, KeyNotFoundException, KeyProvider

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from litestar import Litestar
    from litestar.security.jwt.key_providers.jwks import KeySetStatus
    from litestar.security.jwt.unverified import UnverifiedToken

__all__ = ("IssuerKeyProvider",)

# How many providers to keep that a function has returned, and for how many issuers to remember that it has returned none. The
# keys of one take some 20 KiB, and anyone can make up issuers.
_MAX_KEPT: Final = 1000
# Seconds after which the function is asked again about an issuer that it did not accept.
_REFUSAL_LIFETIME: Final = 60.0
# Seconds that an async function may take. It looks a tenant up in a database.
_TIMEOUT: Final = 5.0

IssuerFunction: TypeAlias = Callable[[str], KeyProvider | Awaitable[KeyProvider | None] | None]


class IssuerKeyProvider:
    """A key provider for several issuers. It verifies a token with the keys of the issuer that the token names.

    The ``iss`` claim of the token has to be exactly the name of an issuer. Other tokens are refused without a request.

    .. code-block:: python

        IssuerKeyProvider(
            {
                "https://idp.example.com": OpenIDProvider("https://idp.example.com"),
                "https://partner.example": RemoteJWKSet("https://partner.example/keys"),
            }
        )

    If you know the issuers only at run time, give a function that makes the provider of an issuer:

    .. code-block:: python

        async def provider_of(issuer: str) -> OpenIDProvider | None:
            return OpenIDProvider(issuer) if await is_tenant(issuer) else None


        IssuerKeyProvider(provider_of)

    Nothing in the token has been verified when the function is called, and anyone can make up an issuer. Have the function
    look the name up among those you trust. The providers that it returns are kept, at most 1,000. The least recently used one is
    dropped first. Their ``lifespan`` is not entered, so pass them a store itself instead of its name. To stop accepting an
    issuer at once, use ``accepted_issuers`` of the backend.
    """

    def __init__(self, issuers: Mapping[str, KeyProvider] | IssuerFunction) -> None:
        """Take the issuers to trust.

        Args:
            issuers: A mapping from names of issuers to their key providers. Or a function, sync or async, from the name of an
                issuer to its key provider, or to ``None`` if you do not trust that issuer. An async function has 5 seconds,
                and a ``None`` is remembered for 60.

        Raises:
            ImproperlyConfiguredException: If ``issuers`` is neither, or one of the providers is none.
        """
        if not isinstance(issuers, Mapping) and not callable(issuers):
            raise ImproperlyConfiguredException("'issuers' is neither a mapping nor a function. Pass one of them")
        mapping = issuers if isinstance(issuers, Mapping) else {}
        self._providers = {name: _check_provider(provider, name) for name, provider in mapping.items()}
        self._function = None if isinstance(issuers, Mapping) else issuers
        self._kept: OrderedDict[str, KeyProvider] = OrderedDict()
        self._refused_until: OrderedDict[str, float] = OrderedDict()

    @property
    def issuers(self) -> tuple[str, ...]:
        """The names of the issuers, empty if a function finds them."""
        return tuple(self._providers)

    def __call__(self, token: UnverifiedToken, /) -> Key | Awaitable[Key]:
        """Find the keys that may verify a token.

        Args:
            token: The token. Its ``iss`` is looked at, and whatever the provider of that issuer looks at.

        Returns:
            What that provider returns.

        Raises:
            KeyNotFoundException: If the issuer is not one to trust.
        """
        issuer = token.issuer
        if (provider := self._known(issuer)) is not None:
            return provider(token)
        now = time.time()
        if self._function is None or not issuer or 0 < self._refused_until.get(issuer, 0) - now <= _REFUSAL_LIFETIME:
            self._refuse()
        made = self._function(issuer)
        if isinstance(made, Awaitable):
            return self._find(issuer, made, token)
        return self._keep(issuer, made)(token)

    async def look_again(self, token: UnverifiedToken, /) -> Key | None:
        """Have the provider of the token's issuer look for other keys, as the signature did not verify.

        Args:
            token: The token.

        Returns:
            The keys that may verify the token now, or ``None`` if there are no others.

        Raises:
            KeysUnavailableException: If the issuer cannot be asked now.
        """
        look_again = getattr(self._known(token.issuer), "look_again", None)
        return None if look_again is None else await look_again(token)

    def status(self) -> dict[str, KeySetStatus]:
        """Return the state of each provider, by issuer. This makes no request."""
        providers = {**self._providers, **self._kept}
        return {issuer: p.status() for issuer, p in providers.items() if isinstance(p, RemoteJWKSet)}

    @asynccontextmanager
    async def lifespan(self, app: Litestar) -> AsyncIterator[None]:
        """Enter the lifespans of the providers in the mapping.

        Args:
            app: The application.

        Raises:
            KeysUnavailableException: If one of them does not let the application start without keys.
        """
        providers = {id(provider): provider for provider in self._providers.values()}.values()
        # All start to fetch before anyone waits: each waits for its own keys only if they are required.
        for provider in providers:
            if isinstance(provider, RemoteJWKSet):
                provider._start_up(app)
        async with AsyncExitStack() as stack:
            for provider in providers:
                if (lifespan := getattr(provider, "lifespan", None)) is not None:
                    await stack.enter_async_context(lifespan(app))
            yield

    def __deepcopy__(self, memo: Any) -> IssuerKeyProvider:
        """Return itself: Litestar copies the handlers of a controller, and all of them share what was fetched."""
        return self

    def _known(self, issuer: Any) -> KeyProvider | None:
        if issuer in self._kept:
            self._kept.move_to_end(issuer)
        return self._kept.get(issuer, self._providers.get(issuer))

    async def _find(self, issuer: str, made: Awaitable[KeyProvider | None], token: UnverifiedToken) -> Key:
        """Wait for the function. Each request does so by itself, so that one that hangs holds up no other."""
        with anyio.fail_after(_TIMEOUT):
            provider = await made
        keys = self._keep(issuer, provider)(token)
        return await keys if isinstance(keys, Awaitable) else keys

    def _keep(self, issuer: str, made: KeyProvider | None) -> KeyProvider:
        if made is None:
            self._refused_until[issuer] = time.time() + _REFUSAL_LIFETIME
            _drop_oldest(self._refused_until)
            self._refuse()
        # Of two that were made at the same time, the first stays, as it may have its keys already.
        provider = self._kept.setdefault(issuer, _check_provider(made, issuer))
        _drop_oldest(self._kept)
        return provider

    def _refuse(self) -> NoReturn:
        expected = " or ".join(self._providers) or "what the function accepts"
        raise KeyNotFoundException("Invalid token") from InvalidIssuerError(expected)


def _drop_oldest(kept: OrderedDict[str, Any]) -> None:
    if len(kept) > _MAX_KEPT:
        kept.popitem(last=False)


def _check_provider(provider: object, issuer: str) -> KeyProvider:
    if not isinstance(provider, KeyProvider) or isinstance(provider, type) or not isinstance(issuer, str):
        # It may be a secret, so only its type is told.
        raise ImproperlyConfiguredException(f"'issuers' has a {type(provider).__name__}, no provider, for {issuer!r}")
    return provider
