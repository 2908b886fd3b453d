// Measures verifiers for Node. Takes JSON on stdin, and prints JSON: microseconds for a token, by name.
import { createPublicKey, verify as verifySignature } from "node:crypto";
import { readFileSync } from "node:fs";
import { performance } from "node:perf_hooks";
import { createDecoder, createVerifier } from "fast-jwt";
import { createLocalJWKSet, jwtVerify } from "jose";

const { tokens, jwks, algorithm, audience, rounds, number } = JSON.parse(readFileSync(0, "utf8"));
const publicKey = createPublicKey({ key: jwks.keys.at(-1), format: "jwk" });
const key = publicKey.export({ type: "spki", format: "pem" });
const options = { key, algorithms: [algorithm], allowedAud: audience };
const keySet = createLocalJWKSet(jwks);
const verify = createVerifier({ ...options, cache: false });
const verifyOrRemember = createVerifier({ ...options, cache: true });

const decode = createDecoder();
const signed = new Map(tokens.map((token) => [token, partsOf(token)]));

function partsOf(token) {
  const end = token.lastIndexOf(".");
  return { input: Buffer.from(token.slice(0, end)), signature: Buffer.from(token.slice(end + 1), "base64url") };
}

function verifyAlone(token) {
  const { input, signature } = signed.get(token);
  if (!verifySignature("RSA-SHA256", input, publicKey, signature)) throw new Error("not verified");
}

const verifiers = {
  "Node, the signature alone": verifyAlone,
  "fast-jwt, parsing alone": decode,
  "fast-jwt, first sight": (token) => verify(token),
  "fast-jwt with its cache, seen before": () => verifyOrRemember(tokens[0]),
  "jose with a local JWK Set": (token) => jwtVerify(token, keySet, { algorithms: [algorithm], audience }),
};

const best = Object.fromEntries(Object.keys(verifiers).map((name) => [name, Infinity]));
let next = 0;
for (let round = 0; round < rounds; round++) {
  for (const [name, verifier] of Object.entries(verifiers)) {
    const start = performance.now();
    for (let i = 0; i < number; i++) await verifier(tokens[next++ % tokens.length]);
    best[name] = Math.min(best[name], ((performance.now() - start) / number) * 1000);
  }
}
console.log(JSON.stringify(best));
