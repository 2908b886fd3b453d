import time
from typing import Any

import jwt

from litestar.security.jwt import Token

HOUR = 60 * 60


class TokenWithoutSub(Token):
    @classmethod
    def decode_payload(cls, *args: Any, **kwargs: Any) -> Any:
        claims = super().decode_payload(*args, **kwargs)
        # A client named alice is not the user alice.
        sub = claims.get("sub")
        claims["sub"] = f"user:{sub}" if sub else f"client:{claims['client_id']}"
        return claims


class TokenWithNumericSub(Token):
    @classmethod
    def decode_payload(cls, *args: Any, **kwargs: Any) -> Any:
        claims = super().decode_payload(*args, **kwargs)
        if isinstance(claims.get("sub"), int):
            claims["sub"] = str(claims["sub"])
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
            claims["exp"] = int(claims["iat"]) + HOUR
            if claims["exp"] < time.time():  # nobody checks it after this
                raise jwt.ExpiredSignatureError
        return claims
