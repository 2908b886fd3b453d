"""Without a key provider, nothing changes: released Litestar and this build give the same answers.

Each case runs in two processes. In one of them, released Litestar comes first among the places that modules are imported from.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

import litestar.security.jwt as package
from litestar.security.base import AbstractSecurityConfig
from litestar.security.jwt import BaseJWTAuth, auth
from tests.packaging.compatibility.harness import CASES

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
[REQUIREMENT] = [name for name in PROJECT["build-system"]["requires"] if name.startswith("litestar==")]

# One worker runs them all, since they share the answers.
pytestmark = pytest.mark.xdist_group("compatibility")

BACKENDS = "JWTAuth", "JWTCookieAuth", "OAuth2PasswordBearerAuth"
OPTIONS = [field.name for field in fields(BaseJWTAuth)]
OPTION_CLASSES = [cls for cls in BaseJWTAuth.__mro__[1:] if cls not in AbstractSecurityConfig.__mro__]
MEMBERS = {*dir(OPTION_CLASSES[0])} - {*dir(AbstractSecurityConfig)}
MIDDLEWARES = "JWTAuthenticationMiddleware", "JWTCookieAuthenticationMiddleware"

ADDED_LAST: dict[str, Iterable[str]] = {
    **{f"{kind} [{name}]": OPTIONS for kind in ("signature", "fields") for name in BACKENDS},
    **{f"signature [{name}]": ["verifier"] for name in MIDDLEWARES},
    "signature [Token.decode]": ["leeway"],
}
"""Parameters and fields that this build adds behind the released ones, keyword-only."""
ADDED: dict[str, Iterable[str]] = {
    **{f"values [{name}]": OPTIONS for name in BACKENDS},
    **{f"fields of subclass [{name}]": OPTIONS for name in ("Redeclared", "Extended", "KeywordOnly")},
    **{f"names [{name}]": MEMBERS for name in (*BACKENDS, "BaseJWTAuth")},
    **{f"bases [{name}]": [cls.__name__ for cls in OPTION_CLASSES] for name in (*BACKENDS, "BaseJWTAuth")},
    **{f"names [{name}]": ["verifier"] for name in MIDDLEWARES},
    **{f"docstring [middleware.{name}.__init__]": ["verifier"] for name in MIDDLEWARES},
    "slots [JWTAuthenticationMiddleware]": ["verifier"],
    "docstring [token.Token.decode]": ["leeway"],
    "exported names": package.__all__,
}
"""Other rows that this build adds, anywhere."""
CHANGED: dict[str, list[str]] = {
    "signature [Token.decode]": ["secret", "algorithm"],
    "signature [Token.encode]": ["secret"],
    "type hints [Token.encode]": ["secret"],
    "code [auth]": [f"{name}.middleware" for name in ("BaseJWTAuth", "JWTCookieAuth", "OAuth2PasswordBearerAuth")],
    "code [middleware]": [
        *(f"{name}.{method}" for name in MIDDLEWARES for method in ("__init__", "authenticate_request")),
        "JWTAuthenticationMiddleware.authenticate_token",
    ],
    "code [token]": ["Token.decode", "Token.encode"],
}
"""Rows that differ: the wider types, and the functions with a hook."""
KNOWN = {
    "subclass of backend [TakesField]": "fields of a base come first, so a redeclared option is followed by `token_secret`",
    "subclass of backend [TakesAttribute]": "the constructor sets each option",
}
"""Differences that remain, with their causes. If one is gone, its test fails."""


def released() -> Path:
    """Released Litestar without its dependencies, in a folder that later runs find again."""
    target: Path = ROOT / "build" / REQUIREMENT
    if not target.exists():
        scratch = target.with_suffix(f".{os.getpid()}")
        command = [sys.executable, "-m", "pip", "install", "-q", "--no-compile", "--no-deps", "--target", str(scratch)]
        result = subprocess.run([*command, REQUIREMENT], capture_output=True, text=True)
        if result.returncode:
            pytest.skip(f"Released Litestar cannot be installed: {result.stderr[-500:]}")
        scratch.rename(target)
    return target


def pem_texts() -> dict[str, str]:
    keys: dict[str, Any] = {
        "rsa": rsa.generate_private_key(65537, 2048),
        "ed25519": ed25519.Ed25519PrivateKey.generate(),
    }
    keys["rsa-1024"] = rsa.generate_private_key(65537, 1024)
    keys |= {f"p{curve.key_size}": ec.generate_private_key(curve) for curve in (ec.SECP256R1(), ec.SECP384R1())}
    texts: dict[str, str] = {}
    for name, key in keys.items():
        texts[name] = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
        public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        texts[f"{name} public"] = public.decode()
    return texts


def start(*path: Path) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, path)), "PYTHONHASHSEED": "0"}
    command = [sys.executable, "-m", "tests.packaging.compatibility"]
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )


@pytest.fixture(scope="module")
def answers() -> list[dict[str, Any]]:
    """What happened with released Litestar, and with this build."""
    processes = [start(released()), start()]
    given = json.dumps(pem_texts())
    for process in processes:
        assert process.stdin
        process.stdin.write(given)
        process.stdin.close()
    found = []
    for process in processes:
        with process:
            assert process.stdout
            found.append(json.loads(process.stdout.read()))
    assert Path(found[0]["file"]).is_relative_to(released())
    assert found[0]["file"] != found[1]["file"] == auth.__file__
    assert [*found[0]["answers"]] == [*found[1]["answers"]] == [*CASES]
    return [side["answers"] for side in found]


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.xfail(reason=KNOWN[n]) if n in KNOWN else ()) for n in CASES]
)
def test_answer_is_that_of_released_litestar(name: str, answers: list[dict[str, Any]]) -> None:
    old, new = (side[name] for side in answers)
    if name in ADDED or name in ADDED_LAST or name in CHANGED:
        old, new = without_stated_changes(name, old["returned"], new["returned"])
    assert new == old


def without_stated_changes(name: str, old: list[list[Any]], new: list[list[Any]]) -> tuple[list[Any], list[Any]]:
    """Leave out the rows that are stated to be new or different, after a look at what was stated."""
    known = [row[0] for row in old]
    added = [row for row in new if row[0] not in known]
    assert {row[0] for row in added} <= {*ADDED.get(name, ()), *ADDED_LAST.get(name, ())}
    if name in ADDED_LAST:
        assert [row[0] for row in added] == [*ADDED_LAST[name]]
        assert new[-len(added) :] == added
    if name.startswith("signature"):
        assert {row[-1] for row in added} <= {"KEYWORD_ONLY"}
        assert "class inspect._empty" not in [row[2] for row in added]
    changed = CHANGED.get(name, [])
    kept = [row for row in new if row[0] in known]
    assert [row[0] for row in kept] == known
    if not name.startswith("code"):  # only the type is another
        old, kept = ([[row[0], *row[2:]] if row[0] in changed else row for row in rows] for rows in (old, kept))
        changed = []
    return tuple([row for row in rows if row[0] not in changed] for rows in (old, kept))  # type: ignore[return-value]


def test_cases_are_many_and_tell_the_sides_apart(answers: list[dict[str, Any]]) -> None:
    old, new = answers
    assert "key_provider" in OPTIONS
    assert {name for name in CASES if old[name] != new[name]} <= {*ADDED, *ADDED_LAST, *CHANGED, *KNOWN}
    assert [name for name in CASES if "raised" in old[name]] == []  # cases that cannot be run
    assert len({json.dumps(answer) for answer in old.values()}) > 300
