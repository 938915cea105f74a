"""The admin API, asked with the token of the contract."""

import json
import urllib.error
import urllib.request


def admin(service, method, path, body=None, if_match=None, raw=None, authorization=None):
    """Status and JSON of an admin path. `raw` is a body that is sent as it stands, `authorization` in place of the token."""
    where = service.contract["admin"]
    headers = {"Content-Type": "application/json"}
    if authorization is None:
        authorization = f"Bearer {open(where['tokenFile']).read()}"
    if authorization:
        headers["Authorization"] = authorization
    if if_match is not None:
        headers["If-Match"] = if_match
    request = urllib.request.Request(
        f"http://{where['address']}:{where['port']}/admin/v1{path}",
        method=method,
        headers=headers,
        data=json.dumps(body).encode() if body is not None else raw,
    )
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            text = answer.read()
            return answer.status, json.loads(text) if text else None
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())
