"""The search for secrets finds what it is to find."""

import base64
import os
from urllib.parse import quote

import pytest

from leaks import Secrets, search

WRITTEN = {
    "raw": lambda secret: secret,
    "hex": lambda secret: secret.hex().encode(),
    "upper-case hex": lambda secret: secret.hex().upper().encode(),
    "Base64": base64.b64encode,
    "URL-safe Base64": base64.urlsafe_b64encode,
    "Base64 without padding": lambda secret: base64.b64encode(secret).rstrip(b"="),
    "percent-encoded Base64": lambda secret: quote(base64.b64encode(secret), safe="").encode(),
    "Base64 of a text that holds it": lambda secret: base64.b64encode(b"before" + secret + b"after"),
}


@pytest.mark.parametrize("written", WRITTEN.values(), ids=WRITTEN)
@pytest.mark.parametrize("size", (32, 64))
def test_a_planted_secret_is_found_wherever_it_begins(tmp_path, written, size):
    """DPS-EXPLAIN-5, DPS-EXPLAIN-7."""
    for offset in range(9):
        secrets, secret = Secrets(), os.urandom(size)
        secrets.add("a planted key", secret)
        planted = tmp_path / f"store-{offset}.db"
        planted.write_bytes(os.urandom(offset) + written(secret) + os.urandom(50))
        complaints, _ = search(tmp_path, secrets)
        assert complaints == [f"{planted} holds a planted key"]
        planted.unlink()


def test_other_bytes_and_the_places_of_secrets_are_no_complaint(tmp_path):
    """DPS-EXPLAIN-5."""
    secrets, secret = Secrets(), os.urandom(32)
    secrets.add("a key", secret)
    (tmp_path / "store.db").write_bytes(os.urandom(100_000))
    for name in ("ca-ecdsa.key", "admin-token", "enrollments.json"):
        (tmp_path / name).write_bytes(secret)
    assert search(tmp_path, secrets) == ([], {".db": 1})


def test_a_signature_that_nobody_remembers_is_found_in_text(tmp_path):
    """DPS-EXPLAIN-5."""
    planted = tmp_path / "stderr-0.log"
    planted.write_text("refused SharedAccessSignature sr=a&sig=dGhpcyBpcyBhIHNpZ25hdHVyZQ%3D%3D&se=1")
    (tmp_path / "stderr-1.log").write_text("send sr={idScope}&sig={signature}&se={unix seconds}")
    complaints, _ = search(tmp_path, Secrets())
    # The search at the end of the run looks here too.
    planted.unlink()
    assert complaints == [f"{planted} holds a signature"]
