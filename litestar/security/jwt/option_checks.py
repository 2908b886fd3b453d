"""The rules for the options of a backend that has a key provider: what is not clearly configured is refused."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from inspect import signature
from secrets import choice
from typing import TYPE_CHECKING, Any, ClassVar, Final, cast, get_origin, get_type_hints

from litestar.di import Provide
from litestar.enums import ScopeType
from litestar.exceptions import ImproperlyConfiguredException
from litestar.security.jwt.claims import ANY_AUDIENCE, ClaimRules, parse_leeway
from litestar.security.jwt.decoding import DEFAULT_LEEWAY, reject_mixed_algorithms
from litestar.security.jwt.keys import ASYMMETRIC_ALGORITHMS, UnusableKeyError, get_algorithm, names_of
from litestar.security.jwt.lookup import as_lookup
from litestar.security.jwt.pem import reject_key_as_secret
from litestar.security.jwt.token import Token
from litestar.security.jwt.verifier import VerifierOptions

if TYPE_CHECKING:
    from litestar.security.jwt.claims import Audiences, IssuerCheck

__all__ = ("accepted_algorithms", "check_handler", "verifier_options")

# RFC 9110, section 11.1, or nothing.
_SCHEME: Final = re.compile(r"[\w!#$%&'*+.^`|~-]*", re.ASCII)
_DPOP: Final = "dpop"


def verifier_options(backend: Any) -> VerifierOptions:
    """Check the options of a backend that has a key provider.

    Args:
        backend: The backend.

    Returns:
        What its verifier needs.

    Raises:
        ImproperlyConfiguredException: If an option is not valid.
    """
    algorithms = backend.get_accepted_algorithms()
    if not isinstance(backend.key_provider, Provide):
        _check_provider(backend.key_provider, algorithms)
    _check_secret(backend.token_secret, backend.algorithm)
    _check_exclusions(backend.exclude, backend.scopes)
    _check_token_cls(backend.token_cls)
    for name in ("key_provider_name", "optional_auth_opt_key"):
        value = getattr(backend, name)
        if not isinstance(value, str) or not value.isidentifier():
            raise _wrong(name, "the name of a parameter", value)
    if not isinstance(backend.auth_header, str) or not backend.auth_header:
        raise _wrong("auth_header", "the name of a header field", backend.auth_header)
    strict_audience = _flag("strict_audience", backend.strict_audience)
    audiences = _audiences(backend.accepted_audiences, strict=strict_audience)
    issuers, issuer_check = _issuers(backend.accepted_issuers)
    _check_slashes(backend.key_provider, audiences, issuers)
    types = None if backend.accepted_types is None else _names("accepted_types", backend.accepted_types)
    try:
        leeway = DEFAULT_LEEWAY if backend.leeway is None else parse_leeway(backend.leeway)
    except ValueError as e:
        raise ImproperlyConfiguredException(str(e)) from e
    return VerifierOptions(
        token_cls=backend.token_cls,
        algorithms=frozenset(algorithms),
        rules=ClaimRules(
            issuers=issuers,
            required=() if backend.require_claims is None else _names("require_claims", backend.require_claims),
            leeway=leeway,
            verify_expiry=_flag("verify_expiry", backend.verify_expiry),
            verify_not_before=_flag("verify_not_before", backend.verify_not_before),
        ),
        audiences=audiences,
        issuer_check=issuer_check,
        types=None if types is None else frozenset(name.lower().removeprefix("application/") for name in types),
        strict_audience=strict_audience,
        accept_bound_tokens=_flag("accept_bound_tokens", backend.accept_bound_tokens),
        auth_header=backend.auth_header,
        auth_scheme=_auth_scheme(backend.auth_scheme, accept_bound=backend.accept_bound_tokens),
        optional_auth_opt_key=backend.optional_auth_opt_key,
    )


def accepted_algorithms(given: str | Sequence[str] | None) -> tuple[str, ...]:
    """Return the names of the algorithms that a backend accepts.

    Args:
        given: The option ``key_algorithms``.

    Raises:
        ImproperlyConfiguredException: If PyJWT does not know one of them, or HMAC is mixed with others.
    """
    if given is None:
        return ASYMMETRIC_ALGORITHMS
    names = _names("key_algorithms", given)
    for name in names:
        try:
            get_algorithm(name)
        except NotImplementedError as e:
            raise _wrong("key_algorithms", "algorithms of PyJWT, such as 'RS256'", name) from e
    try:
        reject_mixed_algorithms(names)
    except UnusableKeyError as e:
        raise ImproperlyConfiguredException(f"'key_algorithms' cannot be used: {e}") from e
    return names


def _check_provider(provider: object, algorithms: Sequence[str]) -> None:
    """Refuse a provider that cannot verify any token."""
    try:
        as_lookup(provider, algorithms)
    except UnusableKeyError as e:
        raise ImproperlyConfiguredException(f"'key_provider' cannot be used: {e}") from e
    # Providers that can refetch find what issuers publish, and nobody publishes a shared secret.
    if hasattr(provider, "refetch") and set(algorithms).isdisjoint(ASYMMETRIC_ALGORITHMS):
        raise ImproperlyConfiguredException(
            f"{type(provider).__name__} finds public keys. Remove {' and '.join(algorithms)} from 'key_algorithms'."
        )


def _check_secret(secret: object, algorithm: object) -> None:
    """Refuse to sign with a key, or with what is left of one, as a shared secret."""
    if isinstance(secret, (str, bytes)) and isinstance(algorithm, str) and algorithm.startswith("HS"):
        try:
            reject_key_as_secret(secret)
        except UnusableKeyError as e:
            raise ImproperlyConfiguredException(
                f"'token_secret' cannot be used: {e}. To sign with a private key, pass SigningKey(pem)"
            ) from e


def _check_exclusions(exclude: object, scopes: object) -> None:
    """Refuse what would switch authentication off for all requests."""
    patterns = [exclude] if isinstance(exclude, str) else exclude
    if patterns is not None:
        if not isinstance(patterns, (list, tuple)) or not patterns:
            raise _wrong("exclude", "a pattern or a list of patterns", exclude)
        if all(any(_matches(pattern, path) for pattern in patterns) for path in ("/", *_random_paths())):
            raise ImproperlyConfiguredException(
                f"'exclude' matches every path, so nothing would be authenticated: {exclude!r}."
            )
    kinds = {ScopeType.HTTP, ScopeType.WEBSOCKET}
    if scopes is not None and (
        isinstance(scopes, str) or not isinstance(scopes, Collection) or not kinds.issuperset(scopes)
    ):
        raise ImproperlyConfiguredException(
            f"'scopes' takes kinds of ASGI connections, 'http' and 'websocket', not {scopes!r}. To require scopes of OAuth 2.0, "
            "use the guard 'requires_scopes'."
        )


def _random_paths() -> list[str]:
    """Return paths that no application has. They have no character in common but the slash."""
    return ["/" + "".join(choice(characters) for _ in range(16)) for characters in ("jkqvwxz", "0123456789")]


def _matches(pattern: Any, path: str) -> bool:
    try:
        return re.search(pattern, path) is not None
    except (re.error, TypeError) as e:
        raise _wrong("exclude", "regular expressions", pattern) from e


def _check_token_cls(token_cls: object) -> None:
    if not isinstance(token_cls, type) or not issubclass(token_cls, Token):
        raise _wrong("token_cls", "a subclass of Token", token_cls)
    for cls in token_cls.__mro__:
        names = vars(cls).get("__annotations__", {}) if cls is not Token and issubclass(cls, Token) else {}
        if "__dataclass_fields__" not in vars(cls) and any(not _is_class_variable(cls, name) for name in names):
            raise ImproperlyConfiguredException(
                f"{cls.__name__} adds fields to Token, but is no dataclass. Put @dataclass above it."
            )


def _is_class_variable(cls: type[Any], name: str) -> bool:
    annotation = get_type_hints(cls).get(name)
    return annotation is ClassVar or get_origin(annotation) is ClassVar


def check_handler(name: str, handler: object) -> None:
    """Refuse a handler that cannot be called with a token and a connection.

    Args:
        name: The name of the option.
        handler: The handler, ``None`` if there is none.

    Raises:
        ImproperlyConfiguredException: If it cannot.
    """
    if handler is None or not callable(handler):
        return
    try:
        signature(handler).bind(None, None)
    except TypeError as e:
        raise ImproperlyConfiguredException(
            f"{name!r} must take two arguments, the token and the connection: {e}."
        ) from e
    except ValueError:  # functions that are not written in Python may have no signature
        return


def _issuers(given: Any) -> tuple[tuple[str, ...] | None, IssuerCheck | None]:
    """Return the names of the issuers to accept, or the function that decides. Both are ``None`` if any issuer is accepted."""
    if given is None:
        return None, None
    if callable(given):
        if hasattr(given, "refetch") or hasattr(given, "issuers"):
            raise _wrong(
                "accepted_issuers",
                "names of issuers, or a function of one. Key providers go into 'key_provider'",
                given,
            )
        return None, cast("IssuerCheck", given)
    return _names("accepted_issuers", given), None


def _audiences(given: Any, *, strict: bool) -> Audiences | None:
    """Return the audiences to accept, ``None`` for any."""
    if given == ANY_AUDIENCE and isinstance(given, str):
        if strict:
            raise ImproperlyConfiguredException("'strict_audience' needs one audience in 'accepted_audiences'.")
        return None
    if given is None or (isinstance(given, Collection) and not given):
        raise ImproperlyConfiguredException(
            "'accepted_audiences' is missing or empty. Name the audiences of your application, because an issuer issues tokens "
            "for others, too. To accept any audience, set accepted_audiences='*'."
        )
    audiences: Audiences
    if callable(given):
        audiences, several = cast("Audiences", given), []
    elif isinstance(given, Mapping):
        _names("accepted_audiences", list(given))
        audiences = {issuer: _audience_names(names) for issuer, names in given.items()}
        several = list(audiences.values())
    else:
        audiences = names = _audience_names(given)
        several = [names]
    if strict and any(len(names) != 1 for names in several):
        raise ImproperlyConfiguredException("'strict_audience' needs one audience in 'accepted_audiences'.")
    return audiences


def _audience_names(given: Any) -> tuple[str, ...]:
    names = _names("accepted_audiences", given)
    if ANY_AUDIENCE in names:
        raise ImproperlyConfiguredException(
            "'accepted_audiences' has '*' among others. Set accepted_audiences='*' to accept any audience, or remove it."
        )
    return names


def _check_slashes(provider: object, audiences: Audiences | None, issuers: tuple[str, ...] | None) -> None:
    """Refuse names of issuers that differ from those of the provider by a slash, as no token could be valid."""
    known: Collection[str] = getattr(provider, "issuers", None) or ()
    named = [*(audiences if isinstance(audiences, Mapping) else ()), *(issuers or ())]
    for name in named:
        for other in known:
            if name not in known and name.rstrip("/") == other.rstrip("/"):
                raise ImproperlyConfiguredException(
                    f"The issuer {name!r} differs from {other!r} of the key provider by a slash. Write both alike."
                )


def _auth_scheme(scheme: object, *, accept_bound: bool) -> str:
    if scheme is None:
        return "Bearer"
    if not isinstance(scheme, str) or not _SCHEME.fullmatch(scheme):
        raise _wrong("auth_scheme", "one word, or '' for a bare token", scheme)
    if scheme.lower() == _DPOP and not accept_bound:
        raise ImproperlyConfiguredException(
            "auth_scheme='DPoP' needs accept_bound_tokens=True, and a proxy that checks the proofs. Litestar does not check them."
        )
    return scheme


def _flag(option: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise _wrong(option, "True or False", value)
    return value


def _names(option: str, given: Any) -> tuple[str, ...]:
    """Return the strings given for an option. A lone string is one of them."""
    values = names_of(given) if isinstance(given, (str, list, tuple, set, frozenset)) else None
    if values is None or not all(isinstance(value, str) and value.strip() for value in values):
        raise _wrong(option, "a string or a sequence of strings that are not empty", given)
    if not values:
        raise ImproperlyConfiguredException(f"{option!r} is empty. Leave it out if you do not want this check.")
    return values


def _wrong(option: str, takes: str, value: object) -> ImproperlyConfiguredException:
    return ImproperlyConfiguredException(f"{option!r} takes {takes}, not {value!r}.")
