"""What a person may set about SSH; every limit has a safe default."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, field_validator

from bot.inventory import Sudo


class Act(BaseModel):
    """Who logs in for commands that change something."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    user: str | None = None
    """None: the user who looks."""
    identity_files: tuple[Path, ...] = ()
    """Empty: the keys that look. Others are never offered together with these, and no agent is asked."""

    @field_validator("identity_files")
    @classmethod
    def _expand(cls, value: tuple[Path, ...]) -> tuple[Path, ...]:
        return tuple(path.expanduser() for path in value)


class SshSettings(BaseModel):
    """How hosts are reached and who logs in."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    user: str = "root"
    """Login name where the inventory gives none."""
    known_hosts: Path = Path("~/.ssh/known_hosts")
    """The host keys that are trusted; there is no way to trust any other."""
    identity_files: tuple[Path, ...] = ()
    """Private keys, tried in this order; keys that are not named here are never looked for."""
    allow_agent: bool = False
    """Offer the keys of the ssh agent after the identity files."""
    act: Act = Act()
    """Another account for commands that change something."""
    sudo: Sudo = "never"
    """Which commands run under `sudo -n` where the inventory does not say."""
    connect_timeout: float = Field(default=5.0, gt=0)
    """Seconds for name lookup and TCP, each."""
    login_timeout: float = Field(default=15.0, gt=0)
    """Seconds for banner, key exchange and login together."""
    keepalive: float = Field(default=5.0, gt=0)
    """Seconds of silence after which the host is asked whether it is there."""
    keepalive_misses: int = Field(default=3, ge=1)
    """Silent intervals after which the link is dead."""
    idle_close: float = Field(default=600.0, gt=0)
    """Seconds a connection is kept with nothing to do."""
    max_connecting: int = Field(default=32, ge=1)
    """Logins at once, over all hosts."""
    max_connections: int = Field(default=2000, ge=1)
    """Connections kept at once; when there are more, the one that has been idle for longest is ended."""
    max_channels: int = Field(default=8, ge=1)
    """Commands at once on one host; sshd's own default limit is 10."""
    kill_grace: float = Field(default=5.0, ge=0)
    """Seconds between TERM and KILL for a command that must end."""

    @field_validator("known_hosts", "identity_files")
    @classmethod
    def _expand(cls, value: Path | tuple[Path, ...]) -> Path | tuple[Path, ...]:
        if isinstance(value, tuple):
            return tuple(path.expanduser() for path in value)
        return value.expanduser()

    @property
    def dead_after(self) -> float:
        """Seconds of silence that end a link."""
        return self.keepalive * self.keepalive_misses
