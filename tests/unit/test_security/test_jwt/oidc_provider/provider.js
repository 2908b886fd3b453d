// An OpenID provider that issues access tokens to the client of the tests.
//
// The first line of the input is a JSON object with the port, 0 for any free one, and the private keys. The first line of the
// output is the issuer. The end of the input is the end of the process.

import { createServer } from "node:http";
import { createInterface } from "node:readline";

import { Provider } from "oidc-provider";

const configuration = (jwks) => ({
  jwks,
  clients: [
    {
      client_id: "client",
      client_secret: "secret",
      grant_types: ["client_credentials"],
      redirect_uris: [],
      response_types: [],
    },
  ],
  features: {
    clientCredentials: { enabled: true },
    devInteractions: { enabled: false },
    resourceIndicators: {
      enabled: true,
      // The path of a resource names the algorithm of its tokens.
      getResourceServerInfo: (_, resource) => {
        const { origin, pathname } = new URL(resource);
        return {
          accessTokenFormat: "jwt",
          audience: origin,
          jwt: { sign: { alg: pathname.slice(1) } },
          scope: "read",
        };
      },
    },
  },
});

const start = ({ port, jwks }) => {
  const server = createServer();
  server.listen(port, "127.0.0.1", () => {
    const issuer = `http://127.0.0.1:${server.address().port}`;
    server.on("request", new Provider(issuer, configuration(jwks)).callback());
    process.stdout.write(`${issuer}\n`);
  });
};

const input = createInterface({ input: process.stdin });
input.once("line", (line) => start(JSON.parse(line)));
input.once("close", () => process.exit());
