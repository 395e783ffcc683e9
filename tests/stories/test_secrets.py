"""Canaries: secrets in everything a host, a monitor, a person and a file can say, and none in any byte that leaves.

The whole is real but for the GPUs: `sickbay serve` as a child, sshds, a strict pretend Slack, SQLite, curl and a server
that answers with the key it was asked with. Afterwards every request to Slack, every file there, the database with its
write-ahead log, the logs and all that the command line said is searched for the secrets, whole and in parts.
"""

import base64
import http.server
import json
import shutil
import threading
import urllib.request
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import yaml

from bot.runs.run import RunState
from tests.parts.programs import require, short_directory, wait_until
from tests.parts.sshd import Sshd, new_key
from tests.stories.stage import SECRET
from tests.stories.ward import Ward, alert, real_ward

pytestmark = pytest.mark.timeout(180)

TOKEN = "c4n4ry/One+two\"three'four&five\\six"
OTHER = "second-canary-0123456789abcdef"
HOST_KEY_LINES = 3

LEAK = """
version: 1
name: leak
description: Use secrets, and print them in every way
kind: mutate
triggers: [{alert: {match: {alertname: Leak}}}, {command: true}]
mode: approve
evidence: none
inputs:
  text: {type: string, default: none, pattern: ".*"}
steps:
  - id: page
    uses: http.check
    with: {port: PORT, path: /echo, headers: {Authorization: "Bearer {{ secrets.token }}", X-Other: "{{ secrets.other }}"}}
  - id: gpus
    uses: gpu.check
  - id: print
    mutates: false
    run: |
      printf '%s\\n' "out {{ secrets.token }}" "{{ alert.labels.text }}" "{{ inputs.text }}"
      printf '%s\\n' "err {{ secrets.token }}" "{{ secrets.key }}" >&2
      printf '%s' "user:{{ secrets.token }}" | base64 -w0; echo
      half="{{ secrets.other }}"
      printf '%s' "$half" | head -c 14; sleep 0.6; printf '%s\\n' "$half" | tail -c 17
      cat "$HOME/noise"
    expect: "'•••' in result.stdout"
  - id: act
    run: |
      printf '%s' "{{ secrets.token }}" > "$HOME/written"
      printf '%s\\n' "acted {{ secrets.token }} {{ secrets.key }}"
      sleep 0.4; printf '%s\\n' "{{ secrets.other }}" >&2
  - id: fail
    run: 'printf "%s\\n" "cannot use {{ secrets.token }}" >&2; exit 3'
verify:
  - {run: "true", mutates: false}
rescue:
  - {id: after, run: 'cat "$HOME/written"', mutates: false}
"""


