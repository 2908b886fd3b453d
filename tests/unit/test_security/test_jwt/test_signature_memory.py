"""A signature that verified once is remembered, which spares the mathematics and nothing else."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections import Counter
from collections.abc import Callable
from itertools import count
from typing import Any

import jwt
import pytest
import time_machine
from jwt.algorithms import OKPAlgorithm, RSAAlgorithm

from litestar.exceptions import NotAuthorizedException
from litestar.security.jwt import Key, Token, UnverifiedToken

from .backends import FORGER, ISSUER, OTHER, Issuer, backend, client_of, pem

NUMBERS = count()
NOW = 1_900_000_000
REMEMBERS = jwt.__version__ in {"2.14.0", "2.15.0", "2.15.1"}  # other versions verify by themselves


def fresh_token(issuer: Issuer = ISSUER, **claims: Any) -> str:
    """Make a token that nobody has seen: the memory is that of the whole process."""
    return issuer.token(jti=str(next(NUMBERS)), **claims)


def is_accepted(token: str, key: Any = ISSUER.key_provider, cls: type[Token] = Token, **options: Any) -> bool:
    try:
        cls.decode(token, key, "RS256", **options)
    except NotAuthorizedException:
        return False
    return True


@pytest.fixture
def verified(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """What PyJWT has done the mathematics for."""
    messages: list[bytes] = []
    for algorithm in (RSAAlgorithm, OKPAlgorithm):

        def noting(self: Any, msg: bytes, key: Any, sig: bytes, verify: Any = algorithm.verify) -> bool:
            messages.append(msg)
            return bool(verify(self, msg, key, sig))

        monkeypatch.setattr(algorithm, "verify", noting)
    return messages


JWK = ISSUER.key
FORMS: dict[str, Any] = {
    "public key": JWK.key,
    "PyJWK": JWK,
    "PyJWKSet": jwt.PyJWKSet.from_dict({"keys": [ISSUER.jwk]}),
    "several": [JWK.key, OTHER.key],
    "provider": lambda _: jwt.PyJWK(ISSUER.jwk),  # a copy each time
}


@pytest.mark.parametrize("form", FORMS)
def test_mathematics_is_done_once_for_each_signature(form: str, verified: list[bytes]) -> None:
    token = fresh_token()
    assert [is_accepted(token, FORMS[form]) for _ in range(3)] == [True] * 3
    assert len(verified) == (1 if REMEMBERS else 3)


def test_memory_is_bounded_at_1024_signatures(verified: list[bytes]) -> None:
    issuer = Issuer("https://c.test", "EdDSA")
    first, *others, last = [fresh_token(issuer) for _ in range(1_025)]
    for token in (first, *others):
        Token.decode(token, issuer.key_provider, "EdDSA")
    before = len(verified)
    Token.decode(first, issuer.key_provider, "EdDSA")
    assert len(verified) == before + (not REMEMBERS)
    Token.decode(last, issuer.key_provider, "EdDSA")
    Token.decode(first, issuer.key_provider, "EdDSA")
    assert len(verified) == before + (2 if REMEMBERS else 3)


def test_refused_signatures_are_not_remembered(verified: list[bytes]) -> None:
    token = fresh_token(FORGER)
    assert [is_accepted(token) for _ in range(3)] == [False] * 3
    assert len(verified) == 3


def test_override_that_verifies_no_signature_poisons_nothing() -> None:
    class Careless(Token):
        @classmethod
        def decode_payload(cls, *args: Any, **kwargs: Any) -> Any:
            options = {**(kwargs.pop("options", None) or {}), "verify_signature": False}
            return super().decode_payload(*args, **kwargs, options=options)  # type: ignore[arg-type, misc]

    token = fresh_token(FORGER)
    assert is_accepted(token, cls=Careless)
    assert not is_accepted(token)
    assert not is_accepted(token)


def test_key_that_the_provider_no_longer_returns_is_not_used() -> None:
    keys: list[Key] = [JWK.key]
    provider: Callable[[UnverifiedToken], Key] = lambda token: keys[0]  # noqa: E731
    token = fresh_token()
    for expected, key in ((True, JWK.key), (False, FORGER.key.key), (True, JWK.key)):
        keys[0] = key
        assert [is_accepted(token, provider) for _ in range(2)] == [expected] * 2


def test_algorithm_that_the_application_replaces_or_removes_decides_each_time() -> None:
    verdicts: list[bool] = []

    class Own(RSAAlgorithm):
        def verify(self, msg: bytes, key: Any, sig: bytes) -> bool:
            return verdicts.pop()

    token, forged, original = fresh_token(), fresh_token(FORGER), jwt.get_algorithm_by_name("RS256")
    assert is_accepted(token)
    jwt.unregister_algorithm("RS256")
    try:
        assert not is_accepted(token)
        jwt.register_algorithm("RS256", Own(Own.SHA256))
        verdicts[:] = [True, False, True, False]
        assert [is_accepted(token) for _ in range(3)] == [False, True, False]
        assert is_accepted(forged)
    finally:
        jwt.unregister_algorithm("RS256")
        jwt.register_algorithm("RS256", original)
    assert [is_accepted(token), is_accepted(forged)] == [True, False]


@pytest.mark.parametrize(
    ("claims", "seconds", "options", "expected"),
    [
        ({"exp": NOW + 60}, 50, {}, True),
        ({"exp": NOW + 60}, 61, {}, False),
        ({"exp": NOW + 60}, 75, {"leeway": 30}, True),
        ({"exp": NOW + 60}, 95, {"leeway": 30}, False),
        ({"nbf": NOW}, -1, {}, False),
        ({}, -1, {}, False),  # issued in the future
        ({}, 0, {"audience": ["api"]}, True),
        ({}, 0, {"audience": ["x"]}, False),
        ({}, 0, {"issuer": ["x"]}, False),
        ({}, 0, {"require_claims": ["azp"]}, False),
        ({"aud": ["api"]}, 0, {"audience": ["api"], "strict_audience": True}, False),
    ],
)
def test_claims_of_a_remembered_token_are_judged(claims: Any, seconds: int, options: Any, expected: bool) -> None:
    with time_machine.travel(NOW, tick=False) as clock:
        token = fresh_token(**claims)
        assert is_accepted(token)
        clock.shift(seconds)
        assert is_accepted(token, **options) == expected


def test_revocation_and_user_are_looked_up_for_remembered_tokens() -> None:
    calls: Counter[str] = Counter()
    revoked, gone, issuers = set[str](), set[str](), {ISSUER.name}

    def find_user(token: Token, _: Any) -> str | None:
        calls["user"] += 1
        return None if token.sub in gone else token.sub

    def is_revoked(token: Token, _: Any) -> bool:
        calls["revoked"] += 1
        return token.sub in revoked

    auth = backend(
        JWK,
        retrieve_user_handler=find_user,
        revoked_token_handler=is_revoked,
        accepted_issuers=lambda issuer: issuer in issuers,
    )
    headers = ISSUER.auth_header()
    with client_of(auth) as client:
        assert [client.get("/", headers=headers).status_code for _ in range(2)] == [200, 200]
        for refusing in (revoked, gone):
            refusing.add("ann")
            assert client.get("/", headers=headers).status_code == 401
            refusing.clear()
        assert calls["user"] == 4
        issuers.clear()
        assert client.get("/", headers=headers).status_code == 401


def test_what_is_done_to_a_token_is_not_remembered() -> None:
    token = fresh_token(roles=["user"])
    for _ in range(2):
        decoded = Token.decode(token, JWK, "RS256")
        assert decoded.extras == {"roles": ["user"]}
        decoded.extras["roles"].append("admin")


OTHER_VERSIONS: dict[str, str] = {
    "unlike nothing": "",
    "another signature of _load": """
        rewrite(jwt.PyJWS, "_load", "self, jwt: str | bytes", "self, jwt: str | bytes, strict: bool")
        rewrite(jwt.PyJWS, "decode_complete", "self._load(jwt)", "self._load(jwt, True)")
    """,
    "a check in _load": """
        rewrite(jwt.PyJWS, "_load", "return (payload", "if 'x' in header: raise DecodeError\\n    return (payload")
    """,
    "one more argument": """
        rewrite(jwt.PyJWT, "decode_complete", "detached_payload=detached_payload,", "detached_payload=detached_payload, more=1,")
        rewrite(jwt.PyJWS, "decode_complete", "detached_payload: bytes | None = None,", "detached_payload: bytes | None = None, more: int = 0,")
    """,
}
SCRIPT = """
import inspect, sys, textwrap, jwt

