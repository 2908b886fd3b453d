"""The options of an application that is a protected resource. What it serves is tested with the metadata."""

from __future__ import annotations

from typing import Any

import pytest

from litestar.exceptions import ImproperlyConfiguredException

from .backends import ISSUER, backend, client_of, secret_backend

RESOURCE = "https://api.test/"
METADATA_URL = "https://api.test/.well-known/oauth-protected-resource"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        pytest.param({"scopes_supported": ["read"]}, "needs 'protected_resource'", id="scopes-without-resource"),
        pytest.param({"scopes_supported": "read", "protected_resource": RESOURCE}, "a sequence of strings", id="text"),
        pytest.param({"scopes_supported": [1], "protected_resource": RESOURCE}, "a sequence of strings", id="number"),
        pytest.param({"protected_resource": "api.test"}, "takes the URL of the application", id="no-url"),
    ],
)
def test_option_that_cannot_work_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ImproperlyConfiguredException, match=message):
        backend(ISSUER.key, **options)


def test_resource_needs_a_key_provider() -> None:
    with pytest.raises(ImproperlyConfiguredException, match="needs a 'key_provider'"):
        secret_backend(protected_resource=RESOURCE)


def test_challenge_points_to_the_metadata() -> None:
    with client_of(backend(ISSUER.key, protected_resource=RESOURCE, accepted_issuers=[ISSUER.name])) as client:
        assert f'resource_metadata="{METADATA_URL}"' in client.get("/").headers["WWW-Authenticate"]
