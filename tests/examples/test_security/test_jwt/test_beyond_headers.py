"""Tokens that come otherwise than in a header, credentials beside them, and what an application decides itself."""

from __future__ import annotations

import sqlite3
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx2
import jwt
import pytest
from opentelemetry.metrics import set_meter_provider
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from pytest import MonkeyPatch
from redis.exceptions import RedisError

from litestar.security.jwt.testing import LocalIssuer
from litestar.stores.memory import MemoryStore
from tests.examples.test_security.test_jwt.internet import answer_of, client_of, load, outcome_of, text_of

IDP = "https://idp.example.com"


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def test_subprotocol_has_the_token(idp: LocalIssuer) -> None:
    example = load("websocket_subprotocol")
    assert text_of(example, subprotocols=["bearer", idp.token("alice")]) == "Hello alice"
    for subprotocols in ([], ["bearer"], ["bearer", idp.token(aud="another")], ["chat", idp.token()]):
        assert text_of(example, subprotocols=subprotocols).startswith("4500")


def test_query_has_the_token(idp: LocalIssuer) -> None:
    with client_of("event_source") as client:
        query = {"access_token": idp.token("alice")}
        assert "data: Hello alice" in client.get("/events", params=query).text
        assert "data: Hello bob" in client.get("/events", headers=idp.auth_header("bob")).text
        assert client.get("/me", params=query).status_code == 401
        assert outcome_of(client.get("/events", params={"access_token": idp.token(expires_in=-60)})) == "expired"


def test_first_message_is_the_token(idp: LocalIssuer) -> None:
    example = load("websocket_first_message")
    assert text_of(example, idp.token("alice"), "Hi") == "alice: Hi"
    for token in ("", "Hi", idp.token(aud="another"), idp.token(expires_in=-60)):
        assert text_of(example, token) == "4401 Not authenticated"
    assert text_of(example, idp.token("alice", expires_in=-5)) == "4401 The token has expired"


def test_tokens_of_secret_and_issuer(idp: LocalIssuer, monkeypatch: MonkeyPatch) -> None:
    secret = "the secret that all tokens were signed with"
    monkeypatch.setenv("JWT_SECRET", secret)
    now = 1_000_000_000
    local = {"sub": "alice", "iat": now, "exp": 1 << 32}
    with client_of("secret_and_issuer") as client:
        for token, answer in (
            (jwt.encode(local, secret, "HS256"), "local alice"),
            (idp.token("alice"), f"{IDP} alice"),
            (jwt.encode({**local, "exp": now}, secret, "HS256"), "expired"),
            (jwt.encode(local, f"not {secret}", "HS256"), "signature"),
            (jwt.encode(local, idp.jwks["keys"][0]["n"], "HS256"), "signature"),
            (jwt.encode(local, secret + secret, "HS512"), "algorithm"),
            (LocalIssuer(issuer=IDP, audience="my-api").token(), "unknown key"),
            (idp.token(aud=None), "missing claim aud"),
            ("nonsense", "malformed"),
        ):
            assert outcome_of(client.get("/me", headers=bearer(token))) == answer


def test_authentication_is_optional(idp: LocalIssuer) -> None:
    with client_of("optional_auth") as client:
        assert client.get("/greeting").text == "Hello stranger"
        assert client.get("/greeting", headers=idp.auth_header("alice")).text == "Hello alice"
        assert outcome_of(client.get("/greeting", headers=idp.auth_header(aud="another"))) == "audience"
        assert client.get("/greeting", headers={"Authorization": "Basic YTpi"}).status_code == 401
        assert client.get("/me").status_code == 401


def test_page_of_another_origin(idp: LocalIssuer) -> None:
    page = {"Origin": "https://app.example.com"}
    asked = {"Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": "authorization"}
    with client_of("other_origin") as client:
        allowed = client.options("/me", headers={**page, **asked}).headers
        assert "authorization" in allowed["Access-Control-Allow-Headers"].lower()
        refused = client.get("/me", headers={**page, **idp.auth_header(aud="another")})
        assert (outcome_of(refused), refused.headers["Access-Control-Allow-Origin"]) == ("audience", page["Origin"])
        assert "www-authenticate" in refused.headers["Access-Control-Expose-Headers"].lower()
        assert "Access-Control-Allow-Origin" not in client.get("/me", headers={"Origin": IDP}).headers


def test_api_key_or_token(idp: LocalIssuer) -> None:
    example = load("api_key_or_token")
    digest = sha256(b"key of job").hexdigest()
    example.CLIENTS[digest] = "job"
    with client_of(example) as client:
        assert client.get("/me", headers={"X-API-Key": "key of job"}).text == "client job"
        assert client.get("/me", headers=idp.auth_header("alice")).text == "user alice"
        for refused in ({}, {"X-API-Key": ""}, {"X-API-Key": digest}):
            assert client.get("/me", headers=refused).status_code == 401


