"""Packets that no MQTT server may take, each with a name: first those in place of CONNECT, then those after it.

Each is whole by its own length, or wrong in its header already, so that a server can tell without waiting for more.
"""

from packets import connect, number, packet, publish, remaining_length, subscribe, text, unsubscribe

BAD_TEXTS = {
    "NUL": b"a\x00b",
    "a lone continuation byte": b"a\x80b",
    "an overlong form": b"\xc0\xaf",
    "a surrogate": b"\xed\xa0\x80",
    "a cut sequence": b"ab\xe2\x82",
    "a byte that is never UTF-8": b"\xff",
    "a code point past the last": b"\xf4\x90\x80\x80",
}
REGISTER = "$dps/registrations/PUT/iotdps-register/?$rid=1"
ANSWERS = "$dps/registrations/res/#"
GOOD_CONNECT = connect("dev", "0ne1/registrations/dev/api-version=2019-03-31", "x")


def first_packets():
    """(name, bytes) of what may not come first."""
    others = {
        "reserved type 0": packet(0x00), "CONNACK": packet(0x20, b"\0\0"), "PUBLISH": publish(REGISTER),
        "PUBACK": packet(0x40, b"\0\1"), "PUBREC": packet(0x50, b"\0\1"), "PUBREL": packet(0x62, b"\0\1"),
        "PUBCOMP": packet(0x70, b"\0\1"), "SUBSCRIBE": subscribe(), "SUBACK": packet(0x90, b"\0\1\0"),
        "UNSUBSCRIBE": unsubscribe(), "UNSUBACK": packet(0xB0, b"\0\1"), "PINGREQ": packet(0xC0),
        "PINGRESP": packet(0xD0), "DISCONNECT": packet(0xE0), "reserved type 15": packet(0xF0),
        "an HTTP request": b"GET / HTTP/1.1\r\n\r\n",
    }
    yield from ((f"{name} first", data) for name, data in others.items())
    for flags in (1, 2, 4, 8, 15):
        yield f"CONNECT with fixed header flags {flags}", bytes([0x10 | flags]) + GOOD_CONNECT[1:]
    yield "CONNECT whose length has five bytes", b"\x10\x80\x80\x80\x80\x01"
    yield "CONNECT whose length never ends", b"\x10\xff\xff\xff\xff"
    for size in (8193, 65536, 268435455):
        yield f"CONNECT that announces {size} bytes", b"\x10" + remaining_length(size)
    header = text("MQTT") + bytes([4, 0x02]) + number(60)
    for size in (0, 1, 5, 6, 7, 9):
        yield f"CONNECT cut to {size} bytes", packet(0x10, (header + text("dev"))[:size])
    yield "CONNECT without client id", packet(0x10, header)
    yield "CONNECT with half a client id", packet(0x10, header + b"\0\3de")
    for name in ("mqtt", "MQT", "MQTTT", "MQIsdp", "HTTP", ""):
        yield f"CONNECT with protocol name {name!r}", connect("dev", "u", name=name)
    user = "0ne1/registrations/dev/api-version=2019-03-31"
    flags = {
        "reserved flag": (0x83, text(user)),
        "will QoS 3": (0x9E, text("topic") + text("will") + text(user)),
        "will QoS without will": (0x8A, text(user)),
        "will retain without will": (0xA2, text(user)),
        "password without user name": (0x42, text("x")),
        "will flag but no will": (0x06, b""),
        "will flag but no will message": (0x06, text("topic")),
        "user name flag but no user name": (0x82, b""),
        "password flag but no password": (0xC2, text(user)),
        "half a user name": (0x82, number(50) + b"0ne1"),
        "a password longer than the packet": (0xC2, text(user) + number(65535) + b"x"),
        "more than its flags say": (0x82, text(user) + b"x"),
        "user name and password without flags": (0x02, text(user) + text("x")),
    }
    for name, (bits, fields) in flags.items():
        yield f"CONNECT with {name}", connect("dev", flags=bits, fields=fields)
    for name, bad in BAD_TEXTS.items():
        yield f"CONNECT with {name} in the client id", connect(bad, user, "x")
        yield f"CONNECT with {name} in the user name", connect("dev", bad, "x")
        yield f"CONNECT with {name} in the will topic", connect("dev", flags=0x06, fields=text(bad) + text("will"))


