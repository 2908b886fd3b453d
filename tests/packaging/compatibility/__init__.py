"""Ways to use `litestar.security.jwt` without a key provider, run on released Litestar and on this build alike."""

from tests.packaging.compatibility import backends, middlewares, shapes, tokens

__all__ = ("backends", "middlewares", "shapes", "tokens")
