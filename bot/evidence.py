"""Evidence: what is kept of a host before anything is changed there.

A warm reboot loses the kernel's log, a restart the container's last words: so they are read first. The default pack is
what plain SSH gives; each part has its own time and its own number of bytes, and all together have a time box, because
the machine that is asked is unwell. What is read is kept with a hash over what was asked, where, when, and what came.

No container's environment is read, only the names in it, and no command line: tokens stand in both.
"""

import hashlib
import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal


@dataclass(frozen=True, slots=True)
class Part:
    """One thing that is read."""

    name: str
    command: str
    """Shell text; $NAME is the serving container, where it is known."""
    seconds: int = 8
    size: int = 16 * 1024
    """Bytes that are kept of it."""
    end: Literal["head", "tail"] = "head"
    """Which end is kept of what is longer."""


_ENVIRONMENT = '{{range .Config.Env}}{{index (split . "=") 0}} {{end}}'
_INSPECT = (
    '{"Id":{{json .Id}},"Name":{{json .Name}},"Created":{{json .Created}},"RestartCount":{{json .RestartCount}},'
    '"State":{{json .State}},"Image":{{json .Config.Image}},'
    '"RestartPolicy":{{json .HostConfig.RestartPolicy}}} environment, names only: ' + _ENVIRONMENT
)
_CONTAINERS = r"table {{.ID}}\t{{.Image}}\t{{.CreatedAt}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}"
"""The columns of `docker ps` but the command."""
_APPS = "nvidia-smi --query-compute-apps"

# What is cheap and never hangs comes first, what a sick driver holds up comes last: when the time is over, the rest is there.
HOST = (
    Part(
        "boot",
        "date -u +%Y-%m-%dT%H:%M:%SZ; cat /proc/sys/kernel/random/boot_id /proc/uptime; uname -a",
        5,
        4096,
    ),
    Part("uptime", "uptime", 5, 4096),
    Part("disks", "df -hP", 5),
    Part("memory", "free -m", 5, 4096),
    Part(
        "kernel_log",
        "journalctl -k -b -q -o short-iso-precise --no-pager 2>/dev/null | tail -c 196608 | grep -a . || dmesg",
        10,
        192 * 1024,
        "tail",
    ),
    Part("containers", f"docker ps --all --no-trunc --format {shlex.quote(_CONTAINERS)}", 8, 32 * 1024),
)
ANY_CONTAINER = (
    Part(
        "inspect",
        f"docker ps -a -q | head -n 20 | xargs docker inspect --format {shlex.quote(_INSPECT)} --",
        8,
        64 * 1024,
    ),
)
ONE_CONTAINER = (
    Part(
        "inspect",
        f'docker inspect --type container --format {shlex.quote(_INSPECT)} -- "$NAME"',
        8,
        64 * 1024,
    ),
    Part("logs", 'docker logs --tail 500 --timestamps -- "$NAME"', 10, 192 * 1024, "tail"),
)
GPUS = (
    Part("gpus", "nvidia-smi -q -x", 20, 256 * 1024),
    Part("gpu_holders", f"{_APPS}=pid,gpu_uuid,used_memory --format=csv", 8),
    Part(
        "holder_processes",
        f"p=$({_APPS}=pid --format=csv,noheader) || exit; p=$(printf '%s' \"$p\" | tr -s '\\n ' ',,')\n"
        '[ -n "$p" ] || exit 0; ps -o pid,ppid,user,stat,lstart,wchan,comm -p "$p"\n'
        'code=$?; [ "$code" -ne 1 ] || exit 0; exit "$code"',  # 1: they have ended meanwhile
        8,
    ),
    Part("nvlink", "nvidia-smi nvlink -s", 8, 32 * 1024),
    Part("nvlink_errors", "nvidia-smi nvlink -e", 8, 32 * 1024),
    Part("topology", "nvidia-smi topo -m", 8),
)

_FRAME = """\
mark=$(od -An -N8 -tx1 /dev/urandom 2>/dev/null | tr -d ' \\n'); mark=${mark:-$$.$(date +%s)}
began=$(date +%s); export NAME
exec 4>&1
limited() { if command -v timeout >/dev/null; then timeout -k 1 "$1" sh -c "$2"; else sh -c "$2"; fi; }
keep() { if [ "$1" = head ]; then head -c "$2"; else tail -c "$2"; fi; }
part() {
  left=$((began + WITHIN - $(date +%s))); [ "$left" -lt "$2" ] || left=$2
  printf '%s begin %s\\n' "$mark" "$1"; code=skipped
  [ "$left" -lt 1 ] || code=$({ { limited "$left" "$5" </dev/null 2>&1 3>&- 4>&-; echo "$?" >&3; } | keep "$3" "$4" >&4; } 3>&1)
  printf '\\n%s end %s %s\\n' "$mark" "$1" "$code"
}
clock() { printf '%s clock %s %s\\n' "$mark" "$(date +%s.%N)" "$(cut -d' ' -f1 /proc/uptime 2>/dev/null)"; }
printf 'capture %s\\n' "$mark"; clock
"""


def pack(*, container: bool) -> tuple[Part, ...]:
    """Return the default pack; `container`: is the serving container known by its name?"""
    return (*HOST, *(ONE_CONTAINER if container else ANY_CONTAINER), *GPUS)


def script(parts: tuple[Part, ...], within: int) -> str:
    """Write one command that reads all parts, each in a frame whose mark no output can know, and the host's clock."""
    calls = [
        f"part {one.name} {one.seconds} {one.end} {one.size} {shlex.quote(one.command)}" for one in parts
    ]
    return _FRAME.replace("WITHIN", str(within)) + "\n".join(calls) + "\nclock\nexit 0\n"


def seal(
    *,
    host: str,
    command: str,
    env: Mapping[str, str],
    exit_code: int | None,
    stdout: bytes,
    stderr: bytes,
    at: datetime,
) -> str:
    """Return SHA-256 over what was asked, where, when, and what came of it."""
    asked = {
        "host": host,
        "command": command,
        "env": dict(env),
        "exit_code": exit_code,
        "at": at.astimezone(UTC).isoformat(timespec="microseconds"),
        "stdout": hashlib.sha256(stdout).hexdigest(),
        "stderr": hashlib.sha256(stderr).hexdigest(),
    }
    text = json.dumps(asked, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
