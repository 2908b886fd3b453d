"""An issuer of tokens for tests and development. ``python -m litestar.security.jwt.testing`` runs one."""

from litestar.security.jwt.testing._issuer import LocalIssuer

__all__ = ("LocalIssuer",)
