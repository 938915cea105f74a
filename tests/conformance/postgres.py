"""A PostgreSQL server that keeps what it confirms, in a directory of its own that is gone when the test is."""

import os
import pwd
import subprocess
from pathlib import Path

# The same as for the tests of the store.
SUPERVISE = Path(__file__).parents[2] / "crates/dps-store/src/postgres/supervise.sh"
SETTINGS = ("listen_addresses=", "shared_buffers=32MB", "max_connections=100", "max_wal_size=64MB")
STOPPED_WITHIN = 20.0


class Postgres:
    """One server, which listens on a socket in its directory. Use as a context manager."""

    def __init__(self):
        settings = [argument for setting in SETTINGS for argument in ("-c", setting)]
        command = [*_as_somebody(), "/bin/sh", "-c", SUPERVISE.read_text(), "supervise", programs(), *settings]
        # It ends with its standard input, and so with this process at the latest.
        self._shell = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd="/",
            env={**os.environ, "SERVER_CERTIFICATE": "", "PGPORT": "5432", "TMPDIR": "/tmp"},
            start_new_session=True,
        )
        self.directory = self._shell.stdout.readline().strip()
        assert self.directory, "PostgreSQL does not start: see above for what it says"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._shell.communicate(timeout=STOPPED_WITHIN)

    @property
    def url(self):
        """How nodes reach it."""
        return f"host={self.directory} user=postgres dbname=postgres"

    def kill(self):
        """Kills it as a crash would."""
        self._order("kill")

    def start_again(self):
        """Returns when it answers."""
        self._order("start")

    def column(self, statement):
        """What the statement selects in the store's schema: one text for each row."""
        return self._run("psql", "-qAtX", "-v", "ON_ERROR_STOP=1", "-c", statement).splitlines()

    def dump(self, path):
        """Writes out everything that the store has."""
        path.write_text(self._run("pg_dump", "--schema=harbormaster"))

    def _run(self, program, *arguments):
        where = ["-h", self.directory, "-U", "postgres", "-d", "postgres"]
        environment = {**os.environ, "PGOPTIONS": "-c search_path=harbormaster"}
        command = [programs() / program, *where, *arguments]
        return subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True, timeout=60).stdout

    def _order(self, order):
        self._shell.stdin.write(f"{order}\n")
        self._shell.stdin.flush()
        assert self._shell.stdout.readline().strip() == order


def programs():
    """Those of the newest version that is installed."""
    versions = [int(path.name) for path in Path("/usr/lib/postgresql").iterdir() if path.name.isdigit()]
    return Path(f"/usr/lib/postgresql/{max(versions)}/bin")


def _as_somebody():
    """What has to stand before a command that root may not run."""
    if os.geteuid() != 0:
        return []
    if Path("/proc/self/uid_map").read_text().split() == ["0", "0", str(2**32 - 1)]:
        user = pwd.getpwnam("postgres")
        return ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
    # In a namespace where an ordinary user goes by the name of root there is nobody else.
    return ["unshare", "--user", "--map-user=1", "--map-group=1"]
