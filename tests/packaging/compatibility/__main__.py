"""Run every case on whichever Litestar is imported here, and print what happened."""

import json
import sys

from litestar.security.jwt import auth
from tests.packaging.compatibility.harness import CASES, PEM_TEXTS, run

if __name__ == "__main__":
    PEM_TEXTS.update(json.load(sys.stdin))
    json.dump({"file": auth.__file__, "answers": {name: run(case) for name, case in CASES.items()}}, sys.stdout)
