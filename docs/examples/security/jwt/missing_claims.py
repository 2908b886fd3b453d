import time
from typing import Any

import jwt

from litestar.security.jwt import Token

HOUR = 60 * 60


class TokenWithoutSub(Token):
    @classmethod
    def decode_payload(cls, *args: Any, **kwargs: Any) -> Any:
        claims = super().decode_payload(*args, **kwargs)
        claims["sub"] = claims.get("sub") or claims.get("client_id")
        return claims


class TokenWithoutIat(Token):
    @classmethod
    def decode_payload(cls, *args: Any, **kwargs: Any) -> Any:
        claims = super().decode_payload(*args, **kwargs)
        claims.setdefault("iat", int(time.time()))
        return claims


class TokenWithoutExp(Token):
    @classmethod
    def decode_payload(cls, *args: Any, **kwargs: Any) -> Any:
        claims = super().decode_payload(*args, **kwargs)
        if "exp" not in claims:
            claims["exp"] = claims["iat"] + HOUR
            if claims["exp"] < time.time():
                raise jwt.ExpiredSignatureError
        return claims
