#!/usr/bin/env -S python3 -B
"""client.py SOCKET: a client of HyperCache in Python, written from libclient/README.md alone.

It reads commands from standard input, one a line, words between spaces, bytes in hexadecimal ("-" for
none), and answers each with a line.  COMMANDS below has them.  tests/proc/proc_foreign.c asks.
"""
import socket
import sys
import time

from feed import Feed, Lapped
from memory import (FENCE_COMPILER, FENCE_FULL, LAYOUT_MAJOR, LAYOUT_MINOR, Look, Memory, PIN_CALL, Protocol,
                    register_for_membarrier, Scan, time_offset_ns)
from wire import BATCH, BYE, CLEAR, DELETE, HELLO, INCR, LEASE, LEASE_DROP, Malformed, PING, SET, TOUCH, frame, unpack
from xxh3 import M64, xxh3_64

CLOSING, PROTO_MAJOR, PROTO_MINOR, HELLO_BYTES_MAX, FDS_MAX = -21, 1, 0, 65536, 64
SECONDS = 20  # for an answer, however many engines it takes
TTL_NEVER = M64


class Lost(Exception):
    pass


class Client:
    def __init__(self, path, name="a foreign client"):
        self.path, self.name = path, name
        self.fence = FENCE_COMPILER if register_for_membarrier() else FENCE_FULL
        self.next, self.unanswered, self.sock, self.memory = 1, [], None, None
        self._connect(0)

    def _connect(self, session):
        """HELLO, until there is an engine that answers it."""
        end, pause = time.monotonic() + SECONDS, 0.001
        while True:
            try:
                return self._hello(session)
            except (Lost, OSError) as e:
                if time.monotonic() > end:
                    raise TimeoutError("nobody answers") from e
            time.sleep(pause)
            pause = min(2 * pause, 0.05)

    def hello(self, session):
        return [0, PROTO_MAJOR, PROTO_MINOR, LAYOUT_MAJOR, LAYOUT_MINOR, session, self.name, self.fence,
                time_offset_ns() & M64]

    def _hello(self, session):
        if self.sock:
            self.sock.close()
        self.sock, self.buffer, fds = socket.socket(socket.AF_UNIX), b"", []
        self.sock.settimeout(SECONDS)
        self.sock.connect(self.path)
        self.sock.sendall(frame([HELLO, *self.hello(session)]))
        answer = self._answer(fds)
        if answer[:2] != [HELLO, 0]:
            raise Protocol(f"{answer} is no answer to HELLO")
        if answer[2] == CLOSING:
            raise Lost
        if answer[2] != 0:
            raise Protocol(f"HELLO: status {answer[2]}")
        self.max_inflight, self.max_frame = answer[5], answer[6]
        if session == 0:
            self.memory = Memory(answer, fds, self.fence)
        elif answer[3] != session or answer[8] != 1 or fds:
            raise Protocol("this is not the session that was asked for")
        return answer

    def _answer(self, fds=None):
        """The next frame of the engine, decoded."""
        while len(self.buffer) < 4 or len(self.buffer) < 4 + int.from_bytes(self.buffer[:4], "little"):
            data, more, _, _ = socket.recv_fds(self.sock, 1 << 16, FDS_MAX)
            if not data:
                raise Lost
            if fds is not None:
                fds += more
            self.buffer += data
        end = 4 + int.from_bytes(self.buffer[:4], "little")
        answer, at = unpack(self.buffer[4:end])
        if at != end - 4:
            raise Malformed("bytes behind the array")
        self.buffer = self.buffer[end:]
        return answer

    def _call(self, request):
        """Sends a request and returns its answer; what was not answered goes out again after a loss."""
        self.unanswered.append(request)
        lost = False
        while True:
            try:
                if lost:
                    self._connect(self.memory.session)
                for r in self.unanswered:
                    self.sock.sendall(frame(r))
                answer = self._answer()
                break
            except (Lost, ConnectionError):
                lost = True
        if answer[:2] != request[:2]:
            raise Protocol(f"{answer} is no answer to {request[:2]}")
        self.unanswered.clear()
        return answer[2:]

    def _mutation(self, verb, store, *arguments):
        request = [verb, self.next, *store, *arguments]
        self.next += 1
        return self._call(request)

    # Each answers [status, lsn, value].

    def ping(self):
        return self._call([PING, 0])

    def set(self, store, key, value, flags=0, ttl_ms=TTL_NEVER, mode=0, version=0, stamp=0, lease=0):
        return self._mutation(SET, store, key, value, flags, ttl_ms, mode, version, stamp, lease)

    def delete(self, store, key, version=0):
        return self._mutation(DELETE, store, key, version)

    def touch(self, store, key, ttl_ms):
        return self._mutation(TOUCH, store, key, ttl_ms)

    def incr(self, store, key, delta, initial=0, ttl_ms=TTL_NEVER, how=0):
        return self._mutation(INCR, store, key, delta & M64, initial & M64, ttl_ms, how)

    def lease(self, store, key, version, ttl_ms):
        return self._mutation(LEASE, store, key, version, ttl_ms)

    def lease_drop(self, store, key, token):
        return self._mutation(LEASE_DROP, store, key, token)

    def clear(self, store):
        return self._mutation(CLEAR, store)

    def batch(self, items, how=0):
        """[status, lsn, n, [[i, status, lsn, value], ...]]"""
        first = self.next
        self.next += len(items)
        return self._call([BATCH, first, how, items])

    def close(self):
        self.memory.close()  # before BYE: the pins are void from then on
        self._call([BYE, 0])
        self.sock.close()


