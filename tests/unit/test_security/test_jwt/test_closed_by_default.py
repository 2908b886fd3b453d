"""What must not let a token in: mistakes in options, odd answers of functions, and keys that are none."""

from __future__ import annotations

import re
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
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.utils import base64url_encode

from litestar import Litestar, Request, asgi, get, post
from litestar.datastructures import State
from litestar.di import NamedDependency, Provide
from litestar.exceptions import ImproperlyConfiguredException
from litestar.middleware import DefineMiddleware
from litestar.params import JSONBody
from litestar.security.jwt import (
    JWTAuth,
    JWTAuthenticationMiddleware,
    KeyNotFoundException,
    KeysUnavailableException,
    OpenIDProvider,
    Token,
    UnverifiedToken,
)
from litestar.security.jwt.testing import LocalIssuer
from litestar.testing import TestClient
from tests.unit.test_security.test_jwt.backends import (
    SECRET,
    backend,
    bearer,
    client_of,
    own_backend,
    provide,
    refusal_of,
    retrieve_user,
    status_of,
    statuses,
    whoami,
)

ISSUER = LocalIssuer(issuer="https://a.test", audience="api")
OTHER = LocalIssuer(issuer="https://b.test", audience="api")
KEY = jwt.PyJWK(ISSUER.jwks["keys"][0])
OTHER_KEY = jwt.PyJWK(OTHER.jwks["keys"][0])
RSA_KEY = rsa.generate_private_key(65537, 2048)
EC_KEY = ec.generate_private_key(ec.SECP384R1())
WEAK_KEY = rsa.generate_private_key(65537, 1024)
EVEN_KEY = rsa.RSAPublicNumbers(65537, RSA_KEY.public_key().public_numbers().n - 1).public_key()
PEM = RSA_KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
PEM_LINES = PEM.splitlines()[1:-1]

# What people paste in the place of a key, and what the message has to advise.
TEXTS: dict[str, tuple[str, str]] = {
    "the URL of the keys": ("https://login.example/common/discovery/keys", r"RemoteJWKSet\(url\)"),
    "the URL of the issuer": ("https://login.example/tenant/v2.0", r"OpenIDProvider\(issuer\)"),
    "a URL without TLS": ("http://keycloak:8080/realms/demo", r"OpenIDProvider\(issuer\)"),
    "a path": ("/run/secrets/public_key.pem", "content of a file, not its path"),
    "a PEM with literal line breaks": (PEM.replace("\n", r"\n"), "real line breaks"),
    "a PEM without its frame": ("\n".join(PEM_LINES), "BEGIN PUBLIC KEY"),
    "the line that Keycloak shows": ("".join(PEM_LINES), "BEGIN PUBLIC KEY"),
    "a secret": (SECRET, "'HS256'"),
}


def signed_with(text: str) -> str:
    """Sign a token as somebody does who knows the text. PyJWT refuses to sign with some, so its algorithm does that."""
    input_ = jwt.encode({"sub": "mallory", "iat": 1, "exp": 1 << 32}, SECRET, "HS256").rpartition(".")[0]
    signature = jwt.get_algorithm_by_name("HS256").sign(input_.encode(), text.encode())
    return f"{input_}.{base64url_encode(signature).decode()}"


def status_with(auth: Any, token: str) -> int:
    (status,) = statuses(auth, bearer(token))
    return status


@pytest.mark.parametrize("name", TEXTS)
def test_text_that_is_no_key_is_refused_at_construction(name: str) -> None:
    text, advice = TEXTS[name]
    for given in (text, text.encode(), [text]):
        with pytest.raises(ImproperlyConfiguredException, match=advice) as raised:
            backend(given)
        assert text not in raised.value.detail


@pytest.mark.parametrize("name", TEXTS)
def test_text_that_is_no_key_stops_the_start(name: str) -> None:
    text, advice = TEXTS[name]

    @get("/overridden", dependencies={"key_provider": provide(text)})
    async def overridden() -> None: ...

    for auth, handlers, path in ((backend(provide(text)), [whoami], "/"), (backend(KEY), [overridden], "/overridden")):
        app = Litestar(handlers, on_app_init=[auth.on_app_init])
        refusal = refusal_of(app)
        assert re.search(advice, refusal)
        assert text not in refusal
        assert anyio.run(status_of, app, bearer(signed_with(text)), path) == 401
        assert anyio.run(status_of, app, ISSUER.auth_header(), path) == 500


