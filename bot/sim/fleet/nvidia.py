"""The pretend `nvidia-smi`: the table, `-L`, `-q -x`, `--query-gpu`, in the formats of driver 580."""

from collections.abc import Callable
from datetime import UTC, datetime

from bot.sim.fleet.reply import Reply, options
from bot.sim.fleet.state import Gpu, State, World

DRIVER = "580.95.05"
CUDA = "13.0"
NAME = "NVIDIA H100 80GB HBM3"
TOTAL_MIB = 81559
LIMIT_W = 700.0
FALLEN_OFF = 15
"""Exit code of nvidia-smi when a GPU fell off the bus."""

_GPU_XML = """\
	<gpu id="00000000:{bus}:00.0">
		<product_name>{name}</product_name>
		<product_brand>NVIDIA</product_brand>
		<product_architecture>Hopper</product_architecture>
		<persistence_mode>Enabled</persistence_mode>
		<addressing_mode>None</addressing_mode>
		<mig_mode>
			<current_mig>Disabled</current_mig>
			<pending_mig>Disabled</pending_mig>
		</mig_mode>
		<mig_devices>
			None
		</mig_devices>
		<serial>{serial}</serial>
		<uuid>{uuid}</uuid>
		<minor_number>{index}</minor_number>
		<vbios_version>96.00.A5.00.01</vbios_version>
		<gpu_recovery_action>None</gpu_recovery_action>
		<pci>
			<pci_bus>{bus}</pci_bus>
			<pci_device>00</pci_device>
			<pci_domain>0000</pci_domain>
			<pci_device_id>233010DE</pci_device_id>
			<pci_bus_id>00000000:{bus}:00.0</pci_bus_id>
			<pci_gpu_link_info>
				<pcie_gen>
					<max_link_gen>5</max_link_gen>
					<current_link_gen>5</current_link_gen>
					<device_current_link_gen>5</device_current_link_gen>
					<max_device_link_gen>5</max_device_link_gen>
					<max_host_link_gen>5</max_host_link_gen>
				</pcie_gen>
				<link_widths>
					<max_link_width>16x</max_link_width>
					<current_link_width>16x</current_link_width>
				</link_widths>
			</pci_gpu_link_info>
			<replay_counter>0</replay_counter>
			<replay_rollover_counter>0</replay_rollover_counter>
		</pci>
		<fan_speed>N/A</fan_speed>
		<performance_state>P0</performance_state>
		<clocks_event_reasons>
			<clocks_event_reason_gpu_idle>{idle}</clocks_event_reason_gpu_idle>
			<clocks_event_reason_sw_power_cap>Not Active</clocks_event_reason_sw_power_cap>
			<clocks_event_reason_hw_slowdown>Not Active</clocks_event_reason_hw_slowdown>
			<clocks_event_reason_hw_thermal_slowdown>Not Active</clocks_event_reason_hw_thermal_slowdown>
			<clocks_event_reason_hw_power_brake_slowdown>Not Active</clocks_event_reason_hw_power_brake_slowdown>
			<clocks_event_reason_sw_thermal_slowdown>Not Active</clocks_event_reason_sw_thermal_slowdown>
		</clocks_event_reasons>
		<clocks_event_reasons_counters>
			<clocks_event_reasons_counters_sw_power_cap>0 us</clocks_event_reasons_counters_sw_power_cap>
			<clocks_event_reasons_counters_sw_therm_slowdown>0 us</clocks_event_reasons_counters_sw_therm_slowdown>
			<clocks_event_reasons_counters_hw_therm_slowdown>0 us</clocks_event_reasons_counters_hw_therm_slowdown>
			<clocks_event_reasons_counters_hw_power_brake>0 us</clocks_event_reasons_counters_hw_power_brake>
		</clocks_event_reasons_counters>
		<fb_memory_usage>
			<total>{total} MiB</total>
			<reserved>479 MiB</reserved>
			<used>{used} MiB</used>
			<free>{free} MiB</free>
		</fb_memory_usage>
		<compute_mode>Default</compute_mode>
		<utilization>
			<gpu_util>{util} %</gpu_util>
			<memory_util>{memory_util} %</memory_util>
		</utilization>
		<ecc_mode>
			<current_ecc>Enabled</current_ecc>
			<pending_ecc>Enabled</pending_ecc>
		</ecc_mode>
		<ecc_errors>
			<volatile>
				<sram_correctable>0</sram_correctable>
				<sram_uncorrectable_parity>0</sram_uncorrectable_parity>
				<sram_uncorrectable_secded>0</sram_uncorrectable_secded>
				<dram_correctable>0</dram_correctable>
				<dram_uncorrectable>0</dram_uncorrectable>
			</volatile>
			<aggregate>
				<sram_correctable>0</sram_correctable>
				<sram_uncorrectable_parity>0</sram_uncorrectable_parity>
				<sram_uncorrectable_secded>0</sram_uncorrectable_secded>
				<dram_correctable>0</dram_correctable>
				<dram_uncorrectable>0</dram_uncorrectable>
				<sram_threshold_exceeded>No</sram_threshold_exceeded>
			</aggregate>
			<channel_repair_pending>No</channel_repair_pending>
			<tpc_repair_pending>No</tpc_repair_pending>
		</ecc_errors>
		<retired_pages>
			<multiple_single_bit_retirement>
				<retired_count>N/A</retired_count>
			</multiple_single_bit_retirement>
			<double_bit_retirement>
				<retired_count>N/A</retired_count>
			</double_bit_retirement>
			<pending_retirement>N/A</pending_retirement>
		</retired_pages>
		<remapped_rows>
			<remapped_row_corr>0</remapped_row_corr>
			<remapped_row_unc>0</remapped_row_unc>
			<remapped_row_pending>No</remapped_row_pending>
			<remapped_row_failure>No</remapped_row_failure>
			<row_remapper_histogram>
				<row_remapper_histogram_max>2560 bank(s)</row_remapper_histogram_max>
				<row_remapper_histogram_none>0 bank(s)</row_remapper_histogram_none>
			</row_remapper_histogram>
		</remapped_rows>
		<temperature>
			<gpu_temp>{temperature} C</gpu_temp>
			<gpu_temp_tlimit>{tlimit} C</gpu_temp_tlimit>
			<memory_temp>{memory_temperature} C</memory_temp>
		</temperature>
		<gpu_power_readings>
			<average_power_draw>{power:.2f} W</average_power_draw>
			<instant_power_draw>{power:.2f} W</instant_power_draw>
			<current_power_limit>{limit:.2f} W</current_power_limit>
		</gpu_power_readings>
		<clocks>
			<graphics_clock>1980 MHz</graphics_clock>
			<sm_clock>1980 MHz</sm_clock>
			<mem_clock>2619 MHz</mem_clock>
		</clocks>
		<fabric>
			<state>Completed</state>
			<status>Success</status>
		</fabric>
{processes}
	</gpu>
"""


