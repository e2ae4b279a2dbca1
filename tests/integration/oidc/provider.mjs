// An OpenID provider (oidc-provider, as it is) for the gateway's test.
// usage: provider.mjs MODULES PORT KEY CERT GENERATION
// Keys are made anew by every start and named <alg>-GENERATION. Each request for the key set is a
// line "jwks" on stdout; "ready" comes first.
import { generateKeyPairSync } from 'node:crypto';
import { readFileSync } from 'node:fs';
import https from 'node:https';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';

const [modules, port, key, cert, generation] = process.argv.slice(2);
const entry = createRequire(join(modules, 'x.js')).resolve('oidc-provider');
const { default: Provider } = await import(pathToFileURL(entry));
const AUDIENCE = 'https://dynamicsessions.io';

function jwk(alg, pair) {
  return { ...pair.privateKey.export({ format: 'jwk' }), kid: `${alg}-${generation}`, alg, use: 'sig' };
}

// Client ids say what their tokens look like: <alg>.<role or none>.
const clients = ['RS256.Session Executor', 'ES256.Session Executor', 'ES256.none', 'ES256.Data Scientist',
  'PS256.Session Executor', 'ES256.granted'].map((client_id) => ({
  client_id, client_secret: 'secret', grant_types: ['client_credentials'], redirect_uris: [], response_types: [],
}));

const provider = new Provider(`https://127.0.0.1:${port}`, {
  clients,
  jwks: { keys: [
    jwk('RS256', generateKeyPairSync('rsa', { modulusLength: 2048 })),
    jwk('ES256', generateKeyPairSync('ec', { namedCurve: 'P-256' })),
    jwk('PS256', generateKeyPairSync('rsa', { modulusLength: 2048 })),
  ] },
  extraTokenClaims: (ctx, token) => ({ sub: token.clientId, roles: [token.clientId.split('.')[1]] }),
  features: {
    devInteractions: { enabled: false },
    clientCredentials: { enabled: true },
    resourceIndicators: {
      enabled: true,
      getResourceServerInfo: (ctx, resource, client) => ({
        scope: 'run',
        audience: resource === 'urn:other' ? resource : AUDIENCE,
        accessTokenTTL: 600,
        accessTokenFormat: 'jwt',
        jwt: { sign: { alg: client.clientId.split('.')[0] } },
      }),
    },
  },
});

const answer = provider.callback();
https.createServer({ key: readFileSync(key), cert: readFileSync(cert) }, (request, response) => {
  if (request.url === '/jwks') { console.log('jwks'); }
  answer(request, response);
}).listen(Number(port), '127.0.0.1', () => console.log('ready'));
