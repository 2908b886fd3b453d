"""What must not let a token in: mistakes in options, odd answers of functions, and keys that are none."""

from __future__ import annotations

import json
import re
from functools import partial
from io import BytesIO
from os import environ
from typing import Any, cast
from unittest.mock import AsyncMock, Mock, patch

import anyio
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from litestar import Response, asgi, get
from litestar.datastructures import State
from litestar.di import Provide
from litestar.exceptions import ImproperlyConfiguredException
from litestar.middleware import DefineMiddleware
from litestar.middleware.authentication import AuthenticationResult
from litestar.security.jwt import JWTAuth, JWTAuthenticationMiddleware, KeysUnavailableException, Token
from litestar.security.jwt.keys import UnusableKeyError
from litestar.testing import TestClient

from .backends import (
    CLAIMS,
    FORGER,
    ISSUER,
    OTHER,
    PRIVATE_KEYS,
    SECRET,
    app_of,
    backend,
    base64url,
    bearer,
    client_of,
    own_backend,
    pem,
    provide,
    refusal_of,
    status_of,
    statuses,
    whoami,
    with_secret,
)

KEY = ISSUER.key
EC_KEY = PRIVATE_KEYS["ES384"]
EVEN_KEY = rsa.RSAPublicNumbers(65537, ISSUER.private_key.public_key().public_numbers().n - 1).public_key()
FOR_ENCRYPTION = jwt.PyJWK({**ISSUER.jwk, "use": "enc"})
PEM = pem(FORGER.private_key).decode()
PEM_LINES = PEM.splitlines()[1:-1]

URL = "a URL. Use OpenIDProvider(issuer), or RemoteJWKSet(url) with the URL of a JWK Set"
NO_PEM = "not a PEM, or encrypted. Pass the content of a file, not its path. A secret needs algorithm='HS256'"
NO_FRAME = "a public key without the lines '-----BEGIN PUBLIC KEY-----' and '-----END PUBLIC KEY-----'. Add them"
# What people paste in the place of a key, and what the message has to advise.
TEXTS: list[tuple[str, str]] = [
    ("https://login.example/tenant/v2.0", URL),
    ("http://keycloak:8080/realms/demo", URL),
    ("/run/secrets/public_key.pem", NO_PEM),
    (SECRET, NO_PEM),
    (PEM.replace("\n", r"\n"), r"a PEM with line breaks written as '\n'. Replace them with real line breaks"),
    ("\n".join(PEM_LINES), NO_FRAME),
    ("".join(PEM_LINES), NO_FRAME),  # as Keycloak shows it
]


def signed_with(text: str) -> str:
    """Sign a token as somebody does who knows the text. PyJWT refuses to sign with some, so its algorithm does that."""
    input_ = jwt.encode(CLAIMS, SECRET, "HS256").rpartition(".")[0]
    return f"{input_}.{base64url(jwt.get_algorithm_by_name('HS256').sign(input_.encode(), text.encode()))}"


def later(answer: Any) -> AsyncMock:
    return AsyncMock(spec=[], return_value=answer)


@pytest.mark.parametrize(("text", "advice"), TEXTS, ids=range(len(TEXTS)))
def test_text_that_is_no_key_is_refused_and_verifies_nothing(text: str, advice: str) -> None:
    message = re.escape(f": 'key_provider' of JWTAuth cannot be used: it is {advice}")
    for given in (text, text.encode(), [text]):
        with pytest.raises(ImproperlyConfiguredException, match=f"{message}$"):
            backend(given)
    overridden, swapped = get("/", dependencies={"key_provider": provide(text)})(whoami.fn), backend(KEY)
    stopped = [app_of(backend(provide(text))), app_of(backend(KEY), overridden)]
    for refusal in map(refusal_of, stopped):
        assert repr(UnusableKeyError(f"it is {advice}")) in refusal
        assert text not in refusal
    of_request = Provide(lambda request: text, sync_to_thread=False)
    apps = [*stopped, *map(app_of, (swapped, backend(of_request), backend(lambda token: text)))]
    swapped.key_provider = text
    for app in apps:
        sent = bearer(signed_with(text)), ISSUER.auth_header()
        assert [anyio.run(status_of, app, headers) for headers in sent] == [401, 500]


def test_text_is_a_secret_where_an_hmac_algorithm_is_set() -> None:
    for given in (SECRET, provide(SECRET), lambda token: SECRET):
        tokens = signed_with(SECRET), signed_with(SECRET[::-1])
        assert statuses(backend(given, algorithm="HS256"), *tokens) == [200, 401]


