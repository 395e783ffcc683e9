"""`sickbay demo`: the main job, end to end, with nothing but this process.

Real: the bot, its store, slack-bolt over Socket Mode, SSH, the shell on the far side, Alertmanager's payload. Pretended:
Slack's servers, eight GPU machines and their load balancer. The pretend machines' state really changes when a runbook
acts on it, and the alert clears only when tokens flow again.
"""

import asyncio
import json
import logging
import secrets
import tempfile
import urllib.request
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from bot.app import App
from bot.assembly import Assembly
from bot.cli.logs import configure
from bot.cli.serve import stop_event
from bot.config.config import load
from bot.secrets.mask import Mask
from bot.sim.fleet import PretendFleet
from bot.sim.slack import PretendSlackThread

log = logging.getLogger(__name__)

VICTIM = "gpu-03"
LABELS = {"alertname": "VLLMStalled", "severity": "critical", "host": VICTIM, "model": "llama-3.3-70b"}
ANNOTATIONS = {
    "summary": f"vLLM on {VICTIM} stopped answering",
    "description": "/health says 200 and requests are running, but no token for two minutes",
}


@asynccontextmanager
async def running() -> AsyncIterator[tuple[PretendSlackThread, PretendFleet, App]]:
    """Run everything until the block ends."""
    with tempfile.TemporaryDirectory(prefix="sickbay-demo-") as folder:
        fleet = PretendFleet(hosts=8)
        slack = PretendSlackThread()
        try:
            await asyncio.gather(asyncio.to_thread(fleet.start), asyncio.to_thread(slack.start))
            secret = secrets.token_urlsafe(24)
            path = _configuration(Path(folder), fleet, slack)
            environ = {
                "SLACK_BOT_TOKEN": slack.slack.bot_token,
                "SLACK_APP_TOKEN": slack.slack.app_token,
                "SICKBAY_ALERTMANAGER_SECRET": secret,
            }
            config, document = load(path, environ)
            async with App(Assembly.of(config, document, environ)) as app:
                monitor = asyncio.create_task(_monitor(fleet, app.address, secret))
                try:
                    yield slack, fleet, app
                finally:
                    monitor.cancel()
        finally:
            await asyncio.gather(asyncio.to_thread(fleet.stop), asyncio.to_thread(slack.stop))


async def _monitor(fleet: PretendFleet, address: str, secret: str) -> None:
    """Stand in for Alertmanager: tell Sickbay when a machine's tokens stop and when they flow again."""
    fleet.stall(VICTIM)
    began = datetime.now(UTC)
    await _post(address, secret, "firing", began)
    while fleet.stalled(VICTIM):  # noqa: ASYNC110 - a monitor polls
        await asyncio.sleep(0.5)
    await asyncio.sleep(6)
    await _post(address, secret, "resolved", began)


async def _post(address: str, secret: str, status: str, began: datetime) -> None:
    ended = datetime.now(UTC) if status == "resolved" else datetime.min.replace(tzinfo=UTC)
    body = webhook(status, began, ended, LABELS, ANNOTATIONS)
    request = urllib.request.Request(  # noqa: S310
        f"{address}/alerts/alertmanager",
        json.dumps(body).encode(),
        {"Authorization": f"Bearer {secret}", "Content-Type": "application/json"},
    )
    await asyncio.to_thread(_send, request)


def _send(request: urllib.request.Request) -> None:
    with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
        answer.read()


def webhook(
    status: str, began: datetime, ended: datetime, labels: dict[str, str], annotations: dict[str, str]
) -> dict[str, Any]:
    """Return a webhook body as Alertmanager 0.25 sends it, version 4."""
    alert = {
        "status": status,
        "labels": labels,
        "annotations": annotations,
        "startsAt": began.isoformat(),
        "endsAt": ended.isoformat(),
        "generatorURL": "http://127.0.0.1:9090/graph",
        "fingerprint": "5ef77f1f8a3ecf8d",
    }
    return {
        "version": "4",
        "groupKey": '{}:{alertname="VLLMStalled"}',
        "truncatedAlerts": 0,
        "status": status,
        "receiver": "sickbay",
        "groupLabels": {"alertname": labels["alertname"]},
        "commonLabels": labels,
        "commonAnnotations": annotations,
        "externalURL": "http://127.0.0.1:9093",
        "alerts": [alert],
    }


def _configuration(folder: Path, fleet: PretendFleet, slack: PretendSlackThread) -> Path:
    """Write the configuration a user would write for these machines."""
    files = fleet.write_files(folder)
    text = {
        "slack": {"channel": "oncall", "base_url": slack.slack.base_url},
        "web": {"listen": "127.0.0.1:0"},
        "store": {"path": "sickbay.db"},
        "ssh": {
            "user": "sickbay",
            "known_hosts": str(files["known_hosts"]),
            "identity_files": [str(files["identity_file"])],
        },
        "hosts": {
            host["name"]: {key: host[key] for key in ("address", "port", "groups", "vars")}
            for host in fleet.inventory()
        },
        "people": {
            "alice": {"slack": "U0ALICE", "roles": ["oncall"]},
            "bob": {"slack": "U0BOB", "roles": ["oncall"]},
        },
        "routes": [
            {"match": {"alertname": "VLLMStalled"}, "runbook": "restart-container", "mode": "approve"}
        ],
    }
    path = folder / "sickbay.yaml"
    path.write_text(yaml.safe_dump(text, sort_keys=False), encoding="utf-8")
    return path


def demo(say: Callable[[str], None]) -> None:
    """Run the demo until Ctrl-C, telling where to look."""
    configure(Mask(), level=logging.WARNING)
    asyncio.run(_show(say))


async def _show(say: Callable[[str], None]) -> None:
    stop = stop_event()
    async with running() as (slack, _, _):
        say(slack.slack.page_url)
        await stop.wait()