# ------------------------------------------------------------------ the commands of the test

def data(word):
    return b"" if word == "-" else bytes.fromhex(word)


def line(*words):
    return " ".join(w.hex() or "-" if isinstance(w, bytes) else str(w) for w in words)


class Commands:
    def __init__(self, client):
        self.c, self.m = client, client.memory
        self.held = {}

    def hash(self, seed, key):
        return line(xxh3_64(data(key), int(seed)))

    def store(self, name):
        self.s = self.m.store(name)
        return line(*self.s)

    def get(self, key):
        e = self.m.find(self.s, data(key))
        return line("hit", e.value, e.version, e.flags) if e else "miss"

    def meta(self, key):
        e = self.m.find(self.s, data(key))
        return line("hit", e.value_bytes, e.created_ns, e.modified_ns, e.stamp, e.ttl_ms) if e else "miss"

    def hold(self, cell, key):
        self.held[cell] = self.m.find(self.s, data(key), int(cell))
        return "held" if self.held[cell] else "miss"

    def look(self, cell):
        return line(self.held[cell].bytes())

    def release(self, cell):
        return "ok" if self.m.release(self.held.pop(cell)) else "revoked"

    def always(self, times, value, *keys):
        """Reads keys that are always there, with always the same value."""
        for i in range(int(times)):
            e = self.m.find(self.s, data(keys[i % len(keys)]))
            if e is None or e.value != data(value):
                return line("wrong", i, e.value if e else "miss")
        return "ok"

    def scan(self):
        """How many keys, how many bytes of values, and the sum of all hashes of (key, value)."""
        found = dict(Scan(self.m, self.s).entries())
        return line(len(found), sum(map(len, found.values())),
                    sum(xxh3_64(k + v, 0) for k, v in found.items()) & M64)

    def set(self, key, value, flags="0", ttl_ms=str(TTL_NEVER), stamp="0"):
        return line(*self.c.set(self.s, data(key), data(value), int(flags), int(ttl_ms), 0, 0, int(stamp)))

    def delete(self, key):
        return line(*self.c.delete(self.s, data(key)))

    def touch(self, key, ttl_ms):
        return line(*self.c.touch(self.s, data(key), int(ttl_ms)))

    def incr(self, key, delta):
        status, lsn, value = self.c.incr(self.s, data(key), int(delta))
        return line(status, lsn, value - (1 << 64) if value >> 63 else value)

    def lease(self, key, ttl_ms):
        """As point 10 says: the word, the look-up, the question."""
        self.word = Look(self.m, self.s, data(key), PIN_CALL).lease_word()
        e = self.m.find(self.s, data(key))
        return line("hit", e.value) if e else line(*self.c.lease(self.s, data(key), 0, int(ttl_ms)))

    def leaseword(self, key):
        word = Look(self.m, self.s, data(key), PIN_CALL).lease_word()
        return line("same" if word == self.word else "changed", word & 1)

    def fill(self, key, value, token):
        return line(self.c.set(self.s, data(key), data(value), lease=int(token))[0])

    def drop(self, key, token):
        return line(self.c.lease_drop(self.s, data(key), int(token))[0])

    def clear(self):
        return line(*self.c.clear(self.s))

    def batch(self, how, *words):
        """Triples of words: set KEY VALUE, delete KEY -, incr KEY DELTA."""
        items = []
        for verb, key, x in zip(words[::3], words[1::3], words[2::3]):
            head = [{"set": SET, "delete": DELETE, "incr": INCR}[verb], *self.s, data(key)]
            items.append(head + {"set": lambda: [data(x), 0, 0], "delete": lambda: [],
                                 "incr": lambda: [int(x) & M64, 0, 0, 0]}[verb]())
        status, lsn, n, answers = self.c.batch(items, int(how))
        return line(status, lsn, n, *(f"{i}:{s}:{value}" for i, s, _, value in answers))

    def raw(self, verb, *words):
        """A mutation of any content: i NUMBER, b BYTES, s TEXT; the answer's status."""
        arguments = [{"i": int, "b": data, "s": str}[kind](x) for kind, x in zip(words[::2], words[1::2])]
        return line(self.c._mutation(int(verb), arguments[:2], *arguments[2:])[0])

    def follow(self):
        self.feed = Feed(self.m, 0)
        return "ok"

    def event(self):
        try:
            e = self.feed.next()
        except Lapped as lost:
            return line("lapped", lost)
        return line(*e) if e else "none"

    def wait(self):
        return "ready" if self.feed.wait(self.c, SECONDS) else "late"

    def ping(self):
        return line(self.c.ping()[0])

    def bye(self):
        self.c.close()
        return "bye"


def main():
    commands = Commands(Client(sys.argv[1]))
    print("ready", flush=True)
    for words in map(str.split, sys.stdin):
        print(getattr(commands, words[0])(*words[1:]), flush=True)
        if words[0] == "bye":
            break


main()
