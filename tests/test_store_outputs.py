"""What commands print: kept as it comes, read while it comes, whole at the end, bounded in memory."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.effect import HEAD, KEEP, TAIL, Finished, Output, handed
from bot.runs.run import Attempt, Run, Status
from bot.store import Store, Streams
from bot.store.outputs import BEHIND, PIECE
from tests.parts.programs import wait_until
from tests.parts.stage import Stage


@dataclass
class Printing:
    """One command that prints."""

    store: Store
    run: Run
    attempt: Attempt
    streams: Streams

    def end(self, status: Status = Status.OK) -> tuple[Output, Output]:
        """End it; return what was kept."""
        self.store.attempts.end(self.run, [(replace(self.attempt, status=status), self.streams)])
        return self.read()

    def read(self) -> tuple[Output, Output]:
        """Return what stands in the store."""
        return self.store.attempts.output(self.attempt)

    def again(self) -> "Printing":
        """Ask for the same command once more, as after a crash."""
        return replace(self, streams=self.store.outputs.open(self.run, self.attempt, again=True))


@pytest.fixture
def printing(stage: Stage) -> Printing:
    return begin(stage.store, stage)


def begin(store: Store, stage: Stage, host: str = "gpu-01") -> Printing:
    run = store.runs.claim(stage.queue())
    assert run is not None
    (attempt,), _ = store.attempts.begin(run, [("look", host, 1)])
    return Printing(store, run, attempt, store.outputs.open(run, attempt))


def noise(count: int, seed: int = 0) -> bytes:
    """Return bytes that tell where they stand."""
    return b"".join(b"%07d\n" % number for number in range(seed, seed + count // 8 + 1))[:count]


def kept(data: bytes) -> Output:
    """Return what is kept of a stream."""
    return Output(data if len(data) <= KEEP else data[:HEAD] + data[-TAIL:], len(data))


def test_what_a_command_has_printed_is_read_while_it_goes_on(printing: Printing) -> None:
    printing.streams.stdout.add(b"first\n")
    wait_until(lambda: printing.read()[0].text == "first\n", "the first line")
    printing.streams.stdout.add(b"second\n")
    printing.streams.stderr.add(b"oh\n")
    wait_until(lambda: [one.text for one in printing.read()] == ["first\nsecond\n", "oh\n"], "the rest")
    assert printing.store.outputs.whole(printing.streams) == (kept(b"first\nsecond\n"), kept(b"oh\n"))
    printing.streams.stdout.add(b"third\n")
    assert printing.store.outputs.whole(printing.streams)[0].text == "first\nsecond\nthird\n"
    assert printing.end()[0] == kept(b"first\nsecond\nthird\n")


def test_output_that_was_cut_says_how_much_there_was(printing: Printing) -> None:
    stdout = Output(b"head\xfftail" * 1000, 5_000_000)
    outcome = handed(Finished(0, stdout, Output()), printing.streams.stdout, printing.streams.stderr)
    assert isinstance(outcome, Finished)
    assert outcome.stdout == Output(b"", 5_000_000)
    assert printing.end() == (stdout, Output())
    assert printing.read()[0].cut
    assert printing.read()[0].text.startswith("head\\xfftail")


def test_a_stream_without_end_takes_little_memory_and_little_room(printing: Printing) -> None:
    stream, biggest = printing.streams.stdout, 0
    block = noise(32 * 1024)
    for _ in range(200):
        stream.add(block)
        biggest = max(biggest, stream.size)
    assert biggest <= KEEP + TAIL
    assert printing.end()[0] == kept(block * 200)
    with printing.store.database.read() as tx:
        (stored,) = tx.exec_driver_sql("select sum(size) from outputs").one()
    assert stored <= KEEP + 2 * PIECE + TAIL


def test_hosts_are_held_back_while_the_writer_is_behind(stage: Stage, printing: Printing) -> None:
    places = [("look", f"gpu-{number}", 1) for number in range(40)]
    begun, _ = printing.store.attempts.begin(printing.run, places)
    others = [printing.store.outputs.open(printing.run, attempt).stdout for attempt in begun]
    with printing.store.write():  # a disk that takes its time
        assert not printing.streams.stdout.full
        for stream in others:
            stream.add(noise(KEEP))
        assert printing.store.outputs.unwritten > BEHIND
        assert printing.streams.stdout.full
    wait_until(lambda: not printing.streams.stdout.full, "the writer")


def test_what_is_asked_again_replaces_what_came_before(printing: Printing) -> None:
    printing.streams.stdout.add(b"half of it")
    wait_until(lambda: printing.read()[0].total == 10, "the half")
    printing.streams.stdout.restart()
    assert printing.store.outputs.whole(printing.streams)[0] == Output()
    printing.streams.stdout.add(b"all")
    assert printing.store.outputs.whole(printing.streams)[0].text == "all"
    assert printing.end()[0] == kept(b"all")


@pytest.mark.parametrize("status", [Status.OK, Status.UNREACHABLE, Status.UNKNOWN])
def test_after_a_crash_an_answer_replaces_what_was_kept_and_no_answer_leaves_it(
    printing: Printing, status: Status
) -> None:
    printing.streams.stdout.add(b"before the crash")
    wait_until(lambda: printing.read()[0].total == 16, "the output")
    printing.store.outputs.leave(printing.streams)
    again = printing.again()
    assert again.store.outputs.whole(again.streams)[0] == Output()
    assert again.end(status)[0] == (Output() if status is Status.OK else kept(b"before the crash"))


def test_after_a_crash_the_stream_comes_anew(printing: Printing) -> None:
    printing.streams.stdout.add(b"before the crash")
    wait_until(lambda: printing.read()[0].total == 16, "the output")
    printing.store.outputs.leave(printing.streams)
    again = printing.again()
    again.streams.stdout.add(b"after")
    wait_until(lambda: printing.read()[0].text == "after", "the new output")
    assert again.end()[0] == kept(b"after")


def test_nothing_is_written_of_a_run_that_another_engine_has_taken_over(
    stage: Stage, printing: Printing
) -> None:
    other = begin(stage.store, stage)
    assert stage.store.runs.claim(printing.run.id) is not None
    printing.streams.stdout.add(b"from the past")
    other.streams.stdout.add(b"from now")
    wait_until(lambda: other.read()[0].total == 8, "the other's output")
    assert printing.read()[0] == Output()


def test_closing_ends_the_writer_even_in_the_middle(tmp_path: Path) -> None:
    before = set(threading.enumerate())
    stage = Stage(tmp_path)
    one = begin(stage.store, stage)
    one.streams.stdout.add(noise(100_000))
    assert "outputs" in {thread.name for thread in set(threading.enumerate()) - before}
    stage.close()
    assert "outputs" not in {thread.name for thread in set(threading.enumerate()) - before}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    stage = Stage(tmp_path_factory.mktemp("outputs"))
    yield stage
    stage.close()


PARTS = st.lists(
    st.one_of(
        st.integers(0, 3 * PIECE),
        st.sampled_from([HEAD, HEAD - 1, HEAD + 1, TAIL, TAIL + 1, KEEP, KEEP + 1]),
        st.just("write"),
    ),
    max_size=14,
)


@settings(max_examples=40, deadline=None)
@given(parts=PARTS)
def test_head_and_tail_are_kept_however_the_bytes_come_and_whenever_they_are_written(
    shared: Stage, parts: list[int | str]
) -> None:
    one = begin(shared.store, shared)
    data = b""
    for part in parts:
        if isinstance(part, int):
            more = noise(part, seed=len(data) // 8)
            one.streams.stdout.add(more)
            data += more
        else:
            shared.store.outputs._write_waiting()
            assert one.read()[0].total == len(data)
        assert shared.store.outputs.whole(one.streams)[0] == kept(data)
    assert one.end()[0] == kept(data)
