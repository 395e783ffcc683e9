"""Hostile alerts, inputs and hosts: what they say is text from the webhook to the host's shell and to Slack.

Whoever can fire an alert can choose its labels; whoever breaks into a host can choose what it prints. Neither may run a
command, bring in a machine, or call people in Slack, and what they wrote stays visible as what it is.
"""

from collections.abc import Iterator
from typing import Any

import pytest

from bot.runs.run import RunState
from bot.sim.slack import Message
from tests.parts.programs import short_directory, wait_until
from tests.parts.sshd import Sshd
from tests.parts.stage import attempts
from tests.stories.ward import Ward, alert, flat, pretend_ward, real_ward

pytestmark = pytest.mark.timeout(120)

SHOW = """
version: 1
name: show-labels
description: Print what the alert says
kind: observe
triggers:
  - alert: {match: {kind: hostile}}
  - command: true
inputs:
  text: {type: string, default: none}
steps:
  - id: look
    run: printf '<%s>' "{{ alert.labels.text }}" "{{ alert.annotations.summary }}" "{{ inputs.text }}"
"""
CHANGE = """
version: 1
name: change
description: Hand everything that the alert says to a command that changes the host
kind: mutate
triggers: [{alert: {match: {kind: change}}}]
evidence: none
mode: approve
steps:
  - id: act
    run: [printf, "<%s>", VALUES]
verify:
  - {run: "true", mutates: false}
"""
GARBAGE = """
version: 1
name: garbage
description: Print what no terminal should see
kind: observe
triggers: [{command: true}]
steps:
  - id: print
    run: cat "$HOME/garbage"; exit 3
"""
VISIBLE = ["$(touch PWNED)", "`touch PWNED`", "'; touch PWNED; '", '"; touch PWNED; "',
    "; rm -rf PWNED", "|| touch PWNED", "${IFS}touch${IFS}PWNED", "first\ntouch PWNED\nlast", "{{ 7*7 }}", "{% raw %}",
    "<!channel> <!here>", "<@U0ALICE> <!subteam^S0ONCALL>", "*bold* _it_ ~no~ `code`", "<http://evil.example|Approve>",
    "@channel @here", "&lt;!channel&gt;", ":rotating_light:", "> quote", "\\", "%s%n$1", "!!", "*", "~root", "é 中 😀"]  # fmt: skip


@pytest.fixture
def opened() -> Iterator[tuple[Ward, dict[str, Sshd]]]:
    route = {"match": {"kind": "hostile"}, "runbook": "show-labels", "group_by": ["text"]}
    change = {"match": {"kind": "change"}, "runbook": "change"}
    values = ", ".join(f'"{{{{ alert.labels.t{number} }}}}"' for number in range(len(VISIBLE)))
    books = {"show-labels": SHOW, "garbage": GARBAGE, "change": CHANGE.replace("VALUES", values)}
    with (
        short_directory("hostile") as folder,
        real_ward(folder, routes=[route, change], books=books) as (ward, servers),
    ):
        ward.serve.start()
        yield ward, servers


def elements(message: Message) -> Iterator[dict[str, Any]]:
    """Walk through every object of a message's blocks."""
    ahead: list[Any] = list(message.all_blocks)
    while ahead:
        one = ahead.pop()
        if isinstance(one, dict):
            yield one
            ahead += one.values()
        elif isinstance(one, list):
            ahead += one


def calls_nobody(message: Message, allowed: frozenset[str] = frozenset()) -> None:
    """Check that nothing of a message mentions, links or formats but what Sickbay itself meant to."""
    for raw in ("<!channel", "<!here", "<!subteam", "<@", "<http://evil"):
        assert raw not in message.text
    for one in elements(message):
        assert one.get("type") not in ("broadcast", "usergroup", "channel"), one
        if one.get("type") == "user":
            assert one["user_id"] in allowed
        if one.get("type") == "mrkdwn":
            assert one["text"].startswith(("<!date^", "<http://127.0.0.1:9090/graph|source>")), one
        if one.get("type") == "link":
            assert "evil" not in one["url"]


def test_a_hostile_label_is_text_from_the_webhook_to_the_shell_and_to_slack(
    opened: tuple[Ward, dict[str, Sshd]],
) -> None:
    ward, _ = opened
    pwned = ward.folder / "pwned"
    texts = [text.replace("PWNED", str(pwned)) for text in VISIBLE]
    alerts = [
        alert(text, kind="hostile", text=text, severity=text, annotations={"summary": text, text: text})
        for text in texts
    ]
    status, answer = ward.post(*alerts)
    assert (status, answer["stored"]) == (200, len(texts))
    ended = "select count(*) from runs where state = 'succeeded'"
    wait_until(lambda: ward.rows(ended) == [(len(texts),)], "all runs", seconds=40)
    with ward.store() as store:
        for run in store.runs.newest(limit=99):
            assert run.alert is not None
            text = run.alert["labels"]["text"]
            (look,) = attempts(store, run.id)
            assert (look.stdout, run.state) == (f"<{text}><{text}><none>", RunState.SUCCEEDED), look.summary
    ward.wait(lambda: len(ward.slack.slack.messages()) == len(texts))
    roots = ward.slack.slack.messages()
    assert len(roots) == len(texts)
    for text in texts:
        first = " ".join(text.split())
        assert any(first in flat(root) for root in roots), f"not visible in Slack: {text!r}"
    for message in ward.messages():
        calls_nobody(message, frozenset({"U0ALICE", "U0BOB"}))
    assert not pwned.exists(), "a label was executed"


