"""One stream of a command, kept within `KEEP` bytes whatever the command writes."""

from bot.effect import HEAD, TAIL, Keep, Output

NOISE = 16 * 1024


class Keeper:
    """Keeps in memory the first three quarters and the last quarter of a stream, and counts all of it."""

    full = False

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """Forget everything: the stream comes again from its beginning."""
        self.total = 0
        self._head = bytearray()
        self._tail = bytearray()

    def add(self, data: bytes) -> None:
        """Take the next bytes."""
        self.total += len(data)
        room = HEAD - len(self._head)
        if room > 0:
            self._head += data[:room]
            data = data[room:]
        self._tail += data
        if len(self._tail) > 4 * TAIL:
            del self._tail[:-TAIL]

    def skip(self, count: int) -> None:
        """Count bytes that were left out before they came here."""
        self.total += count

    @property
    def output(self) -> Output:
        """What was kept so far."""
        return Output(bytes(self._head) + bytes(self._tail[-TAIL:]), self.total)


class Marked:
    """Passes on what comes after a mark; what comes before it is noise of the login shell (a `.bashrc` that prints)."""

    def __init__(self, mark: bytes, keep: Keep) -> None:
        keep.restart()
        self.keep = keep
        self.marked = False
        """Did the mark come?"""
        self.noise = b""
        self._mark = mark

    @property
    def full(self) -> bool:
        """Must no more come for now?"""
        return self.keep.full

    def add(self, data: bytes) -> None:
        """Take the next bytes."""
        if self.marked:
            self.keep.add(data)
            return
        before, found, after = (self.noise + data).partition(self._mark)
        self.noise = before[-NOISE:]
        self.marked = bool(found)
        if after:
            self.keep.add(after)
