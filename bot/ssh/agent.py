"""The ssh agent, at whatever socket, with the certificates that it holds.

Paramiko's own class knows the socket of SSH_AUTH_SOCK only, and offers a certificate of the agent as the plain key
with the certificate's name, which no server takes. The private names it leans on are held by `tests/test_ssh_account.py`.
"""

import os
import socket
from typing import Self

import paramiko
from paramiko.agent import AgentKey, AgentSSH

from bot.ssh.public_key import CERTIFICATE

SLOW = 10.0
"""Seconds for one answer of the agent; it may ask a person to touch something."""


class NoAgent(Exception):
    """There is no agent to ask."""


class Agent(AgentSSH):
    """A connection to an agent."""

    @classmethod
    def at(cls, path: str) -> Self:
        """Ask the agent at this socket for its keys; empty: the one of SSH_AUTH_SOCK.

        Raises:
            NoAgent: when it does not answer.

        """
        place = path or os.environ.get("SSH_AUTH_SOCK", "")
        if not place:
            raise NoAgent("no ssh agent: SSH_AUTH_SOCK is not set")
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.settimeout(SLOW)
        try:
            sock.connect(place)
            agent = cls()
            agent._connect(sock)  # type: ignore[attr-defined]
        except (OSError, paramiko.SSHException) as error:
            sock.close()
            said = getattr(error, "strerror", None) or error
            raise NoAgent(f"the ssh agent at {place} does not answer: {said}") from None
        return agent

    def close(self) -> None:
        """Hang up."""
        self._close()  # type: ignore[attr-defined]

    def get_keys(self) -> tuple[AgentKey, ...]:
        """Return its keys, certificates as such."""
        return tuple(
            Certified(self, key.blob, key.comment) if key.get_name().endswith(CERTIFICATE) else key
            for key in super().get_keys()
        )


class Certified(AgentKey):
    """A key of the agent together with its certificate."""

    def asbytes(self) -> bytes:
        """Return the certificate: both what the server is shown and how the agent knows its key."""
        return self.blob
