"""The segments, and how an entry is found in them: libclient/README.md, "Reading, in another language".

The numbers of steps in comments are those of that text.
"""
import ctypes
import os
import platform
import time

from xxh3 import M64, xxh3_64

KIND_CONTROL, KIND_POOL, KIND_CLIENT = 1, 2, 3
FENCE_COMPILER, FENCE_FULL = 1, 2
MAGIC, BYTE_ORDER, LAYOUT_MAJOR, LAYOUT_MINOR = 0x3130454843414348, 0x01020304, 1, 0
OFFSET, LOW, MOVED, PIN_TABLE, PIN_CALL = ((1 << 44) - 1) << 4, 15, 1, 0, 1
# struct shm_control, shm_pool_entry, shm_store_entry, shm_pool, shm_client, shm_block, shm_item
CTL_HASH_SEED, CTL_TIME_OFF, CTL_LEASE_WORD, CTL_POOL, CTL_STORE, CTL_PIN_GEN = 192, 208, 1280, 4096, 28672, 69632
POOL_ENTRY_BYTES, POOL_RESERVE, POOL_N_REGIONS, POOL_REGION = 1536, 40, 56, 128
STORE_ENTRY_BYTES, STORE_ID, STORE_EPOCH, STORE_POOL, STORES_MAX = 640, 32, 40, 48, 64
POOL_TABLE, CLIENT_BLOCKS_USED, CLIENT_ID, CLIENT_N_BLOCKS = 64, 64, 72, 80
BLOCK_BYTES, BLOCK_HINT_HEAD, BLOCK_STORE, BLOCK_HINT, HINTS = 4096, 256, 512, 2048, 256
ITEM_BYTES, TABLE_BYTES, BUCKET_BYTES, SLOTS, CHAIN_MAX, TABLES_MAX, TRIES = 88, 64, 64, 7, 32, 4, 64
PROT_NONE, PROT_READ, PROT_WRITE, MAP_SHARED, MAP_PRIVATE, MAP_FIXED = 0, 1, 2, 1, 2, 0x10
MAP_ANONYMOUS, MAP_NORESERVE, MADV_DONTFORK, MADV_DONTDUMP = 0x20, 0x4000, 10, 16
AGAIN, NEXT, MISS, ENDLESS = "again", "next", "miss", "endless"

libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]


class Damaged(Exception):
    pass


class Endless(Damaged):
    pass


class Busy(Exception):
    pass


class Protocol(Exception):
    pass


def register_for_membarrier():
    """Step 1."""
    number = {"x86_64": 324, "aarch64": 283}.get(platform.machine())
    return number is not None and libc.syscall(number, 4, 0, 0) == 0


def time_offset_ns():
    """Step 1: 0 but in a time namespace other than the first."""
    try:
        if os.readlink("/proc/self/ns/time") == "time:[4026531834]":
            return 0
        with open("/proc/self/timens_offsets", encoding="ascii") as f:
            for line in f:
                name, seconds, ns = line.split()
                if name == "monotonic":
                    return int(seconds) * 10**9 + int(ns)
    except FileNotFoundError:
        pass
    return 0


def full_fence():
    """Of the runtime of the C compiler: Python itself has none."""
    try:
        fence = ctypes.CDLL("libatomic.so.1").atomic_thread_fence
    except OSError as e:
        raise Protocol("full fences are asked for, and there is no libatomic.so.1 that has one") from e
    return lambda: fence(5)


def nothing():
    pass


def map_bytes(fd, size, prot, at=None, flags=MAP_SHARED):
    address = libc.mmap(at, size, prot, flags | (MAP_FIXED if at else 0), fd, 0)
    if address == ctypes.c_void_p(-1).value:
        raise OSError(ctypes.get_errno(), "mmap")
    return address


class Words:
    """Mapped memory.  An element of u64 or u32 is read and written with one access."""

    def __init__(self, address, size):
        self.address, self.size = address, size
        self.bytes = memoryview((ctypes.c_ubyte * size).from_address(address)).cast("B")
        self.u64 = self.bytes.cast("Q")
        self.u32 = self.bytes.cast("I")

    def word(self, off):
        return self.u64[off >> 3]

    def half(self, off):
        return self.u32[off >> 2]

    def text(self, off, size):
        return bytes(self.bytes[off:off + size]).split(b"\0")[0].decode("ascii")

    def release(self):
        self.u64.release()
        self.u32.release()
        self.bytes.release()


