from __future__ import annotations

import time
from collections import OrderedDict
from contextvars import ContextVar
from hashlib import sha256
from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextvars import Token
    from datetime import datetime
    from typing import Self

__all__ = ("Recollection", "VerifiedTokens", "recollected")


class _Entry(NamedTuple):
    key: Any
    expires_at: float


class VerifiedTokens:
    """The tokens whose signatures have been verified, by digest, each with the key that did it.

    All that is spared is the mathematics: the claims of a token that is known are parsed and checked like those of any
    other, and so is everything else. It has to be the same key, so that a token is forgotten together with its key.
    """

    __slots__ = ("_by_expiry", "_entries", "_size")

    def __init__(self, size: int) -> None:
        """Make room for tokens.

        Args:
            size: How many to remember.
        """
        self._by_expiry: list[tuple[float, bytes]] = []
        self._entries: OrderedDict[bytes, _Entry] = OrderedDict()
        self._size = size

    def __len__(self) -> int:
        return len(self._entries)

    def __deepcopy__(self, memo: Any) -> Self:
        """Return itself: Litestar copies routers and controllers, and with them the options of their middleware."""
        return self

    def key_of(self, digest: bytes) -> Any:
        """Return the key that verified a token, ``None`` if the token is not known."""
        if (entry := self._entries.get(digest)) is None:
            return None
        self._entries.move_to_end(digest)
        return entry.key

    def add(self, digest: bytes, key: Any, expires_at: float) -> None:
        """Remember a token. If there is no room, an expired one is forgotten, or else the one not seen for longest.

        Args:
            digest: Digest of the token.
            key: The key that verified it.
            expires_at: When the token expires, in seconds since the epoch.
        """
        self._forget_expired()
        if digest not in self._entries and len(self._entries) >= self._size:
            self._entries.popitem(last=False)
        self._entries[digest] = _Entry(key, expires_at)
        heappush(self._by_expiry, (expires_at, digest))
        # Tokens that are forgotten before they expire leave something behind here.
        if len(self._by_expiry) > 2 * self._size:
            self._by_expiry = [(entry.expires_at, known) for known, entry in self._entries.items()]
            heapify(self._by_expiry)

    def _forget_expired(self) -> None:
        """Forget one token that has expired, and not all at once: that would take long if many expire together."""
        now = time.time()
        while self._by_expiry and self._by_expiry[0][0] <= now:
            if self._entries.pop(heappop(self._by_expiry)[1], None) is not None:
                return


class Recollection:
    """What is known of one token, and what becomes known of it, while it is verified."""

    __slots__ = ("_digest", "_encoded", "_known", "_reset", "_tokens", "_verified_with")

    def __init__(self, tokens: VerifiedTokens, encoded: str) -> None:
        """Look a token up.

        Args:
            tokens: What is known.
            encoded: The token.
        """
        self._digest = sha256(encoded.encode(errors="replace")).digest()
        self._encoded = encoded
        self._known = tokens.key_of(self._digest)
        self._tokens = tokens
        self._verified_with: Any = None

    def __enter__(self) -> Self:
        """Have it consulted."""
        self._reset: Token[Recollection | None] = recollected.set(self)
        return self

    def __exit__(self, *exception: object) -> None:
        """Have it consulted no more."""
        recollected.reset(self._reset)

    def verified_by(self, encoded: str, keys: Sequence[Any]) -> Any:
        """Return the one of some keys that has verified the signature of a token before, ``None`` if none has."""
        known = self._known
        if known is None or encoded != self._encoded:
            return None
        for key in keys:
            if key is known or key == known:
                return known
        return None

    def verified(self, encoded: str, key: Any) -> None:
        """Note that a key has verified the signature of a token."""
        if encoded == self._encoded:
            self._verified_with = key

    def keep(self, expires_at: datetime) -> None:
        """Remember the token, as it is valid in every other respect too.

        Args:
            expires_at: When it expires.
        """
        key = self._verified_with
        if key is not None and key is not self._known:
            self._tokens.add(self._digest, key, expires_at.timestamp())


recollected: ContextVar[Recollection | None] = ContextVar("recollected", default=None)
"""What is known of the token that is being verified."""
