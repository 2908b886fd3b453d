"""`Token`: what `decode` and `encode` do with odd tokens, claims, options, keys and subclasses."""

from __future__ import annotations

import dataclasses
import json
from base64 import urlsafe_b64encode
from collections.abc import Callable
from functools import cache
from typing import Any
from unittest.mock import patch

import jwt
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from litestar.exceptions import NotAuthorizedException
from litestar.security.jwt import Token
from tests.packaging.compatibility import harness
from tests.packaging.compatibility.harness import (
    LATER,
    NOW,
    SECRET,
    backend,
    bearer,
    case,
    cases,
    claims,
    encode,
    one_by_one,
    outcome,
    responses,
)

SECOND = int(NOW.timestamp())
GOOD = encode()


def segment(data: bytes) -> str:
    return urlsafe_b64encode(data).decode().rstrip("=")


def compact(payload: object, **header: object) -> str:
    """Sign any payload under any header, as a library that checks nothing would."""
    parts = [{"alg": "HS256", "typ": "JWT", **header}, payload]
    signed = ".".join(segment(part if isinstance(part, bytes) else json.dumps(part).encode()) for part in parts)
    return f"{signed}.{segment(jwt.get_algorithm_by_name('HS256').sign(signed.encode(), SECRET.encode()))}"


def decode(token: Any, **options: Any) -> object:
    return outcome(Token.decode, **{"encoded_token": token, "secret": SECRET, "algorithm": "HS256", **options})


ODD_TOKENS: list[object] = [
    GOOD,
    GOOD.encode(),
    None,
    5,
    "",
    "token",
    GOOD.rpartition(".")[0],
    f"{GOOD}.e30",
    f"{GOOD}.e30.e30",
]
ODD_TOKENS += [f" {GOOD}\n", f"{GOOD}=", f"{GOOD}==", f"{GOOD}ä", GOOD[:-1], f"{GOOD.rpartition('.')[0]}."]
ODD_TOKENS += [GOOD.swapcase(), encode("x" * 64), jwt.encode(claims(), "", "none"), encode(blob="x" * 100_000)]


@cases({str(number): token for number, token in enumerate(ODD_TOKENS)})
def odd_token(token: object) -> object:
    return decode(token)


@cases(
    one_by_one(
        {
            "alg": ["none", "hs256", "HS512", "RS256", "", None, 5, ["HS256"]],
            "typ": ["logout+jwt", "at+jwt", None, 5],
            "kid": ["k1", "", 5, None, "\ud800"],
            "zip": ["DEF"],
            "b64": [False],
            "crit": [["x"], "x", []],
        }
    )
)
def odd_header(header: dict[str, Any]) -> object:
    return decode(compact(claims(), **header))


@cases([["ann"], "ann", 5, None, b"ann", b"\xff", b'{"sub":"a","sub":"b"}', b"{}"])
def odd_payload(payload: object) -> object:
    return decode(compact(payload))


@cases(
    one_by_one(
        {
            "exp": [..., None, "1800000000", "never", 1800000000.7, 10**12, 10**40, float("inf"), True, [5], 5, SECOND],
            "iat": [..., None, SECOND + 5, "5", -5, 5.5, "x"],
            "nbf": [SECOND + 5, "x", None, 5],
            "sub": [..., None, "", 5, ["ann"], "Zoë\u2028\ud83d"],
            "aud": [["a", "b"], [], 5, None, [5]],
            "iss": [5, ["i"], None],
            "jti": [5, ["j"], [5], None],
            "extras": [{"a": 1}, {"exp": 5}, ["a"], "a", None, 5],
            "cnf": [{"jkt": "x"}],
            "self": [1],
        }
    )
)
def odd_claims(changes: dict[str, Any]) -> object:
    """Alone, and beside a claim that goes into `extras`; with all checks, and with as few as possible."""
    tokens = [compact(claims(**changes)), compact(claims(**changes, other=1))]
    return [[decode(token), decode(token, verify_exp=False, verify_nbf=False)] for token in tokens]


