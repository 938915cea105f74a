"""A register is answered after its record is on disk: strace shows it. DPS-STORE-2, DPS-REG-12."""

import base64
import hashlib
import hmac
import json
import os
import re
import signal
import socket
import ssl
import struct
import subprocess
import time
import urllib.parse

import pytest

import leaks

BINARY = os.environ["HARBORMASTER_BINARY"]
CALLS = "read,recvfrom,recvmsg,readv,write,writev,sendto,sendmsg,pwrite64,pwritev,fdatasync,fsync"

# `123 1795390000.123456 write(9</tmp/x/store.db-wal>, "..."..., 4096) = 4096`, whole or in two parts.
CALL = re.compile(r"^(?P<thread>\d+) +(?P<at>\d+\.\d+) (?:<\.\.\. )?(?P<name>\w+)(?P<rest>.*)$")


class Traced:
    """`harbormaster dev` under strace."""

    def __init__(self, directory, *options):
        self.log = directory / "strace.log"
        command = ["strace", "-f", "-ttt", "-yy", "-s", "0", "-e", f"trace={CALLS}", "-o", str(self.log), BINARY]
        command += ["dev", "--output", "json", "--mqtt-port", "0", "--data-dir", str(directory / "data"), *options]
        self.errors = open(directory / "stderr.log", "wb")
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=self.errors, stdin=subprocess.DEVNULL)
        self.ready = json.loads(self.process.stdout.readline())

    def stop(self):
        # strace passes the signal on by ending with its child.
        children = subprocess.run(["pgrep", "-P", str(self.process.pid)], capture_output=True, text=True, check=True)
        os.kill(int(children.stdout.split()[0]), signal.SIGTERM)
        self.process.wait(timeout=30)
        self.errors.close()


@pytest.fixture
def traced(tmp_path):
    started = []

    def start(*options):
        started.append(Traced(tmp_path, *options))
        return started[-1]

    yield start
    for service in started:
        if service.process.poll() is None:
            service.stop()


def test_the_record_is_synced_between_reading_a_register_and_sending_its_202(traced):
    """DPS-STORE-2, DPS-REG-12."""
    service = traced()
    assert problem(*register_once(service)) is None


def test_the_check_fails_when_the_store_does_not_sync(traced):
    """DPS-STORE-2: the check above can fail."""
    service = traced("--unsafe-no-sync")
    assert problem(*register_once(service)) == "no fdatasync of the log between the write and the answer"


def register_once(service):
    """Registers one device; the trace of the service while it did, and the device's port."""
    host, port, scope = "localhost", service.ready["mqtt"]["port"], service.ready["idScope"]
    group_key = base64.b64decode(service.ready["enrollmentGroups"][0]["primaryKey"])
    key = hmac.new(group_key, b"traced", hashlib.sha256).digest()
    resource = urllib.parse.quote(f"{scope}/registrations/traced", safe="")
    expiry = int(time.time()) + 3600
    signature = base64.b64encode(hmac.new(key, f"{resource}\n{expiry}".encode(), hashlib.sha256).digest())
    leaks.made.add("the group key of a traced service", group_key)
    leaks.made.add("the derived key of a traced device", key)
    leaks.made.add_base64("the signature of a traced device", signature)
    token = f"SharedAccessSignature sr={resource}&sig={urllib.parse.quote(signature, safe='')}&se={expiry}"

    context = ssl.create_default_context(cafile=service.ready["caFile"])
    with socket.create_connection((service.ready["mqtt"]["address"], port), timeout=30) as plain:
        device_port = plain.getsockname()[1]
        with context.wrap_socket(plain, server_hostname=host) as tls:
            user = f"{scope}/registrations/traced/api-version=2019-03-31"
            variable = text("MQTT") + bytes([4, 0xC2]) + struct.pack(">H", 0)
            tls.sendall(packet(0x10, variable + text("traced") + text(user) + text(token)))
            assert tls.recv(4) == b"\x20\x02\x00\x00"
            tls.sendall(packet(0x82, b"\x00\x01" + text("$dps/registrations/res/#") + b"\x00"))
            assert tls.recv(5) == b"\x90\x03\x00\x01\x00"
            asked_at = time.time()
            tls.sendall(packet(0x30, text("$dps/registrations/PUT/iotdps-register/?$rid=1")))
            answer = tls.recv(4096)
            answered_at = time.time()
            assert b"$dps/registrations/res/202/?$rid=1&retry-after=3" in answer
    service.stop()
    lines = [found.groupdict() for found in map(CALL.match, service.log.read_text().splitlines()) if found]
    return [line for line in lines if asked_at <= float(line["at"]) <= answered_at], device_port


def problem(lines, device_port):
    """What is missing of: read from the device, write to the log, sync of the log, write to the device; in that order."""
    unfinished = {}
    began = []
    for number, line in enumerate(lines):
        started = unfinished.pop(line["thread"], None) if "resumed>" in line["rest"] else (number, line["rest"])
        if started is None:
            continue
        if "<unfinished ...>" in line["rest"]:
            unfinished[line["thread"]] = started
            continue
        began.append((started[0], number, line["name"], started[1], line["rest"].rsplit("=", 1)[-1].strip()))
    calls = sorted(began)
    to_device = f":{device_port}]"
    read = next((c for c in calls if c[2] in ("read", "recvfrom", "recvmsg", "readv") and to_device in c[3]
                 and c[4].isdigit() and int(c[4]) > 0), None)
    if read is None:
        return "no read from the device"
    sent = next((c for c in calls if c[2] in ("write", "writev", "sendto", "sendmsg") and to_device in c[3]
                 and c[0] > read[0]), None)
    if sent is None:
        return "no write to the device"
    ended = [c for c in calls if read[0] < c[0] and c[1] < sent[0] and ".db-wal>" in c[3]]
    written = [c for c in ended if c[2] in ("write", "pwrite64", "pwritev")]
    if not written:
        return "no write to the log between the register and the answer"
    if not any(c[2] in ("fdatasync", "fsync") and c[4] == "0" and c[0] > written[-1][1] for c in ended):
        return "no fdatasync of the log between the write and the answer"
    return None


def packet(kind, content):
    length, encoded = len(content), bytearray()
    while True:
        length, digit = divmod(length, 128)
        encoded.append(digit | (0x80 if length else 0))
        if not length:
            return bytes([kind]) + bytes(encoded) + content


def text(value):
    return struct.pack(">H", len(value.encode())) + value.encode()