def nvidia_smi(world: World, host: State, argv: list[str]) -> Reply:
    """Answer one call."""
    if not host.gpus:
        return Reply(stderr="nvidia-smi: command not found\n", exit=127)
    now = world.settle()
    found, rest = options(
        argv,
        "qxLi:d:lhsem",
        [
            "query-gpu=",
            "query-compute-apps=",
            "format=",
            "id=",
            "xml-format",
            "query",
            "display=",
            "gpu-reset",
        ],
    )
    exit_code = FALLEN_OFF if any(gpu.lost for gpu in host.gpus) else 0
    gpus = [gpu for gpu in host.gpus if not gpu.lost and _wanted(gpu, found.get("-i") or found.get("--id"))]
    readings = [_readings(world, host, gpu, now) for gpu in gpus]
    if rest and rest[0] in ("nvlink", "topo"):
        return Reply(stdout=_lost(host) + _links(rest[0], gpus, errors="-e" in found), exit=exit_code)
    if rest or "-h" in found:
        return Reply(
            stdout="Invalid combination of input arguments. Please run 'nvidia-smi -h' for help.\n", exit=2
        )
    if "--gpu-reset" in found:
        return _reset(host, gpus, now)
    if "-L" in found:
        lines = [f"GPU {gpu.index}: {NAME} (UUID: {gpu.uuid})\n" for gpu in gpus]
        return Reply(stdout=_lost(host) + "".join(lines), exit=exit_code)
    if "--query-gpu" in found:
        return _csv(found["--query-gpu"], found.get("--format", ""), readings, _lost(host), exit_code)
    if "--query-compute-apps" in found:
        return _csv(found["--query-compute-apps"], found.get("--format", ""), _apps(readings), "", exit_code)
    if {"-q", "--query"} & found.keys() and {"-x", "--xml-format"} & found.keys():
        return Reply(stdout=_xml(host, readings, now), exit=exit_code)
    return Reply(stdout=_lost(host) + _table(readings, now), exit=exit_code)


