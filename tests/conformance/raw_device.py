"""A device made of bytes: a TLS socket, and what arrives on it."""

import socket
import ssl
import time

import packets
from credentials import REGISTER, token, user_name

WAIT = 10.0
ACCEPTED = (0x20, b"\x00\x00")


def context_for(service):
    """TLS as a careful client sets it up."""
    return ssl.create_default_context(cafile=service.ca_file)


class RawDevice:
    """One TLS connection. Use as a context manager."""

    def __init__(self, service, context=None, session=None):
        plain = socket.create_connection((service.address, service.port), timeout=WAIT)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.service = service
        self.received = b""
        context = context or context_for(service)
        try:
            self.tls = context.wrap_socket(plain, server_hostname=service.address, session=session)
        except BaseException:
            plain.close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.tls.close()

    def send(self, data):
        self.tls.sendall(data)

    def next(self, within=WAIT):
        """The next packet as (first byte, content); None when the service has closed the connection."""
        until = time.monotonic() + within
        while (found := packets.split(self.received)) is None:
            data = self._receive(until)
            if not data:
                assert not self.received, f"closed within a packet: {self.received!r}"
                return None
            self.received += data
        packet, self.received = found
        return packet

    def answer(self, within=WAIT):
        """Topic and payload of the next packet, which is an answer."""
        first, content = self.next(within)
        assert first & 0xF0 == 0x30, hex(first)
        return packets.published(content, first >> 1 & 3)

    def is_closed(self, within=2.0):
        """Whether the service closes the connection, saying nothing before."""
        try:
            return self.next(within) is None
        except TimeoutError:
            return False

    def is_open(self):
        """Whether a ping is answered."""
        self.send(packets.PINGREQ)
        return self.next() == (0xD0, b"")

    def _receive(self, until):
        left = until - time.monotonic()
        if left <= 0:
            raise TimeoutError("nothing arrived")
        self.tls.settimeout(left)
        try:
            return self.tls.recv(65536)
        except (ConnectionResetError, BrokenPipeError, ssl.SSLEOFError, ssl.SSLZeroReturnError):
            return b""


def connect_packet(service, registration_id, key, api_version="2019-03-31", **options):
    """The CONNECT of a device that can prove itself."""
    user = user_name(service.id_scope, registration_id, f"api-version={api_version}")
    return packets.connect(registration_id, user, token(service.id_scope, registration_id, key), **options)


def register_packet(rid="1", payload=b"", **options):
    return packets.publish(REGISTER.format(rid=rid), payload, **options)


def connected(service, registration_id, key, context=None, **options):
    """A device whose CONNECT was accepted."""
    device = RawDevice(service, context)
    device.send(connect_packet(service, registration_id, key, **options))
    assert device.next() == ACCEPTED
    return device


def subscribed(service, registration_id, key, context=None, **options):
    """A device that would get answers at QoS 1."""
    device = connected(service, registration_id, key, context, **options)
    device.send(packets.subscribe())
    assert device.next() == (0x90, b"\x00\x01\x01")
    return device


def registers(service, registration_id, key, **options):
    """Whether a new connection gets as far as 202."""
    with subscribed(service, registration_id, key, **options) as device:
        device.send(register_packet())
        assert device.next() == (0x40, b"\x00\x03")
        topic, _ = device.answer()
        return topic == "$dps/registrations/res/202/?$rid=1&retry-after=3"
