"""XXH3, 64 bits, with a seed: from the public specification of xxHash (Collet), in plain Python."""
import struct

M32, M64 = (1 << 32) - 1, (1 << 64) - 1
P32_1, P32_2, P32_3 = 0x9E3779B1, 0x85EBCA77, 0xC2B2AE3D
P64_1, P64_2, P64_3 = 0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9
P64_4, P64_5 = 0x85EBCA77C2B2AE63, 0x27D4EB2F165667C5
PMX_1, PMX_2 = 0x165667919E3779F9, 0x9FB21C651E98DF25

SECRET = bytes.fromhex(
    "b8fe6c3923a44bbe7c01812cf721ad1cded46de9839097db7240a4a4b7b3671f"
    "cb79e64eccc0e578825ad07dccff7221b8084674f743248ee03590e6813a264c"
    "3c2852bb91c300cb88d0658b1b532ea371644897a20df94e3819ef46a9deacd8"
    "a8fa763fe39c343ff9dcbbc7c70b4f1d8a51e04bcdb45931c89f7ec9d9787364"
    "eac5ac8334d3ebc3c581a0fffa1363eb170ddd51b7f0da49d316552629d4689e"
    "2b16be587d47a1fc8ff8b8d17ad031ce45cb3a8f95160428afd7fbcabb4b407e")


def u32(b, at):
    return int.from_bytes(b[at:at + 4], "little")


def u64(b, at):
    return int.from_bytes(b[at:at + 8], "little")


def swap(x, n_bytes):
    return int.from_bytes(x.to_bytes(n_bytes, "little"), "big")


def rotl(x, n):
    return (x << n | x >> (64 - n)) & M64


def fold(a, b):
    p = a * b
    return p & M64 ^ p >> 64


def avalanche(h):
    h ^= h >> 37
    h = h * PMX_1 & M64
    return h ^ h >> 32


def mix16(b, at, secret_at, seed):
    return fold(u64(b, at) ^ (u64(SECRET, secret_at) + seed & M64),
                u64(b, at + 8) ^ (u64(SECRET, secret_at + 8) - seed & M64))


def upto_3(b, seed):
    n = len(b)
    h = b[0] << 16 | b[n >> 1] << 24 | b[n - 1] | n << 8
    h ^= (u32(SECRET, 0) ^ u32(SECRET, 4)) + seed & M64
    h = (h ^ h >> 33) * P64_2 & M64
    h = (h ^ h >> 29) * P64_3 & M64
    return h ^ h >> 32


def upto_8(b, seed):
    n = len(b)
    seed ^= swap(seed & M32, 4) << 32
    h = u32(b, n - 4) + (u32(b, 0) << 32) ^ ((u64(SECRET, 8) ^ u64(SECRET, 16)) - seed & M64)
    h ^= rotl(h, 49) ^ rotl(h, 24)
    h = h * PMX_2 & M64
    h ^= (h >> 35) + n
    h = h * PMX_2 & M64
    return h ^ h >> 28


def upto_16(b, seed):
    n = len(b)
    low = u64(b, 0) ^ ((u64(SECRET, 24) ^ u64(SECRET, 32)) + seed & M64)
    high = u64(b, n - 8) ^ ((u64(SECRET, 40) ^ u64(SECRET, 48)) - seed & M64)
    return avalanche(n + swap(low, 8) + high + fold(low, high) & M64)


def upto_128(b, seed):
    n = len(b)
    h = n * P64_1
    for i in range((n - 1) // 32, -1, -1):
        h += mix16(b, 16 * i, 32 * i, seed) + mix16(b, n - 16 * (i + 1), 32 * i + 16, seed)
    return avalanche(h & M64)


def upto_240(b, seed):
    n = len(b)
    h = n * P64_1
    for i in range(8):
        h += mix16(b, 16 * i, 16 * i, seed)
    h = avalanche(h & M64)
    for i in range(8, n // 16):
        h += mix16(b, 16 * i, 16 * (i - 8) + 3, seed)
    return avalanche(h + mix16(b, n - 16, 136 - 17, seed) & M64)


def accumulate(acc, b, at, secret):
    for i, (value, key) in enumerate(zip(struct.unpack_from("<8Q", b, at), secret)):
        key ^= value
        acc[i ^ 1] = acc[i ^ 1] + value & M64
        acc[i] = acc[i] + (key & M32) * (key >> 32) & M64


def long(b, seed):
    n = len(b)
    words = [u64(SECRET, 8 * i) for i in range(24)]
    secret = struct.pack("<24Q", *((w - seed if i % 2 else w + seed) & M64 for i, w in enumerate(words)))
    keys = [struct.unpack_from("<8Q", secret, 8 * i) for i in range(17)]
    acc = [P32_3, P64_1, P64_2, P64_3, P64_4, P32_2, P64_5, P32_1]
    stripes = (n - 1) // 64
    for i in range(stripes):
        accumulate(acc, b, 64 * i, keys[i % 16])
        if i % 16 == 15:
            acc = [(a ^ a >> 47 ^ k) * P32_1 & M64 for a, k in zip(acc, keys[16])]
    accumulate(acc, b, n - 64, struct.unpack_from("<8Q", secret, 192 - 64 - 7))
    h = n * P64_1
    for i in range(4):
        h += fold(acc[2 * i] ^ u64(secret, 11 + 16 * i), acc[2 * i + 1] ^ u64(secret, 19 + 16 * i))
    return avalanche(h & M64)


def xxh3_64(b, seed):
    """The hash of 1 byte or more."""
    for most, how in ((3, upto_3), (8, upto_8), (16, upto_16), (128, upto_128), (240, upto_240)):
        if len(b) <= most:
            return how(b, seed)
    return long(b, seed)
