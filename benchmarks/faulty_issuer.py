"""An issuer that counts requests, stalls, fails and vanishes."""

from __future__ import annotations

import time
from typing import Any

from litestar.security.jwt.testing import LocalIssuer


class FaultyIssuer(LocalIssuer):
    """A local issuer with faults. Start it as a context manager before you use them."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.requests = 0
        """How many requests the server has received."""
        self.delay = 0.0
        """How many seconds the server waits before it answers."""
        self.failure: int | None = None
        """The status of all responses, if the server fails."""
        self.is_gone = False
        self._forger = LocalIssuer(**{**options, "issuer": self.issuer})

    def forged_token(self, sub: str = "user", **options: Any) -> str:
        """Create a token that names a key of this issuer, but has another signature."""
        kid = self.jwks["keys"][-1]["kid"]
        return self._forger.token(sub, headers={"kid": kid}, **options)

    def vanish(self) -> None:
        """Refuse connections until :meth:`recover`."""
        self.__exit__()
        self.is_gone = True

    def recover(self) -> None:
        """End all faults."""
        self.delay, self.failure = 0.0, None
        if self.is_gone:
            self.__enter__()
            self.is_gone = False

    def __exit__(self, *error: object) -> None:
        if not self.is_gone:
            super().__exit__(*error)

    def _answer(self, path: str) -> tuple[int, dict[str, Any]]:
        self.requests += 1
        time.sleep(self.delay)
        if self.failure is not None:
            return self.failure, {"error": "failure"}
        return super()._answer(path)
