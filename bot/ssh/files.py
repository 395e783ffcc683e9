"""Files to and from hosts by Fabric, over a connection that this room made and checked.

Fabric would connect by itself with unknown host keys accepted, environment values unquoted and no deadline; so it is
given our connection and never makes its own. What it does well it does here: `put` and `get`.
"""

import fabric

from bot.inventory import Host
from bot.ssh.link import Link


def fabric_connection(link: Link, host: Host, user: str) -> fabric.Connection:
    """Return a Fabric connection that rides on `link`; closing it is not its business."""
    config = fabric.Config(lazy=True, overrides={"load_ssh_configs": False})
    connection = fabric.Connection(host.address, user=user, port=host.port, config=config)
    connection.client._transport = link  # noqa: SLF001 - SSHClient has no public way to take a transport
    connection.transport = link
    return connection


def close_files(connection: fabric.Connection) -> None:
    """Close the file channel and leave the connection alone."""
    if connection._sftp is not None:  # noqa: SLF001 - Fabric's own close() would end our connection
        connection._sftp.close()  # noqa: SLF001
