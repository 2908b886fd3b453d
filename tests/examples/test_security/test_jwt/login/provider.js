// An OpenID provider with a login page, which also serves the files of Swagger UI.
//
// The argument is the redirect URL of the client. The first line of the output is the issuer. The end of the input is the end of
// the process.

import { generateKeyPairSync } from "node:crypto";
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";

import { Provider } from "oidc-provider";

const key = generateKeyPairSync("rsa", { modulusLength: 2048 }).privateKey.export({ format: "jwk" });
const configuration = {
  jwks: { keys: [{ ...key, kid: "key", use: "sig", alg: "RS256" }] },
  clients: [
    {
      client_id: "api-docs",
      token_endpoint_auth_method: "none",
      grant_types: ["authorization_code"],
      response_types: ["code"],
      redirect_uris: [process.argv[2]],
    },
  ],
  clientBasedCORS: () => true,
  features: {
    devInteractions: { enabled: true },
    resourceIndicators: {
      enabled: true,
      defaultResource: () => "https://api.example.com",
      useGrantedResource: () => true,
      getResourceServerInfo: () => ({
        accessTokenFormat: "jwt",
        audience: "my-api",
        jwt: { sign: { alg: "RS256" } },
        scope: "openid",
      }),
    },
  },
};

const server = createServer();
server.listen(0, "127.0.0.1", () => {
  const issuer = `http://127.0.0.1:${server.address().port}`;
  const handle = new Provider(issuer, configuration).callback();
  server.on("request", async (request, response) => {
    const name = request.url.startsWith("/assets/") && request.url.split("/").pop();
    if (!name) return handle(request, response);
    const type = name.endsWith(".css") ? "text/css" : "text/javascript";
    response.writeHead(200, { "access-control-allow-origin": "*", "content-type": type });
    response.end(await readFile(new URL(`node_modules/swagger-ui-dist/${name}`, import.meta.url)));
  });
  console.log(issuer);
});
process.stdin.resume().on("end", () => process.exit());
