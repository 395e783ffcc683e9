"""States of incidents and runs, made through the store as dispatch and engine make them, without either."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from bot.alert import Alert
from bot.inventory import Host, Inventory
from bot.language.runbook import Runbook
from bot.library import Loaded
from bot.program import Parts, ordered
from bot.runs.approval import Person
from bot.runs.plan import Entry, Plan
from bot.runs.run import Requester, Run, RunState, Status
from bot.store import Store
from bot.verdict import Verdict

BEGIN = datetime(2026, 3, 1, 3, 0, tzinfo=UTC)
ALICE = Person("alice", "U0ALICE", ("oncall",))
BOB = Person("bob", "U0BOB", ("oncall",))
PEOPLE = {"alice": ALICE, "bob": BOB}

RESTART = Runbook.model_validate(
    {
        "version": 1,
        "name": "restart-container",
        "description": "Restart one container that stopped answering",
        "kind": "mutate",
        "triggers": [{"alert": {"match": {"alertname": "VLLMStalled"}}}, {"command": True}],
        "approval": {"timeout": "10m"},
        "evidence": "none",
        "steps": [
            {"id": "gpus", "name": "GPUs", "run": "nvidia-smi", "mutates": False},
            {"id": "progress", "name": "forward progress", "run": "curl metrics", "mutates": False},
            {"id": "drain", "name": "drain at the load balancer", "run": "drain"},
            {"id": "restart", "name": "restart the container", "run": "docker restart vllm"},
        ],
        "verify": [{"id": "completion", "name": "one completion", "run": "curl v1", "mutates": False}],
        "rescue": [{"id": "capture", "name": "capture logs", "run": "docker logs", "mutates": False}],
        "always": [{"id": "undrain", "name": "undrain", "run": "undrain"}],
    }
)
CHECK = Runbook.model_validate(
    {
        "version": 1,
        "name": "gpu-check",
        "description": "Look at the GPUs",
        "kind": "observe",
        "triggers": [{"command": True}],
        "inputs": {"gpus": {"type": "integer", "default": 8}},
        "steps": [
            {"id": "driver", "name": "driver answers", "run": "nvidia-smi -L"},
            {"id": "gpus", "name": "GPUs", "run": "nvidia-smi -q -x"},
        ],
    }
)
LIBRARY = {book.name: Loaded(book, "", "d" * 64, f"{book.name}.yaml") for book in (RESTART, CHECK)}


def inventory(count: int = 8) -> Inventory:
    """Return gpu-01 … in @serving."""
    names = [f"gpu-{number:02}" for number in range(1, count + 1)]
    return Inventory(
        Host(name, f"10.0.0.{at}", groups=("serving",), vars={"gpus": 8}) for at, name in enumerate(names, 1)
    )


@dataclass
class Hands:
    """A clock that is moved by hand."""

    at: datetime = BEGIN

    def __call__(self) -> datetime:
        """Return the time."""
        return self.at

    def on(self, **by: float) -> None:
        """Let time pass."""
        self.at += timedelta(**by)


@dataclass
class Scene:
    """A store and what happens in it."""

    store: Store
    clock: Hands
    mutates: frozenset[str] = frozenset({"drain", "restart", "undrain"})
    labels: Mapping[str, str] = field(
        default_factory=lambda: {"alertname": "VLLMStalled", "severity": "critical", "host": "gpu-03"}
    )

    @classmethod
    def at(cls, folder: Path) -> "Scene":
        """Open a new store in a folder."""
        clock = Hands()
        return cls(Store(folder / "sickbay.db", clock), clock)

    def alert(self, status: str = "firing", **labels: str) -> Alert:
        """Return the alert that began the night."""
        return Alert(
            "alertmanager",
            hashlib.sha256(repr(sorted(labels.items())).encode()).hexdigest()[:16],
            status,  # type: ignore[arg-type]
            BEGIN,
            {**self.labels, **labels},
            {"summary": "vLLM on gpu-03 stopped answering"},
            url="http://127.0.0.1:9090/graph",
        )

    def incident(
        self, note: str = "", *, channel: str = "oncall", host: str | None = "gpu-03", **labels: str
    ) -> int:
        """Open an incident with one alert."""
        alert = self.alert(**labels)
        self.store.alerts.add([alert])
        ((alert_id, stored),) = self.store.alerts.waiting()
        with self.store.write() as tx:
            incident = self.store.incidents.open(
                tx,
                key=f"alertname={alert.name}|{host}",
                title=alert.annotations["summary"],
                severity=alert.labels.get("severity", ""),
                channel=channel,
                host=host,
                note=note,
            )
            self.store.incidents.join(tx, alert_id, incident, stored)
        return incident

    def clear(self, incident: int) -> None:
        """Let the alert end."""
        self.store.alerts.add([self.alert("resolved")])
        ((alert_id, stored),) = self.store.alerts.waiting()
        with self.store.write() as tx:
            self.store.incidents.join(tx, alert_id, incident, stored)
            for run_id in self.store.incidents.runs(incident):
                self.store.approvals.void(tx, run_id, "the alert has cleared")
            self.store.incidents.resolve(tx, incident, "the alert has cleared")

    def run(
        self,
        book: Runbook = RESTART,
        hosts: Sequence[str] = ("gpu-03",),
        *,
        incident: int | None = None,
        by: Requester | None = None,
        channel: str = "oncall",
        thread: str | None = None,
    ) -> int:
        """Queue a run."""
        with self.store.write() as tx:
            return self.store.runs.create(
                tx,
                runbook=book,
                digest="d" * 64,
                hosts=tuple(hosts),
                inputs={},
                mode=book.mode,
                requester=by or Requester("alert VLLMStalled", via="alert"),
                channel=channel,
                thread=thread,
                incident=incident,
            )

    def claim(self, run_id: int) -> Run:
        """Take a run as the engine does."""
        run = self.store.runs.claim(run_id)
        assert run is not None
        return run

    def step(
        self,
        run: Run,
        step: str,
        host: str = "gpu-03",
        summary: str = "",
        *,
        status: Status = Status.OK,
        verdict: Verdict | None = None,
        seconds: float = 1.2,
        stdout: str = "",
        **more: Any,
    ) -> None:
        """Do one step on one host."""
        (begun,), _ = self.store.attempts.begin(run, [(step, host, 1)])
        self.clock.on(seconds=seconds)
        ended = replace(begun, status=status, ended_at=self.clock(), summary=summary, verdict=verdict, **more)
        streams = self.store.outputs.open(run, begun)
        streams.stdout.add(stdout.encode("utf-8", "surrogateescape"))
        self.store.attempts.end(run, [(ended, streams)])

    def look(self, run: Run, host: str = "gpu-03") -> None:
        """Do what a restart looks at first: the machine is well, the service hangs."""
        self.step(run, "gpus", host, "8 GPUs fine", verdict=Verdict.HEALTHY)
        what = "container up, no token for 120 s with 3 requests running"
        self.step(run, "progress", host, what, verdict=Verdict.UNHEALTHY)

    def ask(self, run: Run) -> Plan:
        """Make the plan and ask."""
        plan = self.plan(run)
        self.store.approvals.plan(run, plan, ask=True)
        self.store.runs.sleep(run, self.clock() + run.runbook.approval.timeout, waiting=True)
        return plan

    def plan(self, run: Run, *, pad: str = "") -> Plan:
        """Write the plan of what is left."""
        look = {step.id for step in Parts.of(run.runbook, self.mutates).look}
        entries = tuple(
            Entry(
                section,
                step.id,
                step.title,
                host,
                "run",
                text=f"{step.run}{pad}",
                env={"NAME": "vllm"},
                timeout=60.0,
                mutating=step.id in self.mutates,
            )
            for host in run.hosts
            for section, step in ordered(run.runbook)
            if step.id not in look
        )
        return Plan(run.runbook.name, run.runbook_digest, tuple((host,) for host in run.hosts), entries)

    def act(self, run_id: int, host: str = "gpu-03") -> None:
        """Carry an approved restart through to its recovery."""
        run = self.claim(run_id)
        self.store.approvals.begin(run)
        if not any(attempt.step == "drain" for attempt in self.store.attempts.of(run_id)):
            self.step(run, "drain", host, "0 sessions left")
        self.step(run, "restart", host, "started anew", seconds=41)
        self.step(run, "completion", host, "one completion in 412 ms", verdict=Verdict.HEALTHY)
        self.step(run, "undrain", host, "takes traffic")
        self.store.runs.finish(run, RunState.SUCCEEDED, "", Verdict.HEALTHY)

    def checked(self, run_id: int, *, bad: str = "", noise: int = 0) -> None:
        """Carry a gpu-check through; one host may be bad, with many lines of output."""
        run = self.claim(run_id)
        for host in run.hosts:
            self.step(run, "driver", host, "driver 580.82")
            wrong = host == bad
            self.step(
                run,
                "gpus",
                host,
                "GPU 5 fell off the bus (Xid 79)" if wrong else "8 GPUs fine",
                verdict=Verdict.UNHEALTHY if wrong else Verdict.HEALTHY,
                advice="Reboot the host; if it comes back, replace GPU 5." if wrong else "",
                stdout="".join(f"line {number}\n" for number in range(noise)),
            )
        verdict = Verdict.UNHEALTHY if bad else Verdict.HEALTHY
        self.store.runs.finish(run, RunState.SUCCEEDED, "", verdict)
