"""A device with the official SDK, unmodified: its synchronous and its asynchronous client."""

import asyncio
import time
from pathlib import Path

from azure.iot.device import X509, ProvisioningDeviceClient
from azure.iot.device.aio import ProvisioningDeviceClient as AsyncProvisioningDeviceClient

REFUSED_WITHIN = 5.0


def register(service, registration_id, key, payload=None, id_scope=None):
    """Registers with the synchronous client."""
    client = _client(ProvisioningDeviceClient, service, registration_id, key, id_scope)
    client.provisioning_payload = payload
    return client.register()


def register_over_websocket(service, registration_id, key, payload=None, id_scope=None):
    """Registers with the synchronous client, over port 443."""
    client = _client(ProvisioningDeviceClient, service, registration_id, key, id_scope, websockets=True)
    client.provisioning_payload = payload
    return client.register()


def register_async(service, registration_id, key, payload=None, id_scope=None):
    """Registers with the asynchronous client."""

    async def run():
        client = _client(AsyncProvisioningDeviceClient, service, registration_id, key, id_scope)
        client.provisioning_payload = payload
        return await client.register()

    return asyncio.run(run())


def register_with_certificate(service, registration_id, files, **options):
    """Registers with the synchronous client, which shows a certificate."""
    client = ProvisioningDeviceClient.create_from_x509_certificate(
        provisioning_host=service.address,
        registration_id=registration_id,
        id_scope=service.id_scope,
        x509=X509(cert_file=str(files.chain), key_file=str(files.key)),
        server_verification_cert=Path(service.ca_file).read_text(),
        **options,
    )
    return client.register()


def refusal(run, *arguments, **options):
    """The SDK's own error, and the error below it that says what the service answered."""
    began = time.monotonic()
    try:
        result = run(*arguments, **options)
    except Exception as error:
        took = time.monotonic() - began
        assert took < REFUSED_WITHIN, f"{error!r} took {took:.1f} s"
        return error, error.__cause__
    raise AssertionError(f"not refused but {result.status}")


def _client(kind, service, registration_id, key, id_scope, **options):
    return kind.create_from_symmetric_key(
        provisioning_host=service.address,
        registration_id=registration_id,
        id_scope=id_scope or service.id_scope,
        symmetric_key=key,
        server_verification_cert=Path(service.ca_file).read_text(),
        **options,
    )
