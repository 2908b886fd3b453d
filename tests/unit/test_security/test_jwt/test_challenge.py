"""The log line and the challenge of a refusal."""

from __future__ import annotations

import logging
import re
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from litestar import Response, Router, get
from litestar.exceptions import NotAuthorizedException, PermissionDeniedException
from litestar.security.jwt import JWTAuth, JWTCookieAuth, Reason, TokenRefused
from litestar.security.jwt.challenge import ChallengeOptions, challenge, log_refusal, scopes_of_route

from .backends import FORGER, ISSUER, backend, bearer, client_of, secret_backend

KEY = ISSUER.key
# RFC 6750, section 3: what a description can quote.
QUOTED = re.compile(r'Bearer error="invalid_token", error_description="[\x20-\x21\x23-\x5b\x5d-\x7e]*"')


def guard(*scopes: str, claims: tuple[str, ...] = ("scope", "scp", "roles")) -> Any:
    """Make a guard that says which scopes it requires, and lets everything pass."""

    async def check(connection: Any, handler: Any) -> None: ...

    check.required_scopes = SimpleNamespace(scopes=scopes, claims=claims)  # type: ignore[attr-defined]
    return check


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        pytest.param({}, "Bearer", id="no-credentials"),
        pytest.param({"Authorization": "Basic YTpi"}, "Bearer", id="other-scheme"),
        pytest.param(
            bearer("x"), 'Bearer error="invalid_token", error_description="Token refused: malformed"', id="malformed"
        ),
        pytest.param(
            FORGER.auth_header(),
            'Bearer error="invalid_token", error_description="Token refused: signature"',
            id="forged",
        ),
    ],
)
def test_challenge_says_why(headers: dict[str, str], expected: str) -> None:
    with client_of(backend(KEY)) as client:
        answer = client.get("/", headers=headers)
    assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (401, expected)


@pytest.mark.parametrize(("scheme", "shown"), [("Token", "Token"), ("", "Bearer"), (None, "Bearer")])
def test_challenge_has_the_scheme_of_the_backend(scheme: str | None, shown: str) -> None:
    with client_of(backend(KEY, auth_scheme=scheme)) as client:
        assert client.get("/").headers["WWW-Authenticate"] == shown


def test_challenge_names_the_scopes_of_the_route() -> None:
    @get("/orders", guards=[guard("orders.read", "orders.write"), lambda connection, handler: None])
    async def orders() -> None: ...

    router = Router("/admin", guards=[guard("admin")], route_handlers=[orders])
    with client_of(backend(KEY), orders, router) as client:
        assert client.get("/orders").headers["WWW-Authenticate"] == 'Bearer scope="orders.read orders.write"'
        assert (
            client.get("/admin/orders").headers["WWW-Authenticate"] == 'Bearer scope="admin orders.read orders.write"'
        )
        assert "scope=" not in client.get("/orders", headers=bearer("x")).headers["WWW-Authenticate"]


@pytest.mark.parametrize("is_merged", [True, False])
def test_scopes_of_a_route_are_those_that_clients_can_ask_for(is_merged: bool) -> None:
    guards = [
        guard("a", "b"),
        guard("b", "c d", 'e"', "é", ""),
        guard("role", claims=("roles",)),
        guard("f", claims=("scp",)),
        len,
    ]
    # Litestar 2 resolves the guards of all layers, and Litestar 3 has merged them.
    handler = (
        SimpleNamespace(guards=guards)
        if is_merged
        else SimpleNamespace(resolve_guards=lambda: guards, ownership_layers=())
    )
    assert scopes_of_route(handler) == ["a", "b", "f"]


def test_challenge_of_the_application_stays() -> None:
    for name in ("WWW-Authenticate", "www-authenticate"):
        error = PermissionDeniedException(headers={name: "Mine", "X": "1"})
        challenge(error, error="x")
        assert error.headers == {name: "Mine", "X": "1"}
    error = PermissionDeniedException(headers={"X": "1"})
    challenge(error, "Own", a="1", b=None, c="")
    assert error.headers == {"X": "1", "WWW-Authenticate": 'Own a="1"'}


