"""Measures the released Litestar. It runs in an environment of its own, and prints JSON."""

from __future__ import annotations

import json
import sys

import jwt
from applications import SECRET, application, best_request_times, run
from measure import best_times

from litestar.security.jwt import Token


def main() -> None:
    given = json.load(sys.stdin)
    key = jwt.PyJWK(given["jwk"])
    token = given["token"]
    secret_token = jwt.encode(jwt.decode(token, options={"verify_signature": False}), SECRET, "HS256")
    decoding = best_times(
        {
            "bare": lambda: jwt.decode(token, key, ["RS256"], audience="api"),
            "static": lambda: Token.decode(token, key, "RS256", audience=["api"]),
        },
        rounds=given["rounds"],
        number=50,
    )
    apps = {
        "none": (application(), token, 200),
        "HS256": (application(token_secret=SECRET, accepted_audiences=["api"]), secret_token, 200),
        "static": (application(token_secret=key, algorithm="RS256", accepted_audiences=["api"]), token, 200),
    }
    requests = run(lambda: best_request_times(apps, rounds=given["rounds"], number=30))
    json.dump({"decoding": decoding, "requests": requests}, sys.stdout)


if __name__ == "__main__":
    main()
