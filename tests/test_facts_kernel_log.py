"""The kernel's log as facts, and the table of Xid codes."""

from functools import cache
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.facts import FactsError
from bot.facts.kernel_log import parse
from bot.facts.xid import LEVELS, xid

SAMPLES = Path(__file__).parents[2] / "shared" / "data" / "gpu"

LOG = """\
[Sun Nov 22 16:24:18 2026] NVRM: GPU at PCI:0000:9b:00: GPU-01234567-89ab-cdef-0123-456789abcdef
[Sun Nov 22 16:24:18 2026] NVRM: Xid (PCI:0000:9b:00): 31, pid=4711, name=VLLM::EngineCor, Ch 00000010, intr 00000000. MMU Fault
2026-11-22T16:25:00,123456+00:00 NVRM: Xid (PCI:0000:9b:00): 79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus.
2026-11-22T16:25:01.000001+0000 gpu-05 kernel: NVRM: GPU 0000:9b:00.0: GPU has fallen off the bus.
[  812.551234] NVRM: Xid (PCI:0000:9b:00): 154, GPU recovery action changed from 0x0 (None) to 0x2 (Node Reboot Required)
Nov 22 16:26:00 gpu-05 kernel: NVRM: Xid (PCI:0000:41:00 GPU-I:05 GPU-CI:01): 43, pid=99, name=python3, channel 0x1 caused by previous Xid 31
[  900.000000] nvidia-nvswitch3: SXid (PCI:0000:c4:00.0): 20034, Fatal, Link 30 LTSSM Fault Up
[  901.000000] usb 1-1: new high-speed USB device number 2
"""


def test_every_line_of_the_driver_is_an_event_with_its_meaning() -> None:
    log = parse(LOG)
    assert log.lines == 8
    assert [(event.kind, event.code, event.bus_id, event.level) for event in log.events] == [
        ("xid", 31, "0000:9b:00.0", "L1"),
        ("xid", 79, "0000:9b:00.0", "L3"),
        ("fallen_off_the_bus", None, "0000:9b:00.0", "L3"),
        ("xid", 154, "0000:9b:00.0", "L3"),
        ("xid", 43, "0000:41:00.0", "L0"),
        ("sxid", 20034, "0000:c4:00.0", "L2"),
    ]


def test_the_process_and_the_cause_are_read_where_the_driver_knows_them() -> None:
    fault, fallen, _, _, mig, _ = parse(LOG).events
    assert (fault.pid, fault.process) == (4711, "VLLM::EngineCor")
    assert (fallen.pid, fallen.message) == (None, "GPU has fallen off the bus.")
    assert (mig.pid, mig.gpu_instance, mig.caused_by) == (99, 5, 31)


def test_every_clock_of_dmesg_and_journalctl_is_kept() -> None:
    assert [event.time for event in parse(LOG).events] == [
        "Sun Nov 22 16:24:18 2026",
        "2026-11-22T16:25:00,123456+00:00",
        "2026-11-22T16:25:01.000001+0000",
        "812.551234",
        "Nov 22 16:26:00",
        "900.000000",
    ]


def test_a_fall_told_on_three_lines_is_one_event_with_its_address() -> None:
    log = parse(
        "[1.0] NVRM: The NVIDIA GPU 0000:db:00.0\n"
        "[1.0] NVRM: (PCI ID: 10de:2330) installed in this system has\n"
        "[1.0] NVRM: fallen off the bus and is not responding to commands.\n"
    )
    assert [(event.kind, event.bus_id) for event in log.events] == [("fallen_off_the_bus", "0000:db:00.0")]


@pytest.mark.parametrize("bdf", ["PCI:0000:9b:00", "PCI:0000:9b:00.0", "0000:9b:00", "PCI:00000000:9B:00.0"])
def test_every_spelling_of_the_address_is_the_same_gpu(bdf: str) -> None:
    assert parse(f"NVRM: Xid ({bdf}): 48, DBE").events[0].bus_id == "0000:9b:00.0"


