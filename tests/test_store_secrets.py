"""No secret is written into the database, whoever writes what where; what is run stays as it was approved."""

import json
import sqlite3
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from bot.alert import Alert
from bot.errors import SickbayError
from bot.runs.plan import Entry, Plan
from bot.runs.run import RunState, Status
from bot.secrets.mask import HIDDEN, Mask
from bot.store import Store
from bot.store.timeline import tell
from bot.verdict import Verdict
from tests.parts.books import book
from tests.parts.script import done
from tests.parts.stage import Stage
from tests.parts.states import Hands

SECRET = 'can"ary\\of/the store'
GUESSED = "password=hunter22"


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    """A stage whose store knows a secret."""
    one = Stage(tmp_path)
    one.store.close()
    one.store = Store(tmp_path / "secrets.db", Hands(), mask=Mask([SECRET]))
    one.engine = one.another()
    yield one
    one.close()


def bytes_of(store: Store) -> bytes:
    """Return all that lies on the disk, and once more with the outputs unpacked."""
    with sqlite3.connect(store.database.path) as db:
        outputs = [zlib.decompress(data) for (data,) in db.execute("select data from outputs order by at")]
    path = Path(store.database.path)
    files = [path, path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm")]
    return b"".join([*(file.read_bytes() for file in files if file.exists()), *outputs])


def clean(store: Store) -> bytes:
    """Check that no form of the secret lies there."""
    found = bytes_of(store)
    for form in (SECRET, json.dumps(SECRET)[1:-1], repr(SECRET)[1:-1], "hunter22"):
        assert form.encode() not in found
    assert HIDDEN.encode() in found
    return found


def test_what_a_command_prints_is_masked_across_its_pieces(stage: Stage) -> None:
    run = stage.store.runs.claim(stage.queue())
    assert run is not None
    (attempt,), _ = stage.store.attempts.begin(run, [("look", "gpu-01", 1)])
    streams = stage.store.outputs.open(run, attempt)
    data = f"it is {SECRET}, and {GUESSED} {json.dumps(SECRET)}\n".encode()
    for at in range(0, len(data), 7):
        streams.stdout.add(data[at : at + 7])
        stage.store.outputs._write_waiting()
        streams.stderr.add(data[at : at + 7])
    whole = stage.store.outputs.whole(streams)
    assert whole[0].text == f'it is {HIDDEN}, and password={HIDDEN} "{HIDDEN}"\n'
    assert not whole[0].cut, "that a mask is shorter is no cut"
    stage.store.attempts.end(run, [(replace(attempt, status=Status.OK), streams)])
    assert stage.store.attempts.output(attempt) == whole
    clean(stage.store)


def test_every_table_is_masked_by_the_one_who_writes(stage: Stage) -> None:
    store = stage.store
    moment = store.now()
    labels = {"alertname": "X", "note": f"{SECRET} {GUESSED}", SECRET: "a key"}
    store.alerts.add([Alert("test", SECRET, "firing", moment, labels, {"summary": SECRET}, url=SECRET)])
    with store.write() as tx:
        incident = store.incidents.open(
            tx, key=SECRET, title=SECRET, severity=SECRET, channel="c", host=SECRET, note=SECRET
        )
        tell(
            tx, moment, "anything.told", incident=incident, host=SECRET, step=SECRET, words=[SECRET, GUESSED]
        )
        assert store.incidents.open_for(tx, SECRET) == incident, "what is masked is found again"
    run = store.runs.claim(stage.queue())
    assert run is not None
    (attempt,), _ = store.attempts.begin(run, [("look", "gpu-01", 1)])
    ended = replace(
        attempt,
        status=Status.OK,
        ended_at=moment,
        summary=f"{SECRET} {GUESSED}",
        advice=SECRET,
        verdict=Verdict.HEALTHY,
        facts={"deep": [{"in": SECRET}]},
    )
    (written,) = store.attempts.end(run, [(ended, None)])
    assert store.attempts.of(run.id) == [written], "a run goes on with what it would read after a crash"
    assert written.facts == {"deep": [{"in": HIDDEN}]}
    store.runs.cancel(run.id, SECRET)
    store.runs.finish(run, RunState.FAILED, f"{SECRET} {GUESSED}", None)
    store.timeline.put(SECRET, {"channel": SECRET})
    store.timeline.first_time(SECRET)
    assert not store.timeline.first_time(SECRET)
    clean(store)


def test_what_is_to_be_done_is_refused_rather_than_changed(stage: Stage) -> None:
    for inputs, words in (({"x": SECRET}, "look"), ({}, f"echo {SECRET}")):
        with pytest.raises(
            SickbayError, match=r"write \{\{ secrets.NAME \}\} in the runbook instead"
        ) as caught:
            stage.queue(book(steps=[{"id": "look", "run": words}]), inputs=inputs)
        assert SECRET not in str(caught.value)
    assert stage.store.runs.newest() == []


def test_a_plan_is_stored_as_it_was_approved_even_where_it_looks_like_a_secret(stage: Stage) -> None:
    run = stage.store.runs.claim(stage.queue())
    assert run is not None
    entry = Entry("steps", "a", "a", "gpu-01", "run", text=f"x {GUESSED}9", env={"k": "‹secret it›"})
    plan = Plan("b", "d", (("gpu-01",),), (entry,))
    stage.store.approvals.plan(run, plan, ask=False)
    assert stage.run(run.id).plan == plan


def test_a_step_decides_by_what_is_kept_and_later_steps_get_the_same(stage: Stage) -> None:
    stage.script.on("look", done(f"{SECRET}\n"))
    run = stage.play(
        book(
            kind="observe",
            steps=[
                {"id": "look", "run": "cat token", "expect": f"'{HIDDEN}' in result.stdout"},
                {"id": "then", "run": 'echo "{{ steps.look.summary }}"'},
            ],
        )
    )
    assert run.state is RunState.SUCCEEDED, run.reason
    assert [sent.command.env for sent in stage.script.sent if sent.step == "then"] == [{"sickbay_1": HIDDEN}]
    clean(stage.store)


def test_times_are_no_secrets(stage: Stage) -> None:
    stage.store.mask.learn(["123456", "T03:00:00"])
    run_id = stage.queue()
    assert stage.run(run_id).created_at.tzinfo is not None
