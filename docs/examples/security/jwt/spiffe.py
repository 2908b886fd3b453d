import json
import os
import time
from pathlib import Path
from typing import Any

from litestar import Litestar, Request, get
from litestar.connection import ASGIConnection
from litestar.security.jwt import JWTAuth, Token, UnverifiedToken

CALLERS = {"spiffe://example.org/shop/checkout"}


class JwtSvid(Token):
    @classmethod
    def decode_payload(cls, *args: Any, **kwargs: Any) -> Any:
        return {"iat": int(time.time()), **super().decode_payload(*args, **kwargs)}


async def retrieve_user(token: JwtSvid, connection: ASGIConnection) -> str | None:
    return token.sub if token.sub in CALLERS else None


@get("/me")
async def me(request: Request[str, JwtSvid, Any]) -> str:
    return request.user


def create_app() -> Litestar:
    file = Path(os.environ["SPIFFE_BUNDLE"])  # the agent or its helper keeps it fresh

    def read_keys(token: UnverifiedToken) -> list[dict[str, Any]]:
        keys = json.loads(file.read_bytes())["keys"]
        return [{**jwk, "use": "sig"} for jwk in keys if jwk["use"] == "jwt-svid"]

    jwt_auth = JWTAuth[str, JwtSvid](
        retrieve_user_handler=retrieve_user,
        key_provider=read_keys,
        token_cls=JwtSvid,
        accepted_audiences=["spiffe://example.org/my-api"],
        exclude=["^/schema"],
    )
    return Litestar([me], on_app_init=[jwt_auth.on_app_init])
