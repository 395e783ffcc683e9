"""A loopback TCP proxy that can cut or freeze what goes through it: the network at its worst, on demand."""

import contextlib
import selectors
import socket
import struct
import threading
from dataclasses import dataclass, replace

from bot.inventory import Host
from tests.parts.programs import Part


@dataclass(eq=False)
class _Pair:
    client: socket.socket
    server: socket.socket
    up: int = 0
    down: int = 0


class Proxy(Part):
    """Stands between a client and a host; one thread moves the bytes."""

    def __init__(self, host: Host, *, address: str = "127.0.1.1") -> None:
        self._target = (host.address, host.port)
        self._host = host
        self._listener = socket.create_server((address, 0))
        self.port = int(self._listener.getsockname()[1])
        self.refusing = False
        """Close new connections at once."""
        self.frozen = False
        """Move no byte, but keep the connections open."""
        self.piece = 65536
        """Move at most so many bytes at once."""
        self.flights: int | None = None
        """How many more times may anything go to the host? What comes from it is moved all the same."""
        self.cut_up: int | None = None
        """Cut a connection when so many bytes of it went to the host."""
        self.cut_down: int | None = None
        """Cut a connection when so many bytes of it came from the host."""
        self.connections = 0
        self._pairs: list[_Pair] = []
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._work, name="proxy")

    def host(self) -> Host:
        """Return the host behind it, at the proxy's port."""
        return replace(self._host, address=self._listener.getsockname()[0], port=self.port)

    def known_hosts_line(self, line: str) -> str:
        """Return the line of the host behind it, for the proxy's address."""
        return f"[{self._listener.getsockname()[0]}]:{self.port} {line.split(' ', 1)[1]}"

    def start(self) -> None:
        """Begin to take connections."""
        self._thread.start()

    def stop(self) -> None:
        """Close everything."""
        self._over.set()
        self._thread.join()
        self.cut()
        self._listener.close()

    def cut(self) -> None:
        """Reset all connections."""
        with self._lock:
            for pair in list(self._pairs):
                self._drop(pair)

    def traffic(self) -> tuple[int, int]:
        """Return the bytes that went up and down on the newest connection."""
        with self._lock:
            return (self._pairs[-1].up, self._pairs[-1].down) if self._pairs else (0, 0)

    def _drop(self, pair: _Pair) -> None:
        if pair in self._pairs:
            self._pairs.remove(pair)
            for sock in (pair.client, pair.server):
                with contextlib.suppress(OSError):
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                sock.close()

    def _work(self) -> None:
        while not self._over.is_set():
            with selectors.PollSelector() as selector:
                with self._lock:
                    selector.register(self._listener, selectors.EVENT_READ)
                    if not self.frozen:
                        for pair in self._pairs:
                            if self.flights != 0:
                                selector.register(pair.client, selectors.EVENT_READ, pair)
                            selector.register(pair.server, selectors.EVENT_READ, pair)
                ready = [(key.fileobj, key.data) for key, _ in selector.select(0.01)]
            with self._lock:
                for sock, pair in ready:
                    if pair is None:
                        self._accept()
                    elif pair in self._pairs and not self.frozen:
                        self._move(pair, sock)

    def _accept(self) -> None:
        client, _ = self._listener.accept()
        if self.refusing:
            client.close()
            return
        self.connections += 1
        self._pairs.append(_Pair(client, socket.create_connection(self._target)))

    def _move(self, pair: _Pair, sock: object) -> None:
        upward = sock is pair.client
        if upward and self.flights is not None:
            self.flights -= 1
        source, sink = (pair.client, pair.server) if upward else (pair.server, pair.client)
        most, gone = (self.cut_up, pair.up) if upward else (self.cut_down, pair.down)
        room = self.piece if most is None else max(0, min(self.piece, most - gone))
        try:
            data = source.recv(room) if room else b""
            sink.sendall(data)
        except OSError:
            data = b""
        if upward:
            pair.up += len(data)
        else:
            pair.down += len(data)
        if not data:
            self._drop(pair)