def test_every_value_of_a_plan_is_shown_as_it_is_and_reaches_a_changing_command_as_it_is(
    opened: tuple[Ward, dict[str, Sshd]],
) -> None:
    ward, _ = opened
    pwned = ward.folder / "pwned"
    texts = [text.replace("PWNED", str(pwned)) for text in VISIBLE]
    change = alert("Change", kind="change")
    change["labels"] |= {f"t{number}": text for number, text in enumerate(texts)}
    ward.post(change)
    question = ward.question()
    plan = ward.shown("Plan of change")
    for text in texts:
        assert repr(text) in plan.words
    assert ward.click("alice", question, "approve").acked
    run = ward.ended()
    assert run.state is RunState.SUCCEEDED, run.reason
    assert ward.attempts()["act"].stdout == "".join(f"<{text}>" for text in texts)
    for message in ward.messages():
        calls_nobody(message, frozenset({"U0ALICE", "U0BOB"}))
    assert not pwned.exists(), "a label was executed"


def test_what_no_shell_variable_can_carry_and_what_would_be_an_option_is_refused_by_name(
    opened: tuple[Ward, dict[str, Sshd]],
) -> None:
    ward, _ = opened
    texts = ["-oProxyCommand=touch x", "nul\0byte", "x" * 65_536]
    whys = ["begins with `-` and would be read as an option", "holds a NUL", "larger than 64 Ki"]
    assert ward.post(*[alert(kind="hostile", text=text) for text in texts])[0] == 200
    for number, why in enumerate(whys, 1):
        run = ward.ended(number)
        assert run.state is RunState.FAILED
        look = ward.attempts(number)["look"]
        assert why in look.summary
        assert "alert.labels.text" in look.summary
        assert look.exit_code is None, "it was sent"
        ward.shown("show-labels failed on gpu-03", why)
    status, answer = ward.post(alert(kind="hostile", text="half \ud800 pair"), alert("whole", kind="hostile"))
    assert (status, answer["stored"]) == (200, 1)
    assert answer["rejected"][0]["reason"].endswith("not UTF-8")


def test_what_nobody_would_see_in_a_label_or_an_output_is_written_out(
    opened: tuple[Ward, dict[str, Sshd]],
) -> None:
    ward, servers = opened
    ward.post(alert("Turned\u202eround", kind="hostile", text="zero\u200bwidth"))
    ward.shown("Turned\\u202eround")
    printed = b"\xff\xfe caf\xe9 \x1b[31mred\x1b[0m \x1b]0;title\x07<!channel> nul\0 \xe2\x80\xae turned\n"
    servers["gpu-03"].home.joinpath("garbage").write_bytes(printed)
    assert ward.say("alice", "run garbage gpu-03").acked
    message = ward.shown("Failed · garbage")
    said = flat(message)
    assert said.count("\\xff\\xfe caf\\xe9 red <!channel> nul \\u202e turned") == 2, said
    for one in ward.messages():
        calls_nobody(one, frozenset({"U0ALICE", "U0BOB"}))
        assert not set(flat(one)) & set("\x1b\u202e\u200b\0")


def test_a_host_label_names_one_machine_of_the_inventory_or_none() -> None:
    names = ["@all", "@serving", "gpu-[01-99]", "gpu-*", "gpu-01,gpu-02", "gpu-01 gpu-02", "gpu-01;rm -rf /", "{{ 7*7 }}",
        "-oProxyCommand=x", "gpu-01\n[info] forged", "\x1b[31mgpu-01", "gpu-01\u200b", "10.9.9.9", "<!channel>", "x" * 5000]  # fmt: skip
    route = {"match": {"alertname": "VLLMStalled"}, "runbook": "restart-container"}
    with short_directory("hosts") as folder, pretend_ward(folder, 2, routes=[route]) as (ward, _):
        ward.serve.start()
        assert ward.post(*[alert(host=name, annotations={"summary": name}) for name in names])[0] == 200
        ward.until(lambda store: len(store.incidents.newest(limit=99)) == len(names), "all incidents")
        for incident in ward.incidents():
            assert incident.host is None
            assert "names no host of the inventory" in incident.note
        assert ward.rows("select count(*) from runs") == [(0,)]
        ward.wait(lambda: len(ward.slack.slack.messages()) == len(names))
        for message in ward.messages():
            calls_nobody(message)
            assert "no host of the inventory" in flat(message)
            assert "under `hosts:`" in flat(message), "what to do next is not said"
        log = ward.serve.log.read_text()
        assert "\n[info] forged" not in log
        assert "\x1b" not in log
        assert len(max(log.splitlines(), key=len)) < 600
