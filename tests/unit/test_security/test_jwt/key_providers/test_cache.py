"""Which keys are accepted when. Time is an argument, and nothing is fetched."""

from __future__ import annotations

from typing import Any

import pytest

from litestar.security.jwt.key_providers.cache import KeyCache, KeySetAnswer, WithdrawnKey, parse_key_set
from litestar.security.jwt.key_set import parse_jwk
from litestar.security.jwt.keys import UnusableKeyError, VerificationKey

from .issuer_server import Signer, jwks_of

OLD, NEW, OTHER = (Signer(kid) for kid in ("old", "new", "other"))
SAME_MATERIAL = OLD.jwk | {"kid": "alias"}
WITHOUT_ID = {name: value for name, value in OLD.jwk.items() if name != "kid"}
THUMBPRINT = parse_jwk(OLD.jwk).thumbprint


def key_cache(
    max_stale: float = 1000, grace: float = 100, lifetime: float | None = None, distrusted: Any = ()
) -> KeyCache:
    return KeyCache(max_stale, grace, lifetime, distrusted, 0.8)


def answer(at: float, *jwks: Any, fresh_for: float = 10, withdrawn: Any = ()) -> KeySetAnswer:
    keys = tuple(parse_jwk(jwk.jwk if isinstance(jwk, Signer) else jwk) for jwk in jwks)
    return KeySetAnswer(keys, at, at + fresh_for, tuple(withdrawn))


def withdrawn(signer: Signer, at: float, fresh_for: float = 10) -> WithdrawnKey:
    return WithdrawnKey(parse_jwk(signer.jwk), at, at + fresh_for)


def accepted_ids(cache: KeyCache, now: float) -> list[str | None]:
    return [key.kid for key in cache.accepted(now).keys]


def test_empty_cache_accepts_nothing_and_is_due() -> None:
    cache = key_cache()
    assert (accepted_ids(cache, 5), cache.is_due(5), cache.is_fresh(5), cache.usable_until) == ([], True, False, 0)


def test_times_of_an_answer() -> None:
    cache = key_cache()
    cache.merge(answer(1, OLD), 2)
    assert (cache.requested_at, cache.due_at, cache.fresh_until, cache.usable_until) == (1, 9, 11, 1011)
    assert [cache.is_due(now) for now in (0, 1, 8.9, 9)] == [True, False, False, True]  # 0: the clock was set back
    assert [cache.is_fresh(now) for now in (0, 1, 10.9, 11)] == [False, True, True, False]


@pytest.mark.parametrize(
    ("grace", "now", "expected"),
    [
        pytest.param(100, 2, ["new", "old"], id="at-once"),
        pytest.param(100, 110, ["new", "old"], id="before-the-end-of-its-grace"),
        pytest.param(100, 111, ["new"], id="after-the-end-of-its-grace"),
        pytest.param(0, 2, ["new"], id="without-grace"),
        pytest.param(5000, 1011, ["new", "old"], id="before-the-end-of-max-stale"),
        pytest.param(5000, 1012, [], id="after-the-end-of-max-stale"),
    ],
)
def test_withdrawn_key_is_accepted_during_its_grace(grace: float, now: float, expected: list[str]) -> None:
    cache = key_cache(grace=grace)
    cache.merge(answer(1, OLD), 1)
    cache.merge(answer(2, NEW), 2)
    assert accepted_ids(cache, now) == expected


def test_accepted_keys_are_one_object_until_something_changes() -> None:
    cache = key_cache()
    cache.merge(answer(1, OLD), 1)
    cache.merge(answer(2, NEW), 2)
    first = cache.accepted(3)
    assert cache.accepted(110) is first
    assert cache.accepted(111) is not first
    assert accepted_ids(cache, 110) == ["new", "old"]  # the clock was set back


def test_key_that_is_listed_again_is_the_same_object_and_current() -> None:
    cache = key_cache()
    cache.merge(answer(1, OLD), 1)
    (first,) = cache.accepted(1).keys
    cache.merge(answer(2, NEW), 2)
    cache.merge(answer(3, NEW, OLD), 3)
    assert first in cache.accepted(3).keys
    assert cache.key_ids(3) == (("new", "old"), ())


def test_older_answer_changes_nothing_unless_the_newer_one_is_from_the_future() -> None:
    cache = key_cache()
    cache.merge(answer(5, NEW), 5)
    cache.merge(answer(4, OLD), 6)
    assert accepted_ids(cache, 6) == ["new"]
    assert cache.is_newer(answer(6, OLD), 6) and not cache.is_newer(answer(5, OLD), 6)
    cache.merge(answer(3, OLD), 3)  # the clock was set back
    assert cache.key_ids(3) == (("old",), ("new",))


@pytest.mark.parametrize(
    ("grace", "until"), [pytest.param(100, 113, id="with-grace"), pytest.param(0, 0, id="without-grace")]
)
def test_grace_of_a_key_that_a_copy_has_ends_by_the_last_answer_that_listed_it(grace: float, until: float) -> None:
    cache = key_cache(grace=grace)
    cache.merge(answer(5, NEW), 5)
    cache.merge(answer(6, NEW, withdrawn=[withdrawn(OLD, 3)]), 6)
    assert ("old" in accepted_ids(cache, 7)) is bool(until)
    cache.merge(answer(7, NEW, withdrawn=[withdrawn(OLD, 2, 9000)]), 7)
    assert "old" not in accepted_ids(cache, until)
    cache.merge(answer(113, NEW, withdrawn=[withdrawn(OLD, 3)]), 113)
    assert cache.snapshot().withdrawn == ()


