"""The answer of the once-only wrapper, byte by byte: in whatever pieces it comes, and wherever it was cut."""

import subprocess
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from bot.effect import HEAD, KEEP, TAIL, Command
from bot.ssh.once import LACKS, UNKNOWN_AGE, Answer, Places, Request
from bot.ssh.output import Keeper

NONCE = "0123456789abcdef0123456789abcdef"
MARK = f"\n{NONCE} ".encode()

OUTPUT = st.binary(max_size=60) | st.sampled_from(
    [b"\n", b"\n\n", f"\n{NONCE}".encode(), f"\n{NONCE[:5]}".encode()]
)
NEWS = st.lists(st.tuples(st.sampled_from(["out", "err"]), OUTPUT, st.integers(0, 20)), max_size=8)
"""Which output, what is new of it, and how many bytes before that come again."""


def answer_of(
    news: list[tuple[str, bytes, int]], *, out: int = 0, err: int = 0, lack: str = "whole"
) -> bytes:
    """Write what the wrapper would; an output is told from a byte on."""
    whole = {"out": b"", "err": b""}
    begin = {"out": out, "err": err}
    parts = [b"welcome to this host\n", MARK + b"STARTED\n"]
    for name, data, again in news:
        at = max(begin[name], len(whole[name]) - again)
        whole[name] += data
        parts += [MARK + f"{name} {at}\n".encode() + whole[name][at:], MARK + b"more\n"]
    parts += [MARK + b"ENDED 3\n", MARK + f"DONE 3 {lack}\n".encode(), MARK + b"end\n"]
    return b"".join(parts)


def written(news: list[tuple[str, bytes, int]], name: str) -> bytes:
    return b"".join(data for which, data, _ in news if which == name)


@given(news=NEWS, cuts=st.lists(st.integers(0, 600), max_size=8))
def test_an_answer_is_the_same_in_whatever_pieces_it_comes(
    news: list[tuple[str, bytes, int]], cuts: list[int]
) -> None:
    assume(MARK not in written(news, "out") + b"|" + written(news, "err"))  # no command knows it
    data, answer = answer_of(news), Answer(NONCE)
    at = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    for start, end in pairwise(at):
        answer.add(data[start:end])
    assert answer.complete
    assert answer.started
    assert (answer.word, answer.exit_code, answer.lack) == ("DONE", "3", "whole")
    assert (answer.stdout.data, answer.stderr.data) == (written(news, "out"), written(news, "err"))
    assert answer.noise == b"welcome to this host\n"


@given(news=NEWS, kept=st.integers(0, 2000))
def test_a_cut_answer_is_never_whole_and_the_next_goes_on_where_it_ended(
    news: list[tuple[str, bytes, int]], kept: int
) -> None:
    assume(MARK not in written(news, "out") + b"|" + written(news, "err"))
    data, stdout, stderr = answer_of(news), Keeper(), Keeper()
    first = Answer(NONCE, stdout, stderr)
    first.add(data[: min(kept, len(data) - 1)])
    assert not first.complete
    assert written(news, "out").startswith(first.stdout.data)
    seen_out, seen_err = first.leave()
    first.add(data[kept:])  # a connection that was given up may still bring something
    second = Answer(NONCE, stdout, stderr, seen_out=seen_out, seen_err=seen_err)
    second.add(answer_of(news, out=first.seen_out, err=first.seen_err))
    assert second.complete
    assert (second.stdout.data, second.stderr.data) == (written(news, "out"), written(news, "err"))
    assert second.seen_out == second.stdout.total == len(written(news, "out"))


@given(st.binary(max_size=40))
def test_what_comes_is_told_on_at_once_but_for_what_may_be_a_mark(data: bytes) -> None:
    answer = Answer(NONCE)
    answer.add(MARK + b"out 0\n" + data)
    held = len(data) - len(answer.stdout.data)
    assert data[len(data) - held :] == MARK[:held]


def test_what_the_host_left_out_is_counted_and_what_comes_twice_is_not() -> None:
    answer = Answer(NONCE)
    answer.add(MARK + b"out 0\n12345" + MARK + b"out 3\n4567" + MARK + b"out 2\n345" + MARK + b"out 100\nend")
    answer.add(MARK)
    assert (answer.stdout.data, answer.stdout.total, answer.seen_out) == (b"1234567end", 103, 103)


@pytest.mark.parametrize("lack", sorted(LACKS))
def test_an_output_that_is_not_whole_says_why(lack: str) -> None:
    answer = Answer(NONCE)
    answer.add(answer_of([("err", b"oh\n", 0)], lack=lack))
    assert answer.stderr.text.startswith(f"oh\n\n[sickbay: the output is not whole: {LACKS[lack]}]")
    assert answer.stderr.text == answer.stderr.text


@given(
    st.binary(max_size=80) | st.sampled_from([b"out x\n", b"out\n", b"a b c d e\n", b"\n", b"DONE \xff -\n"])
)
def test_no_answer_makes_no_trouble(data: bytes) -> None:
    answer = Answer(NONCE)
    answer.add(MARK + data + MARK + b"out -1\n" + MARK + b"end\n")


def test_an_age_before_the_beginning_is_an_unknown_one() -> None:
    def age(seconds: float) -> bytes:
        request = Request("resume", "key", Command("true"), "me", seconds, 1, nonce=NONCE)
        return next(line for line in request.script.splitlines() if line.startswith(b"sb_age="))

    assert age(2.5) == b"sb_age='3'"
    assert age(-2.0) == b"sb_age='0'"
    assert age(-3600.0) == f"sb_age='{UNKNOWN_AGE}'".encode()


def test_what_a_host_keeps_is_enough_for_what_we_keep() -> None:
    assert HEAD + TAIL == KEEP


@pytest.mark.parametrize("share", [number / 40 for number in range(1, 40)] + [0.999])
def test_a_script_that_was_cut_on_the_way_starts_nothing(tmp_path: Path, share: float) -> None:
    state = tmp_path / "state"
    state.mkdir()
    command = Command(f"touch {tmp_path}/started", mutating=True)
    request = Request("run", "key", command, "me", 0, 1, Places(state=(str(state),)), NONCE)
    script = request.script
    subprocess.run(
        ["sh"],
        input=script[: int(len(script) * share)],
        capture_output=True,
        check=False,
        start_new_session=True,
    )
    assert not list(state.iterdir())
    subprocess.run(["sh"], input=script, capture_output=True, check=True, start_new_session=True)
    assert (tmp_path / "started").exists()
