"""How a key provider is called, and what its exceptions mean."""

from __future__ import annotations

import json
from functools import partial
from io import BytesIO
from typing import Any
from unittest.mock import AsyncMock, Mock

import jwt
import pytest

from litestar.exceptions import HTTPException, ImproperlyConfiguredException, NotFoundException
from litestar.security.jwt.key_set import parse_jwk
from litestar.security.jwt.keys import (
    KeyNotFoundException,
    KeysUnavailableException,
    SelectedKeys,
    UnknownIssuerException,
    UnusableKeyError,
)
from litestar.security.jwt.lookup import as_lookup
from litestar.security.jwt.refusals import Reason, TokenRefused
from litestar.security.jwt.unverified import UnverifiedToken

from .backends import ISSUER, OTHER, SECRET, on_both_libraries

KEY, TOKEN = parse_jwk(ISSUER.jwk), UnverifiedToken(ISSUER.token())
CONNECTION: Any = object()
SELECTED = SelectedKeys("RS256", (KEY,))


def answering(answer: Any, **attributes: Any) -> Any:
    """Make a provider that returns something."""
    return Mock(spec=[*attributes], return_value=answer, **attributes)


def answering_later(answer: Any) -> Any:
    return AsyncMock(spec=[], return_value=answer)


async def find(given: Any, connection: Any = None) -> tuple[Any, ...]:
    """Return the keys that a provider finds."""
    return (await as_lookup(given, ["RS256", "ES256"]).find(TOKEN, connection)).selected.keys


def calls_with(function: Any) -> int:
    """Return how many arguments a provider is called with."""
    return 1 + as_lookup(function, ()).takes_connection


class Provider:
    """A provider, by a method of a name of its own."""

    def method(self, token: UnverifiedToken, connection: Any) -> None: ...

    def __call__(self, token: UnverifiedToken, *rest: Any, connection: Any = None) -> None: ...


class Later:
    """An awaitable that is no coroutine."""

    def __await__(self) -> Any:
        raise AssertionError


class Unhashable:
    __hash__ = None  # type: ignore[assignment]

    def __call__(self, token: UnverifiedToken, connection: Any) -> None: ...


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        pytest.param(lambda token: None, 1, id="token"),
        pytest.param(lambda anything: None, 1, id="any-name"),
        pytest.param(lambda token, connection: None, 2, id="second-required"),
        pytest.param(lambda token, request, /: None, 2, id="second-positional-only"),
        pytest.param(lambda token, connection=None: None, 2, id="connection-with-a-default"),
        pytest.param(lambda token, cache=None: None, 1, id="other-with-a-default"),
        pytest.param(lambda token, cache=None, connection=None: None, 1, id="connection-as-the-third"),
        pytest.param(lambda *arguments: None, 1, id="variadic"),
        pytest.param(lambda token, *, cache=None: None, 1, id="keyword-with-a-default"),
        pytest.param(lambda token=None: None, 1, id="token-with-a-default"),
        pytest.param(partial(lambda cache, token: None, {}), 1, id="partial"),
        pytest.param(Provider().method, 2, id="method"),
        pytest.param(Provider(), 1, id="object"),
        pytest.param(Unhashable(), 2, id="object-without-hash"),
        pytest.param({"a": 1}.get, 1, id="builtin"),
        pytest.param(Mock(spec=[]), 1, id="mock"),
    ],
)
def test_provider_is_called_with_what_it_takes(function: Any, arguments: int) -> None:
    assert calls_with(function) == arguments


def test_function_without_a_signature_takes_the_token() -> None:
    class Native:
        __signature__ = 5

        def __call__(self, *args: Any) -> None: ...

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("litestar.security.jwt.lookup.signature", Mock(side_effect=ValueError))
        assert calls_with(Native()) == 1


@pytest.mark.parametrize(
    "function",
    [
        pytest.param(lambda: None, id="nothing"),
        pytest.param(lambda state, request, headers: None, id="three"),
        pytest.param(lambda token, *, cache: None, id="required-keyword"),
        pytest.param(lambda *, token: None, id="token-as-keyword"),
        pytest.param(lambda **options: None, id="keywords"),
    ],
)
def test_function_that_cannot_be_called_with_a_token_is_refused(function: Any) -> None:
    with pytest.raises(ImproperlyConfiguredException, match=r"cannot be a key provider: .* wrap it in 'Provide'"):
        as_lookup(function, ())
    with pytest.raises(ImproperlyConfiguredException, match="cannot be a key provider"):
        as_lookup(answering(None, refetch=function), ())


@pytest.mark.parametrize(
    "given",
    [None, 5, [], [5], object(), Provider, dict],
    ids=["none", "int", "empty-list", "list-of-int", "object", "class", "builtin-class"],
)
def test_what_is_no_provider_is_refused(given: Any) -> None:
    with pytest.raises(ImproperlyConfiguredException, match=r"'key_provider' takes a key, .* not ") as raised:
        as_lookup(given, ())
    assert "an instance instead of a class" in raised.value.detail


