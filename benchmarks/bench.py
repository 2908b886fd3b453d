"""Measures this package side by side with what there is today, and says whether it keeps to its limits.

All ratios are of best times in this run. Those of the released Litestar, which is installed in an environment of its own, are
brought in by way of a call of PyJWT that both sides time.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import shutil
import subprocess
import sys
import time
import venv
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jwt
from applications import SECRET, application, best_request_times, request, run, workaround
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from joserfc import jwt as joserfc_jwt
from joserfc.jwk import RSAKey
from jwt.utils import base64url_decode, base64url_encode
from load import best_loads, is_available
from measure import Report, best_times

from litestar.exceptions import NotAuthorizedException
from litestar.security.jwt import (
    IssuerKeyProvider,
    JWTAuthenticationMiddleware,
    KeyNotFoundError,
    OpenIDProvider,
    RemoteJWKSet,
    Token,
    UnverifiedToken,
)
from litestar.security.jwt._sources import KeySource, RouteKeys
from litestar.security.jwt._verified import Recollection, VerifiedTokens
from litestar.security.jwt.testing import LocalIssuer

HERE = Path(__file__).parent
BASE = "litestar[jwt]==2.25.0"
ALGORITHMS = ("RS256", "ES256", "EdDSA")
# Names of claims, so that tokens are of the sizes that access tokens have: a small one, one of Entra ID, one with many groups.
QUICK_ROUNDS, ROUNDS = 4, 40
SIZES = {"0.6 kB": 0, "1.6 kB": 14, "6 kB": 78}


def token_of(issuer: LocalIssuer, padding_claims: int) -> str:
    claims: dict[str, Any] = {f"claim{number:02}": "x" * 40 for number in range(padding_claims)}
    return issuer.token(**claims)


def refused(function: Any) -> Any:
    """Make a function of one that has to refuse a token."""

    def call() -> None:
        try:
            function()
        except (NotAuthorizedException, KeyNotFoundError, jwt.InvalidTokenError):
            return
        raise AssertionError("The token was accepted")

    return call


async def warm(*providers: Any) -> None:
    for provider in providers:
        await provider.refresh()


def repeated(tokens: VerifiedTokens, decode: Any) -> Any:
    """Make a function that verifies a token as the middleware does if it remembers tokens."""

    def call(token: str) -> None:
        with Recollection(tokens, token) as recollection:
            decoded = decode(token)
        recollection.keep(decoded.exp)

    return call


class Bench:
    def __init__(self, issuer: LocalIssuer, released: dict[str, Any], *, quick: bool) -> None:
        self.issuer = issuer
        self.released = released
        self.quick = quick
        self.report = Report()
        self.rounds = QUICK_ROUNDS if quick else ROUNDS
        self.number = 20 if quick else 50

    def times(self, functions: dict[str, Any]) -> dict[str, float]:
        return best_times(functions, rounds=self.rounds, number=self.number)

    def decoding(self) -> None:
        for algorithm in ALGORITHMS:
            with LocalIssuer(algorithm=algorithm, audience="api") as issuer:
                self.decode_with(issuer, algorithm)

    def decode_with(self, issuer: LocalIssuer, algorithm: str) -> None:
        remote, openid = RemoteJWKSet(issuer.jwks_url), OpenIDProvider(issuer.url)
        run(lambda: warm(remote, openid))
        one = IssuerKeyProvider({issuer.url: remote})
        many = IssuerKeyProvider({**{f"https://{n}.example": remote for n in range(999)}, issuer.url: remote})
        key = issuer.pyjwk
        for size, claims in SIZES.items():
            token = token_of(issuer, claims)
            functions: dict[str, Any] = {
                "jwt.decode with a PyJWK": lambda token=token: jwt.decode(token, key, [algorithm], audience="api")
            }
            if algorithm == "RS256":
                functions |= self.peers(issuer, token)
            for name, secret in {
                "static key": key,
                "RemoteJWKSet": remote,
                "OpenIDProvider": openid,
                "IssuerKeyProvider, 1 issuer": one,
                "IssuerKeyProvider, 1,000 issuers": many,
            }.items():
                functions[f"Token.decode, {name}"] = lambda secret=secret, token=token: Token.decode(
                    token, secret, algorithm, audience=["api"]
                )
            decode = partial(Token.decode, secret=remote, algorithm=algorithm, audience=["api"])
            functions["Token.decode, RemoteJWKSet, token is known"] = partial(
                repeated(VerifiedTokens(10), decode), token
            )
            group = f"{algorithm}, token of {size} ({len(token)} characters)"
            self.report.heading(group)
            times = self.times(functions)
            if (algorithm, size) == ("RS256", "1.6 kB"):
                times["released Litestar, Token.decode, static key"] = self.scaled(
                    self.released["decoding"]["static"], times["jwt.decode with a PyJWK"]
                )
            self.report.times(group, times, against="jwt.decode with a PyJWK")
            if algorithm == "RS256":
                ratio = times["Token.decode, RemoteJWKSet"] / times["jwt.decode with a PyJWK"]
                self.report.target(f"Token.decode with a warm RemoteJWKSet, {size}, of jwt.decode", ratio, 1.15, " x")
                ratio = times["Token.decode, RemoteJWKSet, token is known"] / times["jwt.decode with a PyJWK"]
                self.report.target(f"a token that is known, {size}, of jwt.decode", ratio, 0.35, " x")

    def scaled(self, released: float, bare: float) -> float:
        """Convert a time of the other process to what it would be here, by a call of PyJWT that both have timed."""
        return released * bare / float(self.released["decoding"]["bare"])

    def peers(self, issuer: LocalIssuer, token: str) -> dict[str, Any]:
        public: Any = issuer.private_key.public_key()
        signing_input, _, encoded = token.rpartition(".")
        signature, data = base64url_decode(encoded), signing_input.encode()
        joserfc_key = RSAKey.import_key(issuer.jwks["keys"][0])
        client = jwt.PyJWKClient(issuer.jwks_url)

        def with_client() -> Token:
            return Token.decode(token, client.get_signing_key_from_jwt(token), "RS256", audience=["api"])

        return {
            "cryptography, the signature alone": lambda: public.verify(
                signature, data, padding.PKCS1v15(), hashes.SHA256()
            ),
            "joserfc": lambda: joserfc_jwt.decode(token, joserfc_key, algorithms=["RS256"]),
            "Token.decode with the key of a PyJWKClient": with_client,
        }

    def rejections(self) -> None:
        self.report.heading("Tokens that are refused, RS256")
        issuer, remote = self.issuer, RemoteJWKSet(self.issuer.jwks_url, cooldown=3600)
        run(lambda: warm(remote))
        good = token_of(issuer, SIZES["1.6 kB"])
        unknown = issuer.token(headers={"kid": "unknown"})

        async def look_again() -> None:  # which starts the cooldown
            try:
                keys: Any = remote(UnverifiedToken(unknown))
                await keys
            except KeyNotFoundError:
                return

        run(look_again)

        def decode(token: str) -> Any:
            return lambda: Token.decode(token, remote, "RS256", audience=["api"])

        bad = {
            "unknown kid": unknown,
            "other algorithm": jwt.encode({"sub": "x"}, "s" * 32, "HS256", {"kid": issuer.kid}),
            "not a token": good[:-1] + "!",
            "forged": issuer.forged_token(),
            "expired": issuer.token(expires_in=-60),
        }
        functions = {"good token": decode(good), **{name: refused(decode(token)) for name, token in bad.items()}}
        times = self.times(functions)
        self.report.times("refused", times, against="good token")
        for name in ("unknown kid", "other algorithm", "not a token"):
            self.report.target(f"{name}, of a good token", times[name] / times["good token"], 1.0, " x")

    def requests(self) -> None:
        self.report.heading("Whole requests, in process, RS256, token of 1.6 kB")
        issuer, key = self.issuer, self.issuer.pyjwk
        token = token_of(issuer, SIZES["1.6 kB"])
        remote, bypassed = RemoteJWKSet(issuer.jwks_url), RemoteJWKSet(issuer.jwks_url)
        openid = OpenIDProvider(issuer.url)
        remembering = RemoteJWKSet(issuer.jwks_url)
        forged = issuer.forged_token()
        too_long = issuer.token(padding="x" * 20_000)
        options: dict[str, Any] = {"accepted_audiences": ["api"]}
        apps = {
            "no authentication": (application(), token, 200),
            "static key": (application(token_secret=key, algorithm="RS256", **options), token, 200),
            "RemoteJWKSet": (application(key_provider=remote, **options), token, 200),
            "RemoteJWKSet, without the possibility of an override": (
                application(key_provider=bypassed, authentication_middleware_class=WithoutOverrides, **options),
                token,
                200,
            ),
            "OpenIDProvider": (application(key_provider=openid, **options), token, 200),
            "workaround of issue 4471": (
                application(
                    token_secret="",
                    algorithm="RS256",
                    authentication_middleware_class=workaround(issuer.jwks_url),
                    **options,
                ),
                token,
                200,
            ),
            "RemoteJWKSet, token is known": (
                application(key_provider=remembering, verified_token_cache_size=10, **options),
                token,
                200,
            ),
            "RemoteJWKSet, forged token": (application(key_provider=remote, **options), forged, 401),
            "RemoteJWKSet, token that is too long": (application(key_provider=remote, **options), too_long, 401),
        }

        async def measure() -> dict[str, float]:
            await warm(remote, openid, bypassed, remembering)
            return await best_request_times(apps, rounds=self.rounds, number=30)

        times: dict[str, float] = run(measure)
        bare = self.times({"bare": lambda: jwt.decode(token, key, ["RS256"], audience="api")})["bare"]
        released = self.released["requests"]
        times |= {f"released Litestar, {name}": self.scaled(time, bare) for name, time in released.items()}
        self.report.times("request", times, against="released Litestar, static")
        warm_time = times["RemoteJWKSet"]
        for what, peer, limit in (
            ("a static PyJWK on released Litestar", "released Litestar, static", 1.0),
            ("the workaround", "workaround of issue 4471", 0.65),
            ("that without the override machinery", "RemoteJWKSet, without the possibility of an override", 1.02),
        ):
            self.report.target(f"request with a warm RemoteJWKSet, of {what}", warm_time / times[peer], limit, " x")
        too_long_time = times["RemoteJWKSet, token that is too long"]
        self.report.target("request with a token that is too long, of a good one", too_long_time / warm_time, 1.0, " x")
        self.request_times = times

    def growth(self) -> None:
        self.grow("Token.decode by the number of keys in the set", self.by_keys())
        self.grow("Token.decode by the number of issuers", self.by_issuers())
        self.grow("A token that is known by the number of those that are", self.by_known_tokens())
        self.grow("A new token by the number of those that are known", self.by_forgotten_tokens())

    def grow(self, what: str, functions: dict[str, Any]) -> None:
        self.report.heading(f"Growth: {what}")
        times = self.times(functions)
        first, *_, last = times
        self.report.times(what, times, against=first)
        self.report.target(f"{last}, of {first}", times[last] / times[first], 1.1, " x")

    def by_issuers(self) -> dict[str, Any]:
        issuer, remote = self.issuer, RemoteJWKSet(self.issuer.jwks_url)
        run(lambda: warm(remote))
        token = issuer.token()
        functions = {}
        for count in (1, 10, 100, 1000):
            others = {f"https://{number}.example": remote for number in range(count - 1)}
            provider = IssuerKeyProvider({**others, issuer.url: remote})
            functions[f"{count:,} issuers"] = partial(Token.decode, token, provider, "RS256", audience=["api"])
        return functions

    def remembering(self, count: int, remote: RemoteJWKSet) -> Any:
        """Make a function that verifies tokens and remembers 10,000, of which some others are known."""
        tokens = VerifiedTokens(10_000)
        for number in range(count):
            tokens.add(number.to_bytes(32, "big"), "key", time.time() + 3600 + number)
        return repeated(tokens, partial(Token.decode, secret=remote, algorithm="RS256", audience=["api"]))

    def by_known_tokens(self) -> dict[str, Any]:
        remote = RemoteJWKSet(self.issuer.jwks_url)
        run(lambda: warm(remote))
        token = self.issuer.token()
        return {f"{n:,} known tokens": partial(self.remembering(n, remote), token) for n in (0, 100, 9_999)}

    def by_forgotten_tokens(self) -> dict[str, Any]:
        """Each token is new when it comes. If there is no room for it, another one has to go."""
        remote = RemoteJWKSet(self.issuer.jwks_url)
        run(lambda: warm(remote))
        coming = [self.issuer.token(f"user {number}") for number in range(self.rounds * self.number + 1)]

        def new_ones(count: int) -> Any:
            verify, tokens = self.remembering(count, remote), iter(coming)
            return lambda: verify(next(tokens))

        return {f"{n:,} known tokens": new_ones(n) for n in (0, 10_000)}

    def by_keys(self) -> dict[str, Any]:
        functions = {}
        for count in (1, 10, 100):
            with LocalIssuer(algorithm="ES256", audience="api") as issuer:
                for _ in range(count - 1):
                    issuer.publish()
                remote = RemoteJWKSet(issuer.jwks_url)
                asyncio.run(warm(remote))
                token = issuer.token()
            functions[f"{count} keys"] = partial(Token.decode, token, remote, "ES256", audience=["api"])
        return functions

    def concurrency(self) -> None:
        self.report.heading("Under concurrency")
        with LocalIssuer(audience="api") as issuer:
            issuer.delay = 0.2
            self.report.target("fetches for 1,000 concurrent first requests", run(lambda: first_requests(issuer)), 1)
        with LocalIssuer(audience="api") as issuer:
            self.report.target(
                "longest stall of the event loop while the provider hangs", run(lambda: stall(issuer)), 10, " ms"
            )
        with LocalIssuer(audience="api") as issuer:
            self.report.target("fetches for 10,000 random key IDs", run(lambda: random_ids(issuer)), 2)

    def import_time(self, python: Path) -> None:
        self.report.heading("Import of litestar.security.jwt, in a process of its own")
        packages: dict[str, Path | None] = {"this package": package_alone(), "released": None}
        for what, before in {"with Litestar and PyJWT": "", "alone": IMPORTED_BEFORE}.items():
            times = import_times(python, packages, before, 4 if self.quick else 15)
            self.report.times(f"import {what}", times, against="released")
            if not before:
                ratio = times["this package"] / times["released"]
                self.report.target(f"import {what}, of the released one", ratio, 1.1, " x")

    def load(self, python: Path) -> None:
        self.report.heading("Under uvicorn, one process, with wrk and 16 connections: requests/s, p50 and p99 in ms")
        if not is_available():
            print("  NOT RUN: wrk is not installed")
            return
        issuer, audiences = self.issuer, {"accepted_audiences": ["api"]}
        token = token_of(issuer, SIZES["1.6 kB"])
        secret_token = jwt.encode(jwt.decode(token, options={"verify_signature": False}), SECRET, "HS256")
        remote = {"jwks_url": issuer.jwks_url, **audiences}
        here = Path(sys.executable)
        best = best_loads(
            {
                "released Litestar, HS256": (python, {"token_secret": SECRET, **audiences}, secret_token),
                "released Litestar, static PyJWK, RS256": (
                    python,
                    {"jwk": issuer.jwks["keys"][0], "algorithm": "RS256", **audiences},
                    token,
                ),
                "HS256": (here, {"token_secret": SECRET, **audiences}, secret_token),
                "RemoteJWKSet, RS256": (here, remote, token),
                "RemoteJWKSet, RS256, token is known": (here, {**remote, "verified_token_cache_size": 10}, token),
            },
            rounds=1 if self.quick else 3,
            seconds=1 if self.quick else 4,
        )
        for name, load in best.items():
            self.report.load(name, load.requests_per_second, load.p50, load.p99)

    def draw(self, path: Path) -> None:
        from chart import draw

        names = {
            "no authentication": "no authentication",
            "RemoteJWKSet, token is known": "RemoteJWKSet, token is known",
            "RemoteJWKSet": "RemoteJWKSet",
            "OpenIDProvider": "OpenIDProvider",
            "released Litestar, HS256": "Litestar 2.25, shared secret",
            "released Litestar, static": "Litestar 2.25, PyJWK that never changes",
            "workaround of issue 4471": "PyJWKClient in a middleware of one's own",
        }
        times = {label: self.request_times[name] for name, label in names.items()}
        draw(path, times, ours={"RemoteJWKSet, token is known", "RemoteJWKSet", "OpenIDProvider"})


class OnlyProvider(RouteKeys):
    """Returns the provider of the backend, whatever the application and the route may say."""

    __slots__ = ("_only",)

    def __init__(self, source: KeySource) -> None:
        super().__init__(source)
        self._only = source.bound()

    def provider_for(self, connection: Any) -> Any:
        return self._only


class WithoutOverrides(JWTAuthenticationMiddleware):
    def __init__(self, *args: Any, key_source: KeySource, **kwargs: Any) -> None:
        super().__init__(*args, key_source=key_source, **kwargs)
        self.key_source = OnlyProvider(key_source)


async def first_requests(issuer: LocalIssuer) -> int:
    app = application(key_provider=RemoteJWKSet(issuer.jwks_url), accepted_audiences=["api"])
    token = issuer.token()
    statuses = await asyncio.gather(*(request(app, token) for _ in range(1000)))
    if set(statuses) != {200}:
        raise AssertionError(f"Not all requests succeeded: {set(statuses)}")
    return len(issuer.requests)


async def stall(issuer: LocalIssuer) -> float:
    """Return the longest time in milliseconds that the event loop did nothing else while a fetch hung."""
    app = application(key_provider=RemoteJWKSet(issuer.jwks_url, timeout=1), accepted_audiences=["api"])
    token = issuer.token()
    await request(application(), token)
    issuer.delay = 30
    hanging = asyncio.ensure_future(request(app, token))
    longest, before = 0.0, time.perf_counter()
    while not hanging.done():
        await asyncio.sleep(0)
        now = time.perf_counter()
        longest, before = max(longest, now - before), now
    if hanging.result() != 503:
        raise AssertionError(f"{hanging.result()} instead of 503")
    return longest * 1000


async def random_ids(issuer: LocalIssuer) -> int:
    """Return how often the provider was asked, the first time included."""
    app = application(key_provider=RemoteJWKSet(issuer.jwks_url), accepted_audiences=["api"])
    await request(app, issuer.token())
    _, payload, signature = issuer.token().split(".")
    for number in range(10_000):
        header = base64url_encode(json.dumps({"alg": "RS256", "kid": f"{number}"}).encode()).decode()
        if await request(app, f"{header}.{payload}.{signature}") != 401:
            raise AssertionError("A token with a made-up key ID was not refused")
    return len(issuer.requests)


IMPORTED_BEFORE = "import litestar, litestar.openapi.spec, litestar.security, cryptography, jwt"


def package_alone() -> Path:
    """Put this package where another installation of Litestar can take it from, compiled like any that is installed."""
    directory = Path("build", "bench", "security").absolute()
    shutil.rmtree(directory, ignore_errors=True)
    shutil.copytree(HERE.parent / "litestar" / "security", directory, ignore=shutil.ignore_patterns("__pycache__"))
    return directory


def import_times(python: Path, packages: dict[str, Path | None], before: str, count: int) -> dict[str, float]:
    """Return the best times of an import in microseconds. All is the same but for the package itself."""
    best = dict.fromkeys(packages, float("inf"))
    for package in filter(None, packages.values()):
        subprocess.run([str(python), "-m", "compileall", "-q", str(package)], check=True)
    for _ in range(count):
        for name, directory in packages.items():
            found_in = "" if directory is None else f"litestar.security.__path__.insert(0, {str(directory)!r}); "
            code = (
                f"import sys, time\n{before}\nstart = time.perf_counter(); import litestar.security; {found_in}"
                "import litestar.security.jwt; print((time.perf_counter() - start) * 1e6); "
                "assert not {'httpx', 'httpx2'} & set(sys.modules), 'an HTTP client was imported'"
            )
            done = subprocess.run([str(python), "-c", code], capture_output=True, text=True, check=True)
            best[name] = min(best[name], float(done.stdout))
    return best


def released_environment() -> Path:
    """Install the released Litestar beside this one, unless that was done before."""
    directory = Path("build", "bench", "released")
    python = directory / "bin" / "python"
    if not (directory / "complete").exists():
        venv.create(directory, with_pip=True, clear=True)
        pyjwt = f"pyjwt=={jwt.__version__}"
        server = f"uvicorn=={version('uvicorn')}"
        subprocess.run([str(python), "-m", "pip", "install", "-q", BASE, pyjwt, server], check=True)
        (directory / "complete").touch()
    return python


def measure_released(python: Path, issuer: LocalIssuer, rounds: int) -> dict[str, Any]:
    given = {"jwk": issuer.jwks["keys"][0], "token": token_of(issuer, SIZES["1.6 kB"]), "rounds": rounds}
    command = [str(python), str(HERE / "released.py")]
    done = subprocess.run(command, input=json.dumps(given), capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr)
    measured: dict[str, Any] = json.loads(done.stdout)
    return measured


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="measure for a few seconds only, which is not precise")
    parser.add_argument("--json", type=Path, help="write the results to a file")
    parser.add_argument("--svg", type=Path, help="draw the times of whole requests into a file")
    arguments = parser.parse_args()
    logging.disable()
    python = released_environment()
    with LocalIssuer(audience="api") as issuer:
        rounds = QUICK_ROUNDS if arguments.quick else ROUNDS
        bench = Bench(issuer, measure_released(python, issuer, rounds), quick=arguments.quick)
        bench.decoding()
        bench.rejections()
        bench.requests()
        bench.growth()
        bench.concurrency()
        bench.import_time(python)
        bench.load(python)
    report = bench.report
    if arguments.json:
        arguments.json.write_text(json.dumps(report.results, indent=2))
    if arguments.svg:
        bench.draw(arguments.svg)
    print(f"\n{len(report.fallen_short)} limits are fallen short of{':' if report.fallen_short else '.'}")
    for what in report.fallen_short:
        print(f"  {what}")


if __name__ == "__main__":
    main()