@given(st.text())
def test_challenge_quotes_what_a_header_can_hold(text: str) -> None:
    error = NotAuthorizedException()
    challenge(error, error="invalid_token", error_description=text or "x")
    assert QUOTED.fullmatch((error.headers or {})["WWW-Authenticate"])


@pytest.mark.parametrize(
    ("refused", "line"),
    [
        (TokenRefused(Reason.SIGNATURE), "Token refused: signature"),
        (TokenRefused(Reason.EXPIRED, "a live one"), "Token refused: expired (expected: a live one)"),
        (TokenRefused(Reason.UNKNOWN_KEY, received="k\n"), r"Token refused: unknown key (received: 'k\n')"),
        (TokenRefused(Reason.AUDIENCE, "a", received=["b"]), "Token refused: audience (expected: a; received: ['b'])"),
        (TokenRefused(Reason.MISSING_CLAIM, subject="exp"), "Token refused: missing claim exp"),
    ],
    ids=lambda value: value.reason if isinstance(value, TokenRefused) else "",
)
def test_log_line_says_what_was_expected_and_what_came(refused: TokenRefused, line: str, records: list[Any]) -> None:
    log_refusal(refused)
    [record] = records
    assert (record.levelname, record.getMessage(), record.reason, record.expected) == (
        "INFO",
        line,
        refused.reason,
        refused.expected,
    )


@pytest.mark.parametrize("kind", [JWTAuth, JWTCookieAuth])
def test_each_refused_request_logs_one_line(kind: Any, records: list[logging.LogRecord]) -> None:
    place = "a Bearer token in Authorization" + (" or in the cookie 'token'" if kind is JWTCookieAuth else "")
    with client_of(backend(KEY, kind)) as client:
        for headers in ({}, {"Authorization": "Basic YTpi"}, FORGER.auth_header(), ISSUER.auth_header()):
            client.get("/", headers=headers)
    missing = f"Token refused: no credentials (expected: {place})"
    assert [record.getMessage() for record in records] == [missing, missing, "Token refused: signature"]


def test_bare_token_is_expected_without_a_scheme(records: list[logging.LogRecord]) -> None:
    with client_of(backend(KEY, auth_scheme="", auth_header="X-Token")) as client:
        client.get("/")
    assert records[0].getMessage() == "Token refused: no credentials (expected: a token in X-Token)"


def test_request_without_a_connection_has_no_scopes() -> None:
    error = backend(KEY)._refuse()(TokenRefused(Reason.NO_CREDENTIALS), NotAuthorizedException(), None)
    assert error.headers == {"WWW-Authenticate": "Bearer"}


def test_backend_without_a_key_provider_logs_and_challenges_nothing(records: list[logging.LogRecord]) -> None:
    with client_of(secret_backend()) as client:
        for headers in ({}, bearer("x"), FORGER.auth_header()):
            assert "WWW-Authenticate" not in client.get("/", headers=headers).headers
    assert not records
    assert ChallengeOptions.resource_metadata.fget(None) is None  # type: ignore[attr-defined]


def test_reasons_can_be_counted_by_an_exception_handler() -> None:
    counts, watched = dict[Reason, int](), list[Reason]()

    def count(request: Any, error: NotAuthorizedException) -> Response[None]:
        assert isinstance(error.__cause__, TokenRefused)
        reason = error.__cause__.reason
        counts[reason] = counts.get(reason, 0) + 1
        return Response(None, status_code=418)

    async def watch(error: Exception, scope: Any) -> None:
        assert isinstance(error.__cause__, TokenRefused)
        watched.append(error.__cause__.reason)

    handlers: Any = {NotAuthorizedException: count}
    with client_of(backend(KEY), exception_handlers=handlers, after_exception=[watch]) as client:
        for headers in ({}, bearer("x"), FORGER.auth_header(), FORGER.auth_header()):
            assert client.get("/", headers=headers).status_code == 418
    assert counts == {Reason.NO_CREDENTIALS: 1, Reason.MALFORMED: 1, Reason.SIGNATURE: 2}
    assert watched == [Reason.NO_CREDENTIALS, Reason.MALFORMED, Reason.SIGNATURE, Reason.SIGNATURE]