@pytest.mark.parametrize("name", TEXTS)
def test_text_that_is_no_key_verifies_nothing_at_a_request(name: str) -> None:
    text, _ = TEXTS[name]

    def factory(request: Request[Any, Any, Any]) -> str:
        return text

    for given in (Provide(factory, sync_to_thread=False), lambda token: text):
        assert status_with(backend(given), signed_with(text)) == 401
        assert status_with(backend(given), ISSUER.token()) == 500
    auth = backend(KEY)
    app = Litestar([whoami], on_app_init=[auth.on_app_init])
    auth.key_provider = text
    assert anyio.run(status_of, app, bearer(signed_with(text))) == 401
    assert anyio.run(status_of, app, ISSUER.auth_header()) == 500


def test_text_is_a_secret_where_an_hmac_algorithm_is_set() -> None:
    for given in (SECRET, provide(SECRET), lambda token: SECRET):
        assert status_with(backend(given, algorithm="HS256"), signed_with(SECRET)) == 200
        assert status_with(backend(given, algorithm="HS256"), signed_with(SECRET[::-1])) == 401


def kind_of(value: Any) -> str:
    return type(value).__name__


def errors_in(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return what was logged as an error of the application."""
    records = [r for r in caplog.records if r.name == "litestar.security.jwt" and r.levelname == "ERROR"]
    return [record.getMessage() for record in records]


class Container:
    """A callable whose truth value says nothing about its answer."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def __len__(self) -> int:
        return 0

    def __call__(self, *_: Any) -> Any:
        return self.answer


def later(answer: Any) -> Callable[[str], Awaitable[Any]]:
    async def asynchronous(name: str) -> Any:
        return answer

    return asynchronous


@pytest.mark.parametrize(
    ("accepted", "status"),
    [
        (lambda name: name == "https://a.test", 200),
        (lambda name: name == "https://b.test", 401),
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
def test_function_accepts_an_issuer_by_exactly_true(
    accepted: Any, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    assert status_with(backend(KEY, accepted_issuers=accepted), ISSUER.token()) == status
    assert len(errors_in(caplog)) == (status == 500)
    assert status_with(backend(KEY, accepted_issuers=accepted), ISSUER.token(iss=None)) == 401
    own = own_backend(accepted_issuers=accepted)
    assert status_with(own, own.create_token("ann", token_issuer="https://a.test")) == status


def test_option_that_is_emptied_at_run_time_still_counts() -> None:
    for option in ("accepted_issuers", "accepted_audiences", "accepted_types", "require_claims"):
        values = ["other"]
        auth = backend(KEY, **{option: values})
        values.clear()
        assert status_with(auth, ISSUER.token()) == 401


@pytest.mark.parametrize(
    ("option", "value", "fitting", "claims"),
    [
        ("accepted_issuers", "https://a.test", {}, {"iss": "h"}),
        ("accepted_audiences", "api", {}, {"aud": "a"}),
        ("require_claims", "azp", {"azp": "x"}, {"a": 1, "z": 1, "p": 1}),
        ("accepted_types", "at+jwt", {"headers": {"typ": "at+jwt"}}, {"headers": {"typ": "a"}}),
    ],
)
def test_lone_string_is_one_value(option: str, value: str, fitting: Any, claims: Any) -> None:
    for given in (value, [value], {value}):
        auth = backend(KEY, **{option: given})
        assert status_with(auth, ISSUER.token(**fitting)) == 200
        assert status_with(auth, ISSUER.token(**claims)) == 401


SEQUENCES = ("accepted_audiences", "accepted_issuers", "accepted_types", "require_claims", "algorithm")
DEFECTS: dict[str, tuple[dict[str, Any], str]] = {
    **{
        f"{option}={value!r}": ({option: value}, option)
        for option in SEQUENCES
        for value in ([None], ["a", None], [b"api"], 5, b"api")
    },
    **{f"no {option}": ({option: []}, f"{option}.*empty") for option in ("accepted_issuers", "accepted_types", "algorithm")},
    **{
        f"audiences by issuer: {value!r}": ({"accepted_audiences": {"https://a.test": value}}, "accepted_audiences")
        for value in ([None], [], None, 5)
    },
    "audiences of no issuer": ({"accepted_audiences": {None: ["api"]}}, "accepted_audiences"),
    "issuers of an iterator": ({"accepted_issuers": iter(["https://a.test"])}, "accepted_issuers"),
    **{f"leeway={value!r}": ({"leeway": value}, "leeway") for value in (-1, float("nan"), float("inf"), "5", None)},
    **{f"auth_scheme={value!r}": ({"auth_scheme": value}, "auth_scheme") for value in ("Bearer x", "Bearer\n", 5)},
    **{f"resource {url!r}": ({"protected_resource": url}, "protected_resource") for url in ("api", "https://a.test/#x", 5)},
    "a name that no parameter has": ({"key_provider_name": "key-provider"}, "key_provider_name"),
    "no algorithm at all": ({"algorithm": "none"}, "'none'"),
    "no algorithm among others": ({"algorithm": ["RS256", "NONE"]}, "'NONE'"),
    "an unknown algorithm": ({"algorithm": "RS1"}, "'RS1'"),
    "HMAC and RSA": ({"algorithm": ["HS256", "RS256"]}, "HMAC and asymmetric"),
    "strict without an audience": ({"strict_audience": True, "accepted_audiences": []}, "strict_audience"),
    "a class": ({"key_provider": LocalIssuer}, "an instance instead of a class"),
    "a number": ({"key_provider": 5}, "int"),
    "no keys": ({"key_provider": []}, "key_provider"),
    "a JWK Set that nobody has read": ({"key_provider": ISSUER.jwks}, "dict"),
    "a function without arguments": ({"key_provider": lambda: KEY}, "wrap it in 'Provide'"),
    "a function of two arguments": ({"key_provider": lambda state, request: KEY}, "wrap it in 'Provide'"),
    "a weak key": ({"key_provider": WEAK_KEY}, "1024 bit"),
    "an even modulus": ({"key_provider": EVEN_KEY}, "even modulus"),
    "a key for another algorithm": ({"key_provider": EC_KEY, "algorithm": ["RS256", "ES256"]}, "RS256 or ES256"),
    "one of two keys that does not fit": ({"key_provider": [KEY, EC_KEY], "algorithm": "RS256"}, "RS256"),
    "a key for encryption": ({"key_provider": jwt.PyJWK({**ISSUER.jwks["keys"][0], "use": "enc"})}, "'use'"),
    "a public key as a secret": ({"key_provider": PEM, "algorithm": "HS256"}, "public key"),
    "a public key that is to sign": ({"token_secret": PEM, "algorithm": "RS256"}, "private key"),
    "a secret for RSA": ({"key_provider": None, "token_secret": SECRET, "algorithm": "RS256"}, "not a PEM"),
    "no secrets": ({"key_provider": None, "token_secret": [], "algorithm": "RS256"}, "there is none"),
    "nothing at all": ({"key_provider": None}, "'token_secret' and 'key_provider'"),
}  # fmt: skip


@pytest.mark.parametrize("name", DEFECTS)
def test_defect_is_named_at_construction(name: str) -> None:
    options, message = DEFECTS[name]
    with pytest.raises(ImproperlyConfiguredException, match=message):
        backend(options.get("key_provider", KEY), **{k: v for k, v in options.items() if k != "key_provider"})


def test_coroutine_is_no_provider() -> None:
    coroutine = later(KEY)("")
    with pytest.raises(ImproperlyConfiguredException, match="without calling it"):
        backend(coroutine)
    cast("Any", coroutine).close()


@pytest.mark.parametrize("made", [None, 5, [], LocalIssuer, ISSUER.jwks, lambda: KEY, provide(KEY)], ids=kind_of)
def test_factory_that_makes_no_provider_stops_the_start(made: Any) -> None:
    def factory() -> Any:
        return made

    app = Litestar([whoami], on_app_init=[backend(Provide(factory, sync_to_thread=False)).on_app_init])
    assert "factory" in refusal_of(app)
    assert anyio.run(status_of, app, ISSUER.auth_header()) == 500


@pytest.mark.parametrize("nothing", [None, [], (), jwt.PyJWK({**ISSUER.jwks["keys"][0], "use": "enc"})], ids=kind_of)
def test_provider_that_returns_no_key_refuses_the_token(nothing: Any) -> None:
    for provider in (lambda token: nothing, later(nothing)):
        assert status_with(backend(provider), ISSUER.token()) == 401


ERRORS: dict[int, list[Exception]] = {
    401: [KeyNotFoundException("Invalid token"), LookupError(), KeyError("kid"), jwt.PyJWKClientError("no key")],
    503: [KeysUnavailableException("later"), jwt.PyJWKClientConnectionError("refused"), OSError(), TimeoutError()],
    500: [ZeroDivisionError(), RuntimeError(), ImproperlyConfiguredException("unusable")],
}


@pytest.mark.parametrize("status", ERRORS)
def test_error_of_a_provider_says_whose_fault_it_is(status: int, caplog: pytest.LogCaptureFixture) -> None:
    for error in ERRORS[status]:

        def provider(token: UnverifiedToken) -> Any:
            raise error

        async def asynchronous(token: UnverifiedToken) -> Any:
            raise error

        for given in (provider, asynchronous):
            caplog.clear()
            with client_of(backend(given)) as client:
                answer = client.get("/", headers=ISSUER.auth_header())
            assert answer.status_code == status, error
            assert ("Retry-After" in answer.headers) == (status == 503)
            assert len(errors_in(caplog)) == (status == 500)


def test_answer_that_is_not_json_is_no_fault_of_the_token(tmp_path: Path) -> None:
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        auth = backend(jwt.PyJWKClient(f"http://127.0.0.1:{server.server_port}/keys"))
        for answer in (b"<html>", b"\xff", b"[" * 100_000):
            (tmp_path / "keys").write_bytes(answer)
            assert status_with(auth, ISSUER.token()) == 503
        server.shutdown()


def test_truth_value_of_a_function_decides_nothing() -> None:
    for given in (Container(KEY), provide(Container(KEY))):
        assert status_with(backend(given), ISSUER.token()) == 200
        assert status_with(backend(given, token_secret=EC_KEY), OTHER.token()) == 401
    assert status_with(backend(KEY, revoked_token_handler=Container(True)), ISSUER.token()) == 401


@pytest.mark.filterwarnings("ignore:coroutine")
@pytest.mark.parametrize("option", ["retrieve_user_handler", "revoked_token_handler"])
def test_coroutine_of_a_function_that_is_not_asynchronous_is_no_answer(option: str) -> None:
    auth = backend(KEY, **{option: lambda token, connection: later(None)("")})
    assert status_with(auth, ISSUER.token()) == 500


@pytest.mark.parametrize("kind", ["LocalIssuer", "OpenIDProvider"])
def test_key_of_one_issuer_does_not_verify_tokens_in_the_name_of_another(kind: str) -> None:
    with LocalIssuer() as a, LocalIssuer() as b:
        of_a, of_b = a.key_provider, b.key_provider
        if kind == "OpenIDProvider":
            of_a, of_b = OpenIDProvider(a.issuer), OpenIDProvider(b.issuer)  # type: ignore[assignment]

        @get("/b", dependencies={"key_provider": Provide(lambda: of_b, sync_to_thread=False)})
        async def of_other() -> None: ...

        auth = backend(of_a, accepted_issuers=[a.issuer, b.issuer])
        with client_of(auth, of_other) as client:
            assert client.get("/b", headers=b.auth_header()).status_code == 200
            assert client.get("/b", headers=b.auth_header(iss=a.issuer)).status_code == 401
            assert client.get("/b", headers=a.auth_header()).status_code == 401
            assert client.get("/", headers=a.auth_header()).status_code == 200
            assert client.get("/", headers=b.auth_header()).status_code == 401
            assert client.get("/", headers=a.auth_header(iss=b.issuer)).status_code == 401


def of_request(request: Request[Any, Any, Any]) -> Any:
    return request.app.state.key


def of_state(state: State) -> Any:
    return state.key


@pytest.mark.parametrize("factory", [of_request, of_state])
@pytest.mark.parametrize("is_free", [False, True])
def test_provider_of_an_application_is_not_used_in_a_mounted_one(is_free: bool, factory: Any) -> None:
    auth = backend(Provide(factory, sync_to_thread=False))
    inner = Litestar([whoami], on_app_init=[auth.on_app_init], state=State({"key": OTHER_KEY}))

    @asgi("/inner", is_mount=True, copy_scope=False, exclude_from_auth=is_free)
    async def mounted(scope: Any, receive: Any, send: Any) -> None:
        await inner(scope, receive, send)

    app = Litestar([whoami, mounted], on_app_init=[auth.on_app_init], state=State({"key": KEY}))
    with TestClient(app) as client:
        assert client.get("/", headers=ISSUER.auth_header()).status_code == 200
        assert client.get("/inner", headers=ISSUER.auth_header()).status_code == 401
        assert client.get("/inner", headers=OTHER.auth_header()).status_code == (200 if is_free else 401)


def test_two_backends_of_an_application_have_their_providers_under_two_names() -> None:
    first = backend(ISSUER.key_provider, exclude="^/b")
    with pytest.raises(ImproperlyConfiguredException, match="key_provider_name"):
        Litestar([whoami], on_app_init=[first.on_app_init, backend(OTHER.key_provider).on_app_init])
    second = backend(OTHER.key_provider, key_provider_name="other", exclude="^/$")

    @get("/b")
    async def of_second() -> None: ...

    app = Litestar([whoami, of_second], on_app_init=[first.on_app_init, second.on_app_init])
    with TestClient(app) as client:
        for path, expected in (("/", [200, 401]), ("/b", [401, 200])):
            assert [client.get(path, headers=i.auth_header()).status_code for i in (ISSUER, OTHER)] == expected


ODD_MEMBERS: dict[str, tuple[dict[str, Any], int]] = {
    "key_ops null": ({"key_ops": None}, 200),
    "use null": ({"use": None}, 200),
    "issuer by number": ({"issuer": 1}, 200),
    "certificates null": ({"x5c": None, "x5t": 1}, 200),
    "key_ops by number": ({"key_ops": 5}, 401),
    "key_ops for encryption": ({"key_ops": ["encrypt"]}, 401),
    "use by list": ({"use": ["enc"]}, 401),
}


@pytest.mark.parametrize("source", ["PyJWKClient", "function", "middleware of issue 4471"])
@pytest.mark.parametrize("name", ODD_MEMBERS)
def test_odd_members_of_a_jwk_are_no_error_of_the_application(name: str, source: str) -> None:
    members, status = ODD_MEMBERS[name]
    jwk = {**ISSUER.jwks["keys"][0], **members}

    class Client(jwt.PyJWKClient):
        def fetch_data(self) -> Any:
            return {"keys": [jwk]}

    class Middleware(JWTAuthenticationMiddleware):
        async def authenticate_token(self, encoded_token: str, connection: Any) -> Any:
            self.token_secret = jwt.PyJWK(jwk)
            return await super().authenticate_token(encoded_token, connection)

    if source == "middleware of issue 4471":
        auth = own_backend(token_secret="", algorithm="RS256", authentication_middleware_class=Middleware)
    else:
        auth = backend(Client("https://a.test/keys") if source == "PyJWKClient" else lambda token: jwt.PyJWK(jwk))
    assert status_with(auth, ISSUER.token()) == status


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
    with client_of(backend(provider)) as client:
        assert [client.get("/", headers=bearer(token)).status_code for _ in range(2)] == [200, 200]
    assert seen == [("other", [1]), ("other", [1])]


@pytest.mark.parametrize("how", ["opt", "pattern", "method"])
def test_excluded_route_may_have_a_dependency_of_the_same_name(how: str) -> None:
    async def unrelated(data: JSONBody[dict[str, str]]) -> str:
        return data["name"]

    handler = post("/free", dependencies={"key_provider": Provide(unrelated)}, exclude_from_auth=how == "opt")

    @handler
    async def free(data: JSONBody[dict[str, str]], key_provider: NamedDependency[str]) -> str:
        return key_provider

    options: Any = {"pattern": {"exclude": "^/free"}, "method": {"exclude_http_methods": ["POST"]}}.get(how, {})
    with client_of(backend(KEY, **options), free) as client:
        assert client.post("/free", json={"name": "x"}).text == "x"
        assert client.get("/").status_code == 401


def test_backend_whose_middleware_ignores_the_provider_is_refused() -> None:
    class Released(JWTAuth[str, Token]):
        @property
        def middleware(self) -> DefineMiddleware:
            names = "algorithm auth_header exclude exclude_opt_key exclude_http_methods retrieve_user_handler scopes"
            options = {name: getattr(self, name) for name in (*names.split(), "token_secret", "token_cls")}
            return DefineMiddleware(self.authentication_middleware_class, **options)

    auth = Released(retrieve_user_handler=retrieve_user, key_provider=KEY, accepted_audiences=[])
    with pytest.raises(ImproperlyConfiguredException, match="'middleware' of Released ignores 'key_provider'"):
        Litestar([whoami], on_app_init=[auth.on_app_init])
    secret = Released(SECRET, retrieve_user_handler=retrieve_user)
    assert status_with(secret, secret.create_token("ann")) == 200


def test_override_of_decode_payload_may_find_a_token_improperly_configured() -> None:
    class Picky(Token):
        @classmethod
        def decode_payload(cls, *args: Any, **kwargs: Any) -> Any:
            raise ImproperlyConfiguredException

    assert status_with(backend(KEY, token_cls=Picky), ISSUER.token()) == 401
    secret = own_backend(token_cls=Picky)
    assert status_with(secret, secret.create_token("ann")) == 401
