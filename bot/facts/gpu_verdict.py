"""What the readings of GPUs mean: per GPU and for the host, healthy, unhealthy or unknown, and why.

Thresholds are those of the public checkers, named beside each rule. What needs a reset, a reboot or a new board makes a
GPU unhealthy; what can wait for a quiet hour (a remapped row, a pending MIG change) or only wants an eye does not,
because a host taken away for a row that has healed costs more than the row. Not judged: the PCIe generation of an idle
GPU (it is lowered on purpose), `sw_power_cap` (normal under inference), ECC of boards that have none.
"""

from collections.abc import Iterator
from typing import Literal

from bot.facts import Facts
from bot.facts.nvidia_errors import Problem
from bot.facts.nvidia_smi import Gpu, NvidiaSmi
from bot.verdict import Verdict, worst

Action = Literal["watch", "schedule a reset", "needs a reset", "reboot", "replace", "ask a person"]

_CAN_WAIT: frozenset[Action] = frozenset({"watch", "schedule a reset"})


class Reason(Facts):
    """One sentence of a verdict, and what it asks for."""

    text: str
    action: Action
    verdict: Verdict
    """What this reason alone makes of the GPU or host."""


class GpuVerdict(Facts):
    """The verdict on one GPU."""

    index: int
    uuid: str | None
    bus_id: str | None
    verdict: Verdict
    reasons: tuple[Reason, ...]


class Judgement(Facts):
    """The verdict on a host, on each of its GPUs, and on what concerns them all."""

    verdict: Verdict
    gpus: tuple[GpuVerdict, ...]
    reasons: tuple[Reason, ...]
    """Reasons that name no GPU, such as a missing one."""

    @property
    def lines(self) -> tuple[str, ...]:
        """Every reason as a sentence."""
        of_gpus = (f"GPU {gpu.index}: {why.text} ({why.action})" for gpu in self.gpus for why in gpu.reasons)
        return (*(f"{why.text} ({why.action})" for why in self.reasons), *of_gpus)


def judge(facts: NvidiaSmi, expected_gpus: int | None) -> Judgement:
    """Judge a host by what nvidia-smi says and by how many GPUs it should have."""
    gpus = tuple(_judge_gpu(gpu, facts.gpus) for gpu in facts.gpus)
    reasons = (*map(_complaint, facts.problems), *_number_of_gpus(facts, expected_gpus))
    verdict = worst([*(gpu.verdict for gpu in gpus), *(why.verdict for why in reasons)])
    return Judgement(verdict=verdict, gpus=gpus, reasons=reasons)


def _reason(action: Action, text: str) -> Reason:
    verdict = Verdict.HEALTHY if action in _CAN_WAIT else Verdict.UNHEALTHY
    return Reason(text=text, action=action, verdict=verdict)


def _unknown(text: str) -> Reason:
    return Reason(text=text, action="watch", verdict=Verdict.UNKNOWN)


def _complaint(problem: Problem) -> Reason:
    said = f"nvidia-smi says: {problem.text}"
    match problem.kind:
        case "gpu_lost":  # NVIDIA's catalogue, Xid 79: only a reboot brings a bus address back
            return _reason("reboot", said)
        case "driver_mismatch":
            return _reason(
                "reboot",
                f"{said}: the driver was updated under the running kernel module; what runs goes on, what starts "
                "anew fails. Reload the modules when nobody holds them, else reboot",
            )
        case "no_devices" | "driver_unreachable" | "nvml_failed":
            return _reason("reboot", said)
        case "inforom_corrupted":  # DCGM and Azure's checks both fail the board for it
            return _reason("ask a person", said)
        case "no_table":
            return _unknown(f"the readings could not be read: {problem.text}")


