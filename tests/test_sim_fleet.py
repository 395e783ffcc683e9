"""The pretend fleet, asked by a real SSH client; what its tools say is read by the parsers of real ones."""

import asyncio
import os
import re
import shlex
import threading
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncssh
import paramiko
import pytest

from bot.effect import Command, Finished, Output
from bot.facts import capture, curl, docker_inspect, haproxy, kernel_log, nvidia_smi, vllm
from bot.facts.gpu_verdict import judge
from bot.inventory import Host
from bot.sim.fleet import PretendFleet, Timing
from bot.ssh import Ssh, SshSettings
from bot.steps import KINDS
from bot.steps.kind import Judgement
from bot.verdict import Verdict

FAST = Timing(stop=0.05, start=0.4, drain=0.5, boot=0.3, answer=0.02)
URL = "http://127.0.0.1:8000"
CURL = f"curl -sS -m 2 -w {shlex.quote(curl.WRITE_OUT)}"
SOCKET = "socat - UNIX-CONNECT:/run/haproxy/admin.sock"


class Client:
    """A plain SSH client that knows the fleet's keys."""

    def __init__(self, fleet: PretendFleet, directory: Path) -> None:
        paths = fleet.write_files(directory)
        self.known_hosts, self.key = paths["known_hosts"], paths["identity_file"]
        self.hosts = {host["name"]: host for host in fleet.inventory()}

    @asynccontextmanager
    async def connect(self, name: str, **options: Any) -> AsyncIterator[asyncssh.SSHClientConnection]:
        """Log in to a host."""
        host = self.hosts[name]
        how = {
            "username": host["user"],
            "known_hosts": str(self.known_hosts),
            "client_keys": [str(self.key)],
            "agent_path": None,
            "config": [],
        }
        async with asyncssh.connect(host["address"], host["port"], **(how | options)) as connection:
            yield connection

    async def run(self, name: str, command: str, stdin: str = "") -> asyncssh.SSHCompletedProcess:
        """Run a command on a host, with a connection of its own."""
        async with self.connect(name) as connection:
            return await connection.run(command, input=stdin, timeout=20)

    async def say(self, name: str, command: str, stdin: str = "") -> str:
        """Run a command and return what it printed."""
        return str((await self.run(name, command, stdin)).stdout)

    async def scrape(self, name: str) -> vllm.Vllm:
        """Read the counters of a host's vLLM."""
        return vllm.parse(await self.say(name, f"curl -sS {URL}/metrics"))

    async def servers(self) -> dict[str, haproxy.Server]:
        """Read the balancer's tables."""
        text = await self.say("lb-01", SOCKET, "show stat; show servers state\n")
        return {server.name: server for server in haproxy.parse(text).servers}

    async def step(
        self, host: str, uses: str, found: Mapping[str, str] | None = None, **arguments: Any
    ) -> Judgement:
        """Do what the step kind plans, and let it judge the answer."""
        kind = KINDS[uses]
        given = kind.arguments.model_validate(arguments)
        context = {"host": {"name": host, "vars": self.hosts[host]["vars"]}}
        effect = kind.plan(given, context)
        env = {**effect.command.env, **(found or {})}
        values = "".join(f"{key}={shlex.quote(value)}\n" for key, value in env.items())
        done = await self.run(effect.host or host, values + effect.command.text)
        out, err = str(done.stdout).encode(), str(done.stderr).encode()
        answer = Finished(done.exit_status, Output(out, len(out)), Output(err, len(err)))
        return kind.judge(given, answer, context)


def whole(done: asyncssh.SSHCompletedProcess) -> str:
    """Return both streams of a command as one text."""
    return f"{done.stdout!s}{done.stderr!s}"


@pytest.fixture(scope="module")
def fleet() -> Iterator[PretendFleet]:
    with PretendFleet(timing=FAST) as running:
        yield running


@pytest.fixture(scope="module")
def client(fleet: PretendFleet, tmp_path_factory: pytest.TempPathFactory) -> Client:
    return Client(fleet, tmp_path_factory.mktemp("fleet"))


async def until(look: Any, wanted: Any, seconds: float = 10.0) -> None:
    """Ask again until the answer is the wanted one."""
    end = time.monotonic() + seconds
    while (seen := await look()) != wanted:
        assert time.monotonic() < end, f"still {seen!r}, not {wanted!r}"
        await asyncio.sleep(0.05)


