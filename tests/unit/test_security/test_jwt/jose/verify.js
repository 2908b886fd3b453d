// Verifies the token of the second argument with the JWK Set at the URL of the first, and prints its subject.
import { createRemoteJWKSet, jwtVerify } from 'jose'

const [url, token] = process.argv.slice(2)
const { payload } = await jwtVerify(token, createRemoteJWKSet(new URL(url)))
console.log(payload.sub)
