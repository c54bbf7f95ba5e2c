// Checks and makes signatures of agent cards with the official JavaScript library.
//
//   node sign_cards.mjs FILE
//
// FILE is a JSON list of cards: {card, key} is checked with that public key, {card, key, sign: alg} is signed with that
// private one. Prints a list with what became of each: the signed card, true, or {"failed": "…"}.

import { readFileSync } from 'node:fs';
import { generateAgentCardSignature, verifyAgentCardSignature } from '@a2a-js/sdk';
import { importJWK } from 'jose';

console.debug = () => {}; // says of each signature what is wrong with it, on standard output

async function done({ card, key, sign }) {
  if (sign) {
    const header = { alg: sign, kid: key.kid, typ: 'JOSE' };
    return generateAgentCardSignature(await importJWK(key, sign), header)(card);
  }
  await verifyAgentCardSignature(async (kid) => {
    if (kid !== key.kid) throw new Error(`no key ${kid}`);
    return importJWK(key, key.alg);
  })(card);
  return true;
}

const results = [];
for (const asked of JSON.parse(readFileSync(process.argv[2], 'utf8'))) {
  results.push(await done(asked).catch((error) => ({ failed: String(error) })));
}
console.log(JSON.stringify(results));
