"""``Token`` decodes with several keys or a key provider, and encodes with a ``SigningKey``.

With one key that PyJWT takes, both run Litestar's own lines.
"""

from patch.edit import Source

LEEWAY = "Seconds by which clocks may differ, 30 by default. For several keys or a key provider only."
# What it imports makes instances of ``Token``, and so imports that module.
DECODE = """
    from litestar.security.jwt.decoding import decode_with_keys, is_released_key

    if not is_released_key(secret, algorithm, leeway):
        rules = (audience, issuer, require_claims, verify_exp, verify_nbf, strict_audience, leeway)
        return decode_with_keys(cls, encoded_token, secret, algorithm, *rules)
    secret, algorithm = cast("str", secret), cast("str", algorithm)
"""


def edit(source: Source) -> None:
    with source.pull_request(1):
        source.add_import("datetime", "timedelta")
        source.add_import("typing", "cast")
        source.add_import("litestar.security.jwt.keys", "Key", "KeyProvider", type_checking=True)
        source.annotate("Token.decode", "secret", "Key | KeyProvider")
        source.annotate("Token.decode", "algorithm", "str | Sequence[str]")
        source.parameter("Token.decode", "leeway: float | timedelta | None = None", LEEWAY)
        source.insert("Token.decode", DECODE)
    with source.pull_request(5):
        arguments = "self, algorithm, headers" if source.has_parameter("Token.encode", "headers") else "self, algorithm"
        source.add_import("litestar.security.jwt.signing", "SigningKey")
        source.annotate("Token.encode", "secret", "str | bytes | SigningKey")
        source.insert("Token.encode", f"if isinstance(secret, SigningKey):\n    return secret.encode({arguments})")
