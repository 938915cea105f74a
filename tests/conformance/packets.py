"""MQTT 3.1.1 packets as bytes, written by hand from the standard."""


def packet(first_byte, content=b"", length=None):
    """One packet; `length` is a false remaining length."""
    return bytes([first_byte]) + remaining_length(len(content) if length is None else length) + content


def remaining_length(value):
    encoded = b""
    while True:
        value, digit = value // 128, value % 128
        encoded += bytes([digit | (0x80 if value else 0)])
        if not value:
            return encoded


def number(value):
    return value.to_bytes(2, "big")


def text(value):
    """A string or bytes with its length before it."""
    value = value.encode() if isinstance(value, str) else value
    return number(len(value)) + value


def connect(client_id, user=None, password=None, name="MQTT", level=4, flags=None, keepalive=60, fields=None):
    """CONNECT with a clean session. `flags` and `fields` (all after the client id) may be false ones."""
    if flags is None:
        flags = 0x02 | (0x80 if user is not None else 0) | (0x40 if password is not None else 0)
    if fields is None:
        fields = b"".join(text(field) for field in (user, password) if field is not None)
    return packet(0x10, text(name) + bytes([level, flags]) + number(keepalive) + text(client_id) + fields)


def subscribe(topic="$dps/registrations/res/#", qos=1, packet_id=1):
    return packet(0x82, number(packet_id) + text(topic) + bytes([qos]))


def unsubscribe(topic="$dps/registrations/res/#", packet_id=2):
    return packet(0xA2, number(packet_id) + text(topic))


def publish(topic, payload=b"", qos=1, packet_id=3, flags=0):
    identifier = number(packet_id) if qos else b""
    return packet(0x30 | qos << 1 | flags, text(topic) + identifier + payload)


PINGREQ = packet(0xC0)
DISCONNECT = packet(0xE0)


def split(data):
    """The first whole packet of `data` as (first byte, content), and what follows; None where there is none yet."""
    length, shift = 0, 0
    for at, byte in enumerate(data[1:5], start=1):
        length |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            end = at + 1 + length
            return ((data[0], data[at + 1 : end]), data[end:]) if len(data) >= end else None
    return None


def published(content, qos):
    """Topic and payload of a PUBLISH."""
    end = 2 + int.from_bytes(content[:2], "big")
    return content[2:end].decode(), content[end + (2 if qos else 0) :]
