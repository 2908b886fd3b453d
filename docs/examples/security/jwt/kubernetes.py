import ssl
from pathlib import Path
from typing import Any

import httpx2

from litestar import Litestar, Request, get
from litestar.connection import ASGIConnection
from litestar.security.jwt import JWTAuth, RemoteJWKSet, Token

FOLDER = Path("/var/run/secrets/kubernetes.io/serviceaccount")
# Any pod of the cluster can have a token for any audience.
CALLERS = {"system:serviceaccount:shop:checkout"}


def add_token(request: httpx2.Request) -> httpx2.Request:
    # Kubernetes replaces the file before its token expires.
    request.headers["Authorization"] = f"Bearer {(FOLDER / 'token').read_text()}"
    return request


async def retrieve_user(token: Token, connection: ASGIConnection) -> str | None:
    return token.sub if token.sub in CALLERS else None


@get("/me")
async def me(request: Request[str, Token, Any]) -> str:
    return request.user


def create_app() -> Litestar:
    context = ssl.create_default_context(cafile=FOLDER / "ca.crt")
    client = httpx2.AsyncClient(auth=add_token, verify=context)
    jwt_auth = JWTAuth[str, Token](
        retrieve_user_handler=retrieve_user,
        key_provider=RemoteJWKSet(
            "https://kubernetes.default.svc/openid/v1/jwks",
            client=client,
        ),
        accepted_issuers=["https://kubernetes.default.svc.cluster.local"],
        accepted_audiences=["my-api"],
        exclude=["^/schema"],
    )
    return Litestar(
        [me],
        on_app_init=[jwt_auth.on_app_init],
        on_shutdown=[client.aclose],
    )