def test_name_of_a_secret_does_not_show() -> None:
    lookup = as_lookup(SECRET, ["HS256"])
    assert SECRET not in repr(lookup)
    assert lookup.given is SECRET
    assert as_lookup(lookup, ()) is lookup
    with pytest.raises(UnusableKeyError):
        as_lookup(SECRET, ["RS256"])


@pytest.mark.parametrize("wrap", [answering, answering_later, lambda key: key], ids=["sync", "async", "key"])
@pytest.mark.parametrize(
    "key", [ISSUER.key, [OTHER.key, ISSUER.key], ISSUER.jwk, SELECTED, KEY], ids=lambda key: type(key).__name__
)
@on_both_libraries
async def test_key_is_found(wrap: Any, key: Any) -> None:
    (found,) = await find(wrap(key))
    assert found.jwk == KEY.jwk


@pytest.mark.parametrize(
    "nothing",
    [None, [], (), OTHER.key, {"keys": []}],
    ids=["none", "empty-list", "empty-tuple", "other-key", "empty-set"],
)
@on_both_libraries
async def test_no_key_is_found(nothing: Any) -> None:
    assert await find(answering(nothing)) == await find(answering_later(nothing)) == ()
    assert as_lookup(answering(nothing), ()).find_now(TOKEN).selected.keys == ()


@on_both_libraries
async def test_connection_is_passed_on() -> None:
    seen: list[Any] = []

    async def provider(token: UnverifiedToken, connection: Any) -> Any:
        seen.append((token, connection))
        return KEY

    assert await find(provider, CONNECTION) == (KEY,)
    assert seen == [(TOKEN, CONNECTION)]
    with pytest.raises(
        ImproperlyConfiguredException, match=r"takes the connection as its second argument. Pass 'connection'"
    ):
        await find(provider)
    with pytest.raises(ImproperlyConfiguredException, match="takes the connection"):
        as_lookup(provider, ()).find_now(TOKEN)


@on_both_libraries
async def test_provider_may_return_another_provider() -> None:
    def with_connection(token: UnverifiedToken, connection: Any) -> Any:
        assert connection is CONNECTION
        return KEY

    for inner in (answering(KEY), answering_later(KEY), with_connection, answering(SELECTED)):
        for outer in (answering(inner), answering_later(inner)):
            found = await as_lookup(outer, ()).find(TOKEN, CONNECTION)
            assert found.selected.keys == (KEY,)
            assert found.lookup.given is inner
    assert as_lookup(answering(answering(KEY)), ()).find_now(TOKEN).selected.keys == (KEY,)


@on_both_libraries
async def test_third_provider_is_not_called() -> None:
    third = answering(KEY)
    for second in (answering(third), answering_later(third)):
        with pytest.raises(ImproperlyConfiguredException, match="its provider returned Mock, which is no key"):
            await find(answering(second))
    with pytest.raises(ImproperlyConfiguredException, match="which is no key"):
        as_lookup(answering(answering(third)), ()).find_now(TOKEN)
    third.assert_not_called()


@pytest.mark.parametrize(
    "answer",
    [5, True, object(), Provider, [5], {5}],
    ids=["int", "true", "object", "class", "list-of-int", "set-of-int"],
)
@on_both_libraries
async def test_answer_that_is_no_key_is_an_error_of_the_application(answer: Any) -> None:
    for provider in (answering(answer), answering_later(answer)):
        with pytest.raises(ImproperlyConfiguredException):
            await find(provider)


def test_asynchronous_provider_cannot_answer_now() -> None:
    async def provider(token: UnverifiedToken) -> Any:
        raise AssertionError

    for given in (provider, answering_later(KEY), answering(provider), answering(Later())):
        with pytest.raises(
            ImproperlyConfiguredException, match=r"its provider is asynchronous. Use it as the 'key_provider'"
        ):
            as_lookup(given, ()).find_now(TOKEN)


