"""The backends have the options that the additions declare, and pass on what the middleware needs of them.

Fields stay as they are declared. With a ``key_provider``, the constructors let ``token_secret`` be left out.
"""

from patch.edit import Source

BACKENDS = ("JWTAuth", "JWTCookieAuth", "OAuth2PasswordBearerAuth")
# Each class is derived from the one before it.
OPTIONS = (
    (2, "options", "KeyProviderOptions"),
    (4, "challenge", "ChallengeOptions"),
    (11, "openapi", "OpenAPIOptions"),
    (11, "protected_resource", "ResourceOptions"),
    (13, "signature_memory", "RememberingOptions"),
)


def edit(source: Source) -> None:
    former = "AbstractSecurityConfig"
    for number, module, options in OPTIONS:
        with source.pull_request(number):
            source.add_import(f"litestar.security.jwt.{module}", options)
            source.base("BaseJWTAuth", options, instead_of=former)
        former = options
    with source.pull_request(2):
        source.add_import("litestar.security.jwt.options", "optional_token_secret")
        for backend in BACKENDS:
            source.decorate(backend, "optional_token_secret")
        for backend in ("BaseJWTAuth", "JWTCookieAuth", "OAuth2PasswordBearerAuth"):
            source.keyword(f"{backend}.middleware", "DefineMiddleware", "**self.middleware_options")
    with source.pull_request(12):
        constructors = [f"{backend}Init" for backend in BACKENDS]
        source.add_import("litestar.security.jwt._constructor", *constructors, type_checking=True)
        for backend in BACKENDS:
            constructor = f"""
                if TYPE_CHECKING:

                    @{backend}Init
                    def __init__(self) -> None: ...
            """
            source.insert(backend, constructor)