@cases(
    one_by_one(
        {
            "audience": ["a", ["x", "a"], {"a"}, ["x"], [], "", 5, [5]],
            "issuer": ["i", ("x", "i"), "x", [], 5],
            "require_claims": [["jti"], ("nonce", "iss"), "jti", [], 5],
            "algorithm": [None, 256, "HS257", "none", "RS256", "HS512", ""],
            "secret": [None, 5, "", SECRET.encode(), bytearray(b"x"), "short", "-----BEGIN PRIVATE KEY-----"],
            "verify_exp": [0],
            "nope": [1],
        }
    )
)
def option_of_decode(options: dict[str, Any]) -> object:
    tokens = encode(aud="a", iss="i", jti="j"), compact(claims(aud=["a"], iss=["i"])), GOOD
    return [decode(token, **options) for token in tokens]


@cases(["a", ("a",), ["x"], None, [], ["a", "b"]])
def strict_audience(audience: Any) -> object:
    tokens = encode(aud="a"), encode(aud=["a"]), encode(aud=["a", "b"]), GOOD
    return [decode(token, audience=audience, strict_audience=True) for token in tokens]


@case
def decode_by_position() -> object:
    given = encode(aud="a", iss="i"), SECRET, "HS256", "a", "i", ["aud"], True, True, True, 5
    return [outcome(Token.decode, *given[:number]) for number in range(len(given) + 1)]


@cache
def private_key(name: str) -> Any:
    return load_pem_private_key(harness.PEM_TEXTS[name].encode(), None)


def jwk(name: str, algorithm: str, **members: Any) -> Any:
    public = jwt.get_algorithm_by_name(algorithm).to_jwk(private_key(name).public_key(), as_dict=True)
    return jwt.PyJWK({**public, **members}, algorithm)


KEYS: dict[str, Callable[[str, str], Any]] = {
    "PEM": lambda name, algorithm: harness.PEM_TEXTS[f"{name} public"],
    "PEM as bytes": lambda name, algorithm: harness.PEM_TEXTS[f"{name} public"].encode(),
    "private PEM": lambda name, algorithm: harness.PEM_TEXTS[name],
    "object": lambda name, algorithm: private_key(name).public_key(),
    "private object": lambda name, algorithm: private_key(name),
    "PyJWK": lambda name, algorithm: jwk(name, algorithm, kid="k1"),
    "odd PyJWK": lambda name, algorithm: jwk(name, algorithm, use="enc", issuer="x", key_ops=[]),
}
ALGORITHMS = {"RS256": "rsa", "PS512": "rsa", "ES256": "p256", "ES384": "p384", "EdDSA": "ed25519"}


@cases({f"{form}, {algorithm}": (form, algorithm) for form in KEYS for algorithm in ALGORITHMS})
def one_key(row: tuple[str, str]) -> object:
    """Verify tokens under the right and the wrong algorithm; their key ID, padding or `zip` is nobody's concern."""
    form, algorithm = row
    name = ALGORITHMS[algorithm]
    key = KEYS[form](name, algorithm)
    good = encode(private_key(name), algorithm)
    tokens = [good, f"{good}=", encode(private_key(name), algorithm, {"kid": "k2", "zip": "DEF"}), GOOD]
    wrong = [decode(good, secret=key, algorithm=other) for other in ("HS256", "RS384")]
    return [[decode(token, secret=key, algorithm=algorithm) for token in tokens], wrong]


@cases({"RSA-1024": ("rsa-1024", "rsa-1024", "RS256"), "another curve": ("p256", "p384", "ES256")})
def unfit_key(row: tuple[str, str, str]) -> object:
    signer, verifier, algorithm = row
    keys = [KEYS[form](verifier, {"p384": "ES384"}.get(verifier, algorithm)) for form in KEYS]
    return [decode(encode(private_key(signer), algorithm), secret=key, algorithm=algorithm) for key in keys]


@case
def secret_as_jwk() -> object:
    key: Any = jwt.PyJWK({"kty": "oct", "k": segment(SECRET.encode()), "kid": "k1"}, "HS256")
    token = outcome(Token(LATER, "ann").encode, key, "HS256")
    return [token, *(decode(encode(headers={"kid": "k2"}), secret=key, algorithm=name) for name in ("HS256", "HS512"))]