def test_a_quiet_log_has_no_events() -> None:
    log = parse("[1.0] usb 1-1: new device\n[2.0] audit: Permission denied for something\n")
    assert (log.lines, log.events) == (2, ())


@pytest.mark.parametrize(
    "text",
    [
        "dmesg: read kernel buffer failed: Operation not permitted\n",
        "No journal files were opened due to insufficient permissions.\n",
        "Hint: You are currently not seeing messages from other users and the system.\n",
        "sh: 1: dmesg: not found\n",
        "sudo: a password is required\n",
    ],
)
def test_a_log_that_could_not_be_read_is_not_a_quiet_one(text: str) -> None:
    with pytest.raises(FactsError, match="the log could not be read"):
        parse(text)


def test_a_flood_is_counted_and_cut() -> None:
    log = parse("NVRM: Xid (PCI:0000:9b:00): 31, x\n" * 1500)
    assert (len(log.events), log.left_out) == (1000, 500)


@pytest.mark.parametrize(
    ("code", "level"),
    [
        (13, "L1"),
        (31, "L1"),
        (43, "L0"),
        (45, "L0"),
        (46, "L2"),
        (48, "L2"),
        (62, "L2"),
        (63, "L0"),
        (64, "L2"),
        (74, "W"),
        (79, "L3"),
        (85, "L1"),
        (94, "L1"),
        (95, "L2"),
        (104, "L1"),
        (109, "L2"),
        (119, "L2"),
        (132, "L1"),
        (136, "L2"),
        (145, "W"),
        (154, "N"),
        (167, "L3"),
    ],
)
def test_known_codes_ask_for_the_mildest_right_answer(code: int, level: str) -> None:
    assert xid(code).level == level


@pytest.mark.parametrize("code", [0, 173, 176, 999999])
def test_an_unknown_code_asks_for_a_person(code: int) -> None:
    assert xid(code).level == "H"


@pytest.mark.parametrize(
    ("number", "level"), [(0, "L0"), (1, "L2"), (2, "L3"), (3, "H"), (4, "L2"), (9, "H")]
)
def test_154_is_read_by_its_number(number: int, level: str) -> None:
    assert xid(154, number).level == level


def test_every_code_has_a_level_that_is_explained() -> None:
    assert all(xid(code).level in LEVELS for code in range(200))


@cache
def whole() -> list[str]:
    return [
        LOG,
        *(path.read_text(errors="replace") for path in sorted(SAMPLES.glob("leptonai__gpud/**/*.log"))),
    ]


@pytest.mark.skipif(not SAMPLES.exists(), reason="the sample outputs (../shared/data/gpu) are not here")
def test_a_real_log_of_a_gsp_timeout_is_read() -> None:
    found = sorted(SAMPLES.glob("leptonai__gpud/**/dmesg-with-xid-119.log"))
    log = parse(found[0].read_text())
    assert [event.code for event in log.events] == [119] * 5
    assert {event.bus_id for event in log.events} == {"0000:9b:00.0"}
    assert log.events[0].process == "nvidia-smi"


@settings(max_examples=200, deadline=None)
@given(
    which=st.integers(0, 20),
    share=st.floats(0, 1),
    hole=st.sampled_from([0, 1, 9]),
    filled=st.sampled_from(["", "\x00", "9" * 5000, "\ud800", "²", "(", "\n"]) | st.text(max_size=10),
    cut=st.booleans(),
)
def test_text_cut_anywhere_or_mangled_is_facts_or_a_facts_error(
    which: int, share: float, hole: int, filled: str, *, cut: bool
) -> None:
    text = whole()[which % len(whole())]
    start = int(share * len(text))
    mangled = text[:start] + ("" if cut else filled + text[start + hole :])
    try:
        log = parse(mangled)
    except FactsError as error:
        assert "expected" in str(error)  # noqa: PT017
    else:
        assert log.model_dump_json()
