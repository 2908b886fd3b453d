"""What is known about the keys of an issuer, and which of them are accepted when. Pure: no I/O, and no clock."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from math import inf
from typing import Final, NamedTuple, TypeAlias

from litestar.security.jwt.key_set import EncryptionKeyError, KeySet, parse_jwk
from litestar.security.jwt.keys import UnusableKeyError, VerificationKey, thumbprint

__all__ = ("KeyCache", "KeySetAnswer", "SkippedKey", "WithdrawnKey", "parse_key_set", "shown_key_id")

# The largest set in the wild has about 30 keys. Loading 200 of them takes tens of milliseconds.
_MAX_LISTED: Final = 1_000
_MAX_USABLE: Final = 200
# How much of a key ID a log line shows.
_SHOWN_CHARACTERS: Final = 64

KeyIdentity: TypeAlias = tuple[str | None, str, str | None, tuple[str, ...]]
"""What tells keys apart: ID, thumbprint, issuer and algorithms."""


class WithdrawnKey(NamedTuple):
    """A key that the newest answer does not list, and the last answer that listed it."""

    key: VerificationKey
    """The key."""
    requested_at: float
    """When that answer was requested, in seconds since the epoch."""
    fresh_until: float
    """When its freshness ended."""


class SkippedKey(NamedTuple):
    """A member of a key set that is not used."""

    label: str
    """The key ID as logs show it, and the reason."""
    is_expected: bool
    """Whether key sets list such keys as a matter of course."""


@dataclass(frozen=True, slots=True)
class KeySetAnswer:
    """What one answer of the issuer says, or a copy of it in a store."""

    keys: tuple[VerificationKey, ...]
    """The keys that it lists."""
    requested_at: float
    """When it was requested, in seconds since the epoch."""
    fresh_until: float
    """When its freshness ends."""
    withdrawn: tuple[WithdrawnKey, ...] = ()
    """Keys that earlier answers listed. Only copies have them."""


class KeyCache:
    """Merges answers, and says which keys are accepted.

    A key is accepted until ``withdrawn_grace`` after the end of the freshness of the last answer that listed it. Every key is accepted
    until ``max_stale`` after the end of the freshness of the newest answer.
    """

    def __init__(
        self, max_stale: float, withdrawn_grace: float, lifetime: float | None, distrusted: Iterable[str], share: float
    ) -> None:
        """Know nothing yet.

        Args:
            max_stale: Seconds for which keys are accepted after the freshness of the newest answer has ended.
            withdrawn_grace: Seconds for which a key is accepted after the freshness of the last answer that listed it has ended. 0 means
                not at all.
            lifetime: Seconds for which an answer is fresh, whatever it says.
            distrusted: IDs or thumbprints of keys that are never accepted.
            share: The part of its lifetime after which an answer is due for renewal.
        """
        self._max_stale, self._withdrawn_grace, self._lifetime, self._share = (
            max_stale,
            withdrawn_grace,
            lifetime,
            share,
        )
        """The arguments. Nobody changes them."""
        self._distrusted = set(distrusted)
        """IDs and thumbprints that are never accepted. :meth:`merge` adds the thumbprint of a key that has one of the IDs."""
        self.current: dict[KeyIdentity, VerificationKey] = {}
        """The keys that the newest answer lists. :meth:`merge` changes it, and what follows."""
        self.withdrawn: dict[KeyIdentity, WithdrawnKey] = {}
        """The keys that only earlier answers list."""
        self.distrusted_key_ids: tuple[str | None, ...] = ()
        """The IDs of the keys that the newest answer lists, but that are distrusted."""
        self.requested_at = 0.0
        """When the newest answer was requested, 0 if there is none."""
        self.due_at = 0.0
        """When the newest answer is due for renewal."""
        self.fresh_until = 0.0
        """When the freshness of the newest answer ends."""
        self._accepted = KeySet(())
        """The keys that are accepted from ``_accepted_from`` until ``_accepted_until``. :meth:`accepted` changes all three."""
        self._accepted_from, self._accepted_until = inf, -inf

    @property
    def usable_until(self) -> float:
        """Until when keys are accepted if no newer answer comes."""
        return self.fresh_until + self._max_stale if self.requested_at else 0.0

    def is_due(self, now: float) -> bool:
        """Tell whether a newer answer is needed. The clock may have been set back."""
        return not self.requested_at <= now < self.due_at

    def is_fresh(self, now: float) -> bool:
        """Tell whether the newest answer is fresh."""
        return self.requested_at <= now < self.fresh_until

    def is_newer(self, answer: KeySetAnswer, now: float) -> bool:
        """Tell whether an answer was requested later than what is known, or what is known comes from the future."""
        return answer.requested_at > self.requested_at or self.requested_at > now

    def merge(self, answer: KeySetAnswer, now: float) -> None:
        """Take over an answer. Keys that it does not list become withdrawn. An older answer changes nothing.

        Args:
            answer: The answer.
            now: Seconds since the epoch.
        """
        if answer.requested_at < self.requested_at <= now:
            return
        self._distrust(answer)
        known = {**self.current, **{identity: old.key for identity, old in self.withdrawn.items()}}
        listed = {_identity(key): known.get(_identity(key), key) for key in answer.keys if not self._is_distrusted(key)}
        self.withdrawn = self._merge_withdrawn(answer, listed, now)
        self.distrusted_key_ids = tuple(key.kid for key in answer.keys if self._is_distrusted(key))
        self.current = listed
        self.requested_at = answer.requested_at
        self.fresh_until = self._end_of_freshness(answer)
        self.due_at = self.requested_at + (self.fresh_until - self.requested_at) * self._share
        self._accepted_from, self._accepted_until = inf, -inf

    def accepted(self, now: float) -> KeySet:
        """Return the keys that are accepted.

        Args:
            now: Seconds since the epoch.
        """
        if not self._accepted_from <= now < self._accepted_until:
            usable_until = self.usable_until
            ends = {identity: self._end_of_grace(old) for identity, old in self.withdrawn.items()}
            withdrawn = [old.key for identity, old in self.withdrawn.items() if now < ends[identity]]
            self._accepted = KeySet((*self.current.values(), *withdrawn) if now < usable_until else ())
            changes = [at for at in (usable_until, *ends.values()) if at > now]
            # A clock that is set back beyond this moment may bring a key back.
            self._accepted_from, self._accepted_until = now, min(changes, default=inf)
        return self._accepted

    def key_ids(self, now: float) -> tuple[tuple[str | None, ...], tuple[str | None, ...]]:
        """Return the IDs of the current and of the withdrawn keys that are accepted."""
        accepted = self.accepted(now).keys
        current = {*self.current.values()}.intersection(accepted)
        return (
            tuple(key.kid for key in accepted if key in current),
            tuple(key.kid for key in accepted if key not in current),
        )

    def snapshot(self) -> KeySetAnswer:
        """Return all that is known, for a store."""
        return KeySetAnswer(
            tuple(self.current.values()), self.requested_at, self.fresh_until, tuple(self.withdrawn.values())
        )

    def _merge_withdrawn(
        self, answer: KeySetAnswer, listed: Mapping[KeyIdentity, VerificationKey], now: float
    ) -> dict[KeyIdentity, WithdrawnKey]:
        """Return the keys that an answer lacks. For each, the last answer that listed it counts."""
        if not self._withdrawn_grace:
            return {}
        before = {
            identity: WithdrawnKey(key, self.requested_at, self.fresh_until) for identity, key in self.current.items()
        }
        withdrawn = {**self.withdrawn, **before}
        for old in answer.withdrawn:
            identity = _identity(old.key)
            if identity not in withdrawn or withdrawn[identity].requested_at < old.requested_at:
                withdrawn[identity] = old._replace(fresh_until=self._end_of_freshness(old))
        kept = [
            (identity, old)
            for identity, old in withdrawn.items()
            if identity not in listed and now < self._end_of_grace(old) and not self._is_distrusted(old.key)
        ]
        return dict(sorted(kept, key=lambda item: -item[1].requested_at)[:_MAX_USABLE])

    def _end_of_freshness(self, answer: KeySetAnswer | WithdrawnKey) -> float:
        return answer.fresh_until if self._lifetime is None else answer.requested_at + self._lifetime

    def _end_of_grace(self, old: WithdrawnKey) -> float:
        return old.fresh_until + self._withdrawn_grace

    def _distrust(self, answer: KeySetAnswer) -> None:
        """Find the material behind distrusted IDs, which may be listed under other IDs, too."""
        for key in (*answer.keys, *(old.key for old in answer.withdrawn)):
            if key.kid in self._distrusted:
                self._distrusted.add(key.thumbprint)

    def distrust_listed(self, document: object) -> None:
        """Find the material behind distrusted IDs in a JWK Set, also that of keys that cannot be used.

        Args:
            document: The set, as decoded from JSON.
        """
        jwks = document.get("keys") if self._distrusted and isinstance(document, Mapping) else ()
        for jwk in jwks if isinstance(jwks, list) else ():
            if isinstance(jwk, Mapping) and isinstance(jwk.get("kid"), str) and jwk["kid"] in self._distrusted:
                with suppress(KeyError, TypeError):  # it has no public key
                    self._distrusted.add(thumbprint(jwk))

    def _is_distrusted(self, key: VerificationKey) -> bool:
        return bool(self._distrusted) and key.thumbprint in self._distrusted


def parse_key_set(document: object) -> tuple[list[VerificationKey], list[SkippedKey]]:
    """Parse the keys of a JWK Set one by one (RFC 7517, section 5).

    Args:
        document: The set, as decoded from JSON.

    Returns:
        The usable keys, at least one, and the others.

    Raises:
        UnusableKeyError: If there is no usable key.
    """
    jwks = document.get("keys") if isinstance(document, Mapping) else None
    if not isinstance(jwks, list):
        if isinstance(document, Mapping) and "jwks_uri" in document:
            raise UnusableKeyError("it is a discovery document, not a JWK Set. Use OpenIDProvider with the issuer")
        raise UnusableKeyError("not a JWK Set: there is no list of 'keys'. Has the provider a signing key?")
    if len(jwks) > _MAX_LISTED:
        raise UnusableKeyError(f"a JWK Set of more than {_MAX_LISTED:,} keys")
    usable: list[VerificationKey] = []
    skipped: list[SkippedKey] = []
    for jwk in jwks:
        try:
            key = parse_jwk(jwk)
            if len(usable) == _MAX_USABLE:
                raise UnusableKeyError(f"one of more than {_MAX_USABLE} usable keys")
            usable.append(key)
        except UnusableKeyError as e:
            label = shown_key_id(jwk.get("kid") if isinstance(jwk, Mapping) else None)
            skipped.append(SkippedKey(f"{label}: {e}", isinstance(e, EncryptionKeyError)))
    if not usable:
        reasons = "; ".join(each.label for each in skipped[:3]) or "it is empty"
        raise UnusableKeyError(f"no usable key in the JWK Set: {reasons}. Has the provider a signing key?")
    return usable, skipped


def shown_key_id(kid: object) -> str:
    """Return what logs show of a key ID, which may be any string."""
    return repr(kid[:_SHOWN_CHARACTERS]) if isinstance(kid, str) else "no key ID"


def _identity(key: VerificationKey) -> KeyIdentity:
    return key.kid, key.thumbprint, key.issuer, key.algorithms