def _wanted(gpu: Gpu, which: str | None) -> bool:
    return which is None or any(
        one in {str(gpu.index), gpu.uuid, f"00000000:{gpu.bus}:00.0"} for one in which.split(",")
    )


def _links(verb: str, gpus: list[Gpu], *, errors: bool) -> str:
    """Show eighteen NVLinks per GPU, all of them well, or how the GPUs are joined."""
    if verb == "topo":
        head = "".join(f"\tGPU{gpu.index}" for gpu in gpus)
        rows = ["".join(f"\t{' X ' if one is gpu else 'NV18'}" for one in gpus) for gpu in gpus]
        return (
            "\n".join([head, *(f"GPU{gpu.index}{row}" for gpu, row in zip(gpus, rows, strict=True))]) + "\n"
        )
    says = "Replay Errors: 0" if errors else "26.562 GB/s"
    links = "".join(f"\t Link {link}: {says}\n" for link in range(18))
    return "".join(f"GPU {gpu.index}: {NAME} (UUID: {gpu.uuid})\n{links}" for gpu in gpus) or "\n"


def _lost(host: State) -> str:
    return "".join(
        f"Unable to determine the device handle for GPU{gpu.index}: 0000:{gpu.bus}:00.0: Unknown Error\n"
        for gpu in host.gpus
        if gpu.lost
    )


def _readings(world: World, host: State, gpu: Gpu, now: float) -> dict[str, str]:
    """Return every reading of a GPU under the name that `--query-gpu` gives it."""
    replica = host.replica
    loaded = replica is not None and replica.serving(now)
    stalled = replica is not None and replica.stalled_at is not None
    busy = loaded and not stalled and world.running(host.name, now) > 0
    warm = (host.number * 3 + gpu.index * 5) % 7
    used = 73_812 + gpu.index * 2 if loaded else 4
    # An engine that hangs in a collective spins on every GPU without drawing the power of work.
    power = 431.0 + warm * 9 if busy else 141.0 + warm if stalled and loaded else 72.0 + warm
    temperature = 58 + warm if busy else 41 + warm if stalled else 29 + warm
    return {
        "index": str(gpu.index),
        "uuid": gpu.uuid,
        "gpu_uuid": gpu.uuid,
        "name": NAME,
        "serial": gpu.serial,
        "pci.bus_id": f"00000000:{gpu.bus}:00.0",
        "driver_version": DRIVER,
        "count": str(len(host.gpus)),
        "temperature.gpu": str(temperature),
        "temperature.memory": str(temperature + 8),
        "temperature.gpu.tlimit": str(87 - temperature),
        "memory.total": f"{TOTAL_MIB} MiB",
        "memory.used": f"{used} MiB",
        "memory.free": f"{TOTAL_MIB - 479 - used} MiB",
        "utilization.gpu": f"{96 + warm % 4 if busy else 100 if stalled and loaded else 0} %",
        "utilization.memory": f"{41 + warm if busy else 0} %",
        "power.draw": f"{power:.2f} W",
        "power.limit": f"{LIMIT_W:.2f} W",
        "pstate": "P0",
        "persistence_mode": "Enabled",
        "mig.mode.current": "Disabled",
        "mig.mode.pending": "Disabled",
        "gpu_recovery_action": "None",
        "ecc.errors.uncorrected.volatile.total": "0",
        "remapped_rows.pending": "No",
        "remapped_rows.failure": "No",
        "pcie.link.gen.gpucurrent": "5",
        "pcie.link.gen.max": "5",
        "pcie.link.width.current": "16",
        "pcie.link.width.max": "16",
        "fabric.state": "Completed",
        "fabric.status": "Success",
        "clocks_event_reasons.hw_thermal_slowdown": "Not Active",
        "clocks_event_reasons.hw_power_brake_slowdown": "Not Active",
        "pid": str(20_000 + host.number * 100 + gpu.index) if loaded else "",
        "process_name": "VLLM::Worker_TP" + str(gpu.index),
        "used_memory": f"{used - 18} MiB",
        "used_gpu_memory": f"{used - 18} MiB",
    }