class Entry:
    """What a look-up found.  Only `value` is a copy unless the entry is held."""

    def __init__(self, pool, off, value_off, value_bytes):
        self.created_ns, self.modified_ns, self.stamp = pool.word(off), pool.word(off + 8), pool.word(off + 32)
        self.version, self.flags = pool.word(off + 40), pool.half(off + 68)
        self.ttl_ms, self.expiry_ns = pool.half(off + 28), pool.word(off + 80)
        self.at = (pool, value_off, value_bytes)
        self.value_bytes = value_bytes
        self.value = self.bytes()
        self.held = None

    def bytes(self):
        """A copy of the value as it is in memory now."""
        pool, off, n = self.at
        return bytes(pool.bytes[off:off + n])


class Memory:
    """The segments of a session, and one reading thread."""

    def __init__(self, answer, fds, fence_said):
        self.session, self.slot = answer[3], answer[4]
        self.pools, self.mapped = {}, []
        try:
            self._map(list(zip(answer[9], fds)))
        finally:
            for fd in fds:  # step 4
                os.close(fd)
        full = answer[7] == FENCE_FULL or fence_said == FENCE_FULL
        ordered = platform.machine() == "x86_64"  # it keeps acquire and release by itself, and Python its order
        self.fence = full_fence() if full else nothing  # step 2
        self.order = nothing if ordered else full_fence()
        self.time_off_ns = self.control.word(CTL_TIME_OFF) - time_offset_ns()
        self.block = 4096  # step 6: the first block; this client reads in one thread
        self.own.u32[CLIENT_BLOCKS_USED >> 2] = 1
        self.order()

    def _take(self, fd, kind, instance, prot, at=None, flags=MAP_SHARED):
        size = os.fstat(fd).st_size
        m = Words(map_bytes(fd, size, prot, at, flags), size)
        self.mapped.append(m)
        head = (m.word(0), m.half(8), m.half(12) & 0xffff, m.half(16), m.half(20), m.word(24))
        if head != (MAGIC, BYTE_ORDER, LAYOUT_MAJOR, kind, instance, size):
            raise Protocol(f"the header of a segment of kind {kind} is {head}")
        return m

    def _map(self, handed):
        """Step 3."""
        def only(kind):
            found = [fd for (k, _, _), fd in handed if k == kind]
            if len(found) != 1:
                raise Protocol(f"{len(found)} segments of kind {kind}")
            return found[0]

        self.control = self._take(only(KIND_CONTROL), KIND_CONTROL, 0, PROT_READ)
        self.own = self._take(only(KIND_CLIENT), KIND_CLIENT, self.slot, PROT_READ | PROT_WRITE)
        if libc.madvise(self.own.address, self.own.size, MADV_DONTFORK) != 0:
            raise OSError(ctypes.get_errno(), "madvise")
        if self.own.word(CLIENT_ID) != self.session or self.own.half(CLIENT_N_BLOCKS) < 1:
            raise Protocol("the session's segment is another's")
        for p in sorted({p for (k, p, _), _ in handed if k == KIND_POOL}):
            self._map_pool(p, sorted((r, fd) for (k, q, r), fd in handed if k == KIND_POOL and q == p))
        if any(m.word(32) != self.control.word(32) for m in self.mapped):
            raise Protocol("segments of two daemons")

    def _map_pool(self, p, regions):
        entry = CTL_POOL + POOL_ENTRY_BYTES * p
        reserve, huge = self.control.word(entry + POOL_RESERVE), 1 << 30
        base = map_bytes(-1, reserve + huge, PROT_NONE, None, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE)
        base, end = (base + huge - 1) & ~(huge - 1), 0
        for r, fd in regions:
            off = self.control.word(entry + POOL_REGION + 32 * r)
            if off != end or off + os.fstat(fd).st_size > reserve or r >= self.control.half(entry + POOL_N_REGIONS):
                raise Protocol(f"region {r} of pool {p} has no place")
            end += self._take(fd, KIND_POOL, p << 8 | r, PROT_READ, base + off, MAP_SHARED | MAP_NORESERVE).size
        libc.madvise(base, end, MADV_DONTDUMP)
        self.pools[p] = Words(base, end)

    def store(self, name):
        """(index, id) of a store; step 7."""
        for i in range(STORES_MAX):
            at = CTL_STORE + STORE_ENTRY_BYTES * i
            store_id = self.control.word(at + STORE_ID)
            self.order()
            if store_id and self.control.text(at, 32) == name:
                return i, store_id
        raise KeyError(name)

    def now_ns(self):
        """Step 14."""
        return time.monotonic_ns() + self.time_off_ns

    def pin(self, cell, word):
        self.order()
        self.own.u64[(self.block >> 3) + cell] = word

    def find(self, store, key, cell=PIN_CALL):
        """The entry of a key, or None.  With a cell of 2..31 it is held there until release()."""
        return Look(self, store, key, cell).find()

    def release(self, entry):
        """Gives a held entry back; false: it had been taken back (rule P12)."""
        gen, cell = entry.held
        self.order()
        good = self.control.word(CTL_PIN_GEN + 8 * self.slot) == gen
        self.pin(cell, 0)
        entry.held = None
        return good

    def close(self):
        for m in self.mapped + list(self.pools.values()):
            m.release()
        for m in self.mapped:
            libc.munmap(m.address, m.size)
        self.mapped, self.pools = [], {}


