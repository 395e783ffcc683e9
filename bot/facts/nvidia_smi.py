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

EXPECTED = "the XML of `nvidia-smi -q -x`"
LARGEST = 16 * 1024 * 1024
"""Characters read; 16 GPUs with all their supported clocks and MIG devices stay under 4 MiB."""
DEEPEST = 64
MOST_GPUS = 256

_BROKEN = re.compile(
    r"err!|requires reset|reset required|unknown error|gpu is lost|^\[?error\]?$", re.IGNORECASE
)
_NOT_SAID = {
    "",
    "n/a",
    "not supported",
    "not available",
    "not found",
    "function not found",
    "insufficient permissions",
    "requested functionality has been deprecated",
}


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
        root = _root(text)
    except FactsError as error:
        if not complaints:
            raise
        if "<nvidia_smi_log" in text:
            complaints = (*complaints, Problem(kind="no_table", text=error.what))
        return NvidiaSmi(
            driver_version=None, cuda_version=None, attached_gpus=None, gpus=(), problems=complaints
        )
    top = _Readings(root)
    elements = root.findall("gpu")[:MOST_GPUS]
    lost = {problem.index for problem in complaints if problem.kind == "gpu_lost"}
    numbers = (number for number in range(len(elements) + len(lost)) if number not in lost)
    return NvidiaSmi(
        driver_version=top.text("driver_version", "kmd_version"),
        cuda_version=top.text("cuda_version", "cuda_umd_version"),
        attached_gpus=top.count("attached_gpus"),
        gpus=tuple(_gpu(number, element) for number, element in zip(numbers, elements, strict=False)),
        problems=complaints,
    )


def _root(text: str) -> ET.Element:
    """Return the document's root; entities are refused, so nothing can be fetched or blown up."""
    start = text.find("<nvidia_smi_log")
    end = text.find("</nvidia_smi_log>", start)
    if start < 0:
        raise FactsError(EXPECTED, text)
    if end < 0:
        seen = text.count("</gpu>", start)
        raise FactsError(EXPECTED, text, why=f"it ends in the middle, after {seen} whole GPUs")
    if "<!" in text[start:end]:
        raise FactsError(EXPECTED, text, why="it holds a declaration, which nvidia-smi never writes there")
    parser = ET.XMLParser(target=_Bounded())  # noqa: S314 - without a DOCTYPE there is no entity to define
    try:
        parser.feed(text[start : end + len("</nvidia_smi_log>")])
        root = parser.close()
    except ET.ParseError as error:
        raise FactsError(EXPECTED, text, why=f"it is not well-formed: {error}") from error
    assert isinstance(root, ET.Element)
    return root


class _Bounded(ET.TreeBuilder):
    """A tree of bounded depth."""

    def __init__(self) -> None:
        super().__init__()
        self._depth = 0

    def start(self, tag: str, attrs: dict[str, str], /) -> ET.Element:
        self._depth += 1
        if self._depth > DEEPEST:
            raise FactsError(EXPECTED, "", why=f"it is nested deeper than {DEEPEST}")
        return super().start(tag, attrs)

    def end(self, tag: str, /) -> ET.Element:
        self._depth -= 1
        return super().end(tag)


class _Readings:
    """The readings of one element, and a note of those that are errors."""

    def __init__(self, element: ET.Element) -> None:
        self._element = element
        self.broken: dict[str, str] = {}

    def text(self, *paths: str) -> str | None:
        """Return the first reading there is under these paths."""
        for path in paths:
            found = (self._element.findtext(path) or "").strip()
            if _BROKEN.search(found):
                self.broken[path.rpartition("/")[2]] = found[:200]
            elif found.strip("[]").lower() not in _NOT_SAID and not found.startswith("Deprecated"):
                return found[:500]
        return None

    def number(self, *paths: str) -> float | None:
        """Return the first number there is under these paths."""
        for path in paths:
            number = first_number(self.text(path) or "")
            if number is not None:
                return number
        return None

    def count(self, *paths: str) -> int | None:
        """Return the first whole number there is under these paths."""
        number = self.number(*paths)
        return None if number is None else int(number)

    def total(self, *paths: str) -> int | None:
        """Return the sum of what is known of these."""
        known = [number for path in paths if (number := self.count(path)) is not None]
        return sum(known) if known else None

    def flag(self, *paths: str) -> bool | None:
        """Return whether a reading says yes."""
        return {"yes": True, "enabled": True, "active": True, "no": False, "disabled": False}.get(
            (self.text(*paths) or "").lower()
        )

    def all(self, path: str) -> list[ET.Element]:
        """Return the children of a path."""
        return self._element.findall(f"{path}/*")


def _gpu(index: int, element: ET.Element) -> Gpu:
    read = _Readings(element)
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


def _ecc(read: _Readings) -> Ecc:
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


def _clock_reasons(read: _Readings) -> tuple[str, ...]:
    held = [*read.all("clocks_event_reasons"), *read.all("clocks_throttle_reasons")]
    return tuple(_reason(each.tag) for each in held if (each.text or "").strip() == "Active")


def _clock_counters(read: _Readings) -> dict[str, int]:
    counters = read.all("clocks_event_reasons_counters")
    return {
        _reason(each.tag): int(number)
        for each in counters
        if (number := first_number(each.text or "")) is not None
    }


def _processes(read: _Readings) -> tuple[Process, ...]:
    each = [_Readings(element) for element in read.all("processes") if element.tag == "process_info"]
    return tuple(
        Process(
            pid=process.count("pid"),
            type=process.text("type"),
            name=process.text("process_name"),
            memory_mib=process.count("used_memory"),
        )
        for process in each[:1000]
    )
