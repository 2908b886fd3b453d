import re
import time
from typing import Any

import httpx2

from litestar import Litestar, Request, get
from litestar.connection import ASGIConnection
from litestar.security.jwt import (
    JWTAuth,
    KeyNotFoundException,
    KeysUnavailableException,
    Token,
    UnverifiedToken,
)

REGION = "eu-central-1"
KEYS = f"https://public-keys.auth.elb.{REGION}.amazonaws.com"
ACCOUNT = f"arn:aws:elasticloadbalancing:{REGION}:123456789012"
LOAD_BALANCER = f"{ACCOUNT}:loadbalancer/app/my-load-balancer/50dc6c495c0c9188"
known: dict[str, str] = {}


async def fetch_key(kid: str) -> str:
    try:
        async with httpx2.AsyncClient() as client:
            response = await client.get(f"{KEYS}/{kid}")
            if response.status_code in {403, 404}:
                raise KeyNotFoundException("Invalid token")
            return response.raise_for_status().text
    except httpx2.HTTPError as e:
        raise KeysUnavailableException("Keys are unavailable") from e


async def find_key(token: UnverifiedToken) -> str:
    kid = token.kid or ""
    is_ours = token.header.get("signer") == LOAD_BALANCER
    if not is_ours or not re.fullmatch("[0-9a-f-]{36}", kid):
        raise KeyNotFoundException("Invalid token")
    if kid not in known:
        known[kid] = await fetch_key(kid)
    return known[kid]


class LoadBalancerToken(Token):
    @classmethod
    def decode_payload(cls, *args: Any, **kwargs: Any) -> Any:
        claims = super().decode_payload(*args, **kwargs)
        return {"iat": int(time.time()), **claims}


async def retrieve_user(token: LoadBalancerToken, connection: ASGIConnection) -> str:
    return token.sub


@get("/me")
async def me(request: Request[str, LoadBalancerToken, Any]) -> str:
    return request.user


jwt_auth = JWTAuth[str, LoadBalancerToken](
    retrieve_user_handler=retrieve_user,
    key_provider=find_key,
    key_algorithms="ES256",
    token_cls=LoadBalancerToken,
    auth_header="x-amzn-oidc-data",
    auth_scheme="",
    accepted_audiences="*",  # these tokens have none: find_key checks the signer
    exclude=["^/schema"],
)

app = Litestar([me], on_app_init=[jwt_auth.on_app_init])