class Look:
    """One look-up."""

    def __init__(self, memory, store, key, cell):
        self.m, self.key, self.cell = memory, key, cell
        self.idx, self.id = store
        self.entry_at = CTL_STORE + STORE_ENTRY_BYTES * self.idx
        self.p = memory.control.half(self.entry_at + STORE_POOL)
        self.pool = memory.pools[self.p]
        seed = memory.control.word(CTL_HASH_SEED) + self.id * 0x9e3779b97f4a7c15 & M64  # step 8
        self.hash = xxh3_64(key, seed)
        self.gen_at = CTL_PIN_GEN + 8 * memory.slot

    def load(self, off):
        """A word of the pool, acquire."""
        if off + 8 > self.pool.size:
            raise Damaged(f"an offset of {off} in a pool of {self.pool.size}")
        word = self.pool.word(off)
        self.m.order()
        return word

    def pin(self, cell, off):
        self.m.pin(cell, (self.gen & 0xffff) << 48 | off | self.p)
        self.m.fence()

    def find(self):
        found = AGAIN
        for _ in range(TRIES):
            try:
                found = self._once()
            except Damaged:
                if self._still():
                    self._unpin(False)
                    raise
                continue
            if found in (MISS, ENDLESS) and not self._still():
                continue
            if found not in (AGAIN, ENDLESS):
                break
        self._unpin(isinstance(found, Entry))
        if found == ENDLESS:
            raise Damaged("a chain without an end")
        if found == AGAIN:
            raise Busy
        self._count(found)
        return None if found == MISS else found

    def _still(self):
        """Step 15."""
        return self.load(POOL_TABLE) == self.table and self.m.control.word(self.gen_at) == self.gen

    def _unpin(self, found):
        """Step 16."""
        if self.cell == PIN_CALL or not found:
            self.m.pin(self.cell, 0)
        self.m.pin(PIN_TABLE, 0)

    def _begin(self):
        """Steps 9 and 10; false: again."""
        control = self.m.control
        self.gen = control.word(self.gen_at)
        if control.word(self.entry_at + STORE_ID) != self.id:
            raise KeyError("the store has gone")
        self.epoch = control.word(self.entry_at + STORE_EPOCH) & 0xffffffff
        self.table = self.load(POOL_TABLE)
        self.pin(PIN_TABLE, self.table & OFFSET)
        return self.load(POOL_TABLE) == self.table

    def _once(self):
        if not self._begin():
            return AGAIN
        word = self.table
        for _ in range(TABLES_MAX):
            found, moved = self._chain(word)  # step 11
            if found != MISS or not moved:
                return found
            word = self.load((word & OFFSET) + 16)
            if word == 0:
                return AGAIN
        return AGAIN

    def _words(self, table, x):
        """Chain x of a table: (place, word) of each slot, and (None, link) of each bucket; one word too many if
        it does not end."""
        log2, off = table >> 48, table & OFFSET
        if off == 0 or log2 > 36 or off + TABLE_BYTES + (BUCKET_BYTES << log2) > self.pool.size:
            raise Damaged(f"a table word {table:#x}")
        bucket = off + TABLE_BYTES + BUCKET_BYTES * x
        for _ in range(CHAIN_MAX):
            for slot in range(bucket, bucket + 8 * SLOTS, 8):
                yield slot, self.load(slot)
            link = self.load(bucket + 8 * SLOTS)
            yield None, link
            bucket = link & OFFSET
            if bucket == 0:
                return
            if bucket % BUCKET_BYTES or bucket + BUCKET_BYTES > self.pool.size:
                raise Damaged(f"a link to {bucket}")
        raise Endless

    def _chain(self, table):
        moved = False
        try:
            for slot, word in self._words(table, self.hash >> 64 - (table >> 48)):
                if word & MOVED:
                    moved = True
                elif slot is not None and word >> 48 == self.hash & 0xffff and word & OFFSET:
                    found = self._slot(slot, word)
                    if found != NEXT:
                        return found, moved
        except Endless:
            return ENDLESS, moved
        return MISS, moved

    def _item(self, off):
        """What stands at an offset that is pinned; step 13: key, where its value is, and how long."""
        if off + ITEM_BYTES > self.pool.size:
            raise Damaged(f"an item at {off}")
        lens = self.pool.word(off + 72)
        key_bytes, value_bytes = (lens >> 48) + 1, lens & (1 << 44) - 1
        key_off, value_off = off + ITEM_BYTES, (off + ITEM_BYTES + key_bytes + 7) & ~7
        if value_off + value_bytes > self.pool.size:
            raise Damaged(f"an item at {off} of {value_bytes} bytes")
        return bytes(self.pool.bytes[key_off:key_off + key_bytes]), value_off, value_bytes

    def lease_word(self):
        """Where to wait for somebody else's lease of the key."""
        word = self.m.control.half(CTL_LEASE_WORD + 4 * (self.hash >> 56))
        self.m.order()
        return word

    def _is_of_store(self, off):
        return self.pool.word(off + 56) == self.id and self.pool.half(off + 64) == self.epoch

    def _is_over(self, off):
        """Step 14."""
        expiry = self.pool.word(off + 80)
        return expiry and self.m.now_ns() >= expiry

    def _gen_is_good(self):
        """Step 15."""
        self.m.order()
        return self.m.control.word(self.gen_at) == self.gen

    def _slot(self, slot, word):
        off = word & OFFSET
        self.pin(self.cell, off)  # step 12
        if self.load(slot) != word or self.load(POOL_TABLE) != self.table:
            return AGAIN
        if off + ITEM_BYTES <= self.pool.size and self.pool.word(off + 48) != self.hash:
            return NEXT
        key, value_off, value_bytes = self._item(off)
        if key != self.key or not self._is_of_store(off):
            return NEXT
        if self._is_over(off) or self.pool.word(off + 72) >> 47 & 1:  # known to be absent
            return MISS
        entry = Entry(self.pool, off, value_off, value_bytes)
        if not self._gen_is_good():
            return AGAIN
        if self.cell != PIN_CALL:
            entry.held = (self.gen, self.cell)
        self.word = off | self.p
        return entry

    def _count(self, found):
        """For others' sake."""
        own, at = self.m.own.u64, self.m.block + BLOCK_STORE + 24 * self.idx >> 3
        if found == MISS:
            own[at + 1] += 1
            return
        own[at] += 1
        own[at + 2] += found.value_bytes
        head = own[self.m.block + BLOCK_HINT_HEAD >> 3]
        own[(self.m.block + BLOCK_HINT >> 3) + head % HINTS] = self.word
        self.m.order()
        own[self.m.block + BLOCK_HINT_HEAD >> 3] = head + 1


