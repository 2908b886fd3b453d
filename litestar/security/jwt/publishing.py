"""A route handler that publishes the keys an application signs with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from litestar import Request, Response, get
from litestar.datastructures import CacheControlHeader
from litestar.exceptions import ImproperlyConfiguredException
from litestar.security.jwt._resource_metadata import check_url
from litestar.security.jwt.keys import (
    UnusableKeyError,
    is_key,
    names_of,
    public_jwk,
    single_keys,
    thumbprint,
    verification_key,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from litestar.handlers import HTTPRouteHandler
    from litestar.security.jwt.keys import Key, SingleKey

__all__ = ("create_jwks_handler",)

_DISCOVERY_PATH: Final = "/.well-known/openid-configuration"


def create_jwks_handler(
    keys: Key,
    *,
    algorithm: str | Sequence[str] | None = None,
    issuer: str | None = None,
    path: str = "/.well-known/jwks.json",
    max_age: int = 300,
    exclude_opt_key: str = "exclude_from_auth",
    include_in_schema: bool = False,
) -> HTTPRouteHandler:
    """Create a route handler that publishes keys, so that other applications can verify your tokens.

    Only the public half of a key is published. Its key ID is the one that :meth:`BaseJWTAuth.create_token` puts into tokens.

    Args:
        keys: The keys to publish, usually the ``token_secret`` of the backend. They can be private or public. Include the next
            key before you sign with it, and the previous key until its last token has expired.
        algorithm: The ``algorithm`` of the backend, if you set it. By default, the first one that fits the key: ``RS256`` for an
            RSA key.
        issuer: The ``iss`` claim of your tokens, if it is the URL that the handler is mounted at. Then the handler also serves an
            OpenID Connect discovery document at ``/.well-known/openid-configuration``.
        path: The path of the JWK Set.
        max_age: For how many seconds clients may cache a response. Publish a new key at least this long before you sign with it.
        exclude_opt_key: The ``exclude_opt_key`` of the backend. It exempts the handler from authentication.
        include_in_schema: Whether the OpenAPI document contains the handler.

    Returns:
        The route handler.

    Raises:
        ImproperlyConfiguredException: If a key cannot be published, or another argument is not valid.
    """
    if not isinstance(max_age, int) or max_age < 0:
        raise ImproperlyConfiguredException(f"'max_age' is {max_age!r}. Pass a number of seconds that is not negative")
    path = f"/{path.strip('/')}"
    jwks = _jwks(keys, algorithm)
    documents = {path: ("application/jwk-set+json", msgspec.json.encode({"keys": jwks}))}
    if issuer is not None:
        if path.endswith(_DISCOVERY_PATH):
            raise ImproperlyConfiguredException(f"'path' is {path!r}, the path of the discovery document")
        documents[_DISCOVERY_PATH] = ("application/json", msgspec.json.encode(_discovery(issuer, path, jwks)))

    @get(
        list(documents),
        cache_control=CacheControlHeader(public=True, max_age=max_age),
        include_in_schema=include_in_schema,
        opt={exclude_opt_key: True},
    )
    async def publish_keys(request: Request[Any, Any, Any]) -> Response[bytes]:
        is_discovery = issuer is not None and request.scope["path"].rstrip("/").endswith(_DISCOVERY_PATH)
        media_type, body = documents[_DISCOVERY_PATH if is_discovery else path]
        return Response(body, media_type=media_type)

    return publish_keys


def _jwks(keys: Key, algorithm: str | Sequence[str] | None) -> list[dict[str, Any]]:
    jwks: dict[str, dict[str, Any]] = {}
    for number, key in enumerate(single_keys(keys) if is_key(keys) else ()):
        try:
            jwk = _published(key, algorithm)
        except UnusableKeyError as e:
            raise ImproperlyConfiguredException(f"'keys[{number}]' cannot be published: {e}") from e
        if jwk["kid"] in jwks:
            raise ImproperlyConfiguredException(f"'keys' has two keys with the ID {jwk['kid']!r}. Remove one")
        jwks[jwk["kid"]] = jwk
    if not jwks:
        raise ImproperlyConfiguredException("'keys' has no keys. Pass the keys that your tokens are signed with")
    return list(jwks.values())


def _published(key: SingleKey, algorithm: str | Sequence[str] | None) -> dict[str, Any]:
    """Return the JWK of the public half of a key, with everything that a verifier needs to know about it."""
    known = verification_key(key)
    names = known.algorithms if algorithm is None else names_of(algorithm)
    fitting = [name for name in names if name in known.algorithms]
    if not fitting:
        raise UnusableKeyError(f"'algorithm' is {algorithm!r}, and the key is for {' or '.join(known.algorithms)}")
    members = public_jwk(known.material)
    kid = known.kid or thumbprint(members)
    return {**members, "kid": kid, "use": "sig", "key_ops": ["verify"], "alg": fitting[0]}


def _discovery(issuer: str, path: str, jwks: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Create a discovery document (OpenID Connect Discovery 1.0, section 3) for verifiers. There is no login."""
    check_url("issuer", issuer)
    return {
        "issuer": issuer,
        "jwks_uri": issuer.removesuffix("/") + path,
        "response_types_supported": [],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": list(dict.fromkeys(jwk["alg"] for jwk in jwks)),
    }
