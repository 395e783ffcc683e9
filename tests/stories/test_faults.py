"""What goes wrong at three in the morning: people who click at once, alerts that clear, hosts that die, full disks, kills."""

import asyncio
import json
import socket
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from bot.incident import IncidentState
from bot.runs.run import RunState, Status
from bot.sim.fleet import PretendFleet
from tests.parts.programs import short_directory, wait_until
from tests.stories.faults import (
    BRIEF,
    BRIEF_BOOK,
    PUT_BACK,
    PUT_BACK_BOOK,
    SLOW,
    SLOW_BOOK,
    SLOW_DOCKER,
    running,
    small_disk,
)
from tests.stories.ward import Json, Ward, alert, flat, pretend_ward, real_ward

pytestmark = pytest.mark.timeout(120)


# ── the database ──
def test_on_a_full_disk_alerts_are_refused_health_says_so_and_room_mends_it() -> None:
    summary = {"summary": "x" * 20_000}
    with (
        short_directory("disk") as folder,
        small_disk(folder / "small", "24m") as disk,
        pretend_ward(folder, 1, store={"path": str(disk / "sickbay.db")}) as (ward, _),
    ):
        ward.database = disk / "sickbay.db"
        ward.serve.start()
        assert ward.call("/healthz")[0] == 200
        with (disk / "fill").open("wb") as fill:
            fill.write(bytes(24 * 2**20 - 100 * 1024 - sum(one.stat().st_size for one in disk.iterdir())))
        code, health = ward.call("/healthz")
        assert (code, "KiB are left" in str(health)) == (503, True)
        codes = [200]
        while codes[-1] == 200 and len(codes) < 100:
            code, answer = ward.post(alert(f"A{len(codes)}", annotations=summary))
            codes.append(code)
        assert (codes[-1], answer) == (503, {"error": "the alerts could not be stored; send them again"})
        code, health = ward.call("/healthz")
        assert code == 503
        assert "left on its disk" in health["wrong"]["store"] or "disk is full" in health["wrong"]["store"]
        assert ward.say("alice", "help").acked
        assert ward.serve.process is not None
        assert ward.serve.process.poll() is None

        subprocess.run(["mount", "-o", "remount,size=64m", disk], check=True)
        assert ward.post(alert("Late", annotations=summary))[0] == 200
        wait_until(lambda: ward.call("/healthz")[0] == 200, "health")
        wait_until(lambda: len(ward.incidents()) == codes.count(200), "every alert that got its 200")
        ward.wait(lambda: len(ward.slack.slack.messages()) == codes.count(200))


# ── people ──
def test_of_two_answers_at_once_one_counts_and_the_other_is_told_why(
    opened_ward: tuple[Ward, PretendFleet],
) -> None:
    ward, _ = opened_ward
    ward.post(alert())
    question, slack = ward.question(), ward.slack.slack

    async def both() -> list[bool]:
        clicks = [slack.click(*one) for one in (
            ("alice", "oncall", question.ts, "approve"), ("bob", "oncall", question.ts, "deny"),
        )]  # fmt: skip
        return [delivery.acked for delivery in await asyncio.gather(*clicks)]

    assert ward.slack.call(both()) == [True, True]
    ward.wait(lambda: ward.whispers("alice") or ward.whispers("bob"))
    (decided,) = ward.rows("select person, answer from decisions")
    winner, loser = (decided[0], "bob" if decided[0] == "alice" else "alice")
    assert f"{winner} has already" in ward.whispers(loser)
    assert not ward.whispers(winner)
    if decided[1] == "approve":
        assert "cancel run 1" in ward.whispers(loser)
    assert ward.ended().state is (RunState.SUCCEEDED if decided[1] == "approve" else RunState.CANCELLED)


def test_clicks_that_come_twice_late_or_from_strangers_change_nothing(
    steady: Ward,
) -> None:
    ward = steady
    assert ward.say("alice", "run steady gpu-01").acked
    question = ward.question()
    assert ward.click("mallory", question, "approve").acked
    ward.wait(lambda: "I don't know you, mallory" in ward.whispers("mallory"))
    assert ward.click("alice", question, "approve").acked
    ward.wait(lambda: "somebody else has to approve" in ward.whispers("alice"))
    assert ward.rows("select count(*) from decisions") == [(0,)]
    click = ward.click("bob", question, "approve")
    again = ward.slack.call(ward.slack.slack.resend(click))
    assert (click.acked, again.acked) == (True, True)
    assert ward.ended().state is RunState.SUCCEEDED
    ward.wait(lambda: not ward.now(question).actions)
    assert ward.slack.call(ward.slack.slack.resend(click)).acked
    assert ward.rows("select person from decisions") == [("bob",)]
    assert ward.rows("select count(*) from attempts where step = 'act'") == [(1,)]


