// Drives azure-iothub: a line of JSON in, a line of JSON out.
// Argument: the folder that has node_modules.

import https from 'node:https';
import path from 'node:path';
import readline from 'node:readline';
import { createRequire } from 'node:module';

const require = createRequire(path.join(process.argv[2], 'package.json'));
const { Registry } = require('azure-iothub');

const registries = new Map();

function registry({ connectionString, port }) {
  const name = `${connectionString} ${port}`;
  if (!registries.has(name)) {
    const made = Registry.fromConnectionString(connectionString);
    if (port !== 443) made._restApiClient.setOptions({ http: { agent: agentFor(port) } });
    registries.set(name, made);
  }
  return registries.get(name);
}

// The client knows port 443 only. Where a test's registry could not have it, its agent leads elsewhere.
function agentFor(port) {
  const agent = new https.Agent({ keepAlive: true });
  const connect = agent.createConnection;
  agent.createConnection = (options, done) => connect.call(agent, { ...options, port }, done);
  return agent;
}

// What the client keeps for itself has no place in the answer.
const plain = (value) => JSON.parse(JSON.stringify(value ?? null, (key, it) => (key === '_registry' ? undefined : it)));

async function answer(asked) {
  try {
    const { responseBody } = await registry(asked)[asked.call](...asked.arguments);
    return { result: plain(responseBody) };
  } catch (error) {
    const response = error.response;
    const name = response?.headers['iothub-errorcode'] ?? null;
    const refusal = response && { status: response.statusCode, name, body: error.responseBody };
    return { error: `${error.name}: ${error.message}`, refusal };
  }
}

for await (const line of readline.createInterface({ input: process.stdin })) {
  process.stdout.write(`${JSON.stringify(await answer(JSON.parse(line)))}\n`);
}
