"""`nvidia-smi -q -x`: one question, every GPU, whatever the driver.

The XML is asked for rather than `--query-gpu`, because one field unknown to a driver fails that whole query. Tags were
renamed between schema v8 and v13 (drivers 418 to 610), so each reading is looked up under all names it has had.

A reading is None where the tool did not give it (`N/A`, deprecated, no such tag), and also named in `broken` where it
gave an error instead (`ERR!`, `[GPU requires reset]`, `Unknown Error`): a GPU without ECC is fine, one whose ECC cannot
be read is not.
"""

import re
from xml.etree import ElementTree as ET

from bot.facts import Facts, FactsError, bounded, first_number
from bot.facts.nvidia_errors import Problem, problems
from bot.facts.pci import bus_id
from bot.facts.readings import Readings, root

EXPECTED = "the XML of `nvidia-smi -q -x`"
LARGEST = 16 * 1024 * 1024
"""Characters read; 16 GPUs with all their supported clocks and MIG devices stay under 4 MiB."""
MOST_GPUS = 256


class Ecc(Facts):
    """Memory errors: volatile since the driver was loaded, aggregate over the life of the board."""

    mode: str | None
    volatile_uncorrected: int | None
    volatile_corrected: int | None
    aggregate_uncorrected: int | None
    aggregate_corrected: int | None
    sram_threshold_exceeded: bool | None
    channel_repair_pending: bool | None
    tpc_repair_pending: bool | None
    unrepairable_memory: bool | None


class RemappedRows(Facts):
    """Rows of memory replaced by spare ones (Ampere and newer)."""

    correctable: int | None
    uncorrectable: int | None
    pending: bool | None
    failure: bool | None
    banks_without_spares: int | None


class RetiredPages(Facts):
    """Pages of memory taken out of use (Volta, Turing and older)."""

    single_bit: int | None
    double_bit: int | None
    pending: bool | None


class Mode(Facts):
    """A setting that changes at the next reset."""

    current: str | None
    pending: str | None


class Pcie(Facts):
    """The link to the host."""

    gen: int | None
    gen_max: int | None
    width: int | None
    width_max: int | None
    replays: int | None


class Fabric(Facts):
    """Membership in the NVSwitch fabric."""

    state: str | None
    status: str | None
    health: str | None


class Process(Facts):
    """A process that holds memory of the GPU."""

    pid: int | None
    type: str | None
    name: str | None
    memory_mib: int | None


class Gpu(Facts):
    """One GPU as the driver describes it."""

    index: int
    """Its number in the driver's order; GPUs the driver lost keep theirs."""
    bus_id: str | None
    uuid: str | None
    serial: str | None
    name: str | None
    temperature_c: int | None
    memory_temperature_c: int | None
    tlimit_c: int | None
    """Degrees left to the slowdown."""
    memory_total_mib: int | None
    memory_used_mib: int | None
    utilization: int | None
    """Percent of the last sample in which a kernel ran."""
    fan_percent: int | None
    power_w: float | None
    power_limit_w: float | None
    pstate: str | None
    persistence: bool | None
    ecc: Ecc
    remapped_rows: RemappedRows
    retired_pages: RetiredPages
    mig: Mode
    pcie: Pcie
    clock_reasons: tuple[str, ...]
    """Why the clocks are held down now, such as `sw_power_cap`."""
    clock_counters_us: dict[str, int]
    """How long each reason held so far, in microseconds."""
    fabric: Fabric
    recovery_action: str | None
    """What the driver itself asks for: None (the word), Reset, Reboot, Drain P2P, Drain and Reset."""
    reset_required: bool | None
    drain_and_reset_recommended: bool | None
    processes: tuple[Process, ...]
    broken: dict[str, str]
    """Readings that gave an error instead of a value: tag → text."""


class NvidiaSmi(Facts):
    """What one call of nvidia-smi says about a host."""

    driver_version: str | None
    cuda_version: str | None
    attached_gpus: int | None
    gpus: tuple[Gpu, ...]
    problems: tuple[Problem, ...]


def parse(text: str) -> NvidiaSmi:
    """Read the XML, and the complaints before, inside and after it.

    Raises:
        FactsError: when there is neither such XML nor a known complaint.

    """
    text = bounded(text, EXPECTED, LARGEST)
    complaints = problems(text)
    try:
        document = root(text, EXPECTED)
    except FactsError as error:
        if not complaints:
            raise
        if "<nvidia_smi_log" in text:
            complaints = (*complaints, Problem(kind="no_table", text=error.what))
        return NvidiaSmi(
            driver_version=None, cuda_version=None, attached_gpus=None, gpus=(), problems=complaints
        )
    top = Readings(document)
    elements = document.findall("gpu")[:MOST_GPUS]
    lost = {problem.index for problem in complaints if problem.kind == "gpu_lost"}
    numbers = (number for number in range(len(elements) + len(lost)) if number not in lost)
    return NvidiaSmi(
        driver_version=top.text("driver_version", "kmd_version"),
        cuda_version=top.text("cuda_version", "cuda_umd_version"),
        attached_gpus=top.count("attached_gpus"),
        gpus=tuple(_gpu(number, element) for number, element in zip(numbers, elements, strict=False)),
        problems=complaints,
    )