def test_a_click_after_the_alert_cleared_or_after_the_deadline_is_refused_with_the_reason() -> None:
    with (
        short_directory("late") as folder,
        pretend_ward(folder, 2, routes=[BRIEF], books={"brief": BRIEF_BOOK}) as (ward, _),
    ):
        ward.serve.start()
        ward.post(alert("Brief", "gpu-01"))
        question = ward.question()
        ward.wait(lambda: "Not approved in time" in flat(ward.now(question)))
        assert not ward.now(question).actions
        assert "closed at" in ward.press_again("alice", question, 1)
        assert ward.ended().state is RunState.CANCELLED
        root = flat(ward.slack.slack.messages()[0])
        assert "Nobody approved in time; nothing was changed." in root

        ward.post(alert("Brief", "gpu-02"))
        second = ward.question(2)
        ward.post(alert("Brief", "gpu-02", status="resolved"))
        ward.wait(lambda: "the alert has cleared" in flat(ward.now(second)))
        assert "the alert has cleared" in ward.press_again("bob", second, 2)
        assert ward.rows("select count(*) from attempts where step = 'act'") == [(0,)]


def test_approved_in_the_terminal_the_buttons_go_and_a_cancelled_restart_is_told_to_end_and_cleaned_up_after() -> (
    None
):
    with (
        short_directory("cancel") as folder,
        real_ward(folder, routes=[SLOW], books={"slow": SLOW_BOOK}) as (ward, hosts),
    ):
        host = hosts["gpu-03"]
        host.program("docker", SLOW_DOCKER)
        ward.serve.start()
        ward.post(alert("Slow"))
        question = ward.question()
        code, said = ward.type("approve", "1", who="mallory")
        assert (code, "nobody called mallory" in said) == (2, True)
        code, said = ward.type("approve", "1", who="bob")
        assert (code, "Your approval of run 1 counts" in said) == (0, True)
        ward.wait(lambda: not ward.now(question).actions)
        assert "Approved by bob" in flat(ward.now(question))
        wait_until((host.home / "restarting").exists, "the restart")
        ward.click("bob", ward.shown("Running", "Cancel run"), "cancel")
        run = ward.ended()
        assert (run.state, run.reason) == (RunState.CANCELLED, "Cancelled by bob.")
        assert (host.home / "termed").exists(), "the command was not told to end"
        assert not (host.home / "restarted").exists()
        assert not host.processes("docker")
        assert (host.home / "cleaned").exists(), "`always` did not run"
        assert ward.attempts()["restart"].status is Status.FAILED
        root = ward.wait(
            lambda: next(
                (one for one in ward.slack.slack.messages() if "Cancelled by bob" in flat(one)), None
            )
        )
        assert root is not None
        assert "A person has to go on from here" in flat(root)
        assert flat(ward.shown("Cancelled · slow")).count("Cancelled by bob") == 1


# ── alerts that clear ──
def test_an_alert_that_clears_while_looked_at_asked_about_or_acted_upon_stops_what_has_not_begun(
    steady: Ward,
) -> None:
    ward = steady

    def post(hour: int, status: str = "firing", severity: str = "critical") -> Json:
        at = f"2026-01-01T{hour:02}:00:00Z"
        code, answer = ward.post(alert("Steady", "gpu-01", at=at, status=status, severity=severity))
        assert code == 200
        return answer

    post(1)
    ward.click("alice", ward.question(), "approve")
    ward.begun("act")
    post(1, "resolved")
    going_on = ward.shown("RESOLVED", "steady on gpu-01: step")
    post(2, severity="page")
    assert ward.ended().state is RunState.SUCCEEDED
    ward.wait(lambda: "recovered by steady" in flat(ward.now(going_on)))
    # What the new incident's run saw while the old one's acted is no ground to do it again.
    outdated = flat(ward.shown("The plan no longer held: run 1 has changed gpu-01", "Check gpu-01"))
    assert "A person has to go on from here" in outdated
    post(2, "resolved", "page")

    post(3)
    ward.begun("look", 3)
    post(3, "resolved")
    run = ward.ended(3)
    assert (run.state, run.plan) == (RunState.CANCELLED, None)

    post(4)
    question = ward.question(4)
    post(4, "resolved")
    ward.wait(lambda: "the alert has cleared" in flat(ward.now(question)))
    assert not ward.now(question).actions
    assert ward.ended(4).state is RunState.CANCELLED
    assert post(4)["repeated"] == 1

    assert [one.state for one in ward.incidents()] == [IncidentState.RESOLVED] * 4
    assert ward.rows("select count(*) from attempts where step = 'act'") == [(1,)]