def rewrite(cls, name, old, new):
    source = textwrap.dedent(inspect.getsource(getattr(cls, name)))
    assert old in source
    exec("from __future__ import annotations\\n" + source.replace(old, new), namespace := vars(sys.modules[cls.__module__]))
    setattr(cls, name, namespace.pop(name))

jwt.__version__ = "2.999.0"
{changes}
from litestar.exceptions import NotAuthorizedException
from litestar.security.jwt import Token
for token in sys.argv[2:]:
    for _ in range(2):
        try:
            print(Token.decode(token, sys.argv[1], "RS256").sub)
        except NotAuthorizedException:
            print("refused")
"""


@pytest.mark.parametrize("change", OTHER_VERSIONS)
def test_other_versions_of_pyjwt_verify_by_themselves(change: str) -> None:
    script = SCRIPT.replace("{changes}", textwrap.dedent(OTHER_VERSIONS[change]))
    tokens = [fresh_token(), fresh_token(FORGER), fresh_token(headers={"x": "1"})]
    command = [sys.executable, "-c", script, pem(ISSUER.private_key).decode(), *tokens]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    checked = "refused" if change == "a check in _load" else "ann"
    assert done.stdout.split() == ["ann"] * 2 + ["refused"] * 2 + [checked] * 2, done.stderr
