"""`sickbay doctor`: what is missing or wrong, in plain words, each with what to do next.

It changes nothing and looks at everything: a mistake in one part does not hide those of the others.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.text import Text

from bot.app import Assembly
from bot.config import load
from bot.effect import Unreachable
from bot.errors import SickbayError
from bot.inventory import Host
from bot.messages import Mask
from bot.slack.doctor import checks
from bot.ssh import Ssh


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    ok: bool
    what: str
    advice: str = ""


async def examine(path: Path, environ: Mapping[str, str], console: Console) -> bool:
    """Look at everything and print it; true when nothing is wrong."""
    good = True
    async for finding in findings(path, environ):
        good &= finding.ok
        console.print(Text.assemble(("✓ ", "green") if finding.ok else ("✗ ", "red"), finding.what))
        for line in finding.advice.splitlines():
            console.print(Text(f"    {line}", style="dim"))
    console.print("Nothing is wrong." if good else "Mend what is marked ✗, then run `sickbay doctor` again.")
    return good


async def findings(path: Path, environ: Mapping[str, str]) -> AsyncIterator[Finding]:
    """Look at configuration and runbooks, then secrets, Slack and hosts."""
    try:
        config, document = load(path, environ)
        assembly = Assembly.of(config, document, environ)
    except SickbayError as error:
        yield Finding(ok=False, what=f"configuration: {error.what}", advice=error.advice)
        return
    mask = assembly.mask
    try:
        yield Finding(ok=True, what=f"configuration {path}, database {config.store_path}")
        yield Finding(ok=True, what=f"{len(assembly.library)} runbooks: {', '.join(assembly.library)}")
        for finding in _secrets(assembly):
            yield finding
        if assembly.secrets.slack_bot_token is not None:
            async for finding in _slack(assembly):
                yield finding
        remote = assembly.remote()
        try:
            for finding in await asyncio.to_thread(_hosts, assembly, remote, mask):
                yield finding
        finally:
            await asyncio.to_thread(remote.close)
    finally:
        assembly.store.close()


def _secrets(assembly: Assembly) -> list[Finding]:
    config, secrets = assembly.config, assembly.secrets
    wanted = [
        ("SLACK_BOT_TOKEN", secrets.slack_bot_token, "the Bot User OAuth Token (xoxb-…) of your Slack app"),
        (
            config.alerts.alertmanager.secret_env,
            secrets.alertmanager,
            "any long random text; the same in Alertmanager",
        ),
    ]
    if config.slack.transport == "socket":
        wanted.append(
            ("SLACK_APP_TOKEN", secrets.slack_app_token, "an app-level token (xapp-…) with connections:write")
        )
    else:
        wanted.append(
            ("SLACK_SIGNING_SECRET", secrets.slack_signing_secret, "the Signing Secret of your Slack app")
        )
    return [
        Finding(ok=True, what=f"{name} is set")
        if value is not None
        else Finding(ok=False, what=f"{name} is not set in the environment", advice=f"set it to {advice}")
        for name, value, advice in wanted
    ]


async def _slack(assembly: Assembly) -> AsyncIterator[Finding]:
    for ok, what, advice in await checks(assembly.config.slack, assembly.secrets):
        yield Finding(ok, f"Slack: {what}", advice)


def _hosts(assembly: Assembly, remote: Ssh, mask: Mask) -> list[Finding]:
    """Log in to every host, all at once."""
    machines = list(assembly.inventory.hosts.values())
    if not machines:
        return [Finding(ok=False, what="there are no hosts", advice="list them under `hosts:`")]
    with ThreadPoolExecutor(32) as pool:
        return list(pool.map(lambda host: _host(remote, host, mask), machines))


def _host(remote: Ssh, host: Host, mask: Mask) -> Finding:
    found = remote.probe(host)
    where = f"{host.name} ({host.address}:{host.port})"
    if isinstance(found, Unreachable):
        return Finding(
            ok=False, what=mask.text(f"{where}: {found.layer}: {found.reason}"), advice=found.advice
        )
    return Finding(ok=True, what=f"{where} lets us in")
