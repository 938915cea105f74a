"""The admin API, asked with the token of the contract."""

import json
import urllib.error
import urllib.request


def admin(service, method, path, body=None):
    """Status and JSON of an admin path."""
    where = service.contract["admin"]
    token = open(where["tokenFile"]).read()
    request = urllib.request.Request(
        f"http://{where['address']}:{where['port']}/admin/v1{path}",
        method=method,
        headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
        data=json.dumps(body).encode() if body is not None else None,
    )
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            text = answer.read()
            return answer.status, json.loads(text) if text else None
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())
