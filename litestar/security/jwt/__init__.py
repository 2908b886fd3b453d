from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from litestar.security.jwt.auth import (
    BaseJWTAuth,
    JWTAuth,
    JWTCookieAuth,
    OAuth2Login,
    OAuth2PasswordBearerAuth,
)
from litestar.security.jwt.keys import Key, KeyNotFoundError, KeyProvider, KeysUnavailableError
from litestar.security.jwt.middleware import JWTAuthenticationMiddleware, JWTCookieAuthenticationMiddleware
from litestar.security.jwt.token import Token
from litestar.security.jwt.unverified import UnverifiedToken

if TYPE_CHECKING:
    from litestar.security.jwt.discovery import OpenIDProvider, OpenIDProviderStatus
    from litestar.security.jwt.guards import requires_scopes
    from litestar.security.jwt.issuers import IssuerKeyProvider
    from litestar.security.jwt.jwks import JWKSetStatus, RemoteJWKSet
    from litestar.security.jwt.publishing import create_jwks_handler

__all__ = (
    "BaseJWTAuth",
    "IssuerKeyProvider",
    "JWKSetStatus",
    "JWTAuth",
    "JWTAuthenticationMiddleware",
    "JWTCookieAuth",
    "JWTCookieAuthenticationMiddleware",
    "Key",
    "KeyNotFoundError",
    "KeyProvider",
    "KeysUnavailableError",
    "OAuth2Login",
    "OAuth2PasswordBearerAuth",
    "OpenIDProvider",
    "OpenIDProviderStatus",
    "RemoteJWKSet",
    "Token",
    "UnverifiedToken",
    "create_jwks_handler",
    "requires_scopes",
)

# An application that has a secret of its own does without these, and need not wait for them when it starts.
_MODULES: Final = {
    "IssuerKeyProvider": "issuers",
    "JWKSetStatus": "jwks",
    "OpenIDProvider": "discovery",
    "OpenIDProviderStatus": "discovery",
    "RemoteJWKSet": "jwks",
    "create_jwks_handler": "publishing",
    "requires_scopes": "guards",
}


def __getattr__(name: str) -> Any:
    if (module := _MODULES.get(name)) is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"{__name__}.{module}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
