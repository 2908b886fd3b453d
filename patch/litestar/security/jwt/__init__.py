"""What is new is imported from ``litestar.security.jwt``, too."""

from patch.edit import Source

# The number of the pull request, the module, and what it exports.
EXPORTS = (
    (1, "keys", ("Key", "KeyNotFoundException", "KeyProvider", "KeysUnavailableException")),
    (1, "unverified", ("UnverifiedToken",)),
    (4, "refusals", ("Reason", "TokenRefused")),
    (5, "signing", ("SigningKey",)),
    (6, "key_providers.remote", ("KeySetStatus", "RemoteJWKSet")),
    (7, "key_providers.openid", ("OpenIDProvider",)),
    (8, "key_providers.issuers", ("IssuerKeyProvider",)),
    (10, "guards", ("requires_scopes",)),
    (11, "well_known", ("create_jwks_handler",)),
)


def edit(source: Source) -> None:
    for number, module, names in EXPORTS:
        with source.pull_request(number):
            source.add_import(f"litestar.security.jwt.{module}", *names)
            source.add_names("__all__", *names)
