"""The client of PyPI's ``mcp`` finds its way to a tool of PyPI's ``litestar-mcp`` that needs a scope, from the URL alone."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from subprocess import PIPE, Popen
from typing import Any
from unittest.mock import AsyncMock
from urllib.parse import parse_qsl, urljoin, urlsplit

import pytest

from litestar import Litestar, Request, get
from litestar.security.jwt import Token
from litestar.security.jwt.guards import requires_scopes
from litestar.security.jwt.key_providers.openid import OpenIDProvider

from .backends import backend, on_both_libraries
from .node_packages import installed_package, listening, program, serving

pytest.importorskip("litestar_mcp")
pytest.importorskip("mcp")

import httpx2
from litestar_mcp import LitestarMCP, MCPConfig
from mcp import Client
from mcp.client.auth import AuthorizationCodeResult, OAuthClientProvider
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.auth import OAuthClientMetadata
from mcp_types import TextContent
from pydantic import AnyUrl

# One worker of xdist runs all that need this package of npm, so that it is installed once.
pytestmark = pytest.mark.xdist_group("oidc_provider")

CALLBACK = "http://127.0.0.1:1/callback"  # nothing listens there
FORM = r'action="(.+?)" method="post">\s*<input type="hidden" name="prompt" value="(.+?)"'
# Clients register themselves, anybody can log in, and the audience of a token is the resource that the client asked for.
PROVIDER = """
import { createServer } from "node:http";
import { Provider } from "oidc-provider";
const getResourceServerInfo = (_, audience) => ({ accessTokenFormat: "jwt", audience, jwt: { sign: { alg: "RS256" } }, scope: "tools" });
const features = { registration: { enabled: true }, resourceIndicators: { enabled: true, getResourceServerInfo } };
const server = createServer().listen(0, "127.0.0.1", () => {
  const issuer = `http://127.0.0.1:${server.address().port}`;
  server.on("request", new Provider(issuer, { features, scopes: ["openid", "offline_access", "tools"] }).callback());
  console.log(issuer);
});
process.stdin.resume().on("end", () => process.exit());
"""


async def log_in(url: str) -> AuthorizationCodeResult:
    """Do what happens in a browser, in which Alice logs in and consents."""
    async with httpx2.AsyncClient(trust_env=False) as browser:
        while not url.startswith(CALLBACK):
            page = await browser.get(url)
            if page.status_code == 200:
                ((action, prompt),) = re.findall(FORM, page.text)
                page = await browser.post(action, data={"prompt": prompt, "login": "alice", "password": "any"})
            url = urljoin(str(page.url), page.headers["Location"])
    return AuthorizationCodeResult(**dict(parse_qsl(urlsplit(url).query)))


@pytest.fixture
def issuer(pytestconfig: pytest.Config) -> Iterator[str]:
    folder = installed_package(Path(__file__).parent / "oidc_provider", pytestconfig.rootpath)
    command = [program("node"), "--input-type=module", "--eval", PROVIDER]
    with Popen(command, cwd=folder, stdin=PIPE, stdout=PIPE, text=True) as process:  # ends with its input
        assert process.stdout is not None
        yield process.stdout.readline().strip()


@get("/me", mcp_tool="me")
async def me(request: Request[str, Token, Any]) -> str:
    return f"{request.user} from {request.auth.iss} at {request.auth.aud} with {request.auth.extras['scope']}"


@pytest.mark.parametrize("path", ["/mcp", ""])
@on_both_libraries
async def test_client_finds_the_authorization_server_from_the_challenge(issuer: str, path: str) -> None:
    see, browse = AsyncMock(), AsyncMock()
    storage = AsyncMock(**{"get_tokens.return_value": None, "get_client_info.return_value": None})
    about_client = OAuthClientMetadata(redirect_uris=[AnyUrl(CALLBACK)])
    with listening() as (listener, url):
        resource = url + path
        auth = backend(OpenIDProvider(issuer), accepted_audiences=[resource], protected_resource=resource)
        mcp = LitestarMCP(MCPConfig(guards=[requires_scopes("tools")]))
        app = Litestar([me], on_app_init=[auth.on_app_init], plugins=[mcp])
        oauth = OAuthClientProvider(f"{url}/mcp", about_client, storage, browse, lambda: log_in(*browse.call_args.args))
        with serving(app, listener):
            async with (
                httpx2.AsyncClient(auth=oauth, event_hooks={"response": [see]}, trust_env=False) as http,
                Client(streamable_http_client(f"{url}/mcp", http_client=http)) as client,
            ):
                tools = (await client.list_tools()).tools
                answer = await client.call_tool("me")
    seen = [call.args[0] for call in see.call_args_list]
    metadata_url = f"{url}/.well-known/oauth-protected-resource{path}"
    assert seen[0].headers["WWW-Authenticate"] == f'Bearer scope="tools", resource_metadata="{metadata_url}"'
    assert seen[1].json()["scopes_supported"] == ["tools"]
    assert [(response.status_code, response.request.method, str(response.url)) for response in seen] == [
        (401, "POST", f"{url}/mcp"),
        (200, "GET", metadata_url),
        (200, "GET", f"{issuer}/.well-known/oauth-authorization-server"),
        (201, "POST", f"{issuer}/reg"),
        (200, "POST", f"{issuer}/token"),
        *[(200, "POST", f"{url}/mcp")] * 3,  # the first request again, the list of tools, the call
    ]
    assert [tool.name for tool in tools] == ["me"]
    assert answer.content == [TextContent(text=f"alice from {issuer} at {url}{path} with tools")]
