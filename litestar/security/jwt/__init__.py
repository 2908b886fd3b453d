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

__all__ = (
    "BaseJWTAuth",
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
    "Token",
    "UnverifiedToken",
)