class Container(partial[Any]):
    """A function whose truth value says nothing about its answer."""

    def __len__(self) -> int:
        return 0


@pytest.mark.parametrize(
    ("accepted", "status"),
    [
        (lambda name: name == ISSUER.name, 200),
        (lambda name: name == OTHER.name, 401),
        (lambda name: "yes", 401),
        (lambda name: later(False)(name), 401),
        (later(True), 200),
        (later(1), 401),
        (Container(lambda name: True), 200),
        (lambda name: environ[name], 500),
    ],
)
def test_function_accepts_an_issuer_by_exactly_true(accepted: Any, status: int, records: list[Any]) -> None:
    assert statuses(backend(KEY, accepted_issuers=accepted), ISSUER.token(iss=None), ISSUER.token()) == [401, status]
    assert [record.levelname for record in records].count("ERROR") == (status == 500)
    assert statuses(own_backend(accepted_issuers=accepted), with_secret(ISSUER.token())) == [status]


@pytest.mark.parametrize(
    ("option", "value", "fitting", "claims"),
    [
        ("accepted_issuers", ISSUER.name, {}, {"iss": "h"}),
        ("accepted_audiences", "api", {}, {"aud": "a"}),
        ("require_claims", "azp", {"azp": "x"}, {"a": 1, "z": 1, "p": 1}),
        ("accepted_types", "at+jwt", {"headers": {"typ": "at+jwt"}}, {"headers": {"typ": "a"}}),
    ],
)
def test_lone_string_is_one_value_and_a_list_is_copied(option: str, value: str, fitting: Any, claims: Any) -> None:
    values = [value]
    auths = [backend(KEY, **{option: given}) for given in (value, {value}, values)]
    values.clear()
    for auth in auths:
        assert statuses(auth, ISSUER.token(**fitting), ISSUER.token(**claims)) == [200, 401]


SEQUENCES = ("accepted_audiences", "accepted_issuers", "accepted_types", "require_claims", "algorithm")
NO_SECRET = ": it is a public key and not a secret. Set 'algorithm' to one for this key, such as 'RS256'$"
UNFIT = ": it is not a key for"
DEFECTS: list[tuple[dict[str, Any], str]] = [
    *(({option: value}, option) for option in SEQUENCES for value in ([None], ["a", None], [b"api"], 5, b"api")),
    *(({option: []}, f"{option}.*empty") for option in ("accepted_issuers", "accepted_types", "algorithm")),
    *(({"accepted_audiences": {ISSUER.name: value}}, "accepted_audiences") for value in ([None], [], None, 5)),
    ({"accepted_audiences": {None: ["api"]}}, "accepted_audiences"),
    ({"accepted_issuers": iter([ISSUER.name])}, "accepted_issuers"),
    *(({"leeway": value}, "leeway") for value in (-1, float("nan"), float("inf"), "5", None)),
    *(({"auth_scheme": value}, "auth_scheme") for value in ("Bearer x", "Bearer\n", 5)),
    *(({"protected_resource": url}, "protected_resource") for url in ("api", "https://a.test/#x", 5)),
    ({"key_provider_name": "key-provider"}, "key_provider_name"),
    *(({"algorithm": [name, "RS256"]}, f"not '{name}'") for name in ("none", "NONE", "RS1")),
    ({"algorithm": ["HS256", "RS256"]}, "asymmetric algorithms cannot be mixed. Choose one kind in 'algorithm'$"),
    ({"strict_audience": True, "accepted_audiences": []}, "strict_audience"),
    ({"key_provider": Token}, "an instance instead of a class"),
    ({"key_provider": 5}, "not int. Pass a function without calling it"),
    *(({"key_provider": given}, "not list") for given in ([], [5], [KEY, 5])),
    ({"key_provider": {"keys": [ISSUER.jwk]}}, "dict"),
    *(({"key_provider": given}, "wrap it in 'Provide'") for given in (lambda: KEY, lambda state, request: KEY)),
    (
        {"key_provider": rsa.generate_private_key(65537, 1024)},
        ": it is an RSA key of 1024 bits. Use one of 2048 to 16384 bits$",
    ),
    ({"key_provider": EVEN_KEY}, ": it is an RSA key with an even modulus$"),
    ({"key_provider": ec.generate_private_key(ec.SECP224R1()).public_key()}, "no algorithm takes a key of this kind"),
    ({"key_provider": EC_KEY, "algorithm": ["RS256", "ES256"]}, "RS256 or ES256. Set 'algorithm' to one for this key$"),
    ({"key_provider": [KEY, EC_KEY], "algorithm": "RS256"}, f"{UNFIT} RS256."),
    ({"key_provider": FOR_ENCRYPTION}, r": not for signatures \('use'\)$"),
    ({"key_provider": jwt.PyJWK({**ISSUER.jwk, "key_ops": ["encrypt"]})}, "'key_ops'"),
    *(({"key_provider": key, "algorithm": "HS256"}, NO_SECRET) for key in (PEM, KEY)),
    ({"token_secret": PEM, "algorithm": "RS256"}, ": it is a public key. Only a private key signs$"),
    ({"token_secret": EC_KEY, "algorithm": ["RS256", "ES256"]}, f"{UNFIT} RS256 or ES256$"),
    ({"key_provider": None, "token_secret": SECRET, "algorithm": "RS256"}, "not a PEM"),
    ({"key_provider": None, "token_secret": [], "algorithm": "RS256"}, ": there is none$"),
    ({"key_provider": None}, "'token_secret' and 'key_provider'"),
]


