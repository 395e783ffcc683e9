"""A real Alertmanager on loopback that posts to one webhook, as quickly as it can be told to.

Alerts go in by its own v2 API, so that payload, grouping, fingerprints and `resolved` are its own and not our idea of them.
"""

import json
import urllib.request
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import yaml

from tests.parts.programs import Child, Part, free_port, require

GROUP_INTERVAL = "1s"
"""How soon a change in a group, such as `resolved`, is sent after the last notification."""


class Alertmanager(Part):
    """Alertmanager with one webhook receiver; `bearer` is the secret it sends there."""

    def __init__(
        self,
        directory: Path,
        webhook_url: str,
        bearer: str,
        *,
        group_by: tuple[str, ...] = ("alertname", "instance"),
    ) -> None:
        self.directory = directory
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.program = require("prometheus-alertmanager", "alertmanager", package="prometheus-alertmanager")
        self._starts: dict[tuple[tuple[str, str], ...], datetime] = {}
        configuration = directory / "alertmanager.yml"
        configuration.write_text(yaml.safe_dump(_configuration(webhook_url, bearer, group_by)))
        configuration.chmod(0o600)
        self._child = Child(
            [
                self.program,
                f"--config.file={configuration}",
                f"--storage.path={directory / 'data'}",
                f"--web.listen-address=127.0.0.1:{self.port}",
                "--cluster.listen-address=",
            ],
            directory / "alertmanager.log",
        )

    def start(self) -> None:
        """Start Alertmanager; returns when it says that it is ready."""
        self._child.start(self._ready)

    def stop(self) -> None:
        """End Alertmanager."""
        self._child.stop()

    def fire(self, labels: Mapping[str, str], annotations: Mapping[str, str] | None = None) -> None:
        """Say that an alert fires, as Prometheus does; said again, it is the same alert."""
        starts = self._starts.setdefault(_key(labels), datetime.now(UTC))
        alert = {
            "labels": dict(labels),
            "annotations": dict(annotations or {}),
            "startsAt": starts.isoformat(),
            "endsAt": (datetime.now(UTC) + timedelta(hours=1)).isoformat(),
            "generatorURL": "http://prometheus.example:9090/graph",
        }
        self._call("/api/v2/alerts", [alert])

    def resolve(self, labels: Mapping[str, str]) -> None:
        """Say that an alert which was fired here has ended."""
        starts = self._starts.pop(_key(labels))
        now = datetime.now(UTC).isoformat()
        self._call(
            "/api/v2/alerts", [{"labels": dict(labels), "startsAt": starts.isoformat(), "endsAt": now}]
        )

    def alerts(self) -> list[dict[str, Any]]:
        """The alerts it holds as firing."""
        answer: list[dict[str, Any]] = self._call("/api/v2/alerts?active=true")
        return answer

    def _ready(self) -> bool:
        with urllib.request.urlopen(f"{self.url}/-/ready", timeout=5) as answer:
            return bool(answer.status == 200)

    def _call(self, path: str, body: object = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, {"content-type": "application/json"})
        with urllib.request.urlopen(request, timeout=10) as answer:
            text = answer.read()
        return json.loads(text) if text else None


def _key(labels: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(labels.items()))


def _configuration(webhook_url: str, bearer: str, group_by: tuple[str, ...]) -> dict[str, Any]:
    webhook = {
        "url": webhook_url,
        "send_resolved": True,
        "http_config": {"authorization": {"type": "Bearer", "credentials": bearer}},
    }
    route = {
        "receiver": "sickbay",
        "group_by": list(group_by),
        "group_wait": "0s",
        "group_interval": GROUP_INTERVAL,
        "repeat_interval": "1h",
    }
    return {"route": route, "receivers": [{"name": "sickbay", "webhook_configs": [webhook]}]}
