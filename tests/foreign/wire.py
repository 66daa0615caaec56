"""The frames of libclient/README.md, "A connection": msgpack, as much of it as they need."""
import struct

HELLO, PING, SET, DELETE, BYE, TOUCH, INCR, CLEAR, BATCH, LEASE, LEASE_DROP = range(1, 12)
SIZES = {0xcc: "B", 0xcd: ">H", 0xce: ">I", 0xcf: ">Q", 0xd0: "b", 0xd1: ">h", 0xd2: ">i", 0xd3: ">q"}
COUNTS = {0xc4: "B", 0xc5: ">H", 0xc6: ">I", 0xd9: "B", 0xda: ">H", 0xdb: ">I", 0xdc: ">H", 0xdd: ">I"}


class Malformed(Exception):
    pass


def pack(x):
    if isinstance(x, int):
        if 0 <= x < 128:
            return bytes([x])
        return struct.pack(">BQ", 0xcf, x) if x >= 0 else struct.pack(">Bq", 0xd3, x)
    if isinstance(x, bytes):
        return struct.pack(">BI", 0xc6, len(x)) + x
    if isinstance(x, str):
        return struct.pack(">BB", 0xd9, len(x.encode())) + x.encode()
    return struct.pack(">BH", 0xdc, len(x)) + b"".join(map(pack, x))


def frame(request):
    body = pack(request)
    return struct.pack("<I", len(body)) + body


def number(b, at, form):
    n = struct.calcsize(form)
    if at + n > len(b):
        raise Malformed("cut short")
    return struct.unpack_from(form, b, at)[0], at + n


def unpack(b, at=0):
    """The value at b[at], and where the next one begins."""
    first, at = number(b, at, "B")
    if first < 0x80 or first >= 0xe0:
        return first if first < 0x80 else first - 0x100, at
    if first in SIZES:
        return number(b, at, SIZES[first])
    if first in COUNTS:
        n, at = number(b, at, COUNTS[first])
    elif first >> 4 == 9:
        n = first & 15
    elif first >> 5 == 5:
        n = first & 31
    else:
        raise Malformed(f"type {first:#x}")
    if first >> 4 == 9 or first in (0xdc, 0xdd):
        out = []
        for _ in range(n):
            x, at = unpack(b, at)
            out.append(x)
        return out, at
    if at + n > len(b):
        raise Malformed("cut short")
    return bytes(b[at:at + n]), at + n
