"""What must not let a token in: mistakes in options, odd answers of functions, and keys that are none."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from os import environ
from pathlib import Path
from threading import Thread
from typing import Any, cast

import anyio
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import dsa, ec, rsa
from jwt.utils import base64url_encode

from litestar import Request, Response, asgi, get
from litestar.datastructures import State
from litestar.di import Provide
from litestar.exceptions import ImproperlyConfiguredException
from litestar.middleware import DefineMiddleware
from litestar.middleware.authentication import AuthenticationResult
from litestar.security.jwt import (
    JWTAuth,
    JWTAuthenticationMiddleware,
    KeyNotFoundException,
    KeysUnavailableException,
    Token,
    UnverifiedToken,
)
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
    bearer,
    client_of,
    own_backend,
    pem,
    provide,
    refusal_of,
    retrieve_user,
    status_of,
    statuses,
    whoami,
    with_secret,
)

KEY = ISSUER.key
EC_KEY = PRIVATE_KEYS["ES384"]
WEAK_KEY = rsa.generate_private_key(65537, 1024)
EVEN_KEY = rsa.RSAPublicNumbers(65537, ISSUER.private_key.public_key().public_numbers().n - 1).public_key()
FOR_ENCRYPTION = jwt.PyJWK({**ISSUER.jwk, "use": "enc"})
PEM = pem(FORGER.private_key).decode()
PEM_LINES = PEM.splitlines()[1:-1]

URL = "a URL. Use OpenIDProvider(issuer), or RemoteJWKSet(url) with the URL of a JWK Set"
NO_PEM = "not a PEM, or encrypted. Pass the content of a file, not its path. A secret needs algorithm='HS256'"
NO_FRAME = "a public key without the lines '-----BEGIN PUBLIC KEY-----' and '-----END PUBLIC KEY-----'. Add them"
# What people paste in the place of a key, and what the message has to advise.
TEXTS: dict[str, tuple[str, str]] = {
    "the URL of the keys": ("https://login.example/common/discovery/keys", URL),
    "the URL of the issuer": ("https://login.example/tenant/v2.0", URL),
    "a URL without TLS": ("http://keycloak:8080/realms/demo", URL),
    "a path": ("/run/secrets/public_key.pem", NO_PEM),
    "a PEM with literal line breaks": (
        PEM.replace("\n", r"\n"),
        r"a PEM with line breaks written as '\n'. Replace them with real line breaks",
    ),
    "a PEM without its frame": ("\n".join(PEM_LINES), NO_FRAME),
    "the line that Keycloak shows": ("".join(PEM_LINES), NO_FRAME),
    "a secret": (SECRET, NO_PEM),
}


def signed_with(text: str) -> str:
    """Sign a token as somebody does who knows the text. PyJWT refuses to sign with some, so its algorithm does that."""
    input_ = jwt.encode(CLAIMS, SECRET, "HS256").rpartition(".")[0]
    signature = jwt.get_algorithm_by_name("HS256").sign(input_.encode(), text.encode())
    return f"{input_}.{base64url_encode(signature).decode()}"


def later(answer: Any) -> Callable[[str], Awaitable[Any]]:
    async def asynchronous(name: str) -> Any:
        return answer

    return asynchronous


def of_request(make: Callable[[], Any]) -> Provide:
    """Make a factory that is called for each connection."""

    def factory(request: Request[Any, Any, Any]) -> Any:
        return make()

    return Provide(factory, sync_to_thread=False)


def statuses_unstarted(app: Any, *headers: dict[str, str]) -> list[int]:
    return [anyio.run(status_of, app, each) for each in headers]


@pytest.mark.parametrize("name", TEXTS)
def test_text_that_is_no_key_is_refused_and_verifies_nothing(name: str) -> None:
    text, advice = TEXTS[name]
    for given in (text, text.encode(), [text]):
        with pytest.raises(ImproperlyConfiguredException) as raised:
            backend(given)
        assert raised.value.detail == f"'key_provider' of JWTAuth cannot be used: it is {advice}"
    overridden, swapped = get("/", dependencies={"key_provider": provide(text)})(whoami.fn), backend(KEY)
    stopped = [app_of(backend(provide(text))), app_of(backend(KEY), overridden)]
    for refusal in map(refusal_of, stopped):
        assert repr(UnusableKeyError(f"it is {advice}")) in refusal
        assert text not in refusal
    apps = [*stopped, app_of(swapped), *(app_of(backend(g)) for g in (of_request(lambda: text), lambda token: text))]
    swapped.key_provider = text
    for app in apps:
        assert statuses_unstarted(app, bearer(signed_with(text)), ISSUER.auth_header()) == [401, 500]


def test_text_is_a_secret_where_an_hmac_algorithm_is_set() -> None:
    for given in (SECRET, provide(SECRET), lambda token: SECRET):
        tokens = signed_with(SECRET), signed_with(SECRET[::-1])
        assert statuses(backend(given, algorithm="HS256"), *tokens) == [200, 401]


def errors_in(records: list[Any]) -> int:
    return len([record for record in records if record.levelname == "ERROR"])


class Container:
    """A callable whose truth value says nothing about its answer."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def __len__(self) -> int:
        return 0

    def __call__(self, *_: Any) -> Any:
        return self.answer