def test_the_inventory_lists_eight_gpu_hosts_and_a_balancer_at_one_port(client: Client) -> None:
    assert list(client.hosts) == [f"gpu-{n:02d}" for n in range(1, 9)] + ["lb-01"]
    assert client.hosts["gpu-03"]["vars"]["gpus"] == 8
    assert client.hosts["gpu-03"]["address"] == "127.0.1.3"
    assert len({host["port"] for host in client.hosts.values()}) == 1


async def test_all_eight_hosts_answer_at_once_with_eight_healthy_gpus(client: Client) -> None:
    names = [name for name in client.hosts if name.startswith("gpu")]
    texts = await asyncio.gather(*(client.say(name, "nvidia-smi -q -x") for name in names))
    found = [nvidia_smi.parse(text) for text in texts]
    assert {judge(facts, 8).verdict for facts in found} == {Verdict.HEALTHY}
    assert len({gpu.uuid for facts in found for gpu in facts.gpus}) == 64


async def test_nvidia_smi_lists_queries_and_refuses_as_the_real_one(client: Client) -> None:
    listed = await client.say("gpu-01", "nvidia-smi -L")
    assert listed.splitlines()[7].startswith("GPU 7: NVIDIA H100 80GB HBM3 (UUID: GPU-")
    rows = await client.say(
        "gpu-01", "nvidia-smi --query-gpu=index,uuid,memory.total,pstate --format=csv,noheader,nounits"
    )
    assert rows.splitlines()[0].split(", ")[2:] == ["81559", "P0"]
    unknown = await client.run("gpu-01", "nvidia-smi --query-gpu=index,colour --format=csv")
    assert (unknown.exit_status, unknown.stdout) == (2, 'Field "colour" is not a valid field to query.\n\n')
    assert "Driver Version: 580.95.05" in await client.say("gpu-01", "nvidia-smi")