def _gpu(index: int, element: ET.Element) -> Gpu:
    read = Readings(element)
    pins = "pci/pci_gpu_link_info/"
    return Gpu(
        index=index,
        bus_id=bus_id(read.text("pci/pci_bus_id") or element.get("id") or ""),
        uuid=read.text("uuid"),
        serial=read.text("serial"),
        name=read.text("product_name"),
        temperature_c=read.count("temperature/gpu_temp"),
        memory_temperature_c=read.count("temperature/memory_temp"),
        tlimit_c=read.count("temperature/gpu_temp_tlimit"),
        memory_total_mib=read.count("fb_memory_usage/total"),
        memory_used_mib=read.count("fb_memory_usage/used"),
        utilization=read.count("utilization/gpu_util"),
        fan_percent=read.count("fan_speed"),
        power_w=read.number(
            *(f"gpu_power_readings/{tag}_power_draw" for tag in ("instant", "average")),
            "gpu_power_readings/power_draw",
            "power_readings/power_draw",
        ),
        power_limit_w=read.number(
            "gpu_power_readings/current_power_limit",
            "power_readings/enforced_power_limit",
            "power_readings/power_limit",
        ),
        pstate=read.text("performance_state"),
        persistence=read.flag("persistence_mode"),
        ecc=_ecc(read),
        remapped_rows=RemappedRows(
            correctable=read.count("remapped_rows/remapped_row_corr"),
            uncorrectable=read.count("remapped_rows/remapped_row_unc"),
            pending=read.flag("remapped_rows/remapped_row_pending"),
            failure=read.flag("remapped_rows/remapped_row_failure"),
            banks_without_spares=read.count(
                "remapped_rows/row_remapper_histogram/row_remapper_histogram_none"
            ),
        ),
        retired_pages=RetiredPages(
            single_bit=read.count("retired_pages/multiple_single_bit_retirement/retired_count"),
            double_bit=read.count("retired_pages/double_bit_retirement/retired_count"),
            pending=read.flag("retired_pages/pending_retirement", "retired_pages/pending_blacklist"),
        ),
        mig=Mode(current=read.text("mig_mode/current_mig"), pending=read.text("mig_mode/pending_mig")),
        pcie=Pcie(
            gen=read.count(pins + "pcie_gen/current_link_gen"),
            gen_max=read.count(pins + "pcie_gen/max_link_gen"),
            width=read.count(pins + "link_widths/current_link_width"),
            width_max=read.count(pins + "link_widths/max_link_width"),
            replays=read.count("pci/replay_counter"),
        ),
        clock_reasons=_clock_reasons(read),
        clock_counters_us=_clock_counters(read),
        fabric=Fabric(
            state=read.text("fabric/state"),
            status=read.text("fabric/status"),
            health=read.text("fabric/health/summary"),
        ),
        recovery_action=read.text("gpu_recovery_action"),
        reset_required=read.flag("gpu_reset_status/reset_required"),
        drain_and_reset_recommended=read.flag("gpu_reset_status/drain_and_reset_recommended"),
        processes=_processes(read),
        broken=read.broken,
    )


def _ecc(read: Readings) -> Ecc:
    def total(which: str, kind: str) -> int | None:
        parts = {
            "un": (
                "sram_uncorrectable",
                "sram_uncorrectable_parity",
                "sram_uncorrectable_secded",
                "dram_uncorrectable",
            ),
            "": ("sram_correctable", "dram_correctable"),
        }[kind]
        new = read.total(*(f"ecc_errors/{which}/{part}" for part in parts))
        old = f"ecc_errors/{which}/{'double_bit' if kind else 'single_bit'}/total"
        return new if new is not None else read.count(old)

    return Ecc(
        mode=read.text("ecc_mode/current_ecc"),
        volatile_uncorrected=total("volatile", "un"),
        volatile_corrected=total("volatile", ""),
        aggregate_uncorrected=total("aggregate", "un"),
        aggregate_corrected=total("aggregate", ""),
        sram_threshold_exceeded=read.flag("ecc_errors/aggregate/sram_threshold_exceeded"),
        channel_repair_pending=read.flag("ecc_errors/channel_repair_pending"),
        tpc_repair_pending=read.flag("ecc_errors/tpc_repair_pending"),
        unrepairable_memory=read.flag("ecc_errors/unrepairable_memory"),
    )


_REASON = re.compile(r"clocks_(?:event|throttle)_reasons?_(?:counters_)?")
_LONG_NAMES = {
    "sw_therm_slowdown": "sw_thermal_slowdown",
    "hw_therm_slowdown": "hw_thermal_slowdown",
    "hw_power_brake": "hw_power_brake_slowdown",
}


def _reason(tag: str) -> str:
    name = _REASON.sub("", tag)
    return _LONG_NAMES.get(name, name)


def _clock_reasons(read: Readings) -> tuple[str, ...]:
    held = [*read.all("clocks_event_reasons"), *read.all("clocks_throttle_reasons")]
    return tuple(_reason(each.tag) for each in held if (each.text or "").strip() == "Active")


def _clock_counters(read: Readings) -> dict[str, int]:
    counters = read.all("clocks_event_reasons_counters")
    return {
        _reason(each.tag): int(number)
        for each in counters
        if (number := first_number(each.text or "")) is not None
    }


def _processes(read: Readings) -> tuple[Process, ...]:
    each = [Readings(element) for element in read.all("processes") if element.tag == "process_info"]
    return tuple(
        Process(
            pid=process.count("pid"),
            type=process.text("type"),
            name=process.text("process_name"),
            memory_mib=process.count("used_memory"),
        )
        for process in each[:1000]
    )