def test_user_comes_from_a_database(idp: LocalIssuer, tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "database") as session:
        session.execute("CREATE TABLE users (issuer, subject, name)")
        session.execute("INSERT INTO users VALUES (?, '7', 'Alice'), ('https://other.example', '8', 'Bob')", (IDP,))
    session.close()
    assert answer_of("database_session", idp.token("7")) == "Alice"
    assert answer_of("database_session", idp.token("8")) == "no user"


def test_session_has_the_token_of_another_issuer(idp: LocalIssuer) -> None:
    with client_of("session_cookie") as client:
        client.base_url = "https://testserver.local"
        assert client.post("/session", headers=idp.auth_header(aud="another")).status_code == 401
        assert client.post("/session").status_code == 401
        cookie = client.post("/session", headers=idp.auth_header("alice")).headers["Set-Cookie"].lower()
        assert all(flag in cookie for flag in ("access_token=ey", "httponly", "secure", "samesite=lax", "max-age=3"))
        assert client.get("/me").text == "alice"
        assert client.post("/session").status_code == 401  # the cookie is not enough
        assert client.delete("/session").status_code == 204
        assert client.get("/me").status_code == 401


@pytest.mark.usefixtures("store")
def test_token_is_revoked(idp: LocalIssuer, monkeypatch: MonkeyPatch) -> None:
    async def fail(self: Any, key: str) -> bool:
        raise RedisError

    with client_of("revocation") as client:
        for expires_in in (3600, -10):  # the second one has expired, but clocks may differ
            first, second = (idp.auth_header("alice", jti=f"{expires_in} {n}", expires_in=expires_in) for n in "12")
            assert client.post("/logout", headers=first).status_code == 201
            assert outcome_of(client.get("/me", headers=first)) == "revoked"
            assert client.get("/me", headers=second).text == "alice"
        assert outcome_of(client.get("/me", headers=idp.auth_header("alice"))) == "missing claim jti"
        monkeypatch.setattr(MemoryStore, "exists", fail)
        assert client.get("/me", headers=idp.auth_header("alice", jti="3")).status_code == 503


@pytest.mark.parametrize(
    ("status", "body", "answer"),
    [
        (200, b'{"active": true}', "alice"),
        (200, b'{"active": false}', "revoked"),
        (200, b"{}", "revoked"),
        (200, b"<html>", "503"),
        (500, b'{"active": true}', "503"),
    ],
)
def test_issuer_tells_whether_a_token_is_active(
    status: int, body: bytes, answer: str, idp: LocalIssuer, monkeypatch: MonkeyPatch
) -> None:
    token = idp.token("alice")

    async def post(self: Any, url: str, data: dict[str, str]) -> httpx2.Response:
        assert data == {"token": token}
        return httpx2.Response(status, content=body, request=httpx2.Request("POST", url))

    monkeypatch.setattr(httpx2.AsyncClient, "post", post)
    assert answer_of("introspection", token) == answer


@pytest.mark.usefixtures("store")
def test_issuer_ends_a_session(idp: LocalIssuer) -> None:
    event: Any = {"http://schemas.openid.net/event/backchannel-logout": {}}
    logout: dict[str, Any] = {"sid": "one", "aud": "my-client", "events": event, "headers": {"typ": "logout+jwt"}}
    with client_of("backchannel_logout") as client:
        one, two = (idp.auth_header("alice", sid=sid) for sid in ("one", "two"))
        changes: list[dict[str, Any]] = [
            {"headers": None},
            {"aud": "my-api"},
            {"events": {"another": {}}},
            {"events": None},
            {"events": 7},
            {"nonce": "n"},
            {"sid": None},
            {"exp": 1},
        ]
        for body in ({}, *({"logout_token": idp.token(**{**logout, **change})} for change in changes)):
            assert client.post("/logout", data=body).status_code == 400, body
        assert client.get("/me", headers=one).text == "alice"
        assert client.post("/logout", data={"logout_token": idp.token(**logout)}).status_code == 200
        assert outcome_of(client.get("/me", headers=one)) == "revoked"
        assert client.get("/me", headers=two).text == "alice"
        assert outcome_of(client.get("/me", headers=bearer(idp.token(**{**logout, "aud": "my-api"})))) == "type"


def test_refusals_are_counted(idp: LocalIssuer) -> None:
    with client_of("count_refusals") as client:
        for headers in ({}, bearer("x"), idp.auth_header(aud="another"), idp.auth_header(aud="another")):
            client.get("/me", headers=headers)
        counts = client.get("/metrics").text
    for reason, count in (("no credentials", 1), ("malformed", 1), ("audience", 2)):
        assert f'jwt_refusals_total{{reason="{reason}"}} {count:.1f}' in counts


def test_refusals_are_counted_by_opentelemetry(idp: LocalIssuer) -> None:
    reader = InMemoryMetricReader()
    set_meter_provider(MeterProvider([reader]))
    with client_of("count_refusals_opentelemetry") as client:
        client.get("/me", headers=bearer("x"))
    data: Any = reader.get_metrics_data()
    [point] = data.resource_metrics[0].scope_metrics[0].metrics[0].data.data_points
    assert (point.value, dict(point.attributes)) == (1, {"reason": "malformed"})