async def test_the_container_is_described_as_docker_does(client: Client) -> None:
    container = docker_inspect.parse(await client.say("gpu-02", "docker inspect vllm")).containers[0]
    assert (container.name, container.status, container.restart_count) == ("vllm", "running", 0)
    assert "vllm" in await client.say("gpu-02", "docker ps --format '{{.Names}} {{.Status}}'")
    assert "Engine 000" in str((await client.run("gpu-02", "docker logs --tail 1 vllm")).stderr)
    stamped = str((await client.run("gpu-02", "docker logs --tail 1 --timestamps vllm")).stderr)
    assert re.match(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z \(APIServer pid=1\) INFO ", stamped)
    absent = await client.run("gpu-02", "docker inspect nothing")
    assert absent.exit_status == 1
    assert docker_inspect.parse(whole(absent)).missing == ("nothing",)


async def test_a_host_is_captured_as_evidence_with_all_that_it_has(client: Client) -> None:
    """The pack that stands before every change: on a pretend host nothing fails, and no value of an environment is read."""
    kind = KINDS["host.capture"]
    arguments = kind.arguments.model_validate({"container": "vllm"})
    context = {"host": {"name": "gpu-02", "vars": {}}}
    command = kind.plan(arguments, context).command
    env = "".join(f"{name}={value}; " for name, value in command.env.items())
    done = await client.run("gpu-02", env + command.text)
    parts = {part.name: part for part in capture.parse(str(done.stdout)).parts}
    assert [name for name, part in parts.items() if part.state == "failed"] == []
    assert len(nvidia_smi.parse(parts["gpus"].text).gpus) == 8
    assert "Engine 000" in parts["logs"].text
    assert "vllm" in parts["containers"].text
    assert "HF_HOME VLLM_LOGGING_LEVEL" in parts["inspect"].text
    assert "/models" not in parts["inspect"].text
    assert parts["gpu_holders"].text.count("GPU-") == 8
    assert parts["topology"].text.count("NV18") == 56
    assert "kernel: " in parts["kernel_log"].text
    assert "Replay Errors: 0" in parts["nvlink_errors"].text


async def test_vllm_answers_health_models_and_a_completion(client: Client) -> None:
    health = curl.parse(await client.say("gpu-01", f"{CURL} {URL}/health"))
    assert (health.http_code, health.body) == (200, "")
    assert '"object": "list"' in await client.say("gpu-01", f"curl -sS {URL}/v1/models")
    answer = curl.parse(
        await client.say(
            "gpu-01", f"{CURL} -X POST -d @- {URL}/v1/completions", '{"prompt": "hi", "max_tokens": 4}'
        )
    )
    assert '"completion_tokens": 4' in answer.body
    assert curl.parse(await client.say("gpu-01", f"{CURL} {URL}/nothing")).http_code == 404
    assert (await client.run("gpu-01", f"curl -sSf {URL}/nothing")).exit_status == 22


async def test_counters_advance_while_the_engine_works(client: Client) -> None:
    first = await client.scrape("gpu-01")
    assert first.running is not None
    assert first.running > 0
    await until(lambda: grown(client, "gpu-01", first.generation_tokens or 0), wanted=True)


async def grown(client: Client, name: str, tokens: int) -> bool:
    return ((await client.scrape(name)).generation_tokens or 0) > tokens


async def test_a_stalled_engine_is_healthy_by_its_own_word_and_makes_no_progress(
    fleet: PretendFleet, client: Client
) -> None:
    fleet.stall("gpu-03", ago=120)
    first = await client.scrape("gpu-03")
    assert curl.parse(await client.say("gpu-03", f"{CURL} {URL}/health")).http_code == 200
    hung = await client.run("gpu-03", f"{CURL.replace('-m 2', '-m 0.3')} -d '{{}}' {URL}/v1/completions")
    facts = curl.parse(whole(hung))
    assert (hung.exit_status, facts.http_code, facts.exit_code) == (28, None, 28)
    second = await client.scrape("gpu-03")
    assert (second.running or 0) > 0
    assert (second.generation_tokens, second.iterations) == (first.generation_tokens, first.iterations)
    fleet.restore("gpu-03")
    await until(lambda: grown(client, "gpu-03", second.generation_tokens or 0), wanted=True)


async def test_a_restart_clears_the_stall_after_a_time_of_refused_connections(
    fleet: PretendFleet, client: Client
) -> None:
    fleet.stall("gpu-04")
    assert fleet.stalled("gpu-04")
    before = docker_inspect.parse(await client.say("gpu-04", "docker inspect vllm")).containers[0].started_at
    done = await client.run("gpu-04", "docker restart -t 1 -- vllm")
    assert (done.exit_status, done.stdout) == (0, "vllm\n")
    refused = await client.run("gpu-04", f"{CURL} {URL}/health")
    assert refused.exit_status == 7
    after = docker_inspect.parse(await client.say("gpu-04", "docker inspect vllm")).containers[0].started_at
    assert before is not None
    assert after is not None
    assert after > before

    async def code() -> int | None:
        return curl.parse(await client.say("gpu-04", f"{CURL} {URL}/health")).http_code

    await until(code, 200)
    assert not fleet.stalled("gpu-04")
    await until(lambda: grown(client, "gpu-04", 0), wanted=True)


async def test_a_restart_goes_on_when_the_client_that_asked_is_gone(tmp_path: Path) -> None:
    with PretendFleet(1, base="127.0.3.", timing=Timing(stop=1.0, start=0.1)) as slow:
        client = Client(slow, tmp_path)
        inspect = "docker inspect --format '{{.State.StartedAt}}' vllm"
        before = await client.say("gpu-01", inspect)

        async def restarted() -> bool:
            # Killed before the restart can be done; repeated in case it was killed before it had asked.
            await client.run("gpu-01", "timeout -s KILL 0.6 docker restart vllm")
            return await client.say("gpu-01", inspect) != before

        await until(restarted, wanted=True)


async def test_a_drained_server_empties_and_takes_traffic_again_when_ready(client: Client) -> None:
    assert (await client.servers())["gpu-02"].sessions
    await client.say("lb-01", SOCKET, "set server be_vllm/gpu-02 state drain\n")
    drained = (await client.servers())["gpu-02"]
    assert (drained.status, drained.drain, drained.admin) == ("DRAIN", True, ("forced drain",))

    async def sessions() -> int | None:
        return (await client.servers())["gpu-02"].sessions

    await until(sessions, 0)
    assert (await client.scrape("gpu-02")).running == 0
    await client.say("lb-01", SOCKET, "set server be_vllm/gpu-02 state maint\n")
    assert (await client.servers())["gpu-02"].maint is True
    await client.say("lb-01", SOCKET, "set server be_vllm/gpu-02 state ready\n")
    back = (await client.servers())["gpu-02"]
    assert (back.status, back.drain, back.maint) == ("UP", False, False)
    assert back.sessions


@pytest.mark.parametrize(
    ("said", "answer"),
    [
        ("set server be_vllm/gpu-99 state drain", "No such server."),
        ("set server be_x/gpu-01 state drain", "No such backend."),
        ("set server be_vllm/gpu-01 state off", "expects 'ready', 'drain' and 'maint'"),
        ("sing", "Unknown command"),
    ],
)
async def test_the_balancer_refuses_in_haproxys_words(client: Client, said: str, answer: str) -> None:
    assert answer in await client.say("lb-01", SOCKET, said + "\n")


async def test_a_lost_gpu_is_seen_by_nvidia_smi_and_in_the_kernels_log(
    fleet: PretendFleet, client: Client
) -> None:
    fleet.lose_gpu("gpu-05")
    done = await client.run("gpu-05", "nvidia-smi -q -x")
    assert done.exit_status == 15
    facts = nvidia_smi.parse(str(done.stdout))
    assert [gpu.index for gpu in facts.gpus] == [0, 1, 2, 3, 5, 6, 7]
    assert judge(facts, 8).verdict is Verdict.UNHEALTHY
    for command in (
        "dmesg -T",
        "dmesg --time-format iso",
        "journalctl -k -b -o short-iso-precise --since -1h",
    ):
        events = kernel_log.parse(await client.say("gpu-05", command)).events
        assert [event.code for event in events] == [79, None, 154]
        assert {event.bus_id for event in events} == {"0000:9b:00.0"}
    fleet.restore("gpu-05")
    assert (
        judge(nvidia_smi.parse(await client.say("gpu-05", "nvidia-smi -q -x")), 8).verdict is Verdict.HEALTHY
    )


async def test_a_reboot_cuts_the_connection_and_brings_the_gpu_back(
    fleet: PretendFleet, client: Client
) -> None:
    fleet.lose_gpu("gpu-08", 0)
    cut = await client.run("gpu-08", "sudo -n reboot; sleep 20")
    assert (cut.exit_status, cut.exit_signal) == (None, None)

    async def healthy() -> bool:
        try:
            return (
                judge(nvidia_smi.parse(await client.say("gpu-08", "nvidia-smi -q -x")), 8).verdict
                is Verdict.HEALTHY
            )
        except OSError:
            return False

    await until(healthy, wanted=True)
    assert kernel_log.parse(await client.say("gpu-08", "dmesg")).events == ()


async def test_a_host_that_is_down_refuses_connections_until_it_is_restored(
    fleet: PretendFleet, client: Client
) -> None:
    fleet.down("gpu-07")
    with pytest.raises(ConnectionRefusedError):
        await client.run("gpu-07", "true")
    down = (await client.servers())["gpu-07"]
    assert (down.status, down.sessions, down.operation) == ("DOWN", 0, "stopped")
    fleet.restore("gpu-07")
    assert await client.say("gpu-07", "hostname") == "gpu-07\n"


async def test_commands_run_in_a_real_shell_with_a_bare_environment(client: Client) -> None:
    script = 'x=1; for n in 2 3; do x=$((x * n)); done; printf "%s:" "$x"; cat | tr a-z A-Z; exit 7'
    done = await client.run("gpu-01", script, "abc")
    assert (done.stdout, done.exit_status) == ("6:ABC", 7)
    assert (await client.run("gpu-01", "kill -TERM $$")).exit_signal is not None
    names = {line.partition("=")[0] for line in (await client.say("gpu-01", "env")).splitlines()}
    assert names <= {
        *("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "TMPDIR", "XDG_RUNTIME_DIR", "PWD", "OLDPWD"),
        *("SHLVL", "_", "SICKBAY_PRETEND_HOST"),
    }
    assert (await client.run("gpu-01", "modprobe nvidia")).exit_status == 127
    assert await client.say("gpu-01", "sudo -n -u root -- hostname") == "gpu-01\n"


async def test_much_output_arrives_whole_and_stderr_stays_apart(client: Client) -> None:
    async with client.connect("gpu-01") as connection:
        done = await connection.run("head -c 3000000 /dev/zero; echo no >&2", encoding=None)
    assert (len(done.stdout or b""), done.stderr) == (3_000_000, b"no\n")


async def test_a_command_outlives_its_channel_but_not_the_host(fleet: PretendFleet, client: Client) -> None:
    async with client.connect("gpu-01") as connection:
        process = await connection.create_process("echo $$; exec sleep 300")
        pid = int((await process.stdout.readline()).strip())
    os.kill(pid, 0)
    fleet.down("gpu-01")
    fleet.restore("gpu-01")
    await until(lambda: gone(pid), wanted=True)


async def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


async def test_terminals_shells_files_and_forwarding_are_refused(client: Client) -> None:
    async with client.connect("gpu-01") as connection:
        for options in ({"term_type": "xterm", "command": "true"}, {"command": None}):
            with pytest.raises(asyncssh.ChannelOpenError):
                await connection.create_process(**options)
        with pytest.raises(asyncssh.ChannelOpenError):
            await connection.start_sftp_client()
        with pytest.raises(asyncssh.ChannelOpenError):
            await connection.open_connection("127.0.0.1", 22)


async def test_only_the_generated_key_and_user_come_in(client: Client) -> None:
    other = asyncssh.generate_private_key("ssh-ed25519")
    for options in ({"client_keys": [other]}, {"username": "root"}, {"client_keys": None, "password": "x"}):
        with pytest.raises(asyncssh.PermissionDenied):
            async with client.connect("gpu-01", **options):
                pass


async def test_each_host_has_a_key_of_its_own(client: Client) -> None:
    text = client.known_hosts.read_text()
    assert len({line.split()[2] for line in text.splitlines()}) == 9
    client.known_hosts.with_name("other").write_text(text.replace("127.0.1.1]", "127.0.1.99]"))
    with pytest.raises(asyncssh.HostKeyNotVerifiable):
        async with client.connect("gpu-01", known_hosts=str(client.known_hosts.with_name("other"))):
            pass


def test_a_mutating_command_sent_twice_by_the_ssh_room_runs_once(client: Client) -> None:
    settings = SshSettings(known_hosts=client.known_hosts, identity_files=(client.key,), user="sickbay")
    place = client.hosts["gpu-02"]
    host = Host(place["name"], place["address"], place["port"])
    command = Command("echo started >>$HOME/starts; wc -l <$HOME/starts", mutating=True, timeout=10)
    ssh = Ssh(settings)
    try:
        answers = [
            ssh.run(host, command, key="run1/restart/gpu-02/1", first_sent=sent)
            for sent in (None, datetime.now(UTC))
        ]
    finally:
        ssh.close()
    assert [isinstance(answer, Finished) and answer.stdout.text.strip() for answer in answers] == ["1", "1"]


def test_paramiko_gets_in_and_out(client: Client) -> None:
    host = client.hosts["gpu-01"]
    with paramiko.SSHClient() as ssh:
        ssh.load_host_keys(str(client.known_hosts))
        ssh.connect(
            host["address"],
            host["port"],
            host["user"],
            key_filename=str(client.key),
            allow_agent=False,
            look_for_keys=False,
        )
        _, stdout, _ = ssh.exec_command("hostname; exit 4")
        assert (stdout.read(), stdout.channel.recv_exit_status()) == (b"gpu-01\n", 4)


async def test_the_shipped_step_kinds_see_a_stall_and_its_cure(fleet: PretendFleet, client: Client) -> None:
    name = "gpu-03"
    assert (await client.step(name, "gpu.check")).verdict is Verdict.HEALTHY
    fleet.stall(name, ago=120)
    assert (await client.step(name, "docker.inspect", name="vllm")).verdict is Verdict.HEALTHY
    assert (await client.step(name, "http.check", port=8000)).verdict is Verdict.HEALTHY
    stalled = await client.step(name, "vllm.progress", window="1s")
    assert stalled.verdict is Verdict.UNHEALTHY, stalled.summary
    assert (await client.step(name, "haproxy.drain")).ok
    assert (await client.step(name, "haproxy.state", wait="5s")).facts["sessions"] == 0
    assert (await client.step(name, "docker.restart", name="vllm", grace="1s")).ok

    async def completes() -> Verdict | None:
        return (await client.step(name, "llm.completion", max_time="2s")).verdict

    await until(completes, Verdict.HEALTHY)
    assert (await client.step(name, "haproxy.undrain", {"OWN": "drain"})).ok
    moving = await client.step(name, "vllm.progress", window="1s")
    assert moving.verdict is Verdict.HEALTHY, moving.summary


def test_stopping_leaves_no_thread_process_or_file(tmp_path: Path) -> None:
    before = set(threading.enumerate())
    fleet = PretendFleet(2, base="127.0.2.", timing=FAST)
    fleet.start()
    client = Client(fleet, tmp_path)

    async def leave_something() -> tuple[int, Path]:
        text = await client.say(
            "gpu-01", "(setsid sleep 300 >/dev/null 2>&1 </dev/null & echo $!); echo $HOME; exec 2>/dev/null"
        )
        pid, home = text.split()
        return int(pid), Path(home)

    pid, home = asyncio.run(leave_something())
    assert home.is_dir()
    fleet.stop()
    fleet.stop()
    assert not home.exists()
    assert set(threading.enumerate()) <= before
    stat = Path(f"/proc/{pid}/stat")
    assert not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] == "Z"


def test_a_fleet_that_is_not_running_says_so() -> None:
    with pytest.raises(RuntimeError, match="call start"):
        PretendFleet(1).stall("gpu-01")
