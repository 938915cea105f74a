"""Secrets that the suite made or was told, and the search for them where no secret may be.

Each test process remembers its own; the search runs once, after the last test.
"""

import base64
import fnmatch
import os
import re
from pathlib import Path

# Where secrets belong: key files, the admin token, and what tests or `dev` itself hand over in JSON.
EXCLUDED = ("*.key", "admin-token", "*.json")

# Text of the service, where not even a signature that nobody remembers may stand.
TEXTS = ("*.log", "*.explanations", "*.metrics", "*.admin")
ANY_SIGNATURE = re.compile(rb"sig=[A-Za-z0-9%+/]{16}")

# Shorter than half of the shortest pattern, so that one window lies within it whole wherever it begins.
WINDOW = 8
PATTERN_MIN = 2 * WINDOW - 1


class Secrets:
    """Secrets as bytes, each with a name for the report. The name holds nothing of it."""

    def __init__(self):
        self._named = {}

    def add(self, name, secret):
        """Remembers raw bytes."""
        if len(secret) >= PATTERN_MIN:
            self._named.setdefault(secret, name)

    def add_base64(self, name, text):
        """Remembers what a Base64 text stands for, if it is one."""
        try:
            self.add(name, base64.b64decode(text, validate=True))
        except ValueError:
            pass

    def named(self):
        """Pairs of name and Base64, as one process passes them on to another."""
        return [(name, base64.b64encode(secret).decode()) for secret, name in self._named.items()]

    def __iter__(self):
        return iter(self._named.items())


def forms(secret):
    """How the bytes may be written: raw, in hex, in any kind of Base64."""
    yield secret
    yield secret.hex().encode()
    yield secret.hex().upper().encode()
    for shift in range(3):
        # Within a longer text that was encoded as a whole, too. What touches a neighbour's bits is left away.
        encoded = base64.b64encode(bytes(shift) + secret)
        inner = encoded[(0, 2, 3)[shift] : len(encoded) - 4]
        yield inner
        yield inner.translate(bytes.maketrans(b"+/", b"-_"))
        yield inner.replace(b"+", b"%2B").replace(b"/", b"%2F")
        yield inner.replace(b"+", b"%2b").replace(b"/", b"%2f")


class Search:
    """All forms of all secrets, found in one pass."""

    def __init__(self, secrets):
        self._windows = {}
        for secret, name in secrets:
            for pattern in set(forms(secret)):
                for offset in range(len(pattern) - WINDOW + 1):
                    found = self._windows.setdefault(pattern[offset : offset + WINDOW], [])
                    found.append((offset, pattern, name))

    def names_in(self, data):
        """The names of the secrets in these bytes."""
        names = set()
        for at in range(0, len(data) - WINDOW + 1, WINDOW):
            for offset, pattern, name in self._windows.get(data[at : at + WINDOW], ()):
                if at >= offset and data.startswith(pattern, at - offset):
                    names.add(name)
        return names


def search(folder, secrets):
    """Complaints about the files below, and how many files were searched by their suffix."""
    wanted, complaints, searched = Search(secrets), [], {}
    for directory, _, names in os.walk(folder):
        for name in sorted(names):
            path = Path(directory, name)
            if path.is_symlink() or not path.is_file() or any(fnmatch.fnmatch(name, one) for one in EXCLUDED):
                continue
            data = path.read_bytes()
            searched[path.suffix] = searched.get(path.suffix, 0) + 1
            complaints += [f"{path} holds {secret}" for secret in sorted(wanted.names_in(data))]
            if any(fnmatch.fnmatch(name, one) for one in TEXTS) and ANY_SIGNATURE.search(data):
                complaints.append(f"{path} holds a signature")
    return complaints, searched


# Of this process.
made = Secrets()