def later_packets():
    """(name, bytes) of what may not come after CONNECT."""
    yield "a second CONNECT", GOOD_CONNECT
    for name, first, content in (
        ("reserved type 0", 0x00, b""), ("reserved type 15", 0xF0, b""), ("CONNACK", 0x20, b"\0\0"),
        ("SUBACK", 0x90, b"\0\1\1"), ("UNSUBACK", 0xB0, b"\0\1"), ("PINGRESP", 0xD0, b""),
        ("PINGREQ with a flag", 0xC1, b""), ("PINGREQ with content", 0xC0, b"x"),
        ("DISCONNECT with a flag", 0xE8, b""), ("DISCONNECT with content", 0xE0, b"x"),
        ("PUBACK with a flag", 0x42, b"\0\1"), ("PUBACK without packet id", 0x40, b""),
        ("PUBACK with half a packet id", 0x40, b"\0"), ("PUBACK with content", 0x40, b"\0\1x"),
        ("PUBREL without its flag", 0x60, b"\0\1"), ("PUBREC with a flag", 0x51, b"\0\1"),
        ("SUBSCRIBE without its flag", 0x80, subscribe()[2:]), ("SUBSCRIBE with flags 3", 0x83, subscribe()[2:]),
        ("SUBSCRIBE without content", 0x82, b""), ("SUBSCRIBE with half a packet id", 0x82, b"\0"),
        ("SUBSCRIBE without a filter", 0x82, b"\0\1"), ("SUBSCRIBE without QoS", 0x82, b"\0\1" + text(ANSWERS)),
        ("SUBSCRIBE with half a filter", 0x82, b"\0\1\0\x30$dps"),
        ("SUBSCRIBE with packet id 0", 0x82, b"\0\0" + text(ANSWERS) + b"\1"),
        ("SUBSCRIBE with an empty filter", 0x82, b"\0\1" + text("") + b"\1"),
        ("SUBSCRIBE whose second filter is cut", 0x82, b"\0\1" + text(ANSWERS) + b"\1\0"),
        ("UNSUBSCRIBE without its flag", 0xA0, unsubscribe()[2:]), ("UNSUBSCRIBE without content", 0xA2, b""),
        ("UNSUBSCRIBE without a filter", 0xA2, b"\0\1"), ("UNSUBSCRIBE with packet id 0", 0xA2, b"\0\0" + text("a")),
        ("UNSUBSCRIBE with an empty filter", 0xA2, b"\0\1\0\0"),
        ("UNSUBSCRIBE with half a filter", 0xA2, b"\0\1\0\x30$dps"),
        ("PUBLISH without content", 0x30, b""), ("PUBLISH with half a topic length", 0x30, b"\0"),
        ("PUBLISH with half a topic", 0x30, b"\0\x30$dps"), ("PUBLISH with an empty topic", 0x30, b"\0\0"),
        ("PUBLISH with QoS 3", 0x36, text(REGISTER) + b"\0\1"), ("PUBLISH with QoS 2", 0x34, text(REGISTER) + b"\0\1"),
        ("PUBLISH with QoS 1 and no packet id", 0x32, text(REGISTER)),
        ("PUBLISH with half a packet id", 0x32, text(REGISTER) + b"\0"),
        ("PUBLISH with packet id 0", 0x32, text(REGISTER) + b"\0\0"),
        ("PUBLISH to #", 0x30, text("$dps/registrations/PUT/#")), ("PUBLISH to +", 0x30, text("$dps/+/PUT")),
        ("PUBLISH with a wildcard in the request id", 0x30, text(REGISTER + "#")),
        ("PUBLISH without $rid", 0x30, text("$dps/registrations/PUT/iotdps-register/?x=1")),
        ("PUBLISH to another topic", 0x30, text("telemetry")),
        ("PUBLISH with a topic of 1025 bytes", 0x30, text(REGISTER.ljust(1025, "x"))),
    ):
        yield name, packet(first, content)
    for qos in (3, 4, 0x80, 0xFD):
        yield f"SUBSCRIBE with QoS byte {qos:#x}", subscribe(qos=qos)
    for name, first in (("SUBSCRIBE", 0x82), ("UNSUBSCRIBE", 0xA2), ("PUBLISH", 0x32), ("PUBACK", 0x40)):
        yield f"{name} whose length has five bytes", bytes([first]) + b"\x80\x80\x80\x80\x01"
    for name, first, size in (
        ("SUBSCRIBE", 0x82, 4097), ("UNSUBSCRIBE", 0xA2, 4097), ("PUBLISH", 0x30, 96 * 1024 + 1024 + 5),
        ("PUBLISH", 0x32, 268435455), ("PUBACK", 0x40, 1024), ("PINGREQ", 0xC0, 1024),
    ):
        yield f"{name} that announces {size} bytes", bytes([first]) + remaining_length(size)
    for name, bad in BAD_TEXTS.items():
        yield f"SUBSCRIBE with {name} in the filter", subscribe(bad)
        yield f"UNSUBSCRIBE with {name} in the filter", unsubscribe(bad)
        yield f"PUBLISH with {name} in the topic", publish(REGISTER.encode() + bad)
