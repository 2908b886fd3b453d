from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from litestar import Litestar, get
from litestar.connection import ASGIConnection
from litestar.security.jwt import JWTAuth, OpenIDProvider, Token

keys = OpenIDProvider("https://idp.example.com")


class KeySetCollector(Collector):
    def collect(self) -> Iterator[Metric]:
        status = keys.status()
        for name, text, value in (
            ("jwt_keys", "Keys listed by the issuer", len(status.key_ids)),
            ("jwt_keys_usable", "1 if there are usable keys", status.usable),
        ):
            yield GaugeMetricFamily(name, text, value)
        for name, text, value in (
            ("jwt_key_fetches", "Fetches of the keys", status.fetches),
            ("jwt_key_failures", "Fetches that failed", status.failures),
            ("jwt_key_misses", "Tokens whose key was not in memory", status.misses),
        ):
            yield CounterMetricFamily(name, text, value)


registry = CollectorRegistry()
registry.register(KeySetCollector())


@get("/metrics", exclude_from_auth=True, media_type="text/plain")
async def metrics() -> bytes:
    return generate_latest(registry)


async def retrieve_user(token: Token, connection: ASGIConnection) -> str:
    return token.sub


jwt_auth = JWTAuth[str, Token](
    retrieve_user_handler=retrieve_user,
    key_provider=keys,
    accepted_audiences=["my-api"],
    exclude=["^/schema"],
)

app = Litestar([metrics], on_app_init=[jwt_auth.on_app_init])