@pytest.mark.parametrize(("options", "message"), DEFECTS, ids=range(len(DEFECTS)))
def test_defect_is_named_at_construction(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ImproperlyConfiguredException, match=message):
        backend(**{"key_provider": KEY, **options})


@pytest.mark.parametrize("made", [None, [], Token, {"keys": [ISSUER.jwk]}, lambda: KEY, provide(KEY)], ids=range(6))
def test_factory_that_makes_no_provider_is_refused(made: Any) -> None:
    app = app_of(backend(provide(made)))
    assert "provide.<locals>.<lambda>" in refusal_of(app)
    assert anyio.run(status_of, app, ISSUER.auth_header()) == 500
    of_request = Provide(lambda request: made, sync_to_thread=False)
    assert statuses(backend(of_request), ISSUER.token(), {}) == [500, 401]


ERRORS: dict[int, list[Exception]] = {
    401: [LookupError(), jwt.PyJWKClientError("no key")],
    503: [KeysUnavailableException(retry_after=6.2), jwt.PyJWKClientConnectionError("x"), OSError(), TimeoutError()],
    500: [ZeroDivisionError(), RuntimeError(), ImproperlyConfiguredException("unusable")],
}


@pytest.mark.parametrize("kind", [Mock, AsyncMock])
@pytest.mark.parametrize(("status", "error"), [(s, error) for s, errors in ERRORS.items() for error in errors])
def test_error_of_a_provider_says_whose_fault_it_is(status: int, error: Any, kind: Any, records: list[Any]) -> None:
    with client_of(backend(kind(spec=[], side_effect=error))) as client:
        answer = client.get("/", headers=ISSUER.auth_header())
    delay = "7" if isinstance(error, KeysUnavailableException) else "30"
    assert (answer.status_code, answer.headers.get("Retry-After")) == (status, delay if status == 503 else None)
    assert ("WWW-Authenticate" in answer.headers) == (status == 401)
    assert [record.levelname for record in records].count("ERROR") == (status == 500)


@pytest.mark.parametrize("nothing", [None, [], (), FOR_ENCRYPTION], ids=lambda nothing: type(nothing).__name__)
def test_provider_that_returns_no_key_refuses_the_token(nothing: Any) -> None:
    for provider in (lambda token: nothing, later(nothing)):
        assert statuses(backend(provider), ISSUER.token()) == [401]


@pytest.mark.parametrize("nothing", [None, [], ()], ids=repr)
def test_no_key_is_no_secret(nothing: Any) -> None:
    tokens = map(signed_with, ("", "HS256", "None", "[]", "()"))
    assert set(statuses(backend(later(nothing), algorithm="HS256"), *tokens)) == {401}


def test_client_of_pyjwt_is_a_provider_whose_faults_are_not_those_of_the_token(monkeypatch: pytest.MonkeyPatch) -> None:
    odd = {"key_ops": None, "use": None, "issuer": 1, "x5c": None, "x5t": 1}
    keys = json.dumps({"keys": [{**ISSUER.jwk, **odd}]}).encode()
    auth = backend(jwt.PyJWKClient("http://a.test/keys"))
    for answer, expected in ((b"<html>", 503), (b"\xff", 503), (b"[" * 100_000, 503), (keys, 200)):
        monkeypatch.setattr("urllib.request.OpenerDirector.open", lambda *_, **options: BytesIO(answer))
        assert statuses(auth, ISSUER.token()) == [expected]
    assert statuses(auth, FORGER.token(), OTHER.token()) == [401, 401]