# ── machines ──
def test_a_host_that_dies_in_the_middle_is_left_to_people_and_put_back_at_the_balancer() -> None:
    with (
        short_directory("dies") as folder,
        pretend_ward(folder, 2, routes=[PUT_BACK], books={"put-back": PUT_BACK_BOOK}, login=1.0) as (
            ward,
            fleet,
        ),
    ):
        ward.serve.start()
        ward.post(alert("Dies", "gpu-02"))
        ward.click("alice", ward.question(), "approve")
        ward.begun("restart")
        wait_until(lambda: bool(running("sleep", "31.0317")), "the command on the host")
        fleet.down("gpu-02")
        run = ward.ended(seconds=40)
        assert run.state is RunState.NEEDS_HUMAN
        attempts = ward.attempts()
        assert attempts["restart"].status is Status.UNKNOWN
        assert attempts["restart"].number == 1
        assert attempts["back"].status is Status.OK, attempts["back"].summary
        root = flat(ward.shown("A person has to look at gpu-02", "Restart"))
        assert "nothing listens there" in root
        card = flat(ward.shown("Next: look on the host what it did"))
        assert "Sickbay does not repeat it" in card

        fleet.restore("gpu-02")
        ward.post(alert("Dies", "gpu-01"))
        ward.click("alice", ward.question(2), "approve")
        wait_until(lambda: bool(running("sleep", "31.0317")), "the command on the host")
        fleet.down("lb-01")
        run = ward.ended(2, seconds=40)
        assert run.state is RunState.FAILED
        assert "lb-01: unreachable" in flat(ward.shown("put-back failed on gpu-01", "Back into traffic"))


def test_one_silent_host_among_eight_holds_up_no_other() -> None:
    with short_directory("silent") as folder, pretend_ward(folder, 8, login=4.0) as (ward, fleet):
        address, port = ward.text["hosts"]["gpu-05"]["address"], ward.text["hosts"]["gpu-05"]["port"]
        fleet.down("gpu-05")
        ward.serve.start()
        with socket.create_server((address, port)):
            began = time.monotonic()
            assert ward.say("alice", "run gpu-check @serving").acked
            done = "select count(*) from attempts where status = 'ok'"
            wait_until(
                lambda: ward.rows("select id from runs") != [] and ward.rows(done) == [(7,)], "seven results"
            )
            assert time.monotonic() - began < 4
            assert ward.run().state is RunState.RUNNING
            ward.shown("gpu-[01-04,06-08]", "all healthy", "Running")
            run = ward.ended(seconds=15)
        assert (run.state, run.reason) == (RunState.FAILED, "Failed on gpu-05. First: gpus on gpu-05.")
        card = flat(ward.shown("gpu-05 failed: unreachable", "gpu-[01-04,06-08] healthy"))
        assert "accepts connections but does not serve them" in card


# ── Sickbay itself ──
def test_killed_while_a_question_waits_and_while_slack_is_down_it_shows_all_of_it_once(
    steady: Ward,
) -> None:
    ward = steady
    slack = ward.slack.slack
    ward.post(alert("Steady", "gpu-01"))
    question = ward.question()
    ward.serve.kill()
    ward.serve.start()
    assert ward.click("alice", question, "approve").acked
    ward.wait(lambda: "Approved by alice" in flat(ward.now(question)))
    assert ward.ended().state is RunState.SUCCEEDED
    assert ward.rows("select count(*) from attempts where step = 'act'") == [(1,)]

    slack.fail_next("chat.postMessage", status=503, times=3)
    slack.fail_next("chat.update", status=503, times=3)
    before = len(slack.calls("chat.postMessage"))
    ward.post(alert("Unrouted", "gpu-01"), alert("Unrouted", "gpu-02"))
    wait_until(lambda: len(slack.calls("chat.postMessage")) > before, "a refused post")
    ward.serve.kill()
    ward.serve.start()
    for host in ("gpu-01", "gpu-02"):
        ward.shown("Unrouted", host)
    ward.wait(lambda: "Recovered" in flat(slack.messages()[0]))
    assert len(slack.messages()) == 3
    assert sum("Approved" in flat(one) for one in ward.messages()) == 1


