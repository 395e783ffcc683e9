"""One stream of a command, kept within `KEEP` bytes whatever the command writes."""

from bot.effect import KEEP, Output

HEAD = KEEP * 3 // 4
TAIL = KEEP - HEAD
NOISE = 16 * 1024


class Keeper:
    """Keeps the first three quarters and the last quarter of a stream, and counts all of it.

    What comes before `mark` is noise of the login shell (a `.bashrc` that prints) and no part of the stream.
    """

    def __init__(self, mark: bytes = b"") -> None:
        self.total = 0
        self.marked = not mark
        """Did the mark come?"""
        self.noise = b""
        self._mark = mark
        self._head = bytearray()
        self._tail = bytearray()

    def add(self, data: bytes) -> None:
        """Take the next bytes."""
        if not self.marked:
            before, found, data = (self.noise + data).partition(self._mark)
            self.noise = before[-NOISE:]
            self.marked = bool(found)
            if not found:
                return
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