@pytest.mark.parametrize("kind", [Mock, AsyncMock], ids=["sync", "async"])
@pytest.mark.parametrize(
    ("error", "expected"),
    [
        pytest.param(KeyNotFoundException("x"), Reason.UNKNOWN_KEY, id="key-not-found"),
        pytest.param(LookupError("x"), Reason.UNKNOWN_KEY, id="lookup-error"),
        pytest.param(KeyError("x"), Reason.UNKNOWN_KEY, id="key-error"),
        pytest.param(jwt.PyJWKClientError("x"), Reason.UNKNOWN_KEY, id="client-error"),
        pytest.param(UnknownIssuerException("a", "b"), Reason.ISSUER, id="unknown-issuer"),
        pytest.param(UnknownIssuerException(), Reason.ISSUER, id="unknown-issuer-without-names"),
        pytest.param(TokenRefused(Reason.TYPE), Reason.TYPE, id="refusal"),
        pytest.param(KeysUnavailableException(), KeysUnavailableException, id="unavailable"),
        pytest.param(OSError("x"), KeysUnavailableException, id="os-error"),
        pytest.param(TimeoutError("x"), KeysUnavailableException, id="timeout"),
        pytest.param(jwt.PyJWKClientConnectionError("x"), KeysUnavailableException, id="connection-error"),
        pytest.param(NotFoundException("x"), NotFoundException, id="http-exception"),
        pytest.param(UnusableKeyError("it is odd"), ImproperlyConfiguredException, id="unusable-key"),
        pytest.param(ImproperlyConfiguredException("x"), ImproperlyConfiguredException, id="misconfiguration"),
        pytest.param(ZeroDivisionError("x"), ZeroDivisionError, id="any-other"),
    ],
)
@on_both_libraries
async def test_error_of_a_provider_says_whose_fault_it_is(error: Any, expected: Any, kind: Any) -> None:
    provider = kind(spec=[], side_effect=error)
    outcomes: list[Any] = []
    for given in (provider, answering(provider)):
        with pytest.raises(Exception) as raised:
            await find(given)
        outcomes.append(raised.value)
    if kind is Mock:
        for given in (provider, answering(provider)):
            with pytest.raises(Exception) as raised:
                as_lookup(given, ()).find_now(TOKEN)
            outcomes.append(raised.value)
    for outcome in outcomes:
        assert outcome.reason is expected if isinstance(expected, Reason) else type(outcome) is expected
        assert error in (outcome, outcome.__cause__)
        if isinstance(error, UnknownIssuerException):
            assert outcome.expected == (" or ".join(error.expected) or None)
        if isinstance(outcome, HTTPException) and isinstance(error, UnusableKeyError):
            assert outcome.detail == "The key to verify tokens with cannot be used: it is odd"


@on_both_libraries
async def test_other_keys_are_found_again() -> None:
    tried, other = SelectedKeys("RS256", ()), parse_jwk(ISSUER.jwk)

    async def find_again(tried: SelectedKeys, *, connection: Any = None, **mock: Any) -> Any:
        lookup = as_lookup(answering(KEY, refetch=AsyncMock(spec=[], **mock)), ())
        return await lookup.find_again(TOKEN, connection, tried)

    assert (await find_again(tried, return_value=ISSUER.key)).keys[0].jwk == KEY.jwk
    assert (await find_again(SELECTED, return_value=other)).keys == (other,)
    others: list[Any] = [KEY, None, [], OTHER.key]
    for answer in others:
        assert await find_again(SELECTED, return_value=answer) is None
    for error in (LookupError(), KeyNotFoundException(), UnknownIssuerException()):
        assert await find_again(SELECTED, side_effect=error) is None
    with pytest.raises(KeysUnavailableException):
        await find_again(SELECTED, side_effect=TimeoutError())
    with pytest.raises(ImproperlyConfiguredException, match="which is no key"):
        await find_again(SELECTED, return_value=answering(KEY))
    assert await as_lookup(answering(KEY), ()).find_again(TOKEN, None, tried) is None


@on_both_libraries
async def test_refetch_takes_the_connection_if_it_has_a_place_for_it() -> None:
    seen: list[Any] = []

    async def refetch(token: UnverifiedToken, connection: Any = None) -> Any:
        seen.append(connection)
        return KEY

    lookup = as_lookup(answering(None, refetch=refetch), ())
    assert (lookup.takes_connection, lookup.refetch_takes_connection) == (False, True)
    assert await lookup.find_again(TOKEN, CONNECTION, SelectedKeys("RS256", ())) == SELECTED
    assert seen == [CONNECTION]


@on_both_libraries
async def test_client_of_pyjwt_is_called_in_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = json.dumps({"keys": [ISSUER.jwk]}).encode()
    for answer, expected in ((b"<html>", None), (b"\xff", None), (b"[" * 100_000, None), (keys, KEY.jwk)):
        monkeypatch.setattr("urllib.request.OpenerDirector.open", lambda *_, **options: BytesIO(answer))
        client = jwt.PyJWKClient("http://a.test/keys")
        for given in (client, answering(client)):
            try:
                (key,) = await find(given)
                assert key.jwk == expected
            except KeysUnavailableException:
                assert expected is None
    unknown = UnverifiedToken(ISSUER.token(headers={"kid": "?"}))
    with pytest.raises(TokenRefused) as raised:
        await as_lookup(jwt.PyJWKClient("http://a.test/keys"), ()).find(unknown, None)
    assert raised.value.reason is Reason.UNKNOWN_KEY
