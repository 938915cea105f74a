"""What a device proves itself with, written from the documentation and independent of the SDK."""

import base64
import hashlib
import hmac
import os
import time
import uuid
from urllib.parse import quote

import leaks

REGISTER = "$dps/registrations/PUT/iotdps-register/?$rid={rid}"
POLL = "$dps/registrations/GET/iotdps-get-operationstatus/?$rid={rid}&operationId={operation_id}"
ANSWERS = "$dps/registrations/res/#"


def fresh_id(prefix="dev"):
    """A registration id that no other test uses."""
    return f"{prefix}-{uuid.uuid4().hex[:12]}"


def fresh_key(size=32):
    """A random symmetric key in Base64."""
    key = os.urandom(size)
    leaks.made.add("a key", key)
    return base64.b64encode(key).decode()


def derived_key(group_key, registration_id):
    """The key of one device of a group."""
    digest = hmac.new(base64.b64decode(group_key), registration_id.encode(), hashlib.sha256).digest()
    leaks.made.add(f"the derived key of {registration_id}", digest)
    return base64.b64encode(digest).decode()


def token(id_scope, registration_id, key, expires_in=3600):
    """A SAS token; `key` is the device's own, in Base64."""
    resource = quote(f"{id_scope}/registrations/{registration_id}", safe="")
    expiry = int(time.time()) + expires_in
    digest = hmac.new(base64.b64decode(key), f"{resource}\n{expiry}".encode(), hashlib.sha256).digest()
    leaks.made.add(f"a signature of {registration_id}", digest)
    return f"SharedAccessSignature sr={resource}&sig={quote(base64.b64encode(digest), safe='')}&se={expiry}"


def signature(sas_token):
    """The percent-encoded signature of a token."""
    return sas_token.split("&sig=")[1].split("&")[0]


def user_name(id_scope, registration_id, parameters="api-version=2019-03-31"):
    """What CONNECT names the device with."""
    return f"{id_scope}/registrations/{registration_id}/{parameters}"
