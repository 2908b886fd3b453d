"""Both middleware classes take a ``verifier``. With one, it reads the credentials and verifies the token.

It calls the middleware back, so that overrides and replaced handlers have the effect that they have without it.
"""

from patch.edit import Source

HEADER, COOKIE = "JWTAuthenticationMiddleware", "JWTCookieAuthenticationMiddleware"
VERIFIER = "Verifies tokens in place of ``token_secret``, for backends with a ``key_provider``."
CALLS = {
    f"{HEADER}.authenticate_request": "authenticate_request(self, connection)",
    f"{HEADER}.authenticate_token": "authenticate_token(self, encoded_token, connection)",
    f"{COOKIE}.authenticate_request": "authenticate_request(self, connection, self.auth_cookie_key)",
}


def edit(source: Source) -> None:
    with source.pull_request(2):
        source.add_import("litestar.security.jwt.verifier", "TokenVerifier", type_checking=True)
        source.add_names(f"{HEADER}.__slots__", "verifier")
        source.parameter(f"{HEADER}.__init__", "verifier: TokenVerifier | None = None", VERIFIER)
        source.insert(f"{HEADER}.__init__", "self.verifier = verifier", at_end=True)
        source.parameter(f"{COOKIE}.__init__", "verifier: TokenVerifier | None = None", VERIFIER)
        source.keyword(f"{COOKIE}.__init__", "super().__init__", "verifier=verifier")
        for place, call in CALLS.items():
            # A subclass that does not call `super().__init__()` has no verifier.
            block = f"""
                verifier: TokenVerifier | None = getattr(self, "verifier", None)
                if verifier is not None:
                    return await verifier.{call}
            """
            source.insert(place, block)
