import os
import sqlite3
from contextlib import closing
from typing import Any

from anyio import to_thread

from litestar import Litestar, Request, get
from litestar.connection import ASGIConnection
from litestar.datastructures import State
from litestar.security.jwt import JWTAuth, OpenIDProvider, Token

QUERY = "SELECT name FROM users WHERE issuer = ? AND subject = ?"


def find_user(database: str, token: Token) -> str | None:
    with closing(sqlite3.connect(database)) as session:
        row = session.execute(QUERY, (token.iss, token.sub)).fetchone()
    return None if row is None else str(row[0])


async def retrieve_user(token: Token, connection: ASGIConnection) -> str | None:
    # Only route handlers have dependencies. Engines and pools belong into the state.
    return await to_thread.run_sync(find_user, connection.app.state.database, token)


@get("/me")
async def me(request: Request[str, Token, Any]) -> str:
    return request.user


jwt_auth = JWTAuth[str, Token](
    retrieve_user_handler=retrieve_user,
    key_provider=OpenIDProvider("https://idp.example.com"),
    accepted_audiences=["my-api"],
    exclude=["^/schema"],
)

app = Litestar(
    [me],
    on_app_init=[jwt_auth.on_app_init],
    state=State({"database": os.environ["DATABASE"]}),
)