def test_truth_value_of_a_function_decides_nothing() -> None:
    provider = Container(lambda token: KEY)
    for given in (provider, provide(provider)):
        assert statuses(backend(given), ISSUER.token()) == [200]
        assert statuses(backend(given, token_secret=EC_KEY), OTHER.token()) == [401]
    revoking = backend(KEY, revoked_token_handler=Container(lambda token, connection: True))
    assert statuses(revoking, ISSUER.token()) == [401]


@pytest.mark.filterwarnings("ignore:coroutine")
@pytest.mark.parametrize("option", ["retrieve_user_handler", "revoked_token_handler"])
def test_coroutine_of_a_function_that_is_not_asynchronous_is_no_answer(option: str) -> None:
    auth = backend(KEY, **{option: lambda token, connection: later(None)("")})
    shown: Any = {ImproperlyConfiguredException: lambda _, error: Response(error.detail, status_code=500)}
    with TestClient(app_of(auth, exception_handlers=shown)) as client:
        answer = client.get("/", headers=ISSUER.auth_header())
    assert (answer.status_code, answer.text) == (500, "A handler returned a coroutine. Declare it with 'async def'.")


@pytest.mark.parametrize("factory", [lambda request: request.app.state.key, lambda state: state.key])
@pytest.mark.parametrize("copy_scope", [False, True])
def test_provider_of_an_application_is_not_used_in_a_mounted_one(copy_scope: bool, factory: Any) -> None:
    auth = backend(Provide(factory, sync_to_thread=False))
    inner = app_of(auth, state=State({"key": OTHER.key}))
    for is_free, expected in ((True, [401, 200]), (False, [401, 401])):
        mount = asgi("/inner", is_mount=True, copy_scope=copy_scope, exclude_from_auth=is_free)(cast("Any", inner))
        with TestClient(app_of(auth, whoami, mount, state=State({"key": KEY}))) as client:
            for path, codes in (("/", [200, 401]), ("/inner/", expected)):
                assert [client.get(path, headers=i.auth_header()).status_code for i in (ISSUER, OTHER)] == codes


class Brief(JWTAuth[str, Token]):
    """A backend whose middleware is given the options that it needs, and no others."""

    @property
    def middleware(self) -> DefineMiddleware:
        names = "algorithm auth_header exclude exclude_opt_key exclude_http_methods retrieve_user_handler scopes"
        options = {name: getattr(self, name) for name in (*names.split(), "token_secret")}
        return DefineMiddleware(self.authentication_middleware_class, **options)


def test_backend_whose_middleware_ignores_the_provider_is_refused() -> None:
    with pytest.raises(ImproperlyConfiguredException, match="'middleware' of Brief ignores 'key_provider'"):
        app_of(backend(KEY, Brief))


def test_option_that_a_middleware_is_not_given_has_its_default() -> None:
    auth, token = own_backend(Brief), with_secret(ISSUER.token())
    with patch.object(Token, "decode", wraps=Token.decode) as decode:
        assert statuses(auth, token) == [200]
    nothings: Any = dict.fromkeys(("audience", "issuer", "require_claims"))
    rest: Any = {"verify_exp": True, "verify_nbf": True, "strict_audience": False}
    decode.assert_called_once_with(encoded_token=token, secret=SECRET, algorithm="HS256", **nothings, **rest)


def test_middleware_of_ones_own_takes_any_secret_and_no_unknown_option() -> None:
    class Own(JWTAuthenticationMiddleware):
        async def authenticate_token(self, encoded_token: str, connection: Any) -> AuthenticationResult:
            return AuthenticationResult(user=repr(self.token_secret), auth=None)

    for secret in (object(), 5, [], ["key"], {}):
        assert statuses(own_backend(token_secret=secret, authentication_middleware_class=Own), "x") == [200]
    misspelt: Any = {"app": whoami, "tokn_cls": Token, "scops": None}
    with pytest.raises(TypeError, match=r"^Own got unexpected .* arguments: scops, tokn_cls$"):
        Own(**misspelt)


def test_override_of_decode_payload_may_find_a_token_improperly_configured() -> None:
    class Picky(Token):
        decode_payload: Any = classmethod(Mock(side_effect=ImproperlyConfiguredException))

    assert statuses(backend(KEY, token_cls=Picky), ISSUER.token()) == [401]
