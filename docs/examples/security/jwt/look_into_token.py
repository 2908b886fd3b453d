import sys

from litestar.security.jwt import UnverifiedToken

if __name__ == "__main__":
    token = UnverifiedToken(sys.argv[1])
    print(token.header)
    print(token.claims)
