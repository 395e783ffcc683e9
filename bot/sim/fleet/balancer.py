"""The pretend `socat` to HAProxy's runtime socket, in the words and tables of HAProxy 2.6."""

from typing import get_args

from bot.sim.fleet.reply import Reply
from bot.sim.fleet.state import BACKEND, PORT, ServerMode, State, World

SOCKET = "/run/haproxy/admin.sock"

_STAT = (
    "pxname,svname,qcur,qmax,scur,smax,slim,stot,bin,bout,dreq,dresp,ereq,econ,eresp,wretr,wredis,status,"
    "weight,act,bck,chkfail,chkdown,lastchg,downtime,qlimit,pid,iid,sid,throttle,lbtot,tracked,type,rate,"
    "rate_lim,rate_max,check_status,check_code,check_duration,hrsp_1xx,hrsp_2xx,hrsp_3xx,hrsp_4xx,hrsp_5xx,"
    "hrsp_other,hanafail,req_rate,req_rate_max,req_tot,cli_abrt,srv_abrt,comp_in,comp_out,comp_byp,comp_rsp,"
    "lastsess,last_chk,last_agt,qtime,ctime,rtime,ttime,agent_status,agent_code,agent_duration,check_desc,"
    "agent_desc,check_rise,check_fall,check_health,agent_rise,agent_fall,agent_health,addr,cookie,mode,algo"
)
_STATE = (
    "be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight srv_iweight "
    "srv_time_since_last_change srv_check_status srv_check_result srv_check_health srv_check_state srv_agent_state "
    "bk_f_forced_id srv_f_forced_id srv_fqdn srv_port srvrecord srv_use_ssl srv_check_port srv_check_addr "
    "srv_agent_addr srv_agent_port"
)
_STOPPED, _RUNNING = 0, 2
_FRONTENDS, _BACKENDS, _SERVERS, _ALL = 1, 2, 4, 7
_ADMIN: dict[ServerMode, int] = {"ready": 0, "drain": 8, "maint": 1}


def socat(world: World, host: State, argv: list[str], stdin: str) -> Reply:
    """Carry what comes in to the socket and what it answers back."""
    peer = next((part for part in argv if part.upper().startswith(("UNIX-CONNECT:", "UNIX:", "/"))), "")
    path = peer[peer.find("/") :].split(",")[0]
    if host is not world.balancer or path != SOCKET:
        return Reply(stderr=f'socat[311] E connect(, AF=1 "{path}", 25): No such file or directory\n', exit=1)
    line = stdin.split("\n", maxsplit=1)[0]
    return Reply(stdout="".join(_command(world, part.split()) + "\n" for part in line.split(";")))


def _command(world: World, words: list[str]) -> str:
    match words:
        case ["show", "stat"]:
            return _stat(world, _ALL)
        case ["show", "stat", "-1" | "3", types, "-1"]:
            return _stat(world, int(types) & _ALL if types.removeprefix("-").isdigit() else 0)
        case ["show", "servers", "state", *backend]:
            return _servers_state(world) if backend in ([], [BACKEND]) else "Can't find backend.\n"
        case ["show", "servers", "conn", *backend]:
            return _servers_conn(world) if backend in ([], [BACKEND]) else "Can't find backend.\n"
        case ["show", "info"]:
            return "Name: HAProxy\nVersion: 2.6.12-1+deb12u3\nNbthread: 4\n"
        case ["set", "server", which, "state", mode]:
            return _refused(world, which) or _set_mode(world, which, mode)
        case ["set", "server", which, "weight", weight]:
            return _refused(world, which) or _set_weight(world, which, weight)
    return "Unknown command: '" + " ".join(words) + "'.\n"


def _refused(world: World, which: str) -> str:
    backend, _, name = which.partition("/")
    if backend != BACKEND:
        return "No such backend.\n"
    return "" if name in world.servers else "No such server.\n"


def _set_mode(world: World, which: str, mode: str) -> str:
    for known in get_args(ServerMode):
        if mode == known:
            world.set_mode(which.partition("/")[2], known)
            return ""
    return "'set server <srv> state' expects 'ready', 'drain' and 'maint'.\n"


