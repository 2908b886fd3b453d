"""Route handlers for what others look up at well-known paths: public keys, and the metadata of a protected resource."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from inspect import signature
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import msgspec

from litestar import Litestar, Request, Response
from litestar.datastructures import CacheControlHeader
from litestar.exceptions import ImproperlyConfiguredException
from litestar.handlers import HTTPRouteHandler
from litestar.security.jwt.challenge import scopes_of_route
from litestar.security.jwt.injection import routes_of
from litestar.security.jwt.key_set import load_keys
from litestar.security.jwt.keys import ASYMMETRIC_ALGORITHMS, UnusableKeyError, is_key, names_of, single_keys
from litestar.security.jwt.signing import SigningKey

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from litestar.connection import ASGIConnection
    from litestar.security.jwt.auth import BaseJWTAuth
    from litestar.security.jwt.keys import Key, SingleKey

__all__ = ("check_url", "create_jwks_handler", "create_metadata_handler", "metadata_url")

_DISCOVERY_PATH: Final = "/.well-known/openid-configuration"
_RESOURCE_PATH: Final = "/.well-known/oauth-protected-resource"
_URL: Final = re.compile(r"https?://([\w.-]+|\[[\da-fA-F:.]+\])(:\d+)?(/[^\s?#]*)?", re.ASCII)
# Anyone can fetch the metadata, so any page in a browser may read it (Fetch Standard, section 3.3.3).
_ANY_ORIGIN: Final = {"Access-Control-Allow-Origin": "*"}
_PREFLIGHT: Final = {
    **_ANY_ORIGIN,
    "Access-Control-Allow-Methods": "GET",
    "Access-Control-Allow-Headers": "*",
    "Access-Control-Max-Age": "86400",
}


class _OpenRouteHandler(HTTPRouteHandler):
    """A route handler that no guard keeps anyone from, as those who come do not have a token yet."""

    __slots__ = ()

    async def authorize_connection(self, connection: ASGIConnection[Any, Any, Any, Any]) -> None:
        """Let everyone in."""


def create_jwks_handler(
    keys: Key | SigningKey | Sequence[SingleKey | SigningKey],
    *,
    algorithm: str | Sequence[str] | None = None,
    issuer: str | None = None,
    path: str = "/.well-known/jwks.json",
    max_age: int = 300,
    exclude_opt_key: str = "exclude_from_auth",
    include_in_schema: bool = False,
) -> HTTPRouteHandler:
    """Create a route handler that publishes keys, so that other applications can verify your tokens.

    Only the public half of a key is published. The route handler needs no token, whatever guards the application has.

    Args:
        keys: The keys to publish, usually the :class:`SigningKey` of the backend. They can be private or public. Include the next
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
        raise ImproperlyConfiguredException(f"'max_age' is {max_age!r}. Pass a number of seconds that is not negative.")
    path = f"/{path.strip('/')}"
    jwks = _published_keys(keys, algorithm)
    documents = {path: ("application/jwk-set+json", msgspec.json.encode({"keys": jwks}))}
    if issuer is not None:
        if path.endswith(_DISCOVERY_PATH):
            raise ImproperlyConfiguredException(f"'path' is {path!r}, the path of the discovery document.")
        documents[_DISCOVERY_PATH] = ("application/json", msgspec.json.encode(_discovery(issuer, path, jwks)))

    async def publish_keys(request: Request[Any, Any, Any]) -> Response[bytes]:
        is_discovery = issuer is not None and request.scope["path"].rstrip("/").endswith(_DISCOVERY_PATH)
        media_type, body = documents[_DISCOVERY_PATH if is_discovery else path]
        return Response(body, media_type=media_type)

    return _open_handler(
        publish_keys,
        list(documents),
        http_method="GET",
        cache_control=CacheControlHeader(public=True, max_age=max_age),
        include_in_schema=include_in_schema,
        opt={exclude_opt_key: True},
    )


def _open_handler(function: Callable[..., Any], paths: Sequence[str], **options: Any) -> HTTPRouteHandler:
    """Create a route handler without a decorator: that of Litestar 3 takes the class, that of Litestar 2 is the class."""
    if "fn" in signature(HTTPRouteHandler).parameters:  # pragma: no cover
        return _OpenRouteHandler(paths, fn=function, **options)
    return _OpenRouteHandler(paths, **options)(function)


def _published_keys(keys: object, algorithm: str | Sequence[str] | None) -> list[dict[str, Any]]:
    """Return the JWKs of the public halves of keys."""
    jwks: dict[str, dict[str, Any]] = {}
    for number, key in enumerate(_listed(keys)):
        try:
            jwk = _published(key, algorithm)
        except (UnusableKeyError, ImproperlyConfiguredException) as e:
            reason = e.detail if isinstance(e, ImproperlyConfiguredException) else str(e)
            raise ImproperlyConfiguredException(f"'keys[{number}]' cannot be published: {reason}") from e
        if jwk["kid"] in jwks:
            raise ImproperlyConfiguredException(f"'keys' has two keys with the ID {jwk['kid']!r}. Remove one.")
        jwks[jwk["kid"]] = jwk
    if not jwks:
        raise ImproperlyConfiguredException("'keys' has no keys. Pass the keys that your tokens are signed with.")
    return list(jwks.values())


