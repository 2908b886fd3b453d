from hashlib import sha256
from typing import Any, cast

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_der_public_key

from litestar import Litestar, Response, post
from litestar.connection import ASGIConnection
from litestar.params import FromPath
from litestar.security.jwt import JWTAuth, SigningKey, Token, create_jwks_handler


class KmsKey(RSAPrivateKey):
    """A key that never leaves the key management service, which signs with it."""

    def __init__(self, kms: Any, key_id: str) -> None:
        self._kms = kms  # boto3.client("kms")
        self._key_id = key_id
        der = kms.get_public_key(KeyId=key_id)["PublicKey"]
        self._public_key = cast("RSAPublicKey", load_der_public_key(der))

    @property
    def key_size(self) -> int:
        return self._public_key.key_size

    def public_key(self) -> RSAPublicKey:
        return self._public_key

    def sign(self, data: bytes, padding: Any, algorithm: Any) -> bytes:
        response = self._kms.sign(
            KeyId=self._key_id,
            Message=sha256(data).digest(),
            MessageType="DIGEST",
            SigningAlgorithm="RSASSA_PKCS1_V1_5_SHA_256",  # RS256
        )
        return cast("bytes", response["Signature"])

    def _refuse(self, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError

    decrypt = private_bytes = private_numbers = __copy__ = __deepcopy__ = _refuse


async def retrieve_user(token: Token, connection: ASGIConnection) -> str:
    return token.sub


def create_app(kms: Any, key_id: str) -> Litestar:
    key = SigningKey(KmsKey(kms, key_id))
    jwt_auth = JWTAuth[str, Token](
        retrieve_user_handler=retrieve_user,
        token_secret=key,
        key_provider=key,
        algorithm="RS256",
        accepted_audiences=["my-api"],
        exclude=["^/schema"],
    )

    # A thread waits for the service, not the event loop.
    @post("/login/{name:str}", exclude_from_auth=True, sync_to_thread=True)
    def login(name: FromPath[str]) -> Response[None]:
        # Verify a password here.
        return jwt_auth.login(name, token_audience="my-api")

    return Litestar(
        [login, create_jwks_handler(key)],
        on_app_init=[jwt_auth.on_app_init],
    )