@pytest.mark.parametrize(
    ("accepted", "status"),
    [
        (lambda name: name == ISSUER.name, 200),
        (lambda name: name == OTHER.name, 401),
        (later(True), 200),
        (later(False), 401),
        (later(1), 401),
        (lambda name: later(False)(name), 401),
        (lambda name: "yes", 401),
        (lambda name: None, 401),
        (Container(False), 401),
        (Container(True), 200),
        (lambda name: environ[name], 500),
        (lambda name: 1 / 0, 500),
    ],
)
def test_function_accepts_an_issuer_by_exactly_true(accepted: Any, status: int, records: list[Any]) -> None:
    assert statuses(backend(KEY, accepted_issuers=accepted), ISSUER.token(iss=None), ISSUER.token()) == [401, status]
    assert errors_in(records) == (status == 500)
    assert statuses(own_backend(accepted_issuers=accepted), with_secret(ISSUER.token())) == [status]


def test_option_that_is_emptied_at_run_time_still_counts() -> None:
    for option in ("accepted_issuers", "accepted_audiences", "accepted_types", "require_claims"):
        values = ["other"]
        auth = backend(KEY, **{option: values})
        values.clear()
        assert statuses(auth, ISSUER.token()) == [401]


@pytest.mark.parametrize(
    ("option", "value", "fitting", "claims"),
    [
        ("accepted_issuers", ISSUER.name, {}, {"iss": "h"}),
        ("accepted_audiences", "api", {}, {"aud": "a"}),
        ("require_claims", "azp", {"azp": "x"}, {"a": 1, "z": 1, "p": 1}),
        ("accepted_types", "at+jwt", {"headers": {"typ": "at+jwt"}}, {"headers": {"typ": "a"}}),
    ],
)
def test_lone_string_is_one_value(option: str, value: str, fitting: Any, claims: Any) -> None:
    for given in (value, [value], {value}):
        assert statuses(backend(KEY, **{option: given}), ISSUER.token(**fitting), ISSUER.token(**claims)) == [200, 401]


SEQUENCES = ("accepted_audiences", "accepted_issuers", "accepted_types", "require_claims", "algorithm")
MIXED = ": HMAC and asymmetric algorithms cannot be mixed. Choose one kind in 'algorithm'$"
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
    ({"algorithm": "none"}, "'none'"),
    ({"algorithm": ["RS256", "NONE"]}, "'NONE'"),
    ({"algorithm": "RS1"}, "'RS1'"),
    ({"algorithm": ["HS256", "RS256"]}, MIXED),
    ({"strict_audience": True, "accepted_audiences": []}, "strict_audience"),
    ({"key_provider": Container}, "an instance instead of a class"),
    ({"key_provider": 5}, "int"),
    *(({"key_provider": given}, "not list") for given in ([], [5], [KEY, 5])),
    ({"key_provider": {"keys": [ISSUER.jwk]}}, "dict"),
    ({"key_provider": lambda: KEY}, "wrap it in 'Provide'"),
    ({"key_provider": lambda state, request: KEY}, "wrap it in 'Provide'"),
    ({"key_provider": WEAK_KEY}, ": it is an RSA key of 1024 bits. Use one of 2048 to 16384 bits$"),
    ({"key_provider": EVEN_KEY}, ": it is an RSA key with an even modulus$"),
    ({"key_provider": ec.generate_private_key(ec.SECP224R1()).public_key()}, "no algorithm takes a key of this kind"),
    ({"key_provider": pem(dsa.generate_private_key(1024))}, "not a PEM"),
    (
        {"key_provider": EC_KEY, "algorithm": ["RS256", "ES256"]},
        f"{UNFIT} RS256 or ES256. Set 'algorithm' to one for this key$",
    ),
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