@contextmanager
def echoing() -> Iterator[int]:
    """A server that answers with all it was told."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            told = dict(self.headers)
            body = json.dumps({"told": told, "url": quote(told.get("Authorization", ""))}).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


class Leaking:
    """A ward that knows secrets, and all that came out of it."""

    def __init__(self, ward: Ward, hosts: dict[str, Sshd], key: str) -> None:
        self.ward = ward
        self.hosts = hosts
        self.key = key
        self.said: list[str] = []

    def type(self, *words: str, who: str = "") -> tuple[int, str]:
        """Type a command; what it says is searched too."""
        code, said = self.ward.type(*words, who=who)
        self.said.append(said)
        return code, said

    def stumble(self) -> None:
        """Have Slack refuse with a secret: once while somebody is answered, once while a message is shown."""
        ward, slack = self.ward, self.ward.slack

        def said() -> str:
            return ward.serve.log.read_text()

        slack.slack.fail_next("chat.postMessage", error=f"no {OTHER}")
        slack.call(slack.slack.mention("U0ALICE", "oncall", "hosts"))
        wait_until(lambda: "Traceback" in said() and "SlackApiError" in said(), "the exception in the log")
        slack.slack.fail_next("chat.postMessage", error=f"not {TOKEN}")
        assert ward.say("alice", "check gpu-03").acked
        wait_until(lambda: "Slack refuses run:" in said(), "the refusal in the log")
        assert said().count("•••") >= 2

    def canaries(self) -> set[bytes]:
        """Return what must be nowhere: each secret in parts of ten letters, by itself and encoded."""
        lines = [line for line in self.key.splitlines() if not line.startswith("-----") and len(line) >= 8]
        parts: set[bytes] = {b"hunter22x"}
        for secret in (TOKEN, OTHER, SECRET, *lines):
            encoded = [base64.b64encode(bytes(shift) + secret.encode())[4:-4] for shift in range(3)]
            for form in (secret.encode(), quote(secret, safe="").encode(), *encoded):
                parts |= {form[at : at + 10] for at in range(len(form) - 9)}
        return parts

    def everything(self) -> dict[str, bytes]:
        """Return every byte that left, by where it went."""
        slack, database = self.ward.slack.slack, self.ward.database
        outputs = [zlib.decompress(data) for (data,) in self.ward.rows("select data from outputs")]
        tables = [name for (name,) in self.ward.rows("select name from sqlite_master where type = 'table'")]
        left = {f"table {name}": repr(self.ward.rows(f"select * from {name}")).encode() for name in tables}
        left |= {f"file {path.name}": path.read_bytes() for path in database.parent.glob("sickbay.db*")}
        left |= {f"upload {file.name}": file.content for file in slack.files}
        left["outputs"] = b"\n".join(outputs)
        asked = [call["args"] for call in slack.calls()]
        left["slack calls"] = json.dumps(asked, ensure_ascii=False, default=str).encode()
        left["slack messages"] = repr(self.ward.messages()).encode()
        left["whispers"] = self.ward.whispers("U0ALICE").encode() + self.ward.whispers("U0BOB").encode()
        left["log"] = self.ward.serve.log.read_bytes()
        left["command line"] = "\n".join(self.said).encode()
        left["health"] = json.dumps(self.ward.call("/healthz"), ensure_ascii=False).encode()
        with urllib.request.urlopen(f"{self.ward.serve.address}/metrics") as answer:
            left["metrics"] = answer.read()
        return left

    def search(self) -> None:
        """Find no canary anywhere, raw, in JSON or in a Python literal."""
        canaries = self.canaries()
        written = canaries | {part.replace(b"\\", b"\\\\") for part in canaries}
        written |= {part.replace(b'"', b'\\"') for part in written}
        left = self.everything()
        assert all(left[place] for place in ("outputs", "slack calls", "log", "command line", "table events"))
        found = {
            place: data[max(0, data.index(part) - 300) :][:600]
            for place, data in left.items()
            for part in written
            if part in data
        }
        assert not found


@pytest.fixture
def leaking() -> Iterator[Leaking]:
    """A ward with three secrets: two in the environment, a private key in a file."""
    require("curl", package="curl")
    with short_directory("leak") as folder, echoing() as port:
        key = new_key(folder / "canary").read_text()
        options: dict[str, Any] = {
            "secrets": {
                "token": {"env": "CANARY_TOKEN"},
                "other": {"env": "CANARY_OTHER"},
                "key": {"file": str(folder / "canary")},
            },
            "routes": [{"match": {"alertname": "Leak"}, "runbook": "leak"}],
            "books": {"leak": LEAK.replace("PORT", str(port))},
        }
        with real_ward(folder, **options) as (ward, hosts):
            ward.environ |= {"CANARY_TOKEN": TOKEN, "CANARY_OTHER": OTHER}
            ward.serve.environ |= ward.environ
            smi = f"#!/bin/sh\ncat {folder}/canary >&2\necho 'failed: {OTHER}' >&2\nexit 9\n"
            hosts["gpu-03"].program("nvidia-smi", smi)
            (hosts["gpu-03"].home / "noise").write_text("password=hunter22x in a line\n" * 60)
            yield Leaking(ward, hosts, key)


def test_no_secret_is_in_any_byte_that_leaves(leaking: Leaking) -> None:
    ward = leaking.ward
    ward.serve.start()
    leak = alert("Leak", text=f"{TOKEN} \x1b[31m{OTHER}", annotations={"summary": f"the token is {TOKEN}"})
    assert ward.post(leak)[0] == 200
    question = ward.question(seconds=40)
    plan = ward.shown("Plan of leak")
    assert "‹secret token›" in plan.words
    assert ward.click("alice", question, "approve").acked
    run = ward.ended(seconds=60)
    assert run.state is RunState.FAILED, run.reason
    steps = ward.attempts()
    assert steps["page"].facts["http_code"] == 200, "the server was asked"
    assert (leaking.hosts["gpu-03"].home / "written").read_text() == TOKEN, "the host got the value itself"
    assert "acted ••• •••" in steps["act"].stdout
    assert steps["fail"].summary == "exit code 3: cannot use •••"
    assert "•••" in steps["gpus"].summary + steps["gpus"].advice
    ward.wait(lambda: [file for file in ward.slack.slack.files if "output" in file.name])
    ward.shown("cannot use •••")
    assert ward.say("alice", f"run leak gpu-03 text={OTHER}").acked
    ward.wait(lambda: "the value of a secret stands in leak or in its inputs" in ward.whispers("U0ALICE"))
    assert ward.say("bob", f"check {TOKEN}").acked
    ward.wait(lambda: "•••" in ward.whispers("U0BOB"))
    for words in (
        ["runs"],
        ["runs", "1"],
        ["incidents", "1"],
        ["plan", "leak", "gpu-03"],
        ["hosts"],
        ["doctor"],
    ):
        leaking.type(*words, who="" if words == ["doctor"] else "alice")
    assert "‹secret key›" in leaking.said[3]
    for words in (
        ["incidents", "show", "1"],
        ["incidents", "export", "1"],
        ["incidents", "export", "1", "--format", "json", "--output", str(ward.folder / "sickbay.db.export")],
        ["explain", "leak", "gpu-03"],
        ["audit", "verify"],
    ):
        code, said = leaking.type(*words)
        assert code == 0, said
    case = ward.folder / "sickbay.db.test.yaml"
    code, said = leaking.type("test", "record", "1", "--output", str(case))
    assert code == 0, said
    assert "acted ••• •••" in case.read_text("utf-8"), "what the host printed was written"
    code, said = leaking.type("run", "leak", "gpu-03", f"text={OTHER}", who="alice")
    assert (code, "the value of a secret" in said) == (2, True)
    leaking.type("hosts", TOKEN, who="alice")
    assert "•••" in leaking.said[-1]
    leaking.stumble()
    leaking.search()
    assert ward.serve.stop() == 0
    assert TOKEN.encode() not in ward.serve.log.read_bytes()


def test_a_secret_in_the_configuration_or_missing_is_refused_at_the_start_and_not_repeated(
    leaking: Leaking,
) -> None:
    ward = leaking.ward
    hosts = ward.text["hosts"]
    for where in (
        {"hosts": {"gpu-03": {**hosts["gpu-03"], "vars": {"note": f"it is {TOKEN}"}}}},
        {"hosts": {"gpu-03": {**hosts["gpu-03"], "vars": {OTHER: 1}}}},
        {"secrets": {"token": TOKEN}},
        {"secrets": {"token": {"env": OTHER}}},
        {"routes": [{"match": {"alertname": "Leak"}, "runbook": "leak", "inputs": {"text": TOKEN}}]},
    ):
        ward.config.write_text(yaml.safe_dump({**ward.text, **where}))
        for command in (["hosts"], ["serve"], ["doctor"]):
            code, said = leaking.type(*command)
            assert code == (1 if command == ["doctor"] else 2), said
            assert "stands here" in said or "does not belong in this file" in said
    ward.config.write_text(yaml.safe_dump(ward.text))
    del ward.environ["CANARY_TOKEN"]
    code, said = leaking.type("serve")
    assert code == 2
    assert said.startswith(
        "sickbay: secret `token`: CANARY_TOKEN is not set in the environment\n  → set CANARY_TOKEN"
    )
    code, said = leaking.type("run", "leak", "gpu-03", who="alice")
    assert code == 2, "nothing is started that could not be masked"
    assert "CANARY_TOKEN is not set" in said
    assert leaking.type("runs", who="alice")[0] == 0, "to look needs no secret"
    shutil.copy(ward.folder / "canary", ward.folder / "open")
    (ward.folder / "open").chmod(0o644)
    kept = {**ward.text["secrets"], "key": {"file": str(ward.folder / "open")}}
    ward.config.write_text(yaml.safe_dump({**ward.text, "secrets": kept}))
    code, said = leaking.type("serve")
    assert (code, "can be read by anybody on this machine" in said) == (2, True)
    canaries = leaking.canaries()
    assert not [part for said in leaking.said for part in canaries if part in said.encode()]
    assert not [part for part in canaries if part in Path(ward.database).read_bytes()]