@cases({"RS256": "rsa", "EdDSA": "ed25519"})
def encode_with_key(name: str) -> object:
    algorithm = {"rsa": "RS256"}.get(name, "EdDSA")
    private = jwt.get_algorithm_by_name(algorithm).to_jwk(private_key(name), as_dict=True)
    keys = [*(KEYS[form](name, algorithm) for form in KEYS), None, 5, jwt.PyJWK(private | {"kid": "k1"}, algorithm)]
    return [outcome(Token(LATER, "ann").encode, key, algorithm) for key in keys]


@cases(["HS256", "HS384", "HS512", "none", "HS257", "RS256", ""])
def encode_with_secret(algorithm: str) -> object:
    token = Token(LATER, "ann", aud=["a"], iss="i", jti="j", extras={"a": {"b": None}})
    secrets: list[Any] = [SECRET, SECRET.encode(), "short", ""]
    by_position: list[Any] = [(), (SECRET,), (SECRET, algorithm, {}, 1)]
    encoded = [outcome(token.encode, secret, algorithm=algorithm) for secret in secrets]
    return [encoded, [outcome(token.encode, *given) for given in by_position]]


@dataclasses.dataclass
class Scoped(Token):
    scope: str = ""
    roles: tuple[int, ...] = ()


def renamed_subject(cls: type[Token], /, **options: Any) -> Any:
    payload = Token.decode_payload(**options)
    return {**payload, "sub": payload.pop("uid", "none")}


def forbidding(cls: type[Token], /, **options: Any) -> Any:
    raise NotAuthorizedException("no", headers={"X-Why": "no"}) from ValueError("why")


DEFAULTS = {"exp": SECOND + 5, "iat": 5, "sub": "default"}
OVERRIDES: dict[str, dict[str, Any]] = {
    "static decode": {"decode": staticmethod(lambda **options: Token(LATER, "static", extras=options))},
    "static decode_payload": {"decode_payload": staticmethod(lambda **options: claims(**options))},
    "subject renamed": {"decode_payload": classmethod(renamed_subject)},
    "forbidding": {"decode_payload": classmethod(forbidding)},
    "dates": {"_decode_datetime_claim": classmethod(lambda cls, payload, claim: LATER if claim == "exp" else NOW)},
    "defaults": {"_require_claim": classmethod(lambda cls, payload, name: payload.setdefault(name, DEFAULTS[name]))},
    "no checks": {"__post_init__": lambda self: setattr(self, "extras", {"checked": False, **self.extras})},
}


@cases({"fields": Scoped, **{name: type("Own", (Token,), members) for name, members in OVERRIDES.items()}})
def subclass_of_token(cls: type[Token]) -> object:
    """Tokens with and without what the subclasses look at, decoded directly, by the middleware, and encoded again."""
    changes: list[dict[str, Any]] = [{}, {"uid": "u"}, {"exp": 5}, {"exp": ...}, {"sub": ...}, {"iat": ...}]
    changes += [{"aud": "a"}, {"scope": "s", "roles": [1, "2"]}, {"roles": "x"}]
    tokens = [encode(**change) for change in changes]
    decoded = [outcome(cls.decode, encoded_token=token, secret=SECRET, algorithm="HS256") for token in tokens]
    auth = backend(token_cls=cls)
    return [decoded, responses(auth, *map(bearer, tokens)), outcome(auth.create_token, "ann", token_extras={"a": 1})]


@cases(["jwt.decode", "litestar.security.jwt.token.jwt.decode"])
def patched_decode(target: str) -> object:
    with patch("jwt.decode", side_effect=jwt.InvalidTokenError("x")):
        refused = [decode("no token"), responses(backend(), bearer("no token"))]
    with patch(target, return_value=claims(sub="patched")) as mock:
        decoded = [decode("no token", audience=["a"], strict_audience=True), responses(backend(), bearer("no token"))]
    return [refused, decoded, [[call.args, call.kwargs] for call in mock.call_args_list]]
