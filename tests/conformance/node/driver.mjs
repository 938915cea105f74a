// Drives azure-iot-provisioning-service: a line of JSON in, a line of JSON out.
// Argument: the folder that has node_modules.

import https from 'node:https';
import path from 'node:path';
import readline from 'node:readline';
import { createRequire } from 'node:module';

const require = createRequire(path.join(process.argv[2], 'package.json'));
const { ProvisioningServiceClient } = require('azure-iot-provisioning-service');

const clients = new Map();

function client({ connectionString, port }) {
  const name = `${connectionString} ${port}`;
  if (!clients.has(name)) {
    const made = ProvisioningServiceClient.fromConnectionString(connectionString);
    if (port !== 443) made._restApiClient.setOptions({ http: { agent: agentFor(port) } });
    clients.set(name, made);
  }
  return clients.get(name);
}

// The client knows port 443 only. Where a test's service could not have it, its agent leads elsewhere.
function agentFor(port) {
  const agent = new https.Agent({ keepAlive: true });
  const connect = agent.createConnection;
  agent.createConnection = (options, done) => connect.call(agent, { ...options, port }, done);
  return agent;
}

// The promise form of `next` never advances, so it is the callback form, to the page after the last.
async function pages(query) {
  const pages = [];
  while (query.hasMoreResults) {
    if (pages.length === 1000) throw new Error('the query does not end');
    pages.push(await new Promise((resolve, reject) => {
      query.next((error, items) => (error ? reject(error) : resolve(items)));
    }));
  }
  return pages;
}

// Its promise form never ends.
const bulk = (client, operation) => new Promise((resolve, reject) => {
  client.runBulkEnrollmentOperation(operation, (error, result) => (error ? reject(error) : resolve(result)));
});

const body = async (result) => (await result).responseBody;

const calls = {
  enrollment: {
    put: (client, { entry }) => body(client.createOrUpdateIndividualEnrollment(entry)),
    get: (client, { name }) => body(client.getIndividualEnrollment(name)),
    delete: (client, { name, etag }) => client.deleteIndividualEnrollment(name, etag),
    keys: (client, { name }) => body(client.getIndividualEnrollmentAttestationMechanism(name)),
    bulk: (client, { mode, entries }) => bulk(client, { mode, enrollments: entries }),
    pages: (client, { text, pageSize }) => pages(client.createIndividualEnrollmentQuery({ query: text }, pageSize)),
  },
  enrollmentGroup: {
    put: (client, { entry }) => body(client.createOrUpdateEnrollmentGroup(entry)),
    get: (client, { name }) => body(client.getEnrollmentGroup(name)),
    delete: (client, { name, etag }) => client.deleteEnrollmentGroup(name, etag),
    keys: (client, { name }) => body(client.getEnrollmentGroupAttestationMechanism(name)),
    pages: (client, { text, pageSize }) => pages(client.createEnrollmentGroupQuery({ query: text }, pageSize)),
  },
  record: {
    get: (client, { name }) => body(client.getDeviceRegistrationState(name)),
    delete: (client, { name, etag }) => client.deleteDeviceRegistrationState(name, etag),
    pages: (client, { name, pageSize }) =>
      pages(client.createEnrollmentGroupDeviceRegistrationStateQuery({ query: '*' }, name, pageSize)),
  },
};

async function answer(asked) {
  try {
    const result = await calls[asked.kind][asked.call](client(asked), asked);
    return { result: result ?? null };
  } catch (error) {
    const response = error.response;
    const refusal = response && { status: response.statusCode, body: error.responseBody };
    return { error: `${error.name}: ${error.message}`, refusal };
  }
}

for await (const line of readline.createInterface({ input: process.stdin })) {
  process.stdout.write(`${JSON.stringify(await answer(JSON.parse(line)))}\n`);
}
