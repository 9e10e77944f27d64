// GitHub's own package, as a sender that signs and as a receiver that checks: github_signatures.mjs FOLDER, where FOLDER
// has the package under node_modules. Reads a JSON list of tasks from stdin and writes a JSON list of results.
import { readFileSync } from "node:fs";
import { resolve } from "node:path";
import { pathToFileURL } from "node:url";

const entry = resolve(process.argv[2], "node_modules/@octokit/webhooks-methods/dist-node/index.js");
const { sign, verify } = await import(pathToFileURL(entry).href);

const results = [];
for (const { what, secret, body, signature } of JSON.parse(readFileSync(0, "utf8"))) {
  if (what === "sign") results.push(await sign(secret, body));
  else results.push((await verify(secret, body, signature)) ? "accepted" : "refused");
}
process.stdout.write(JSON.stringify(results));