def _apps(readings: list[dict[str, str]]) -> list[dict[str, str]]:
    return [each for each in readings if each["pid"]]


def _csv(fields: str, form: str, rows: list[dict[str, str]], before: str, exit_code: int) -> Reply:
    names = [name.strip() for name in fields.split(",")]
    known = {"pid", "process_name", "used_memory"} | set(rows[0] if rows else ())
    for name in names:
        if name not in known:
            return Reply(stdout=f'Field "{name}" is not a valid field to query.\n\n', exit=2)
    styles = {style.strip() for style in form.split(",")}
    if "csv" not in styles:
        return Reply(stdout="\"--format=\" switch is missing. Please run 'nvidia-smi -h' for help.\n", exit=2)
    shown: Callable[[str], str] = (lambda value: value.split(" ")[0]) if "nounits" in styles else str
    bare = {"name", "process_name"}
    lines = [", ".join(row[name] if name in bare else shown(row[name]) for name in names) for row in rows]
    units = {
        name: f" [{rows[0][name].rpartition(' ')[2]}]" for name in names if rows and _has_unit(rows[0][name])
    }
    if "noheader" not in styles:
        lines.insert(0, ", ".join(name + units.get(name, "") for name in names))
    return Reply(stdout=before + "".join(line + "\n" for line in lines), exit=exit_code)


def _has_unit(value: str) -> bool:
    return value.endswith((" MiB", " %", " W"))


def _xml(host: State, readings: list[dict[str, str]], now: float) -> str:
    head = (
        '<?xml version="1.0" ?>\n<!DOCTYPE nvidia_smi_log SYSTEM "nvsmi_device_v12.dtd">\n<nvidia_smi_log>\n'
        f"\t<timestamp>{datetime.fromtimestamp(now, UTC):%a %b %e %H:%M:%S %Y}</timestamp>\n"
        f"\t<driver_version>{DRIVER}</driver_version>\n\t<cuda_version>{CUDA}</cuda_version>\n"
        f"\t<attached_gpus>{len(host.gpus)}</attached_gpus>\n"
    )
    return head + _lost(host) + "".join(map(_gpu_xml, readings)) + "</nvidia_smi_log>\n"


