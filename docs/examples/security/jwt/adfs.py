from typing import Any

from litestar import Litestar, Request, get
from litestar.connection import ASGIConnection
from litestar.security.jwt import JWTAuth, OpenIDProvider, Token

ADFS = "https://adfs.example.com/adfs"


class AdfsToken(Token):
    """An access token of AD FS, which has a ``sub`` only if a rule issues it."""

    @classmethod
    def decode_payload(cls, *args: Any, **kwargs: Any) -> Any:
        claims = super().decode_payload(*args, **kwargs)
        return {"sub": claims["upn"], **claims}


async def retrieve_user(token: AdfsToken, connection: ASGIConnection) -> str:
    return token.sub


@get("/me")
async def me(request: Request[str, AdfsToken, Any]) -> str:
    return request.user


jwt_auth = JWTAuth[str, AdfsToken](
    retrieve_user_handler=retrieve_user,
    # The discovery document has two issuers. This one is its 'access_token_issuer'.
    key_provider=OpenIDProvider(
        ADFS,
        issuer_in_tokens="http://adfs.example.com/adfs/services/trust",
    ),
    token_cls=AdfsToken,
    accepted_audiences=["microsoft:identityserver:my-api"],
    exclude=["^/schema"],
)

app = Litestar([me], on_app_init=[jwt_auth.on_app_init])