def _listed(keys: Any) -> Iterable[Any]:
    if isinstance(keys, (list, tuple)):
        return keys
    if isinstance(keys, SigningKey):
        return (keys,)
    return single_keys(keys) if is_key(keys) else ()


def _published(key: Any, algorithm: str | Sequence[str] | None) -> dict[str, Any]:
    """Return the JWK of the public half of a key, with everything that a verifier needs to know about it."""
    if isinstance(key, Mapping) and "d" in key:
        key = SigningKey(key)
    public = key.verification_key if isinstance(key, SigningKey) else load_keys([key], ASYMMETRIC_ALGORITHMS)[0]
    names = public.algorithms if algorithm is None else names_of(algorithm)
    fitting = [name for name in names if name in public.algorithms]
    if not fitting:
        raise UnusableKeyError(f"'algorithm' is {algorithm!r}, and the key is for {' or '.join(public.algorithms)}.")
    kid = public.kid or public.thumbprint
    return {**public.jwk, "kid": kid, "use": "sig", "key_ops": ["verify"], "alg": fitting[0]}


def _discovery(issuer: str, path: str, jwks: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Create a discovery document (OpenID Connect Discovery 1.0, section 3) for verifiers. There is no login."""
    check_url("issuer", issuer)
    return {
        "issuer": issuer,
        "jwks_uri": issuer.removesuffix("/") + path,
        "response_types_supported": [],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": list(dict.fromkeys(jwk["alg"] for jwk in jwks)),
    }


def check_url(option: str, url: object) -> str:
    """Check a URL that stands for the application (RFC 9728, section 1.2).

    Args:
        option: The name of the option that it was given for.
        url: The URL.

    Returns:
        The URL.

    Raises:
        ImproperlyConfiguredException: If it is not a URL, or has a query or a fragment.
    """
    if not isinstance(url, str) or not _URL.fullmatch(url):
        raise ImproperlyConfiguredException(
            f"{option!r} takes the URL of the application, without query and fragment, not {url!r}."
        )
    return url


def metadata_url(resource: str) -> str:
    """Return the URL of the metadata: the well-known path goes in front of the path of the resource (RFC 9728, section 3.1).

    Args:
        resource: The URL of the protected resource.
    """
    parts = urlsplit(resource)
    return f"{parts.scheme}://{parts.netloc}{_RESOURCE_PATH}{parts.path.rstrip('/')}"


def create_metadata_handler(backend: BaseJWTAuth[Any, Any]) -> HTTPRouteHandler:
    """Create the route handler that serves the metadata of a protected resource (RFC 9728, section 2).

    It needs no token, whatever guards the application has, and a page of any origin can read it.

    Args:
        backend: The backend that protects the resource. Its key provider or ``accepted_issuers`` name the authorization servers.

    Returns:
        The route handler.
    """
    resource = check_url("protected_resource", backend.protected_resource)

    async def protected_resource_metadata(request: Request[Any, Any, Any]) -> Response[bytes]:
        if request.method == "OPTIONS":
            return Response(b"", status_code=204, headers=_PREFLIGHT)
        app = Litestar.from_scope(request.scope)
        metadata = {
            "resource": resource,
            "authorization_servers": await _issuers(backend, app),
            "bearer_methods_supported": ["header"],
            "scopes_supported": _scopes(backend, app),
        }
        body = msgspec.json.encode({name: value for name, value in metadata.items() if value})
        return Response(body, media_type="application/json", headers=_ANY_ORIGIN)

    return _open_handler(
        protected_resource_metadata,
        [urlsplit(metadata_url(resource)).path],
        http_method=["GET", "OPTIONS"],
        include_in_schema=False,
        opt={"exclude_from_auth": True, backend.exclude_opt_key: True},  # other backends let everyone in, too
    )


async def _issuers(backend: BaseJWTAuth[Any, Any], app: Litestar) -> list[str]:
    """Return the names of the authorization servers."""
    provider: object = None
    with suppress(ImproperlyConfiguredException):  # only some routes have what its factory needs
        provider = (await backend.get_resolver().resolve(app, None)).given
    issuers = getattr(provider, "issuers", ()) or backend.accepted_issuers
    return [] if issuers is None or callable(issuers) else list(names_of(issuers))


def _scopes(backend: BaseJWTAuth[Any, Any], app: Litestar) -> list[str]:
    """Return the scopes that clients can ask for: those of the backend, or else those that guards require."""
    if backend.scopes_supported is not None:
        return list(backend.scopes_supported)
    scopes = [*(getattr(backend, "oauth_scopes", None) or ())]  # of those that issue tokens for a password
    for _, handler, _ in routes_of(app):
        scopes += scopes_of_route(handler)
    return list(dict.fromkeys(scopes))