def test_coroutine_is_no_provider() -> None:
    coroutine = later(KEY)("")
    with pytest.raises(ImproperlyConfiguredException, match="without calling it"):
        backend(coroutine)
    cast("Any", coroutine).close()


NO_PROVIDERS: list[Any] = [
    None,
    5,
    [],
    object(),
    Container,
    {"keys": [ISSUER.jwk]},
    lambda: KEY,
    provide(KEY),
    b"secret",
]


@pytest.mark.parametrize("made", NO_PROVIDERS, ids=lambda made: type(made).__name__)
def test_factory_that_makes_no_provider_is_refused(made: Any) -> None:
    def factory() -> Any:
        return made

    app = app_of(backend(Provide(factory, sync_to_thread=False)))
    assert "factory" in refusal_of(app)
    assert statuses_unstarted(app, ISSUER.auth_header()) == [500]
    assert statuses(backend(of_request(lambda: made)), ISSUER.token(), {}) == [500, 401]


ERRORS: dict[int, list[Exception]] = {
    401: [KeyNotFoundException("Invalid token"), LookupError(), KeyError("kid"), jwt.PyJWKClientError("no key")],
    503: [KeysUnavailableException(retry_after=6.2), jwt.PyJWKClientConnectionError("x"), OSError(), TimeoutError()],
    500: [ZeroDivisionError(), RuntimeError(), ImproperlyConfiguredException("unusable")],
}


@pytest.mark.parametrize("status", ERRORS)
def test_error_of_a_provider_says_whose_fault_it_is(status: int, records: list[Any]) -> None:
    for error in ERRORS[status]:

        def provider(token: UnverifiedToken) -> Any:
            raise error

        async def asynchronous(token: UnverifiedToken) -> Any:
            raise error

        for given in (provider, asynchronous):
            records.clear()
            with client_of(backend(given)) as client:
                answer = client.get("/", headers=ISSUER.auth_header())
            assert answer.status_code == status, error
            assert ("WWW-Authenticate" in answer.headers) == (status == 401)
            delay = "7" if isinstance(error, KeysUnavailableException) else "30"
            assert answer.headers.get("Retry-After") == (delay if status == 503 else None)
            assert errors_in(records) == (status == 500)


@pytest.mark.parametrize("nothing", [None, [], (), FOR_ENCRYPTION], ids=lambda nothing: type(nothing).__name__)
def test_provider_that_returns_no_key_refuses_the_token(nothing: Any) -> None:
    for provider in (lambda token: nothing, later(nothing)):
        assert statuses(backend(provider), ISSUER.token()) == [401]


def test_client_of_pyjwt_is_a_provider_whose_faults_are_not_those_of_the_token(tmp_path: Path) -> None:
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    odd = {"key_ops": None, "use": None, "issuer": 1, "x5c": None, "x5t": 1}
    keys = json.dumps({"keys": [{**ISSUER.jwk, **odd}]}).encode()
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        auth = backend(jwt.PyJWKClient(f"http://127.0.0.1:{server.server_port}/keys"))
        for answer, expected in ((b"<html>", 503), (b"\xff", 503), (b"[" * 100_000, 503), (keys, 200)):
            (tmp_path / "keys").write_bytes(answer)
            assert statuses(auth, ISSUER.token()) == [expected]
        assert statuses(auth, FORGER.token(), OTHER.token()) == [401, 401]
        server.shutdown()


def test_truth_value_of_a_function_decides_nothing() -> None:
    for given in (Container(KEY), provide(Container(KEY))):
        assert statuses(backend(given), ISSUER.token()) == [200]
        assert statuses(backend(given, token_secret=EC_KEY), OTHER.token()) == [401]
    assert statuses(backend(KEY, revoked_token_handler=Container(True)), ISSUER.token()) == [401]