def _number_of_gpus(facts: NvidiaSmi, expected: int | None) -> Iterator[Reason]:
    seen = len(facts.gpus)
    if expected is None:
        yield _unknown(
            "nobody wrote down how many GPUs this host should have, so a missing one would not be noticed; "
            "set `vars: {gpus: N}` for it in the inventory"
        )
    elif seen < expected:
        yield _reason("reboot", f"{seen} of {expected} GPUs answer")
    elif seen > expected:
        yield _unknown(
            f"{seen} GPUs answer where the inventory says {expected}; correct the one that is wrong"
        )
    if (
        facts.attached_gpus is not None
        and facts.attached_gpus > seen
        and (expected is None or seen >= expected)
    ):
        yield _reason("reboot", f"the driver counts {facts.attached_gpus} GPUs and describes {seen}")


def _judge_gpu(gpu: Gpu, peers: tuple[Gpu, ...]) -> GpuVerdict:
    reasons = (
        *_driver_asks(gpu),
        *_broken(gpu),
        *_memory(gpu),
        *_heat(gpu),
        *_links(gpu, peers),
        *_settings(gpu),
        *_gaps(gpu),
    )
    verdict = worst([Verdict.HEALTHY, *(why.verdict for why in reasons)])
    return GpuVerdict(index=gpu.index, uuid=gpu.uuid, bus_id=gpu.bus_id, verdict=verdict, reasons=reasons)


def _driver_asks(gpu: Gpu) -> Iterator[Reason]:
    """Repeat the driver's own advice; DCGM field 1523 names the same values."""
    asked = (gpu.recovery_action or "none").lower()
    said = f"the driver asks: {gpu.recovery_action}"
    if asked in {"reset", "gpu reset", "drain and reset"}:
        yield _reason("needs a reset", said)
    elif "reboot" in asked:
        yield _reason("reboot", said)
    elif asked != "none":
        yield _reason("ask a person", said)
    if gpu.reset_required:
        yield _reason("needs a reset", "the driver says that a reset is required")
    elif gpu.drain_and_reset_recommended:
        yield _reason("needs a reset", "the driver recommends to drain and reset")


_HARMLESS_WHEN_BROKEN = {"fan_speed"}  # cards whose fan cannot be read work on
_BREAK_THE_GPU = {"performance_state", "product_name", "current_mig", "pending_mig", "gpu_util", "uuid"}


def _broken(gpu: Gpu) -> Iterator[Reason]:
    for reading, text in gpu.broken.items():
        said = f"{reading} reads {text}"
        if "reset" in text.lower():
            yield _reason("needs a reset", said)
        elif "lost" in text.lower():
            yield _reason("reboot", said)
        elif reading in _BREAK_THE_GPU:
            yield _reason("needs a reset", said)
        elif reading not in _HARMLESS_WHEN_BROKEN:
            yield _unknown(said)


MOST_REMAPPED = 512
"""Uncorrectable remapped rows; DCGM fails the board from there."""
MOST_RETIRED = 63
"""Retired pages; DCGM fails the board from there."""


def _memory(gpu: Gpu) -> Iterator[Reason]:
    ecc, rows, pages = gpu.ecc, gpu.remapped_rows, gpu.retired_pages
    if ecc.volatile_uncorrected:  # DCGM: any; Meta gcm, AWS: more than 0
        yield _reason(
            "needs a reset",
            f"{ecc.volatile_uncorrected} uncorrectable memory errors since the driver started",
        )
    if ecc.sram_threshold_exceeded:  # NVIDIA's Xid 48 workflow: then RMA
        yield _reason("replace", "the threshold of uncorrectable SRAM errors is exceeded")
    if ecc.unrepairable_memory:
        yield _reason("replace", "the driver reports unrepairable memory")
    if ecc.channel_repair_pending or ecc.tpc_repair_pending:
        yield _reason("schedule a reset", "a repair waits for the next reset")
    if rows.failure:
        yield _reason("replace", "remapping a row failed")
    if (rows.uncorrectable or 0) >= MOST_REMAPPED:
        yield _reason("replace", f"{rows.uncorrectable} rows are remapped for uncorrectable errors")
    if rows.pending:  # Xid 63: the row is replaced at the next reset and the GPU serves until then
        yield _reason("schedule a reset", "a remapped row waits for the next reset")
    if rows.banks_without_spares:
        yield _reason("watch", f"{rows.banks_without_spares} memory banks have no spare row left")
    if (pages.single_bit or 0) + (pages.double_bit or 0) >= MOST_RETIRED:
        yield _reason(
            "replace", f"{(pages.single_bit or 0) + (pages.double_bit or 0)} memory pages are retired"
        )
    if pages.pending:
        yield _reason("schedule a reset", "a retired memory page waits for the next reset")