class Scan(Look):
    """All entries of a store, chain by chain; some of them twice."""

    def __init__(self, memory, store):
        super().__init__(memory, store, b"-", PIN_CALL)
        self.cursor = 0

    def entries(self):
        """(key, value) of each."""
        while True:
            for _ in range(TRIES):
                found, end = self._turn()
                if found is not None:
                    break
            else:
                raise Busy
            yield from found
            if end:
                return

    def _turn(self):
        """What the next chain holds, and whether it was the last; None: again."""
        try:
            return self._next_chain()
        except Damaged:
            if self._still():
                raise
            return None, False
        finally:
            self._unpin(False)

    def _next_chain(self):
        """Steps 17 and 19."""
        if not self._begin():
            return None, False
        log2, found = self.table >> 48, []
        x = self.cursor >> 64 - log2
        moved = self._walk(self.table, x, found)  # None: again
        if moved:
            word = self.load((self.table & OFFSET) + 16)
            if word >> 48 != log2 + 1:
                return None, False
            if self._walk(word, 2 * x, found) is None or self._walk(word, 2 * x + 1, found) is None:
                return None, False
        if moved is None or self.load(POOL_TABLE) != self.table:
            return None, False
        self.cursor = x + 1 << 64 - log2 & M64
        return found, x + 1 == 1 << log2

    def _walk(self, table, x, found):
        """One chain: whether something had moved; None: again."""
        moved = False
        for slot, word in self._words(table, x):
            tries = 0
            while slot is not None and word & OFFSET and not word & MOVED and not self._report(slot, word, found):
                tries += 1
                if tries == TRIES or self.load(POOL_TABLE) != self.table or not self._gen_is_good():
                    return None
                word = self.load(slot)
            moved = moved or bool(word & MOVED)
        return moved

    def _report(self, slot, word, found):
        """Step 18; false: the slot has changed, or more."""
        off = word & OFFSET
        self.pin(self.cell, off)
        if self.load(slot) != word or self.load(POOL_TABLE) != self.table:
            return False
        key, value_off, value_bytes = self._item(off)
        if self._is_of_store(off) and not self._is_over(off) and not self.pool.word(off + 72) >> 47 & 1:
            found.append((key, bytes(self.pool.bytes[value_off:value_off + value_bytes])))
        return self._gen_is_good()