def test_every_alert_that_got_its_200_is_there_after_a_kill_and_none_is_there_twice() -> None:
    with short_directory("kill") as folder, pretend_ward(folder, 1) as (ward, _):
        ward.serve.start()
        alerts = [alert(f"Kill{number}", "gpu-01") for number in range(50)]
        taken: list[str] = []

        def post(one: Json) -> None:
            try:
                if ward.post(one, timeout=5)[0] == 200:
                    taken.append(one["labels"]["alertname"])
            except OSError:
                return  # it was killed before it answered: a monitor sends it again

        with ThreadPoolExecutor(8) as pool:
            posts = [pool.submit(post, one) for one in alerts]
            wait_until(lambda: len(taken) >= 15, "some answers", every=0.001)
            ward.serve.kill()
        assert all(one.done() for one in posts)
        ward.serve.start()
        stored = [name for (name,) in ward.rows("select json_extract(labels, '$.alertname') from alerts")]
        assert set(taken) <= set(stored)
        assert len(stored) == len(set(stored))
        code, answer = ward.post(*alerts)
        assert (code, answer["stored"], answer["repeated"]) == (200, 50 - len(stored), len(stored))
        wait_until(lambda: len(ward.incidents()) == 50, "fifty incidents")
        assert len({incident.key for incident in ward.incidents()}) == 50


def test_a_hundred_alerts_at_once_are_eight_incidents_and_people_are_still_answered() -> None:
    route = {"match": {}, "mode": "suggest", "runbook": "brief"}
    with (
        short_directory("storm") as folder,
        pretend_ward(
            folder, 8, routes=[route], books={"brief": BRIEF_BOOK}, slack={"rate_limits": "real"}
        ) as (ward, _),
    ):
        ward.serve.start()
        alerts = [alert("Brief", f"gpu-{number % 8 + 1:02}", pod=f"pod-{number}") for number in range(100)]
        with ThreadPoolExecutor(10) as pool:
            codes = [pool.submit(ward.post, one) for one in alerts]
            helped = ward.say("alice", "help")
            assert helped.acked
            assert (helped.after or 9) < 3
            assert {code.result()[0] for code in codes} == {200}
        wait_until(lambda: len(ward.incidents()) == 8, "eight incidents")
        ward.until(
            lambda store: all(run.state.ended for run in store.runs.newest(limit=99)), "the end of the runs"
        )
        assert len(ward.rows("select id from runs")) == 8
        # one message more: so many hosts at once stop automation, and the channel hears of it
        ward.wait(lambda: len(ward.slack.slack.messages()) == 9, 30)
        helped = ward.say("bob", "hosts")
        assert (helped.after or 9) < 3
        ward.wait(lambda: "gpu-08" in ward.whispers("bob"))
        refused = [one for one in ward.slack.slack.calls() if "ratelimited" in json.dumps(one)]
        assert len(refused) <= 20, "it lives from retries"
        roots = ward.slack.slack.messages
        # one message or edit a second, as Slack allows it: some thirty of them
        ward.wait(
            lambda: all(
                "12 alerts" in flat(one) or "13 alerts" in flat(one)
                for one in roots()
                if "Automation stopped itself" not in flat(one)
            ),
            60,
        )


# ── runbooks ──
def test_a_plan_ends_with_the_file_it_was_made_from_and_a_broken_one_stops_the_start_at_its_line() -> None:
    book = BRIEF_BOOK.replace("timeout: 2s", "timeout: 5m")
    with (
        short_directory("books") as folder,
        pretend_ward(folder, 1, routes=[BRIEF], books={"brief": book}) as (ward, _),
    ):
        ward.serve.start()
        ward.post(alert("Brief", "gpu-01"))
        question = ward.question()
        path = folder / "books" / "brief.yaml"
        path.write_text(book.replace('{id: act, run: "true"}', '{id: act, run: "echo another"}'))
        ward.serve.kill()
        ward.serve.start()
        run = ward.ended()
        assert (run.state, run.reason) == (
            RunState.CANCELLED,
            "The plan no longer held; nothing was changed.",
        )
        assert "act" not in ward.attempts()
        ward.wait(lambda: "the file of the runbook brief was changed" in flat(ward.now(question)))

        path.write_text(book.replace("run:", "rum:"))
        assert ward.serve.stop() == 0
        for words in (("serve",), ("doctor",)):
            code, said = ward.type(*words)
            assert code != 0
            assert "brief.yaml:" in said
            assert "unknown key `rum`" in said
            assert "did you mean `run`?" in said
