"""Measures this package side by side with what there is today, and says whether it keeps to its limits.

All ratios are of best times in this run. Those of the released Litestar, which is installed in an environment of its own, are
brought in by way of a call of PyJWT that both sides time.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import subprocess
import sys
import time
import venv
from functools import partial
from pathlib import Path
from typing import Any

import jwt
from applications import application, best_request_times, request, run, workaround
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from joserfc import jwt as joserfc_jwt
from joserfc.jwk import RSAKey
from jwt.utils import base64url_decode, base64url_encode
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
from litestar.security.jwt.testing import LocalIssuer

HERE = Path(__file__).parent
BASE = "litestar[jwt]==2.25.0"
ALGORITHMS = ("RS256", "ES256", "EdDSA")
# Names of claims, so that tokens are of the sizes that access tokens have: a small one, one of Entra ID, one with many groups.
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


class Bench:
    def __init__(self, issuer: LocalIssuer, *, quick: bool) -> None:
        self.issuer = issuer
        self.report = Report()
        self.rounds = 4 if quick else 40
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
            group = f"{algorithm}, token of {size} ({len(token)} characters)"
            self.report.heading(group)
            times = self.times(functions)
            self.report.times(group, times, against="jwt.decode with a PyJWK")
            if algorithm == "RS256":
                ratio = times["Token.decode, RemoteJWKSet"] / times["jwt.decode with a PyJWK"]
                self.report.target(f"Token.decode with a warm RemoteJWKSet, {size}, of jwt.decode", ratio, 1.15, " x")

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

    def requests(self, released: dict[str, Any]) -> None:
        self.report.heading("Whole requests, in process, RS256, token of 1.6 kB")
        issuer, key = self.issuer, self.issuer.pyjwk
        token = token_of(issuer, SIZES["1.6 kB"])
        remote, bypassed = RemoteJWKSet(issuer.jwks_url), RemoteJWKSet(issuer.jwks_url)
        openid = OpenIDProvider(issuer.url)
        forged = issuer.forged_token()
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
            "RemoteJWKSet, forged token": (application(key_provider=remote, **options), forged, 401),
        }

        async def measure() -> dict[str, float]:
            await warm(remote, openid, bypassed)
            return await best_request_times(apps, rounds=self.rounds, number=30)

        times: dict[str, float] = run(measure)
        bare = self.times({"bare": lambda: jwt.decode(token, key, ["RS256"], audience="api")})["bare"]
        scale = bare / released["decoding"]["bare"]
        times |= {f"released Litestar, {name}": time * scale for name, time in released["requests"].items()}
        self.report.times("request", times, against="released Litestar, static")
        warm_time = times["RemoteJWKSet"]
        for what, peer, limit in (
            ("a static PyJWK on released Litestar", "released Litestar, static", 1.0),
            ("the workaround", "workaround of issue 4471", 0.65),
            ("that without the override machinery", "RemoteJWKSet, without the possibility of an override", 1.02),
        ):
            self.report.target(f"request with a warm RemoteJWKSet, of {what}", warm_time / times[peer], limit, " x")

    def flatness(self) -> None:
        self.report.heading("Growth: Token.decode by the number of keys in the set")
        functions = {}
        for count in (1, 10, 100):
            with LocalIssuer(algorithm="ES256", audience="api") as issuer:
                for _ in range(count - 1):
                    issuer.publish()
                remote = RemoteJWKSet(issuer.jwks_url)
                asyncio.run(warm(remote))
                token = issuer.token()
            functions[f"{count} keys"] = partial(Token.decode, token, remote, "ES256", audience=["api"])
        times = self.times(functions)
        self.report.times("growth", times, against="1 keys")
        self.report.target("100 keys, of 1 key", times["100 keys"] / times["1 keys"], 1.1, " x")

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
        ours, theirs = (import_times(interpreter, 5) for interpreter in (Path(sys.executable), python))
        self.report.times("import", {"this package": ours, "released": theirs}, against="released")
        self.report.target("import time, of the released one", ours / theirs, 1.1, " x")


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


def import_times(python: Path, count: int) -> float:
    """Return the best time of an import in microseconds. The rest of Litestar has been imported before."""
    code = (
        "import sys, time, litestar, litestar.openapi.spec, litestar.security, cryptography, jwt; start = time.perf_counter(); "
        "import litestar.security.jwt; print((time.perf_counter() - start) * 1e6); "
        "assert not {'httpx', 'httpx2'} & set(sys.modules), 'an HTTP client was imported'"
    )
    command = [str(python), "-c", code]
    return min(float(subprocess.run(command, capture_output=True, text=True, check=True).stdout) for _ in range(count))


def released_environment() -> Path:
    """Install the released Litestar beside this one, unless that was done before."""
    directory = Path("build", "bench", "released")
    python = directory / "bin" / "python"
    if not (directory / "complete").exists():
        venv.create(directory, with_pip=True, clear=True)
        pyjwt = f"pyjwt=={jwt.__version__}"
        subprocess.run([str(python), "-m", "pip", "install", "-q", BASE, pyjwt], check=True)
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
    arguments = parser.parse_args()
    logging.disable()
    python = released_environment()
    with LocalIssuer(audience="api") as issuer:
        bench = Bench(issuer, quick=arguments.quick)
        bench.decoding()
        bench.rejections()
        bench.requests(measure_released(python, issuer, bench.rounds))
        bench.flatness()
        bench.concurrency()
        bench.import_time(python)
    report = bench.report
    if arguments.json:
        arguments.json.write_text(json.dumps(report.results, indent=2))
    print(f"\n{len(report.fallen_short)} limits are fallen short of{':' if report.fallen_short else '.'}")
    for what in report.fallen_short:
        print(f"  {what}")


if __name__ == "__main__":
    main()
