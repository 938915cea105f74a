"""Registers one device in a process of its own, whose clock may be another: arguments in, one JSON object out.

Arguments: host, CA file, ID scope, registration id; the device's key comes on standard input.
"""

import json
import sys
import time
from pathlib import Path

from azure.iot.device import ProvisioningDeviceClient


def main():
    host, ca_file, id_scope, registration_id = sys.argv[1:]
    client = ProvisioningDeviceClient.create_from_symmetric_key(
        provisioning_host=host,
        registration_id=registration_id,
        id_scope=id_scope,
        symmetric_key=sys.stdin.read().strip(),
        server_verification_cert=Path(ca_file).read_text(),
    )
    began = time.monotonic()
    try:
        outcome = {"status": client.register().status}
    except Exception as error:
        outcome = {"error": type(error).__name__, "cause": repr(error.__cause__)}
    print(json.dumps({**outcome, "clock": time.time(), "took": time.monotonic() - began}))


if __name__ == "__main__":
    main()
