"""The web door, spoken to over HTTP: what is in the database when the answer comes, and what is refused."""

import asyncio
import json
import socket
import sqlite3
import threading
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from pydantic import SecretStr

from bot.store import Store
from bot.web import Web
from tests.parts.script import PATIENCE
from tests.test_intake import body, item

SECRET = "s3cret-ünï"


class Door:
    """The real server on a loopback address."""

    def __init__(self, folder: Path, *, secret: str | None = SECRET) -> None:
        self.store = Store(folder / "sickbay.db", patience=0.2)
        self.wrong: dict[str, str] = {}
        web = Web(
            self.store,
            alert_secret=SecretStr(secret) if secret is not None else None,
            health=lambda: self.wrong,
            max_body=100_000,
        )
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        config = uvicorn.Config(web.app, log_config=None, lifespan="off", access_log=False)
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        asyncio.run(self._server.serve(sockets=[self._listener]))

    def call(self, method: str, path: str, data: Any = None, **headers: str) -> tuple[int, Any]:
        """Make one call; return status and answer."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        connection.request(method, path, data, headers)
        response = connection.getresponse()
        answer = response.read()
        connection.close()
        is_json = response.headers["content-type"] == "application/json"
        return response.status, json.loads(answer) if is_json else answer.decode()

    def post(self, data: Any, secret: str = SECRET) -> tuple[int, Any]:
        """Send alerts as Alertmanager does."""
        raw = data if isinstance(data, bytes) or hasattr(data, "__next__") else json.dumps(data).encode()
        return self.call(
            "POST", "/alerts/alertmanager", raw, Authorization=f"Bearer {secret}".encode().decode("latin-1")
        )

    @property
    def stored(self) -> int:
        """How many alerts another process would find in the database."""
        with sqlite3.connect(self.store.database.path) as connection:
            (count,) = connection.execute("SELECT count(*) FROM alerts").fetchone()
        connection.close()
        return int(count)

    def close(self) -> None:
        """Stop the server."""
        self._server.should_exit = True
        self._thread.join()
        self.store.close()


@pytest.fixture
def door(tmp_path: Path) -> Iterator[Door]:
    """Open a door and shut it."""
    door = Door(tmp_path)
    yield door
    door.close()


def test_an_alert_is_stored_before_it_is_acknowledged_and_a_repeat_changes_nothing(door: Door) -> None:
    assert door.post(body(item(), item(fingerprint="f2"))) == (
        200,
        {"stored": 2, "repeated": 0, "rejected": []},
    )
    assert door.stored == 2
    assert door.post(body(item())) == (200, {"stored": 0, "repeated": 1, "rejected": []})
    assert door.post(body(item(status="resolved")))[1]["stored"] == 1
    assert door.stored == 3
    assert door.post(body()) == (200, {"stored": 0, "repeated": 0, "rejected": []})


def test_an_invalid_alert_is_reported_beside_the_valid_ones(door: Door) -> None:
    status, answer = door.post(body(item(startsAt="x"), item()))
    assert (status, answer["stored"], door.stored) == (200, 1, 1)
    (rejected,) = answer["rejected"]
    assert rejected["alert"] == 0
    assert rejected["reason"].startswith("startsAt: ")
    assert door.post(body(item(startsAt="x")))[0] == 400


@pytest.mark.parametrize("secret", ["", "wrong", SECRET + "x", SECRET[:-1], "s3cret-unu"])
def test_a_wrong_secret_is_refused(door: Door, secret: str) -> None:
    status, answer = door.post(body(item()), secret)
    assert (status, answer) == (401, {"error": "wrong or missing bearer secret"})
    assert door.call("POST", "/alerts/alertmanager", b"{}")[0] == 401
    assert door.stored == 0


@pytest.mark.parametrize("secret", [None, ""])
def test_without_a_secret_nothing_is_taken(tmp_path: Path, secret: str | None) -> None:
    door = Door(tmp_path, secret=secret)
    status, answer = door.post(body(item()), "")
    assert status == 401
    assert "no secret is configured" in answer["error"]
    door.close()


def test_a_body_that_is_too_large_is_refused_whether_it_says_so_or_not(door: Door) -> None:
    large = json.dumps(body(item(annotations={"x": "y" * 100_000}))).encode()
    assert door.post(large)[0] == 413
    chunks = (large[at : at + 10_000] for at in range(0, len(large), 10_000))
    status, answer = door.post(chunks)
    assert (status, answer) == (413, {"error": "the body is larger than 100000 bytes"})
    assert door.stored == 0


def test_a_body_in_chunks_is_taken(door: Door) -> None:
    data = json.dumps(body(item())).encode()
    assert door.post(data[at : at + 50] for at in range(0, len(data), 50))[0] == 200


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "the body is not JSON"),
        (b"\xff\xfe", "the body is not JSON"),
        (b"{", "the body is not JSON"),
        (b"[" * 50_000, "the body is not JSON"),
        (b'{"a":' * 15_000, "the body is not JSON"),
        (b"9" * 5_000, "the body is not JSON"),
        (b"[]", "expected Alertmanager's webhook body: an object with a list `alerts`"),
        (
            json.dumps(body(item(), version="3")).encode(),
            "expected version \"4\" of Alertmanager's webhook body, not '3'",
        ),
    ],
)
def test_what_is_no_webhook_body_is_refused_with_one_reason(door: Door, data: bytes, reason: str) -> None:
    assert door.post(data) == (400, {"error": reason})


def test_a_locked_or_failing_database_is_told_so_that_it_is_sent_again(
    door: Door, caplog: pytest.LogCaptureFixture
) -> None:
    other = sqlite3.connect(door.store.database.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    assert door.post(body(item())) == (503, {"error": "the alerts could not be stored; send them again"})
    other.execute("ROLLBACK")
    other.execute("CREATE TRIGGER full BEFORE INSERT ON alerts BEGIN SELECT RAISE(FAIL, 'disk is full'); END")
    assert door.post(body(item()))[0] == 503
    assert "disk is full" in caplog.text
    other.execute("DROP TRIGGER full")
    other.close()
    assert door.post(body(item()))[0] == 200
    assert door.stored == 1


def test_a_caller_who_hangs_up_half_way_harms_nobody(door: Door, caplog: pytest.LogCaptureFixture) -> None:
    with socket.create_connection(("127.0.0.1", door.port)) as client:
        head = f"POST /alerts/alertmanager HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {SECRET}\r\n"
        client.sendall(head.encode() + b"Content-Length: 1000\r\n\r\n{")
    for _ in range(200):
        refused = next(line for line in metrics(door) if line.startswith("sickbay_webhook_refused_total"))
        if refused.endswith(" 1.0"):
            break
    else:
        pytest.fail("the broken call was not noticed")
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []
    assert door.post(body(item()))[0] == 200


def metrics(door: Door) -> list[str]:
    """Return what Prometheus would read."""
    text = door.call("GET", "/metrics")[1]
    return [*text.splitlines(), "sickbay_webhook_refused_total 0.0"]


def test_many_callers_at_once_lose_and_double_nothing(door: Door) -> None:
    answers: list[dict[str, Any]] = []

    def send(caller: int) -> None:
        for number in range(10):
            same, own = item(fingerprint=f"s{number}"), item(fingerprint=f"o{caller}-{number}")
            answers.append(door.post(body(same, own))[1])

    threads = [threading.Thread(target=send, args=(caller,)) for caller in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert door.stored == 90
    assert sum(answer["stored"] for answer in answers) == 90
    assert sum(answer["repeated"] for answer in answers) == 70


def test_health_says_what_is_wrong_by_part(door: Door) -> None:
    status, answer = door.call("GET", "/healthz")
    assert (status, answer["ok"], answer["wrong"]) == (200, True, {})
    door.wrong = {"slack": "not connected to Slack"}
    status, answer = door.call("GET", "/healthz")
    assert (status, answer["wrong"]) == (503, {"slack": "not connected to Slack"})
    door.wrong = {}
    with door.store.write() as tx:
        tx.exec_driver_sql("ALTER TABLE runs RENAME TO away")
    status, answer = door.call("GET", "/healthz")
    assert status == 503
    assert "does not answer" in answer["wrong"]["store"]


def test_metrics_count_what_became_of_alerts(door: Door) -> None:
    door.post(body(item(), item(startsAt="x")))
    door.post(body(item()))
    door.post(body(item()), "wrong")
    lines = metrics(door)
    for line in (
        'sickbay_alerts_total{outcome="stored"} 1.0',
        'sickbay_alerts_total{outcome="repeated"} 1.0',
        'sickbay_alerts_total{outcome="rejected"} 1.0',
        'sickbay_webhook_refused_total{status="401"} 1.0',
    ):
        assert line in lines


def test_only_what_is_there_is_there(door: Door) -> None:
    assert door.call("GET", "/alerts/alertmanager")[0] == 405
    assert door.call("GET", "/")[0] == 404
