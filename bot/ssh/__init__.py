"""The one door to hosts: Paramiko for connections, Fabric for files, and the once-only wrapper.

Why a room of its own: what can go wrong between two machines is decided here once, and comes out as a type
(`bot.effect.Outcome`), never as an exception and never as a guess. From outside, only `Ssh` and `SshSettings` are used.

    room.py         Ssh: run, probe, close
    plain.py        commands that only look          plain.sh   runs on the host
    once.py         commands that change something   once.sh    runs on the host
    pool.py         warm connections                 login.py   from an address to a login
    identity.py     host keys and private keys       known_hosts.py
    wire.py         Paramiko's transport, tuned      patience.py, output.py, script.py, settings.py
"""

from bot.ssh.room import Ssh
from bot.ssh.settings import SshSettings

__all__ = ["Ssh", "SshSettings"]
