"""A pool's change feed: libclient/README.md, "Reading, in another language", steps 20 to 23, and "A connection", 11."""
import select
import socket

from memory import Damaged, Protocol
from wire import HELLO, frame

POOL_FEED_OFF, POOL_FEED_BYTES = 152, 160
HEAD, TAIL, N_WORDS, MAGIC, NEXT_SEQUENCE, HEADER = 0, 64, 72, 80, 88, 128
FEED_MAGIC, WORDS, KEY_MAX, WHATS, NO_KEY = 0x3130444545464348, 8, 4096, 9, 7


class Lapped(Exception):
    """Its argument: how many are gone."""


class Feed:
    def __init__(self, memory, pool):
        """Step 20; from what comes from now on."""
        self.m, self.pool, self.p = memory, memory.pools[pool], pool
        self.at = self.pool.word(POOL_FEED_OFF)
        self.m.order()
        size = self.pool.word(POOL_FEED_BYTES)
        if self.at == 0:
            raise Protocol("this pool keeps no feed")
        if self.pool.word(self.at + MAGIC) != FEED_MAGIC or self.pool.word(self.at + N_WORDS) != (size - HEADER) // 8:
            raise Damaged("the feed's header")
        self.n_words, self.sequence, self.sock = (size - HEADER) // 8, None, None
        self.pos = self.pool.word(self.at + HEAD)

    def _word(self, pos):
        return self.pool.word(self.at + HEADER + 8 * (pos % self.n_words))

    def _overtaken(self):
        """Step 22: behind what was copied."""
        self.m.order()
        return self.pool.word(self.at + TAIL) > self.pos

    def next(self):
        """(what, why, sequence, key), or None: steps 21 to 23."""
        head = self.pool.word(self.at + HEAD)
        self.m.order()
        if head == self.pos:
            return None
        shape, sequence, _, _, _, _, _, lens = (self._word(self.pos + i) for i in range(WORDS))
        n, what, why = shape >> 48, shape >> 40 & 255, shape >> 32 & 255
        if not self._overtaken():
            key_bytes = 0 if what >= NO_KEY else min((lens >> 48) + 1, KEY_MAX)
            if shape & 0xffffffff != self.pos & 0xffffffff or n != WORDS + (key_bytes + 7) // 8 or n > head - self.pos \
                    or not 0 < what < WHATS:
                raise Damaged("an entry of the feed")
            key = b"".join(self._word(self.pos + i).to_bytes(8, "little") for i in range(WORDS, n))[:key_bytes]
            if not self._overtaken():
                lost = sequence - self.sequence - 1 if self.sequence is not None else 0
                self.sequence = sequence
                self.pos += n
                if lost:
                    raise Lapped(lost)
                return what, why, sequence, key
        self.pos = self.pool.word(self.at + TAIL)
        return self.next()

    def wait(self, client, seconds):
        """Until there is something, by the engine's answer alone.  False: not in time."""
        if self.sock is None:
            self.sock = socket.socket(socket.AF_UNIX)
            self.sock.connect(client.path)
        try:
            self.sock.sendall(frame([HELLO, *client.hello(client.memory.session), self.p + 1, self.pos + 1]))
            if not select.select([self.sock], [], [], seconds)[0]:
                return False
            if self.sock.recv(1 << 16):
                return True
        except ConnectionError:  # what it had not read yet makes another end
            pass
        self.sock.close()
        self.sock = None
        return self.wait(client, seconds)  # an engine has died: the next one is asked
