"""The one door to hosts: Paramiko for connections, Fabric for files, and the once-only wrapper.

Why a room of its own: what can go wrong between two machines is decided here once, and comes out as a type
(`bot.effect.Outcome`), never as an exception and never as a guess. From outside, only `Ssh`, `SshSettings`, `Purpose` and `Shown` are used.

    room.py                  Ssh: run, probe, connection, close
    plain.py, plain.sh       commands that only look: the bot's side and the host's
    once.py, *.sh            commands that change something, and mutate.py, which sends them and asks about them
    loop.py                  the one thread that carries everything
    pool.py, login.py        warm connections; from an address to a login; slots.py says whose turn it is
    identity.py              host keys and private keys, with known_hosts.py, certificate.py and public_key.py
    become.py                commands as root: sudo.sh on the login user's side, root.sh on root's
    enrolment.py             known_hosts changed for one host
    account.py, agent.py     which account looks and which one acts; keys of the ssh agent
    files.py                 Fabric's put and get over the same connections
    link.py, session.py      Paramiko's transport and channel, tuned
    wire.py, carrier.py      packets, and what carries their bytes: a socket, or a channel through a jump host
    script.py, output.py, unreached.py, settings.py
"""

from bot.ssh.account import Purpose
from bot.ssh.enrolment import Shown
from bot.ssh.room import Ssh
from bot.ssh.settings import SshSettings

__all__ = ["Purpose", "Shown", "Ssh", "SshSettings"]
