"""The pretend tools of the machine itself: dmesg, journalctl, hostname, uptime, systemctl, lspci."""

import re
from datetime import UTC, datetime

from bot.sim.fleet.reply import Reply, options
from bot.sim.fleet.state import State, World

_UNITS = {"docker", "containerd", "nvidia-fabricmanager", "nvidia-persistenced", "ssh", "sshd"}
_SINCE = re.compile(r"-?(\d{1,6}) ?(s|m|h|d|sec|min|minute|hour|day)\w*(?: ago)?")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def dmesg(world: World, host: State, argv: list[str]) -> Reply:
    """Show the kernel's log since boot."""
    found, _ = options(
        argv, "TxkHPtl:", ["ctime", "time-format=", "since=", "level=", "kernel", "nopager", "decode"]
    )
    form = found.get("--time-format", "ctime" if {"-T", "--ctime"} & found.keys() else "raw")
    lines = []
    for at, text in _entries(world, host, found.get("--since")):
        when = datetime.fromtimestamp(at, UTC)
        clock = {
            "ctime": f"[{when:%a %b %e %H:%M:%S %Y}]",
            "iso": f"{when:%Y-%m-%dT%H:%M:%S},{when.microsecond:06d}+00:00",
        }.get(form, f"[{at - host.booted_at:12.6f}]")
        lines.append(f"{clock} {text}\n")
    return Reply(stdout="".join(lines))


def journalctl(world: World, host: State, argv: list[str]) -> Reply:
    """Show the journal; only the kernel writes one here."""
    found, _ = options(
        argv,
        "kbo:n:u:qra",
        [
            "dmesg",
            "boot",
            "output=",
            "since=",
            "until=",
            "lines=",
            "no-pager",
            "unit=",
            "quiet",
            "no-hostname",
            "utc",
        ],
    )
    lines = []
    for at, text in _entries(world, host, found.get("--since")):
        when = datetime.fromtimestamp(at, UTC)
        form = found.get("-o", found.get("--output", "short"))
        clock = {
            "short-iso": f"{when:%Y-%m-%dT%H:%M:%S}+0000",
            "short-iso-precise": f"{when:%Y-%m-%dT%H:%M:%S.%f}+0000",
        }.get(form, f"{when:%b %d %H:%M:%S}")
        lines.append(f"{clock} {host.name} kernel: {text}\n")
    most = found.get("-n", found.get("--lines", ""))
    if most.isdigit():
        lines = lines[len(lines) - min(len(lines), int(most)) :]
    return Reply(stdout="".join(lines) or "-- No entries --\n")


def _entries(world: World, host: State, since: str | None) -> list[tuple[float, str]]:
    found = _SINCE.fullmatch((since or "").strip())
    if found is None:
        return host.log
    oldest = world.clock() - int(found[1]) * _SECONDS[found[2][0]]
    return [(at, text) for at, text in host.log if at >= oldest]


def hostname(_: World, host: State, _argv: list[str]) -> Reply:
    """Say the host's name."""
    return Reply(stdout=f"{host.name}\n")


def uptime(world: World, host: State, argv: list[str]) -> Reply:
    """Say since when the host is up."""
    now = world.clock()
    if "-s" in argv:
        return Reply(stdout=f"{datetime.fromtimestamp(host.booted_at, UTC):%Y-%m-%d %H:%M:%S}\n")
    days, rest = divmod(int(now - host.booted_at), 86400)
    since = f"{days} days, {rest // 3600:2d}:{rest % 3600 // 60:02d}" if days else f"{rest // 60} min"
    return Reply(
        stdout=f" {datetime.fromtimestamp(now, UTC):%H:%M:%S} up {since},  0 users,  load average: 9.12, 9.04, 8.87\n"
    )


def systemctl(_: World, host: State, argv: list[str]) -> Reply:
    """Say of the units of a GPU host that they are active."""
    found, words = options(argv, "q", ["quiet", "no-pager", "value", "property="])
    verb, *units = words or ["list-units"]
    names = [unit.removesuffix(".service") for unit in units]
    if verb == "is-active":
        known = _UNITS if host.gpus else {"haproxy", "ssh", "sshd"}
        shown = (
            ""
            if {"-q", "--quiet"} & found.keys()
            else "".join(("active" if name in known else "inactive") + "\n" for name in names)
        )
        return Reply(stdout=shown, exit=0 if all(name in known for name in names) else 3)
    return Reply(stderr=f"systemctl {verb} is not part of this pretend host.\n", exit=1)


def lspci(_: World, host: State, _argv: list[str]) -> Reply:
    """List the GPUs on the bus, in the form of `lspci -D -n`."""
    return Reply(
        stdout="".join(
            f"0000:{gpu.bus.lower()}:00.0 0302: 10de:2330 (rev a1)\n" for gpu in host.gpus if not gpu.lost
        )
    )