def _set_weight(world: World, which: str, weight: str) -> str:
    digits = weight.removesuffix("%")
    if not digits.isdigit() or int(digits) > 256:
        return "Malformed or out of range weight.\n"
    world.servers[which.partition("/")[2]].weight = int(digits)
    return ""


def _up(world: World, name: str, now: float) -> bool:
    host = world.hosts[name]
    return host.up and host.replica is not None and host.replica.serving(now)


def _stat(world: World, types: int) -> str:
    now = world.settle()
    rows, total = [], 0
    for number, (name, server) in enumerate(world.servers.items(), start=1):
        up, scur = _up(world, name, now), world.in_flight(name, now)
        total += scur
        status = (
            "MAINT"
            if server.mode == "maint"
            else "DOWN"
            if not up
            else "DRAIN"
            if server.mode == "drain"
            else "UP"
        )
        check = {} if server.mode == "maint" else _check(up=up)
        values = {
            "pxname": BACKEND,
            "svname": name,
            "scur": scur,
            "smax": 64,
            "stot": 120_000 + number,
            "status": status,
            "weight": 0 if server.mode == "drain" else server.weight,
            "act": 1,
            "lastchg": int(now - server.since),
            "iid": 3,
            "sid": number,
            "type": 2,
            "addr": f"{world.hosts[name].address}:{PORT}",
        }
        rows.append(_row(values | check))
    alive = any(_up(world, name, now) for name in world.servers)
    front = {
        "pxname": "fe_vllm",
        "svname": "FRONTEND",
        "scur": total,
        "status": "OPEN",
        "iid": 2,
        "sid": 0,
        "type": 0,
    }
    back = {
        "pxname": BACKEND,
        "svname": "BACKEND",
        "scur": total,
        "status": "UP" if alive else "DOWN",
        "iid": 3,
        "sid": 0,
        "type": 1,
    }
    shown = [
        *([_row(front)] if types & _FRONTENDS else []),
        *(rows if types & _SERVERS else []),
        *([_row(back)] if types & _BACKENDS else []),
    ]
    return "".join([f"# {_STAT},\n", *shown])


def _check(*, up: bool) -> dict[str, object]:
    return {
        "check_status": "L7OK" if up else "L4CON",
        "check_code": 200 if up else "",
        "check_duration": 2 if up else 0,
        "last_chk": "" if up else "Connection refused",
        "check_desc": "Layer7 check passed" if up else "Layer4 connection problem",
    }


def _row(values: dict[str, object]) -> str:
    base: dict[str, object] = {"qcur": 0, "qmax": 0, "pid": 1, "mode": "http"}
    return "".join(f"{(base | values).get(column, '')}," for column in _STAT.split(",")) + "\n"


def _servers_state(world: World) -> str:
    now = world.settle()
    lines = ["1\n", f"# {_STATE}\n"]
    for number, (name, server) in enumerate(world.servers.items(), start=1):
        operation = _RUNNING if _up(world, name, now) and server.mode != "maint" else _STOPPED
        lines.append(
            f"3 {BACKEND} {number} {name} {world.hosts[name].address} {operation} {_ADMIN[server.mode]} {server.weight} 100 "
            f"{int(now - server.since)} 15 3 4 6 0 0 0 - {PORT} - 0 0 - - 0\n"
        )
    return "".join(lines)


def _servers_conn(world: World) -> str:
    now = world.settle()
    header = (
        "# bkname/svname bkid/svid addr port - purge_delay used_cur used_max need_est unsafe_nb safe_nb idle_lim "
        "idle_cur idle_per_thr[4]\n"
    )
    lines = [header]
    for number, name in enumerate(world.servers, start=1):
        used = world.in_flight(name, now)
        lines.append(
            f"{BACKEND}/{name} 3/{number} {world.hosts[name].address} {PORT} - 5000 {used} 64 {used} 0 0 -1 0 0 0 0 0\n"
        )
    return "".join(lines)
