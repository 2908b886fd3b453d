"""Why a token is refused, and what a log line shows of it."""

from __future__ import annotations

from typing import Any

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from litestar.security.jwt.refusals import Reason, TokenRefused, printable


def test_refusal_says_what_was_expected_and_what_came() -> None:
    refused = TokenRefused(Reason.MISSING_CLAIM, "a or b", subject="aud", received=["x"])
    assert isinstance(refused, jwt.InvalidTokenError)
    assert (refused.reason, refused.expected, refused.subject) == (Reason.MISSING_CLAIM, "a or b", "aud")
    assert (refused.description, refused.received) == ("missing claim aud", "['x']")
    assert str(refused) == "missing claim aud (expected: a or b)"


def test_refusal_may_have_a_reason_only() -> None:
    refused = TokenRefused(Reason.SIGNATURE)
    assert (refused.expected, refused.subject, refused.received) == (None, None, None)
    assert str(refused) == refused.description == "signature"


def test_reasons_are_texts_that_a_challenge_can_quote() -> None:
    for reason in Reason:
        assert reason.isascii()
        assert reason.isprintable()
        assert not {'"', "\\"} & {*reason}


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        pytest.param("api", "'api'", id="text"),
        pytest.param("\r\nSet-Cookie: a=b", r"'\r\nSet-Cookie: a=b'", id="line-break"),
        pytest.param("\x1b[31m", r"'\x1b[31m'", id="escape-sequence"),
        pytest.param("\u202eключ", r"'\u202e\u043a\u043b\u044e\u0447'", id="other-script"),
        pytest.param(["a", 1], "['a', 1]", id="list"),
        pytest.param(5, "5", id="number"),
        pytest.param("x" * 5000, "'" + "x" * 63 + "…", id="long-text"),
        pytest.param(["x"] * 5000, str(["x"] * 40)[:64] + "…", id="long-list"),
    ],
)
def test_log_line_shows_64_printable_characters(value: Any, shown: str) -> None:
    assert printable(value) == shown


@given(st.text() | st.lists(st.text()) | st.dictionaries(st.text(), st.text()))
def test_whatever_came_is_printable(value: Any) -> None:
    shown = printable(value)
    assert shown.isprintable()
    assert len(shown) <= 65
