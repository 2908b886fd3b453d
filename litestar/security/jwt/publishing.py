from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec
from jwt import PyJWK

from litestar import Request, Response, get
from litestar.exceptions import ImproperlyConfiguredException
from litestar.security.jwt._http import check_url
from litestar.security.jwt._providers import natural_algorithms
from litestar.security.jwt.keys import (
    ASYMMETRIC_ALGORITHMS,
    UnusableKeyError,
    fitting,
    is_key,
    load_key,
    public_jwk,
    single_keys,
    thumbprint,
)
from litestar.status_codes import HTTP_200_OK, HTTP_304_NOT_MODIFIED

if TYPE_CHECKING:
    from collections.abc import Sequence

    from litestar.handlers import HTTPRouteHandler
    from litestar.security.jwt.keys import Key, SingleKey

__all__ = ("create_jwks_handler",)

_JWKS_PATH: Final = "/.well-known/jwks.json"
_DISCOVERY_PATH: Final = "/.well-known/openid-configuration"


class _Document(NamedTuple):
    body: bytes
    media_type: str
    etag: str


def create_jwks_handler(
    keys: Key,
    *,
    algorithm: str | Sequence[str] | None = None,
    issuer: str | None = None,
    path: str = _JWKS_PATH,
    max_age: int = 300,
    exclude_opt_key: str = "exclude_from_auth",
    include_in_schema: bool = False,
) -> HTTPRouteHandler:
    """Publish the keys that an application signs tokens with, so that others can verify them.

    Of private keys, only the public half gets out. It has the ID that :meth:`BaseJWTAuth.create_token` puts into the header of
    tokens.

    Args:
        keys: The keys, as a rule the ``token_secret`` of the backend: private or public ones, that sign or have signed tokens
            or will do so.
        algorithm: The ``algorithm`` of the backend, if that has been given one. By default that of the key's kind, as there:
            ``RS256`` with RSA.
        issuer: The ``iss`` claim of the tokens, if it is the URL of the application, with the prefix of the routers that the
            handler is registered with. The discovery document of OpenID Connect is then served too, at
            ``/.well-known/openid-configuration``. None by default.
        path: Where to serve the JWK Set. ``/.well-known/jwks.json`` by default.
        max_age: Seconds for which others may keep the answer, as it says in ``Cache-Control``. That is also how long to wait, at
            least, between publishing a key and signing with it. 300 (5 minutes) by default.
        exclude_opt_key: Key in the ``opt`` of the handler that exempts it from authentication, as in the backend.
        include_in_schema: Whether the handler is part of the OpenAPI document. It is not by default.

    Returns:
        A route handler.

    Raises:
        ImproperlyConfiguredException: If there is a secret among the keys, or a key that none of the algorithms fits, or the
            issuer is not a URL.
    """
    try:
        jwks = [_published(key, algorithm) for key in (single_keys(keys) if is_key(keys) else ())]
    except UnusableKeyError as e:
        raise ImproperlyConfiguredException(f"A key cannot be published: {e}") from e
    if not jwks:
        raise ImproperlyConfiguredException("There are no keys to publish")
    documents = {path: _document({"keys": jwks}, "application/jwk-set+json")}
    if issuer is not None:
        documents[_DISCOVERY_PATH] = _document(_metadata(issuer, path, jwks), "application/json")

    async def publish_keys(request: Request[Any, Any, Any]) -> Response[bytes]:
        asked = request.scope["path"].rstrip("/")
        document = next(document for end, document in documents.items() if asked.endswith(end.rstrip("/")))
        headers = {"Cache-Control": f"public, max-age={max_age}", "ETag": document.etag}
        if _is_known(document, request.headers.getall("If-None-Match", [])):
            return Response(b"", status_code=HTTP_304_NOT_MODIFIED, headers=headers)
        return Response(document.body, status_code=HTTP_200_OK, headers=headers, media_type=document.media_type)

    handler = get(list(documents), include_in_schema=include_in_schema, opt={exclude_opt_key: True})
    return handler(publish_keys)


def _published(key: SingleKey, algorithm: str | Sequence[str] | None) -> dict[str, Any]:
    """Return the JWK of the public half of a key, with what verifiers need to know about it."""
    names = natural_algorithms(key) if algorithm is None else (algorithm,) if isinstance(algorithm, str) else algorithm
    fit = next((name for name in names if name in ASYMMETRIC_ALGORITHMS and fitting(key, name)), None)
    if fit is None:
        raise UnusableKeyError(f"it is not one for {' or '.join(names)}, or it is a secret")
    kid = key.key_id if isinstance(key, PyJWK) else None
    material: Any = key.key if isinstance(key, PyJWK) else load_key(key) if isinstance(key, (str, bytes)) else key
    members = public_jwk(material)
    return {**members, "kid": kid or thumbprint(members), "use": "sig", "alg": fit}


def _metadata(issuer: str, path: str, jwks: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Make a discovery document (OpenID Connect Discovery 1.0, section 3). Nobody can log in by what it says."""
    try:
        check_url(issuer, allow_http=True)
    except ValueError as e:
        raise ImproperlyConfiguredException(f"'issuer' is not the URL of an application: {e}") from e
    return {
        "issuer": issuer,
        "jwks_uri": issuer.removesuffix("/") + path,
        "response_types_supported": [],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": list(dict.fromkeys(jwk["alg"] for jwk in jwks)),
    }


def _document(content: Any, media_type: str) -> _Document:
    body = msgspec.json.encode(content)
    return _Document(body, media_type, f'"{sha256(body).hexdigest()[:32]}"')


def _is_known(document: _Document, validators: Sequence[str]) -> bool:
    """Compare weakly (RFC 9110, section 13.1.2)."""
    tags = [tag.strip().removeprefix("W/") for validator in validators for tag in validator.split(",")]
    return "*" in tags or document.etag in tags
