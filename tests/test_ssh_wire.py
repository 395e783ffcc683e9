"""Paramiko's private names that the room leans on, and the answer of the once-only wrapper, byte by byte."""

import inspect
import subprocess
from itertools import pairwise
from pathlib import Path

import paramiko
import pytest
from hypothesis import given
from hypothesis import strategies as st
from paramiko.packet import Packetizer

from bot.effect import KEEP, Command
from bot.ssh.link import CIPHERS, HOST_KEYS, KEX, MACS, Link
from bot.ssh.once import Answer, Places, Request
from bot.ssh.output import Keeper

NONCE = "0123456789abcdef0123456789abcdef"


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (paramiko.Transport, "_channel_handler_table"),
        (paramiko.Transport, "_kex_info"),
        (paramiko.Transport, "_next_channel"),
        (paramiko.Transport, "_send_message"),
        (paramiko.Transport, "_send_user_message"),
        (paramiko.Transport, "_parse_disconnect"),
        (paramiko.Transport, "_parse_newkeys"),
        (paramiko.Transport, "_verify_key"),
        (paramiko.Transport, "_parse_request_success"),
        (paramiko.Transport, "_parse_request_failure"),
        (paramiko.Transport, "_parse_channel_open_success"),
        (paramiko.Channel, "_set_transport"),
        (paramiko.Channel, "_set_window"),
        (paramiko.Channel, "_check_add_window"),
        (paramiko.Channel, "_feed"),
        (paramiko.Channel, "_feed_extended"),
        (paramiko.Channel, "_handle_request"),
        (paramiko.Channel, "_request_failed"),
        (paramiko.Channel, "_handle_eof"),
        (paramiko.Channel, "_handle_close"),
        (paramiko.Channel, "_set_closed"),
        (Packetizer, "read_all"),
        (Packetizer, "write_all"),
        (Packetizer, "readline"),
        (Packetizer, "start_handshake"),
        (Packetizer, "need_rekey"),
    ],
)
def test_paramiko_still_has_what_we_override_or_call(owner: type, name: str) -> None:
    assert hasattr(owner, name)


def test_every_message_of_a_channel_goes_to_our_own_methods() -> None:
    theirs = paramiko.Transport._channel_handler_table  # type: ignore[attr-defined]
    assert Link._channel_handler_table.keys() == theirs.keys()
    assert {function.__name__ for function in theirs.values()} == {
        "_request_success",
        "_request_failed",
        "_feed",
        "_feed_extended",
        "_window_adjust",
        "_handle_request",
        "_handle_eof",
        "_handle_close",
    }


def test_the_packetizer_reads_and_writes_through_our_methods_only() -> None:
    source = inspect.getsource(Packetizer.read_message) + inspect.getsource(Packetizer.send_message)
    assert "self.read_all(" in source
    assert "self.write_all(" in source
    assert "__socket" not in source


def test_only_algorithms_that_paramiko_has_are_offered() -> None:
    assert set(KEX) - set(paramiko.Transport._kex_info) <= {"mlkem768x25519-sha256"}  # type: ignore[attr-defined]
    assert set(CIPHERS) <= set(paramiko.Transport._cipher_info)  # type: ignore[attr-defined]
    assert set(MACS) <= set(paramiko.Transport._mac_info)  # type: ignore[attr-defined]
    assert set(HOST_KEYS) <= set(paramiko.Transport._key_info)  # type: ignore[attr-defined]
    assert not [name for name in (*KEX, *CIPHERS, *MACS) if "sha1" in name or "cbc" in name or "md5" in name]


def answer_of(stdout: bytes, stderr: bytes) -> bytes:
    mark = f"\n{NONCE} ".encode()
    return b"".join(
        [
            b"welcome to this host\n",
            mark + b"STARTED\n",
            mark + b"ENDED 3\n",
            mark + b"DONE 3 0 0 whole\n" + stdout,
            mark + b"err\n" + stderr,
            mark + b"end\n",
        ]
    )


def read(chunks: list[bytes]) -> Answer:
    answer = Answer(NONCE)
    for chunk in chunks:
        answer.add(chunk)
    return answer


OUTPUT = st.binary(max_size=60) | st.sampled_from(
    [b"\n", b"\n\n", f"\n{NONCE}".encode(), f"\n{NONCE[:5]}".encode()]
)


@given(stdout=OUTPUT, stderr=OUTPUT, cuts=st.lists(st.integers(0, 400), max_size=8))
def test_an_answer_is_the_same_in_whatever_pieces_it_comes(
    stdout: bytes, stderr: bytes, cuts: list[int]
) -> None:
    data = answer_of(stdout, stderr)
    at = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    answer = read([data[start:end] for start, end in pairwise(at)])
    assert answer.complete
    assert answer.started
    assert (answer.word, answer.exit_code) == ("DONE", "3")
    assert (answer.stdout.data, answer.stderr.data) == (stdout, stderr)


@given(stdout=OUTPUT, stderr=OUTPUT, missing=st.integers(1, 400))
def test_a_cut_answer_is_never_whole(stdout: bytes, stderr: bytes, missing: int) -> None:
    assert not read([answer_of(stdout, stderr)[:-missing]]).complete


@given(st.lists(st.binary(max_size=300_000), max_size=6), st.integers(0, 3))
def test_a_stream_keeps_both_ends_and_counts_all(parts: list[bytes], times: int) -> None:
    keeper, parts = Keeper(), parts * (2**times)
    for part in parts:
        keeper.add(part)
    whole, output = b"".join(parts), keeper.output
    assert output.total == len(whole)
    if len(whole) <= KEEP:
        assert output.data == whole
    else:
        assert output.data == whole[: KEEP * 3 // 4] + whole[-KEEP // 4 :]


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