def _gpu_xml(reading: dict[str, str]) -> str:
    process = ""
    if reading["pid"]:
        process = (
            "\t\t\t<process_info>\n\t\t\t\t<gpu_instance_id>N/A</gpu_instance_id>\n"
            "\t\t\t\t<compute_instance_id>N/A</compute_instance_id>\n"
            f"\t\t\t\t<pid>{reading['pid']}</pid>\n\t\t\t\t<type>C</type>\n"
            f"\t\t\t\t<process_name>{reading['process_name']}</process_name>\n"
            f"\t\t\t\t<used_memory>{reading['used_memory']}</used_memory>\n\t\t\t</process_info>\n"
        )
    utilization = reading["utilization.gpu"].removesuffix(" %")
    return _GPU_XML.format(
        bus=reading["pci.bus_id"].split(":")[1],
        name=NAME,
        serial=reading["serial"],
        uuid=reading["uuid"],
        index=reading["index"],
        idle="Active" if utilization == "0" else "Not Active",
        total=TOTAL_MIB,
        used=reading["memory.used"].removesuffix(" MiB"),
        free=reading["memory.free"].removesuffix(" MiB"),
        util=utilization,
        memory_util=reading["utilization.memory"].removesuffix(" %"),
        temperature=reading["temperature.gpu"],
        tlimit=reading["temperature.gpu.tlimit"],
        memory_temperature=reading["temperature.memory"],
        power=float(reading["power.draw"].removesuffix(" W")),
        limit=LIMIT_W,
        processes=f"\t\t<processes>\n{process}\t\t</processes>",
    )


_RULE = "+-----------------------------------------+------------------------+----------------------+\n"
_LINE = "+-----------------------------------------------------------------------------------------+\n"


def _table(readings: list[dict[str, str]], now: float) -> str:
    lines = [
        f"{datetime.fromtimestamp(now, UTC):%a %b %e %H:%M:%S %Y}       \n",
        _LINE,
        f"| NVIDIA-SMI {DRIVER:<22} Driver Version: {DRIVER:<14} CUDA Version: {CUDA:<9}|\n",
        _RULE,
        "| GPU  Name                 Persistence-M | Bus-Id          Disp.A | Volatile Uncorr. ECC |\n",
        "| Fan  Temp   Perf          Pwr:Usage/Cap |           Memory-Usage | GPU-Util  Compute M. |\n",
        "|                                         |                        |               MIG M. |\n",
        _RULE.replace("-", "=").replace("+", "|", 1)[:-2] + "|\n",
    ]
    for each in readings:
        power = f"{float(each['power.draw'].removesuffix(' W')):.0f}W / {LIMIT_W:>5.0f}W"
        memory = f"{each['memory.used'].replace(' ', '')} / {TOTAL_MIB:>6}MiB"
        utilization = each["utilization.gpu"].replace(" ", "")
        lines += [
            f"| {each['index']:>3}  {NAME:<30} On  |   {each['pci.bus_id']} Off |                    0 |\n",
            f"| N/A   {each['temperature.gpu']:>2}C    P0      {power:>19} | {memory:>22} |    {utilization:>4}      Default |\n",
            "|                                         |                        |             Disabled |\n",
            _RULE,
        ]
    lines += [
        "\n",
        _LINE,
        f"| {'Processes:':<88}|\n",
        f"| {' GPU   GI   CI              PID   Type   Process name                        GPU Memory':<88}|\n",
        f"| {'       ID   ID                                                               Usage':<88}|\n",
        "|" + "=" * 89 + "|\n",
    ]
    lines += [
        f"|  {each['index']:>3}   N/A  N/A {each['pid']:>16}      C   {each['process_name']:<30}"
        f"{each['used_memory'].replace(' ', ''):>16} |\n"
        for each in _apps(readings)
    ] or [f"|  {'No running processes found':<87}|\n"]
    return "".join([*lines, _LINE])


def _reset(host: State, gpus: list[Gpu], now: float) -> Reply:
    running = host.replica is not None and host.replica.serving(now)
    if running:
        texts = [
            f"GPU 00000000:{gpu.bus}:00.0 is currently in use by one or more other processes (e.g., Fabric Manager, CUDA "
            "application, graphics application such as an X server, or a monitoring application such as another instance "
            "of nvidia-smi). Please first kill all processes using this GPU and all compute applications running in the "
            "system.\n"
            for gpu in gpus
        ]
        return Reply(
            stdout="".join(texts) + "1 device is currently being used by one or more other processes.\n",
            exit=255,
        )
    done = [f"GPU 00000000:{gpu.bus}:00.0 was successfully reset.\n" for gpu in gpus]
    return Reply(stdout="".join(done) + "All done.\n")