def test_lifetime_overrides_what_answers_and_copies_say() -> None:
    cache = key_cache(lifetime=60)
    cache.merge(answer(5, NEW, fresh_for=86_400, withdrawn=[withdrawn(OLD, 4, 86_400)]), 5)
    assert cache.fresh_until == 65
    assert [accepted_ids(cache, now) for now in (163, 164)] == [["new", "old"], ["new"]]


def test_snapshot_is_what_another_worker_needs() -> None:
    cache, other = key_cache(), key_cache()
    cache.merge(answer(1, OLD), 1)
    cache.merge(answer(2, NEW), 2)
    other.merge(cache.snapshot(), 3)
    assert other.key_ids(3) == cache.key_ids(3) == (("new",), ("old",))
    assert other.snapshot() == cache.snapshot()


@pytest.mark.parametrize("name", [pytest.param("old", id="key-id"), pytest.param(THUMBPRINT, id="thumbprint")])
@pytest.mark.parametrize(
    "lists", [[OLD], [SAME_MATERIAL, OLD], [WITHOUT_ID, OLD, NEW]], ids=["alone", "alias", "no-id"]
)
def test_distrusted_material_is_never_accepted(name: str, lists: list[Any]) -> None:
    cache = key_cache(distrusted=[name])
    cache.merge(answer(1, *lists), 1)
    cache.merge(answer(2, NEW, withdrawn=[withdrawn(OLD, 1)]), 2)
    cache.merge(answer(3, NEW, SAME_MATERIAL), 3)
    assert [accepted_ids(cache, now) for now in (1, 2, 3)] == [["new"]] * 3
    assert cache.distrusted_key_ids == ("alias",)


@pytest.mark.parametrize(
    "members",
    [pytest.param({"use": "enc"}, id="for-encryption"), pytest.param({"key_ops": ["sign"]}, id="not-for-verifying")],
)
def test_material_of_a_distrusted_key_that_is_not_usable_is_distrusted(members: Any) -> None:
    cache = key_cache(distrusted=["old"])
    cache.distrust_listed({"keys": [{**OLD.jwk, "kid": "old", **members}, None, {"kid": "old"}, {"kid": "new"}]})
    cache.distrust_listed([])
    cache.distrust_listed({"keys": 5})
    cache.merge(answer(1, SAME_MATERIAL, NEW), 1)
    assert accepted_ids(cache, 1) == ["new"]


def test_material_that_turns_out_to_be_distrusted_is_dropped() -> None:
    cache = key_cache(distrusted=["old"])
    cache.merge(answer(1, SAME_MATERIAL), 1)
    assert accepted_ids(cache, 1) == ["alias"]  # nobody can know yet
    cache.merge(answer(2, NEW, withdrawn=[withdrawn(OLD, 1)]), 2)
    assert accepted_ids(cache, 2) == ["new"]


def test_distrust_does_not_concern_others() -> None:
    cache = key_cache(distrusted=["old", "unheard of"])
    cache.merge(answer(1, OLD, OTHER), 1)
    assert (accepted_ids(cache, 1), cache.distrusted_key_ids) == (["other"], ("old",))


def test_keys_for_encryption_do_not_count() -> None:
    encryption = [Signer(f"enc-{number}").jwk | {"use": "enc"} for number in range(120)]
    usable, skipped = parse_key_set({"keys": [*encryption, NEW.jwk]})
    assert [key.kid for key in usable] == ["new"]
    assert all(each.is_expected for each in skipped)


def test_first_200_of_300_keys_are_used() -> None:
    jwks = jwks_of(*(Signer(f"key-{number}") for number in range(300)))
    usable, skipped = parse_key_set(jwks)
    assert [key.kid for key in usable] == [f"key-{number}" for number in range(200)]
    assert {each.label.partition(": ")[2] for each in skipped} == {"one of more than 200 usable keys"}


@pytest.mark.parametrize(
    ("document", "message"),
    [
        pytest.param([], "not a JWK Set", id="list"),
        pytest.param({}, "signing key", id="no-keys"),
        pytest.param({"jwks_uri": ""}, "discovery document", id="discovery-document"),
        pytest.param({"keys": []}, "it is empty", id="empty"),
        pytest.param({"keys": [{"kid": "a" * 99, "kty": "oct"}] * 9}, f"'{'a' * 64}': unsupported", id="none-usable"),
        pytest.param({"keys": [1] * 1001}, "1,000", id="too-many"),
    ],
)
def test_set_without_usable_keys_says_why(document: object, message: str) -> None:
    with pytest.raises(UnusableKeyError) as caught:
        parse_key_set(document)
    assert message in str(caught.value)


def test_declared_algorithms_and_issuers_tell_keys_apart() -> None:
    cache = key_cache()
    rsa = Signer("rsa", "RS256").jwk
    jwks = [rsa | {"alg": "RS256"}, rsa | {"alg": "PS256"}, rsa | {"issuer": "https://a.example"}]
    cache.merge(answer(1, *jwks), 1)
    assert len(cache.accepted(1).keys) == 3
    assert all(isinstance(key, VerificationKey) for key in cache.current.values())
