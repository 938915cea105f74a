// Drives azure-iot-provisioning-device over each of its transports: a line of JSON in, a line of JSON out.
// Argument: the folder that has node_modules.

import path from 'node:path';
import readline from 'node:readline';
import { createRequire } from 'node:module';

const require = createRequire(path.join(process.argv[2], 'package.json'));
const { ProvisioningDeviceClient } = require('azure-iot-provisioning-device');
const { Mqtt, MqttWs } = require('azure-iot-provisioning-device-mqtt');
const { Http } = require('azure-iot-provisioning-device-http');
const { SymmetricKeySecurityClient } = require('azure-iot-security-symmetric-key');
const { X509Security } = require('azure-iot-security-x509');

const transports = { mqtt: Mqtt, 'mqtt-ws': MqttWs, https: Http };

function security({ registrationId, key, certificate }) {
  return certificate
    ? new X509Security(registrationId, certificate)
    : new SymmetricKeySecurityClient(registrationId, key);
}

function register(asked) {
  const transport = new transports[asked.transport]();
  const client = ProvisioningDeviceClient.create(asked.host, asked.idScope, transport, security(asked));
  if (asked.payload !== undefined) client.setProvisioningPayload(asked.payload);
  return new Promise((resolve) => {
    client.register((error, result) => {
      if (!error) return resolve({ result });
      resolve({ error: error.name, message: error.message, body: error.responseBody ?? error.result ?? null });
    });
  });
}

for await (const line of readline.createInterface({ input: process.stdin })) {
  process.stdout.write(`${JSON.stringify(await register(JSON.parse(line)))}\n`);
}
