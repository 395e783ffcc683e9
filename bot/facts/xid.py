"""Xid codes: what the driver reports by number, and the mildest answer that is right.

Meanings follow NVIDIA's Xid catalogue (docs.nvidia.com/deploy/xid-errors, the analysing page's spreadsheet; 172 codes,
driver branch r590), put in our own words. Levels are ours: NVIDIA's immediate action where there is one, with these
decisions: 63 keeps serving and schedules the reset (the row is replaced then, the data is intact); 45 is the echo of a
killed process and our own restarts cause it; 79 is never answered by a restart on the same host, since new CUDA contexts
may fail on its surviving GPUs too; 154 carries its own advice as a number. A code that is not listed asks for a person:
newer drivers know more codes than the catalogue, so unknown must never mean ignore.
"""

from typing import Literal

from bot.facts import Facts

Level = Literal["L0", "L1", "L2", "L3", "L4", "W", "H", "N"]

LEVELS: dict[Level, str] = {
    "L0": "record it",
    "L1": "restart the one replica",
    "L2": "drain, stop, reset the GPU, verify",
    "L3": "reboot the host",
    "L4": "replace the board",
    "W": "decode the link error first",
    "H": "ask a person",
    "N": "do what its number says",
}


class Xid(Facts):
    """One code."""

    code: int
    meaning: str
    level: Level
    then: str = ""
    """What to do beside or after the level's action."""


# code, meaning, level, then
_LISTED: tuple[tuple[int, str, Level, str], ...] = (
    (8, "GPU stopped processing", "L1", ""),
    (11, "invalid or corrupted push buffer stream", "L1", ""),
    (
        13,
        "graphics engine exception",
        "L1",
        "two replicas or the same unit twice in a day: diagnose, then reset",
    ),
    (25, "invalid or illegal push buffer stream", "L1", ""),
    (31, "GPU memory page fault", "L1", "the same GPU twice in a day: diagnose it drained"),
    (32, "invalid or corrupted push buffer stream", "L1", ""),
    (37, "driver firmware error", "L0", ""),
    (38, "driver firmware error", "L0", ""),
    (43, "GPU stopped processing", "L0", "the process is already dead; restart only if the probe says so"),
    (44, "graphics engine fault during context switch", "L0", ""),
    (45, "preemptive cleanup after an earlier error", "L0", "alone and on many GPUs: look at fabricmanager"),
    (46, "GPU stopped processing", "L2", ""),
    (48, "double bit ECC error", "L2", "replace when the SRAM threshold is exceeded or 64 comes with it"),
    (54, "auxiliary power is not connected", "L4", "the power cable"),
    (61, "PMU breakpoint (unused in current drivers)", "H", ""),
    (62, "internal micro-controller halt", "L2", "reboot when the reset fails"),
    (63, "memory row remapped", "L0", "schedule a reset for a quiet hour; it serves until then"),
    (64, "memory row could not be remapped", "L2", "replace when it comes again"),
    (65, "video encoder error (unused in current drivers)", "L1", ""),
    (66, "illegal access by driver", "L0", ""),
    (67, "illegal access by driver", "L0", ""),
    (69, "graphics engine class error", "L1", ""),
    (74, "NVLink error", "W", "single-GPU replicas may serve on; drain those that span GPUs"),
    (78, "vGPU start error", "H", ""),
    (79, "GPU has fallen off the bus", "L3", "no restarts on this host before; again within a day: replace"),
    (80, "corrupted data sent to GPU", "L1", ""),
    (81, "VGA subsystem error (unused in current drivers)", "L0", ""),
    (92, "high single-bit ECC error rate", "L0", ""),
    (93, "InfoROM wear limit", "L0", ""),
    (94, "contained memory error", "L1", "schedule a reset for a quiet hour"),
    (95, "uncontained memory error", "L2", "every process of that GPU is affected"),
    (106, "test message", "L0", ""),
    (109, "context switch timeout", "L2", ""),
    (110, "security fault", "L2", ""),
    (119, "GSP RPC timeout", "L2", "reboot when the reset fails, which it often does"),
    (120, "GSP error", "L2", "reboot when the reset fails"),
    (121, "C2C link error, corrected", "L0", ""),
    (122, "SPI read failure (unused in current drivers)", "L0", ""),
    (123, "SPI write failure (unused in current drivers)", "L0", ""),
    (124, "SPI erase failure (unused in current drivers)", "L0", ""),
    (125, "InfoROM file system error (unused in current drivers)", "L0", ""),
    (136, "NVLink training failed", "L2", ""),
    (137, "NVLink privilege error", "L0", "look at the program that uses peer access"),
    (140, "unrecovered ECC error", "L2", ""),
    (141, "CUDA fast path error", "L0", ""),
    (142, "video encoder error", "H", ""),
    (143, "GPU initialization error", "L2", ""),
    *((code, "NVLink 5 error", "W", "Fatal: reset all GPUs of the host") for code in range(144, 151)),
    (151, "key rotation error", "L3", "confidential computing only"),
    (152, "DLA memory management error", "L0", ""),
    (153, "DLA timeout", "L0", ""),
    (154, "recovery action changed", "N", ""),
    (155, "NVLink error defined by software", "L2", ""),
    (156, "resource retirement event", "L2", ""),
    (157, "resource retirement failure", "L4", "ask a person first: NVIDIA asks to investigate"),
    (158, "GPU fatal timeout", "L2", "reboot when the reset fails"),
    (159, "CHI non-data error", "H", ""),
    (160, "channel retirement event", "L0", ""),
    (161, "channel retirement failure", "H", ""),
    (162, "power smoothing works again", "L0", ""),
    (163, "power smoothing disengaged", "L0", ""),
    (164, "power smoothing nears the end of its life", "L0", ""),
    (165, "power smoothing reached the end of its life", "H", ""),
    (166, "traffic before the secure link was configured", "H", ""),
    (167, "PCIe fatal timeout", "L3", ""),
    (168, "errors in the write protected region", "H", "a reboot with ECC on"),
    (169, "internal micro-controller halt", "L3", ""),
    (170, "interrupt in confidential computing mode", "H", ""),
    (171, "detail of 48, in DRAM", "L0", ""),
    (172, "detail of 48, in SRAM", "L0", ""),
)