@pytest.mark.filterwarnings("ignore:coroutine")
@pytest.mark.parametrize("option", ["retrieve_user_handler", "revoked_token_handler"])
def test_coroutine_of_a_function_that_is_not_asynchronous_is_no_answer(option: str) -> None:
    auth = backend(KEY, **{option: lambda token, connection: later(None)("")})
    shown: Any = {ImproperlyConfiguredException: lambda _, error: Response(error.detail, status_code=500)}
    with TestClient(app_of(auth, exception_handlers=shown)) as client:
        answer = client.get("/", headers=ISSUER.auth_header())
    assert (answer.status_code, answer.text) == (500, "A handler returned a coroutine. Declare it with 'async def'.")


def keys_by_request(request: Request[Any, Any, Any]) -> Any:
    return request.app.state.key


def keys_by_state(state: State) -> Any:
    return state.key


@pytest.mark.parametrize("factory", [keys_by_request, keys_by_state])
@pytest.mark.parametrize("copy_scope", [False, True])
def test_provider_of_an_application_is_not_used_in_a_mounted_one(copy_scope: bool, factory: Any) -> None:
    auth = backend(Provide(factory, sync_to_thread=False))
    inner = app_of(auth, state=State({"key": OTHER.key}))
    for is_free, expected in ((True, [401, 200]), (False, [401, 401])):
        mount = asgi("/inner", is_mount=True, copy_scope=copy_scope, exclude_from_auth=is_free)(cast("Any", inner))
        with TestClient(app_of(auth, whoami, mount, state=State({"key": KEY}))) as client:
            for path, codes in (("/", [200, 401]), ("/inner/", expected)):
                assert [client.get(path, headers=i.auth_header()).status_code for i in (ISSUER, OTHER)] == codes


def test_provider_cannot_change_the_header_of_a_token() -> None:
    seen: list[Any] = []

    def provider(token: UnverifiedToken) -> Any:
        header: Any = token.header
        seen.append((header["typ"], list(header["nested"])))
        with suppress(TypeError):
            header["typ"] = "at+jwt"
        header["nested"].append(2)
        return KEY

    token = ISSUER.token(headers={"typ": "other", "nested": [1]})
    assert statuses(backend(provider), token, token) == [200, 200]
    assert seen == [("other", [1]), ("other", [1])]


class Brief(JWTAuth[str, Token]):
    """A backend whose middleware is given the options that it needs, and no others."""

    @property
    def middleware(self) -> DefineMiddleware:
        names = "algorithm auth_header exclude exclude_opt_key exclude_http_methods retrieve_user_handler scopes"
        options = {name: getattr(self, name) for name in (*names.split(), "token_secret")}
        if self.token_cls is not Token:
            options["token_cls"] = self.token_cls
        return DefineMiddleware(self.authentication_middleware_class, **options)


def test_backend_whose_middleware_ignores_the_provider_is_refused() -> None:
    auth = Brief(retrieve_user_handler=retrieve_user, key_provider=KEY, accepted_audiences=[])
    with pytest.raises(ImproperlyConfiguredException, match="'middleware' of Brief ignores 'key_provider'"):
        app_of(auth)


def test_option_that_a_middleware_is_not_given_has_its_default() -> None:
    seen: list[Any] = []

    class Recording(Token):
        @classmethod
        def decode(cls, **arguments: Any) -> Any:  # type: ignore[override]
            seen.append(arguments)
            return super().decode(**arguments)

    token = with_secret(ISSUER.token())
    assert statuses(own_backend(Brief, token_cls=Recording), token) == statuses(own_backend(Brief), token) == [200]
    nothings = dict.fromkeys(("audience", "issuer", "require_claims"))
    rest = {"verify_exp": True, "verify_nbf": True, "strict_audience": False}
    assert seen == [{"encoded_token": token, "secret": SECRET, "algorithm": "HS256", **nothings, **rest}]


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
        @classmethod
        def decode_payload(cls, *args: Any, **kwargs: Any) -> Any:
            raise ImproperlyConfiguredException

    assert statuses(backend(KEY, token_cls=Picky), ISSUER.token()) == [401]
    assert statuses(own_backend(token_cls=Picky), with_secret(ISSUER.token())) == [401]
