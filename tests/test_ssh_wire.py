"""Paramiko's private names that the room leans on, and what is kept of a stream."""

import inspect

import paramiko
import pytest
from hypothesis import given
from hypothesis import strategies as st
from paramiko.packet import Packetizer

from bot.effect import KEEP
from bot.ssh.link import CIPHERS, HOST_KEYS, KEX, MACS, Link
from bot.ssh.output import Keeper


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
        (paramiko.Channel, "_window_adjust"),
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
        (Packetizer, "_trigger_rekey"),
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


def test_the_reader_waits_through_our_methods_only_and_needs_no_thread() -> None:
    """`run` goes on in a greenlet: whatever in it blocked would hold up every connection."""
    source = inspect.getsource(paramiko.Transport.run) + inspect.getsource(paramiko.Transport._check_banner)  # type: ignore[attr-defined]
    for blocking in (".wait(", ".recv(", "sleep(", "select(", ".join("):
        assert blocking not in source
    assert "self.packetizer.read_message()" in source
    assert "self.packetizer.readline(" in source
