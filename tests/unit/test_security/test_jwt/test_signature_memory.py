"""A signature that verified once is remembered, which spares the mathematics and nothing else."""

from __future__ import annotations

import subprocess
import sys
from itertools import count, product
from typing import Any
from unittest.mock import Mock, patch

import jwt
import time_machine
from jwt.algorithms import OKPAlgorithm, RSAAlgorithm

from litestar.security.jwt import Token

from .backends import FORGER, ISSUER, OTHER, Issuer, backend, client_of, is_accepted, pem

JWK, NUMBERS = ISSUER.key, count()
NOW = 1_900_000_000
REMEMBERS = jwt.__version__ in {"2.14.0", "2.15.0", "2.15.1"}  # other versions verify by themselves


def fresh_token(issuer: Issuer = ISSUER, **claims: Any) -> str:
    """Make a token that nobody has seen: the memory is that of the whole process."""
    return issuer.token(jti=str(next(NUMBERS)), **claims)


def counting(algorithm: Any) -> Any:
    """Count how often PyJWT does the mathematics."""
    return patch.object(algorithm, "verify", autospec=True, side_effect=algorithm.verify)


def test_mathematics_is_done_once_for_each_signature_that_verifies() -> None:
    keys, copying = jwt.PyJWKSet.from_dict({"keys": [ISSUER.jwk]}), lambda _: jwt.PyJWK(ISSUER.jwk)
    for form, issuer in product((JWK.key, JWK, keys, [JWK.key, OTHER.key], copying), (ISSUER, FORGER)):
        token, is_good = fresh_token(issuer), issuer is ISSUER
        with counting(RSAAlgorithm) as verify:
            assert [is_accepted(token, form) for _ in range(3)] == [is_good] * 3
        assert verify.call_count == (1 if REMEMBERS and is_good else 3)


def test_memory_is_bounded_at_1024_signatures() -> None:
    issuer = Issuer("https://c.test", "EdDSA")
    first, *others, last = [fresh_token(issuer) for _ in range(1_025)]
    for token in (first, *others):
        Token.decode(token, issuer.key, "EdDSA")
    for tokens, expected in (([first], 0), ([last, first], 2)):
        with counting(OKPAlgorithm) as verify:
            assert all(is_accepted(token, issuer.key, "EdDSA") for token in tokens)
        assert verify.call_count == (expected if REMEMBERS else len(tokens))


def test_remembered_signature_vouches_for_nothing_else() -> None:
    (remembered, _, signature), (other, *_) = (fresh_token().rpartition(".") for _ in range(2))
    assert is_accepted(f"{remembered}.{signature}", JWK)
    assert not is_accepted(f"{other}.{signature}", JWK)


def test_override_that_verifies_no_signature_poisons_nothing() -> None:
    class Careless(Token):
        @classmethod
        def decode_payload(cls, *args: Any, **kwargs: Any) -> Any:
            kwargs["options"] = {**kwargs["options"], "verify_signature": False}
            return super().decode_payload(*args, **kwargs)

    token = fresh_token(FORGER)
    assert [is_accepted(token, JWK, token_cls=cls) for cls in (Careless, Token, Token)] == [True, False, False]


def test_key_that_the_provider_no_longer_returns_is_not_used() -> None:
    token = fresh_token()
    for key in (JWK.key, FORGER.key.key, JWK.key):
        provider = Mock(return_value=key)
        assert [is_accepted(token, provider) for _ in range(2)] == [key is JWK.key] * 2


def test_algorithm_that_the_application_replaces_or_removes_decides_each_time() -> None:
    verdicts: list[bool] = []

    class Own(RSAAlgorithm):
        def verify(self, msg: bytes, key: Any, sig: bytes) -> bool:
            return verdicts.pop()

    token, forged, original = fresh_token(), fresh_token(FORGER), jwt.get_algorithm_by_name("RS256")
    assert is_accepted(token, JWK)
    jwt.unregister_algorithm("RS256")
    try:
        assert not is_accepted(token, JWK)
        jwt.register_algorithm("RS256", Own(Own.SHA256))
        verdicts[:] = [True, False, True, False]
        assert [is_accepted(token, JWK) for _ in range(3)] == [False, True, False]
        assert is_accepted(forged, JWK)
    finally:
        jwt.unregister_algorithm("RS256")
        jwt.register_algorithm("RS256", original)
    assert [is_accepted(token, JWK), is_accepted(forged, JWK)] == [True, False]


def test_times_of_a_remembered_token_are_judged() -> None:
    with time_machine.travel(NOW, tick=False) as clock:
        tokens = [fresh_token(exp=NOW + 60), fresh_token(exp=NOW + 60, nbf=NOW, iat=NOW - 9)]
        for seconds, leeway in ((0, 0), (50, 0), (61, 0), (75, 30), (95, 30), (-1, 0)):
            clock.move_to(NOW + seconds)
            expected = 0 <= seconds < 60 + leeway
            assert [is_accepted(token, JWK, leeway=leeway) for token in tokens] == [expected, expected]


def test_revocation_user_and_issuer_are_looked_up_for_remembered_tokens() -> None:
    usual, answers = {"user": "ann", "is_revoked": False, "is_known": True}, dict[str, Any]()
    auth = backend(
        JWK,
        retrieve_user_handler=lambda *_: answers["user"],
        revoked_token_handler=lambda *_: answers["is_revoked"],
        accepted_issuers=lambda _: answers["is_known"],
    )
    headers = ISSUER.auth_header()
    with client_of(auth) as client:
        for changed in ({}, {}, {"user": None}, {"is_revoked": True}, {"is_known": False}, {}):
            answers.update({**usual, **changed})
            assert client.get("/", headers=headers).status_code == (401 if changed else 200)


def test_what_is_done_to_a_token_is_not_remembered() -> None:
    token = fresh_token(roles=["user"])
    for _ in range(2):
        decoded = Token.decode(token, JWK, "RS256")
        assert decoded.extras == {"roles": ["user"]}
        decoded.extras["roles"].append("admin")


SCRIPT = """
import sys, jwt

def load(self, token, original=jwt.PyJWS._load):
    loaded = original(self, token)
    if "x" in loaded[2]:
        raise jwt.DecodeError
    return loaded

jwt.__version__, jwt.PyJWS._load = "2.999.0", load
from litestar.exceptions import NotAuthorizedException
from litestar.security.jwt import Token
for token in sys.argv[2:] * 2:
    try:
        print(Token.decode(token, sys.argv[1], "RS256").sub)
    except NotAuthorizedException:
        print("refused")
"""


def test_other_versions_of_pyjwt_verify_by_themselves() -> None:
    tokens = [fresh_token(), fresh_token(FORGER), fresh_token(headers={"x": "1"})]
    command = [sys.executable, "-c", SCRIPT, pem(ISSUER.private_key).decode(), *tokens]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["ann", "refused", "refused"] * 2, done.stderr