_COPY_ENGINE = (*range(39, 42), *range(70, 73), *range(75, 78), 85, *range(126, 136))
_MEDIA_ENGINE = (68, *range(82, 85), 86, 88, 89, *range(96, 106), 139)

_RECOVERY: dict[int, tuple[str, Level]] = {
    0: ("none any more", "L0"),
    1: ("reset the GPU", "L2"),
    2: ("reboot the host", "L3"),
    3: ("drain peer traffic", "H"),
    4: ("drain and reset", "L2"),
    5: ("reset the IMEX domain", "H"),
}
"""The number that Xid 154 prints after `to 0x`; the words beside it changed between drivers, the numbers did not."""


def xid(code: int, recovery: int | None = None) -> Xid:
    """Look a code up; `recovery` is the number of a 154."""
    if code == 154 and recovery is not None:
        action, level = _RECOVERY.get(recovery, (f"number {recovery}, which is not known", "H"))
        return Xid(code=code, meaning=f"recovery action changed: {action}", level=level)
    if code in _COPY_ENGINE:
        return Xid(code=code, meaning="copy engine exception", level="L1")
    if code in _MEDIA_ENGINE:
        return Xid(code=code, meaning="media engine exception", level="L1")
    for listed, meaning, level, then in _LISTED:
        if listed == code:
            return Xid(code=code, meaning=meaning, level=level, then=then)
    return Xid(code=code, meaning="not in the catalogue", level="H")
