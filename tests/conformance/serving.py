"""A running `harbormaster serve`, on a loopback address of its own: one instance, whose hubs a test names."""

import json
import os
import subprocess

import certificates
import leaks
from admin import admin
from credentials import fresh_key
from instances import OWNER, RIGHTS
from service import BINARY, HTTPS_PORT, MQTT_PORT, Process, free_address, may_bind

ID_SCOPE = "0neLinked"

# What is looked at for the search for secrets, beside what every service shows.
SHOWN = ("", "/hubs", "/clean-ups", "/audit?limit=1000", "/shared-access-policies")


class Site:
    """A folder with everything that `serve` is given; it outlives the process."""

    def __init__(self, folder, log_level="info"):
        folder.mkdir(parents=True)
        self.folder, self.address, self.log_level = folder, free_address(), log_level
        self.authority = certificates.authority(f"authority of {self.address}")
        self.ca_file = folder / "ca.pem"
        self.ca_file.write_text(self.authority.pem)
        self.trusted_file = folder / "trusted.pem"
        self.trusted_file.write_text(self.authority.pem)
        self.owner_key = fresh_key()
        self.write_secret("owner.key", self.owner_key)
        self.write_secret("sealing.key", fresh_key())
        self.server = certificates.for_host(self.address, self.authority)
        files = self.server.files(folder)
        files.key.chmod(0o600)
        self.chain_name, self.key_name = files.chain.name, files.key.name

    def trust(self, ca_file):
        """Certificates of this authority count for hubs and webhooks as well."""
        with open(self.trusted_file, "a") as trusted, open(ca_file) as added:
            trusted.write(added.read())

    def write_secret(self, name, text):
        """Nobody but the owner has rights to it. The search for secrets passes over files of this ending."""
        assert name.endswith(".key")
        path = self.folder / name
        path.touch(mode=0o600)
        path.write_text(text)

    def configure(self, hubs, **settings):
        """Writes the configuration; `hubs` are tables with a name and a kind each, `settings` those of the instance."""
        https_port = HTTPS_PORT if may_bind(HTTPS_PORT) else 0
        owner = {"name": OWNER, "rights": RIGHTS, "primary_key_file": "owner.key"}
        sections = [
            ("[listen]", {
                "mqtt": [f"{self.address}:{MQTT_PORT}"],
                "https": [f"{self.address}:{https_port}"],
                "admin": f"{self.address}:0",
            }),
            ("[[tls.certificate]]", {"chain_file": self.chain_name, "key_file": self.key_name}),
            ("[store]", {"data_dir": "data", "sealing_key_file": "sealing.key"}),
            ("[outbound]", {"allow": ["127.0.0.0/8"], "ca_file": self.trusted_file.name}),
            ("[log]", {"level": self.log_level}),
            ("[[instance]]", {"id_scope": ID_SCOPE, "service_hosts": [self.address], **settings}),
            *(("[[instance.hub]]", hub) for hub in hubs),
            ("[[instance.shared_access_policy]]", owner),
        ]
        text = "".join(f"{head}\n{_lines(values)}\n" for head, values in sections)
        (self.folder / "harbormaster.toml").write_text(text)


class Serving(Process):
    """One process. What it is given outlives it: another may go on."""

    def __init__(self, site):
        self.site, self.address = site, site.address
        command = ["serve", "--output", "json", "--config", site.folder / "harbormaster.toml"]
        super().__init__(site.folder / "log", command)

    @property
    def port(self):
        return self.contract["mqtt"][0]["port"]

    @property
    def https_port(self):
        return self.contract["https"][0]["port"]

    @property
    def id_scope(self):
        return ID_SCOPE

    @property
    def ca_file(self):
        return str(self.site.ca_file)

    @property
    def service_connection_string(self):
        return f"HostName={self.service_host};SharedAccessKeyName={OWNER};SharedAccessKey={self.site.owner_key}"

    def remember_secrets(self):
        path = self.site.folder / "data" / "admin-token"
        leaks.made.add(path.name, path.read_bytes())

    def record(self):
        super().record()
        with open(self.log_path.with_suffix(".admin"), "w") as file:
            for path in SHOWN:
                file.write(json.dumps(self.admin("GET", path)))
            file.write(self.command("linked-hub", "list") + self.command("export"))

    def admin(self, method, path="", body=None, **options):
        """The JSON of a path of the instance."""
        status, shown = admin(self, method, f"/id-scopes/{ID_SCOPE}{path}", body, **options)
        assert status == 200, shown
        return shown

    def command(self, *words, id_scope=ID_SCOPE):
        """What a command of this service prints."""
        where = self.contract["admin"]
        options = ["--admin", f"{where['address']}:{where['port']}", "--admin-token-file", where["tokenFile"]]
        if words[0] != "export":
            options += ["--id-scope", id_scope]
        done = subprocess.run(
            [BINARY, *words, *options],
            capture_output=True,
            text=True,
            timeout=30,
            env={**os.environ, "XDG_RUNTIME_DIR": str(self.site.folder)},
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


def _lines(values):
    # A text, a number, a truth value or a list of texts is written alike in TOML and JSON.
    return "".join(f"{key} = {json.dumps(value)}\n" for key, value in values.items())
