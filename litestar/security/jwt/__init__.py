from litestar.security.jwt.auth import (
    BaseJWTAuth,
    JWTAuth,
    JWTCookieAuth,
    OAuth2Login,
    OAuth2PasswordBearerAuth,
)
from litestar.security.jwt.discovery import OpenIDProvider, OpenIDProviderStatus
from litestar.security.jwt.guards import requires_scopes
from litestar.security.jwt.issuers import IssuerKeyProvider
from litestar.security.jwt.jwks import JWKSetStatus, RemoteJWKSet
from litestar.security.jwt.keys import Key, KeyNotFoundError, KeyProvider, KeysUnavailableError
from litestar.security.jwt.middleware import JWTAuthenticationMiddleware, JWTCookieAuthenticationMiddleware
from litestar.security.jwt.publishing import create_jwks_handler
from litestar.security.jwt.token import Token
from litestar.security.jwt.unverified import UnverifiedToken

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