LEAST_TLIMIT_C = 5
HOT_MEMORY_C = 95


def _heat(gpu: Gpu) -> Iterator[Reason]:
    if gpu.tlimit_c is not None and gpu.tlimit_c <= LEAST_TLIMIT_C:
        yield _reason("watch", f"{gpu.tlimit_c} °C are left to the slowdown")
    if gpu.memory_temperature_c is not None and gpu.memory_temperature_c >= HOT_MEMORY_C:
        yield _reason("watch", f"its memory is {gpu.memory_temperature_c} °C hot")
    for held in ("hw_thermal_slowdown", "hw_power_brake_slowdown", "sw_thermal_slowdown"):
        if held in gpu.clock_reasons:
            yield _reason("watch", f"its clocks are held down now: {held}")


def _links(gpu: Gpu, peers: tuple[Gpu, ...]) -> Iterator[Reason]:
    pcie, fabric = gpu.pcie, gpu.fabric
    if pcie.width is not None and pcie.width_max is not None and pcie.width < pcie.width_max:
        # Boards of A10G, T4 and workstation class sit in narrow slots for good; an SXM board, or one narrower than
        # its peers in the same host, has lost lanes.
        wider = [
            peer.index for peer in peers if peer.name == gpu.name and (peer.pcie.width or 0) > pcie.width
        ]
        said = f"its PCIe link has {pcie.width} of {pcie.width_max} lanes"
        if wider or any(sort in (gpu.name or "") for sort in ("SXM", "HBM3", "B200")):
            yield _reason("reboot", said + (f", that of GPU {wider[0]} has more" if wider else ""))
        else:
            yield _reason("watch", said)
    busy = gpu.pstate == "P0" and (gpu.utilization or 0) > 0
    if busy and pcie.gen is not None and pcie.gen_max is not None and pcie.gen < pcie.gen_max:
        yield _reason("watch", f"its PCIe link runs at generation {pcie.gen} of {pcie.gen_max} under load")
    if fabric.state is not None and fabric.state.lower() != "completed":
        yield _reason(
            "ask a person",
            f"it has not joined the NVSwitch fabric ({fabric.state}): is nvidia-fabricmanager running?",
        )
    elif fabric.status is not None and fabric.status.lower() != "success":
        yield _reason("ask a person", f"the NVSwitch fabric reports {fabric.status}")
    elif (fabric.health or "healthy").lower() != "healthy":
        yield _reason("ask a person", f"the NVSwitch fabric is {fabric.health}")


def _settings(gpu: Gpu) -> Iterator[Reason]:
    if gpu.mig.current != gpu.mig.pending and None not in {gpu.mig.current, gpu.mig.pending}:
        yield _reason(
            "schedule a reset", f"MIG is {gpu.mig.current} and becomes {gpu.mig.pending} at the next reset"
        )
    if gpu.persistence is False:
        yield _reason("watch", "persistence mode is off: the driver unloads when the last process leaves")


def _gaps(gpu: Gpu) -> Iterator[Reason]:
    """Name what must be known of a GPU before it may be called healthy."""
    needed = {
        "uuid": ("UUID", gpu.uuid),
        "gpu_temp": ("temperature", gpu.temperature_c),
        "total": ("memory size", gpu.memory_total_mib),
    }
    for reading, (name, value) in needed.items():
        if value is None and reading not in gpu.broken:
            yield _unknown(f"its {name} is not known")
