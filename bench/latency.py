"""How long from an alert to the first Slack message, and to the first command on a host that was never spoken to.

Slack is the pretend one (Web API and Socket Mode over loopback); the hosts are one real OpenSSH sshd on as many
addresses, so that every connection is a cold one: TCP, key exchange, login, first command.
"""

import argparse
import tempfile
import time
from pathlib import Path

from bench.serving import Serving, alert, body, command, middle, post, table
from bot.sim.slack import PretendSlackThread
from tests.parts.sshd import Sshd

RUNBOOK = """
version: 1
name: stamp
description: Write down when the first command came
kind: observe
mode: auto
triggers: [{alert: {match: {alertname: VLLMStalled}}}]
steps:
  - run: date +%s.%N > "{{ host.vars.stamp }}"
"""


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder, PretendSlackThread() as slack:
        place = Path(folder)
        sshd, hosts = _hosts(place, rounds + 1)
        (place / "runbooks").mkdir()
        (place / "runbooks" / "stamp.yaml").write_text(RUNBOOK.lstrip(), encoding="utf-8")
        config = {
            "slack": {"channel": "oncall", "base_url": slack.slack.base_url},
            "runbooks": [str(place / "runbooks")],
            "check": ["stamp"],
            "ssh": {
                "user": sshd.user,
                "known_hosts": str(sshd.known_hosts),
                "identity_files": [str(sshd.identity)],
            },
            "hosts": hosts,
            "autonomy": {"successes": 0},
            "routes": [{"match": {"alertname": "VLLMStalled"}, "runbook": "stamp", "mode": "auto"}],
        }
        tokens = {"SLACK_BOT_TOKEN": slack.slack.bot_token, "SLACK_APP_TOKEN": slack.slack.app_token}
        try:
            with Serving(place / "serving", config, tokens) as serving:
                told, came, acknowledged = _rounds(serving, slack, place, list(hosts))
        finally:
            sshd.stop()
    table(
        ("alert in → …", "median (range) of the cold rounds", "aim"),
        [
            ("acknowledged (stored)", middle(acknowledged[1:], " ms"), ""),
            ("first message in Slack", middle(told[1:], " ms"), ""),
            ("first command on the host", middle(came[1:], " ms"), "≤ 300 ms"),
        ],
    )
    print(f"The first alert after the start: Slack {told[0]:.0f} ms, command {came[0]:.0f} ms.")
    command()


def _hosts(place: Path, count: int) -> tuple[Sshd, dict[str, dict[str, object]]]:
    """Start an sshd on this many addresses."""
    addresses = [f"127.0.1.{number}" for number in range(1, count + 1)]
    more = "\n".join(f"ListenAddress {address}" for address in addresses[1:])
    sshd = Sshd(place / "sshd", options=more)
    line = sshd.known_hosts_line()
    sshd.known_hosts.write_text("".join(line.replace(sshd.address, address) for address in addresses))
    sshd.start()
    return sshd, {
        f"gpu-{number:02}": {
            "address": address,
            "port": sshd.port,
            "vars": {"stamp": str(place / f"gpu-{number:02}")},
        }
        for number, address in enumerate(addresses, 1)
    }


def _rounds(
    serving: Serving, slack: PretendSlackThread, place: Path, hosts: list[str]
) -> tuple[list[float], list[float], list[float]]:
    """Send one alert a host; return ms to its message, to its command and to its acknowledgement."""
    told, came, acknowledged = [], [], []
    connection = serving.connection()
    for host in hosts:
        known = len(slack.slack.messages("oncall"))
        began = time.time()
        post(connection, body([alert(host, host=host)]))
        acknowledged.append((time.time() - began) * 1000)
        until = began + 20
        stamp = place / host
        while len(slack.slack.messages("oncall")) == known or not (stamp.exists() and stamp.read_text()):
            if time.time() > until:
                raise SystemExit(serving.log.read_text())
            time.sleep(0.01)
        told.append((float(slack.slack.messages("oncall")[known].ts) - began) * 1000)
        came.append((float(stamp.read_text()) - began) * 1000)
        time.sleep(1.2)  # Slack's pace of one message a second and channel is not what is measured
    return told, came, acknowledged


if __name__ == "__main__":
    main()
