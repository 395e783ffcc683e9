"""Which account is used on a host: one that looks, and another that acts, where people keep the two apart.

Pure. Least privilege: a key that may restart containers need not lie behind every look at a machine, and a machine that
is only looked at need not know such a key.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bot.inventory import Host
from bot.ssh.settings import SshSettings

Purpose = Literal["look", "act"]
"""What a login is for."""


@dataclass(frozen=True, slots=True)
class Account:
    """Who logs in, and with what."""

    user: str
    identity_files: tuple[Path, ...]
    certificate_files: tuple[Path, ...] = ()
    agent: str | None = None
    """Socket of an ssh agent whose keys are offered too; empty: the one of SSH_AUTH_SOCK; None: no agent."""
    setting: str = "ssh.identity_files"
    """Where people set its keys."""


def account(host: Host, settings: SshSettings, purpose: Purpose = "look") -> Account:
    """Return the account for a purpose; both are the same where nothing sets them apart."""
    access, act = host.access, settings.act
    user = host.user or settings.user
    files = settings.identity_files if access.identity_files is None else access.identity_files
    agent = "" if settings.allow_agent else None
    if access.agent is not None:
        agent = access.agent or None
    look = Account(user, files, access.certificate_files, agent)
    if purpose == "look":
        return look
    acting = (access.act_user or act.user or user, access.act_identity_files or act.identity_files)
    if acting == (user, ()):
        return look
    if not acting[1]:
        return Account(acting[0], files, access.certificate_files, agent)
    # keys that act are named one by one: an agent would offer those that look as well
    return Account(*acting, setting="ssh.act.identity_files")


def apart(host: Host, settings: SshSettings) -> bool:
    """Are looking and acting two accounts on this host?"""
    return account(host, settings, "look") != account(host, settings, "act")
