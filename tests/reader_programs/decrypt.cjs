// Decrypts with OpenPGP.js or with a branch of it: node decrypt.cjs MODULE SECRET MESSAGE…
//
// The plaintext of each MESSAGE is written to MESSAGE.plain; the first that cannot be read ends the program.

"use strict";

const fs = require("node:fs");

const [module_, secret, ...messages] = process.argv.slice(2);
const openpgp = require(module_);

async function main() {
  const decryptionKeys = await openpgp.readPrivateKey({ binaryKey: fs.readFileSync(secret) });
  for (const path of messages) {
    const message = await openpgp.readMessage({ armoredMessage: fs.readFileSync(path, "latin1") });
    const { data } = await openpgp.decrypt({ message, decryptionKeys, format: "binary" });
    fs.writeFileSync(`${path}.plain`, data);
  }
}

main().catch((error) => {
  console.error(String(error));
  process.exit(1);
});
