"""The SSH side of a pretend host: public key only, single commands only, each run by a real shell.

Behaves as sshd without a terminal: the exit status comes when the command has ended and its output is through, a
closed channel closes the command's pipes and leaves the process alone, the eleventh session of a connection is refused.
"""

import asyncio
import contextlib
import os
import signal
import subprocess
from typing import IO, Any

import asyncssh
from typing_extensions import override

from bot.sim.fleet.processes import Processes
from bot.sim.fleet.sandbox import Sandbox

MAX_SESSIONS = 10
"""As in sshd_config."""
_CHUNK = 32768


class Door(asyncssh.SSHServer):
    """Decides who comes in to a host, and gives each session its command."""

    def __init__(
        self,
        sandbox: Sandbox,
        user: str,
        key: asyncssh.SSHKey,
        processes: Processes,
        connections: set[asyncssh.SSHServerConnection],
    ) -> None:
        self._connections = connections
        self._sandbox = sandbox
        self._user = user
        self._key = key
        self._processes = processes
        self._connection: asyncssh.SSHServerConnection | None = None
        self._sessions: set[Session] = set()

    @override
    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self._connection = conn
        self._connections.add(conn)

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        if self._connection is not None:
            self._connections.discard(self._connection)

    @override
    def begin_auth(self, username: str) -> bool:
        return True

    @override
    def public_key_auth_supported(self) -> bool:
        return True

    @override
    def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
        return username == self._user and key.public_data == self._key.public_data

    @override
    def session_requested(self) -> Any:
        if len(self._sessions) >= MAX_SESSIONS or self._connection is None:
            return False
        session = Session(self._sandbox, self._processes, self._sessions)
        return self._connection.create_server_channel(encoding=None), session


class Session(asyncssh.SSHServerSession[bytes]):
    """One command; a terminal, a shell and subsystems are refused."""

    def __init__(self, sandbox: Sandbox, processes: Processes, open_ones: "set[Session]") -> None:
        self._sandbox = sandbox
        self._processes = processes
        self._open_ones = open_ones
        self._command = ""
        self._process: subprocess.Popen[bytes] | None = None
        self._stdin: asyncio.WriteTransport | None = None
        self._early = bytearray()
        """What came before there was a pipe to write it to; at most a channel's window."""
        self._ended = False
        """The client has said that it sends no more."""
        self._pipes: list[asyncio.BaseTransport] = []
        self._writable = asyncio.Event()
        self._writable.set()
        self._task: asyncio.Task[None] | None = None

    @override
    def connection_made(self, chan: asyncssh.SSHServerChannel[bytes]) -> None:
        self._chan = chan
        self._open_ones.add(self)

    @override
    def exec_requested(self, command: str) -> bool:
        self._command = command
        return True

    @override
    def session_started(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run())

    @override
    def data_received(self, data: bytes, datatype: int | None) -> None:
        if self._stdin is None:
            self._early += data
        elif not self._stdin.is_closing():
            self._stdin.write(data)

    @override
    def eof_received(self) -> bool:
        self._ended = True
        if self._stdin is not None:
            self._stdin.close()
        return True

    @override
    def signal_received(self, signal: str) -> None:
        self._send(signal)

    @override
    def break_received(self, msec: int) -> bool:
        return False

    @override
    def pause_writing(self) -> None:
        self._writable.clear()

    @override
    def resume_writing(self) -> None:
        self._writable.set()

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._open_ones.discard(self)
        self._writable.set()
        if self._task is not None:
            self._task.cancel()

    async def _run(self) -> None:
        process, end = self._processes.start(self._sandbox, self._command)
        self._process = process
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            loop = asyncio.get_running_loop()
            stdin, _ = await loop.connect_write_pipe(lambda: _Input(self._chan), process.stdin)
            stdin.write(bytes(self._early))
            self._stdin = stdin
            stdout = await self._reader(process.stdout)
            stderr = await self._reader(process.stderr)
            if self._ended:
                self._stdin.close()
            await asyncio.gather(self._pump(stdout, None), self._pump(stderr, asyncssh.EXTENDED_DATA_STDERR))
            code = await asyncio.shield(end)
            with contextlib.suppress(OSError):
                if code < 0:
                    self._chan.exit_with_signal(signal.Signals(-code).name.removeprefix("SIG"))
                else:
                    self._chan.exit(code)
        finally:
            # The process stays; like under sshd it gets SIGPIPE when it writes to nobody.
            for pipe in [self._stdin, *self._pipes]:
                if pipe is not None:
                    pipe.close()
            # not left to the transports: they close on the loop's next turn, which may not come any more
            process.stdout.close()
            process.stderr.close()
            if self._stdin is None or not self._stdin.get_write_buffer_size():
                process.stdin.close()

    async def _reader(self, pipe: IO[bytes]) -> asyncio.StreamReader:
        reader = asyncio.StreamReader(limit=_CHUNK)
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), pipe
        )
        self._pipes.append(transport)
        return reader

    async def _pump(self, reader: asyncio.StreamReader, datatype: int | None) -> None:
        while data := await reader.read(_CHUNK):
            self._chan.write(data, datatype)
            await self._writable.wait()

    def _send(self, name: str) -> None:
        number = getattr(signal, f"SIG{name}", None)
        if self._process is not None and self._process.poll() is None and isinstance(number, signal.Signals):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)


class _Input(asyncio.BaseProtocol):
    """Holds the client back while the command does not read."""

    def __init__(self, chan: asyncssh.SSHServerChannel[bytes]) -> None:
        self._chan = chan

    @override
    def pause_writing(self) -> None:
        self._chan.pause_reading()

    @override
    def resume_writing(self) -> None:
        self._chan.resume_reading()
