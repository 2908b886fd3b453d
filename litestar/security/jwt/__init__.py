from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from litestar.security.jwt.auth import (
    BaseJWTAuth,
    JWTAuth,
    JWTCookieAuth,
    OAuth2Login,
    OAuth2PasswordBearerAuth,
)
from litestar.security.jwt.keys import Key, KeyNotFoundException, KeyProvider, KeysUnavailableException
from litestar.security.jwt.middleware import JWTAuthenticationMiddleware, JWTCookieAuthenticationMiddleware
from litestar.security.jwt.token import Token
from litestar.security.jwt.unverified import UnverifiedToken

if TYPE_CHECKING:
    from litestar.security.jwt.guards import requires_scopes
    from litestar.security.jwt.key_providers.issuers import IssuerKeyProvider
    from litestar.security.jwt.key_providers.jwks import KeySetStatus, RemoteJWKSet
    from litestar.security.jwt.key_providers.openid import OpenIDProvider
    from litestar.security.jwt.publishing import create_jwks_handler

__all__ = (
    "BaseJWTAuth",
    "IssuerKeyProvider",
    "JWTAuth",
    "JWTAuthenticationMiddleware",
    "JWTCookieAuth",
    "JWTCookieAuthenticationMiddleware",
    "Key",
    "KeyNotFoundException",
    "KeyProvider",
    "KeySetStatus",
    "KeysUnavailableException",
    "OAuth2Login",
    "OAuth2PasswordBearerAuth",
    "OpenIDProvider",
    "RemoteJWKSet",
    "Token",
    "UnverifiedToken",
    "create_jwks_handler",
    "requires_scopes",
)

# An application that has a shared secret needs none of these, and should not wait for them when it starts.
_MODULES: Final = {
    "IssuerKeyProvider": "key_providers.issuers",
    "KeySetStatus": "key_providers.jwks",
    "OpenIDProvider": "key_providers.openid",
    "RemoteJWKSet": "key_providers.jwks",
    "create_jwks_handler": "publishing",
    "requires_scopes": "guards",
}

if not TYPE_CHECKING:  # pragma: no branch  # type checkers must go on reporting a misspelt import

    def __getattr__(name: str) -> Any:
        if (module := _MODULES.get(name)) is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(import_module(f"{__name__}.{module}"), name)
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
