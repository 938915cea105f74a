"""A device whose TPM is swtpm, driven by tpm2-tools: the other side of every structure that the service makes."""

import base64
import os
import subprocess
import tempfile
import time
from pathlib import Path
from urllib.parse import quote

import leaks

# Of the endorsement key's default template, and of a storage root key.
EK_ALGORITHM = "rsa"
SRK_ALGORITHM = "rsa2048:aes128cfb"
SRK_ATTRIBUTES = "restricted|decrypt|fixedtpm|fixedparent|sensitivedataorigin|userwithauth"
STARTED_WITHIN = 10.0
# What tpm2_activatecredential wants before the credential: a magic number and a version.
CREDENTIAL_HEADER = bytes.fromhex("badcc0de00000001")


class Tpm:
    """A software TPM with an endorsement key and a storage root key. Use as a context manager."""

    def __init__(self):
        # What a device keeps to itself is not searched for secrets as what the service writes is.
        self._home = tempfile.TemporaryDirectory(prefix="harbormaster-tpm-")
        self.folder = Path(self._home.name)
        self._socket = self.folder / "socket"
        state = self.folder / "state"
        state.mkdir()
        self._process = subprocess.Popen(
            ["swtpm", "socket", "--tpm2", "--tpmstate", f"dir={state}", "--flags", "not-need-init,startup-clear"]
            + ["--server", f"type=unixio,path={self._socket}", "--ctrl", f"type=unixio,path={self._socket}.ctrl"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        until = time.monotonic() + STARTED_WITHIN
        while not self._socket.exists():
            assert time.monotonic() < until and self._process.poll() is None, "swtpm does not start"
            time.sleep(0.01)
        self._run("createek", "-c", "ek.ctx", "-G", EK_ALGORITHM, "-u", "ek.pub", "-f", "tss")
        self.endorsement_key = self._read("ek.pub")
        self.make_storage_root_key()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._process.kill()
        self._process.wait()
        self._home.cleanup()

    def make_storage_root_key(self, attributes=SRK_ATTRIBUTES):
        """Other attributes make another key."""
        template = ["-g", "sha256", "-G", SRK_ALGORITHM, "-a", attributes]
        self._run("createprimary", "-C", "o", *template, "-c", "srk.ctx")
        self._run("readpublic", "-c", "srk.ctx", "-f", "tss", "-o", "srk.pub")
        self.storage_root_key = self._read("srk.pub")

    @property
    def body(self):
        """The member `tpm` of a register."""
        encoded = [base64.b64encode(key).decode() for key in (self.endorsement_key, self.storage_root_key)]
        return dict(zip(("endorsementKey", "storageRootKey"), encoded))

    def import_key(self, authentication_key):
        """Takes a wrapped key; the TPM signs with it from now on."""
        blob = base64.b64decode(authentication_key, validate=True)
        parts = []
        while blob:
            length = 2 + int.from_bytes(blob[:2], "big")
            parts.append(blob[:length])
            blob = blob[length:]
        identity, secret, private, seed, public, trailer = parts
        assert trailer == b"\0\0"
        (self.folder / "credential").write_bytes(CREDENTIAL_HEADER + identity + secret)
        for name, part in (("private", private), ("seed", seed), ("public", public)):
            (self.folder / name).write_bytes(part)
        self._run("startauthsession", "--policy-session", "-S", "session.ctx")
        try:
            self._run("policysecret", "-S", "session.ctx", "-c", "e")
            arguments = ["-c", "srk.ctx", "-C", "ek.ctx", "-i", "credential", "-o", "inner", "-P", "session:session.ctx"]
            self._run("activatecredential", *arguments)
        finally:
            self._run("flushcontext", "session.ctx")
        leaks.made.add("an inner key", self._read("inner"))
        self._run("import", "-C", "srk.ctx", "-u", "public", "-i", "private", "-s", "seed", "-k", "inner", "-r", "imported")
        self._run("load", "-C", "srk.ctx", "-u", "public", "-r", "imported", "-c", "key.ctx")

    def sign(self, data):
        """HMAC-SHA256 with the key that was imported last."""
        (self.folder / "data").write_bytes(data)
        self._run("hmac", "-c", "key.ctx", "-o", "digest", "data")
        return self._read("digest")

    def token(self, id_scope, registration_id, expires_in=3600):
        """A SAS token as the SDKs make it."""
        resource = quote(f"{id_scope}/registrations/{registration_id}", safe="")
        expiry = int(time.time()) + expires_in
        digest = self.sign(f"{resource}\n{expiry}".encode())
        leaks.made.add(f"a signature of {registration_id}", digest)
        return f"SharedAccessSignature sr={resource}&sig={quote(base64.b64encode(digest), safe='')}&se={expiry}&skn=registration"

    def _read(self, name):
        return (self.folder / name).read_bytes()

    def _run(self, tool, *arguments):
        environment = {**os.environ, "TPM2TOOLS_TCTI": f"swtpm:path={self._socket}"}
        ran = subprocess.run(
            [f"tpm2_{tool}", *arguments], cwd=self.folder, env=environment, capture_output=True, text=True, timeout=60
        )
        assert ran.returncode == 0, f"tpm2_{tool}: {ran.stdout}{ran.stderr}"
        # Without a resource manager, what tools load stays loaded.
        subprocess.run(["tpm2_flushcontext", "-t"], env=environment, capture_output=True, timeout=60, check=False)
