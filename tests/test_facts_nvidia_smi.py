"""nvidia-smi's XML as facts, and what the facts mean."""

from functools import cache
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.facts import FactsError
from bot.facts.gpu_verdict import Judgement, judge
from bot.facts.nvidia_smi import NvidiaSmi, parse
from bot.verdict import Verdict

OURS = Path(__file__).parent / "data"
"""What machines of ours printed; serial numbers and UUIDs are made up."""
SAMPLES = Path(__file__).parents[2] / "shared" / "data" / "gpu"
TELEGRAF = "influxdata__telegraf/plugins/inputs/nvidia_smi/testdata/*.xml"

GPU = """
    <gpu id="00000000:{bus}:00.0">
        <product_name>NVIDIA H100 80GB HBM3</product_name>
        <persistence_mode>Enabled</persistence_mode>
        <mig_mode><current_mig>Disabled</current_mig><pending_mig>Disabled</pending_mig></mig_mode>
        <serial>132012300{bus}</serial>
        <uuid>GPU-aaaaaaaa-bbbb-cccc-dddd-0000000000{bus}</uuid>
        <gpu_recovery_action>None</gpu_recovery_action>
        <pci>
            <pci_bus_id>00000000:{bus}:00.0</pci_bus_id>
            <pci_gpu_link_info>
                <pcie_gen><max_link_gen>5</max_link_gen><current_link_gen>1</current_link_gen></pcie_gen>
                <link_widths><max_link_width>16x</max_link_width><current_link_width>16x</current_link_width></link_widths>
            </pci_gpu_link_info>
            <replay_counter>0</replay_counter>
        </pci>
        <fan_speed>N/A</fan_speed>
        <performance_state>P0</performance_state>
        <clocks_event_reasons>
            <clocks_event_reason_sw_power_cap>Active</clocks_event_reason_sw_power_cap>
            <clocks_event_reason_hw_thermal_slowdown>Not Active</clocks_event_reason_hw_thermal_slowdown>
        </clocks_event_reasons>
        <clocks_event_reasons_counters>
            <clocks_event_reasons_counters_hw_therm_slowdown>1200 us</clocks_event_reasons_counters_hw_therm_slowdown>
        </clocks_event_reasons_counters>
        <fb_memory_usage><total>81559 MiB</total><used>70123 MiB</used></fb_memory_usage>
        <utilization><gpu_util>0 %</gpu_util></utilization>
        <ecc_mode><current_ecc>Enabled</current_ecc></ecc_mode>
        <ecc_errors>
            <volatile>
                <sram_correctable>0</sram_correctable>
                <sram_uncorrectable_parity>0</sram_uncorrectable_parity>
                <sram_uncorrectable_secded>0</sram_uncorrectable_secded>
                <dram_correctable>2</dram_correctable>
                <dram_uncorrectable>0</dram_uncorrectable>
            </volatile>
            <aggregate><dram_uncorrectable>1</dram_uncorrectable><sram_threshold_exceeded>No</sram_threshold_exceeded></aggregate>
        </ecc_errors>
        <remapped_rows>
            <remapped_row_corr>0</remapped_row_corr>
            <remapped_row_unc>1</remapped_row_unc>
            <remapped_row_pending>No</remapped_row_pending>
            <remapped_row_failure>No</remapped_row_failure>
            <row_remapper_histogram><row_remapper_histogram_none>0 bank(s)</row_remapper_histogram_none></row_remapper_histogram>
        </remapped_rows>
        <temperature><gpu_temp>41 C</gpu_temp><gpu_temp_tlimit>46 C</gpu_temp_tlimit><memory_temp>48 C</memory_temp></temperature>
        <gpu_power_readings><instant_power_draw>412.50 W</instant_power_draw><current_power_limit>700.00 W</current_power_limit></gpu_power_readings>
        <fabric><state>Completed</state><status>Success</status></fabric>
        <processes>
            <process_info><pid>4711</pid><type>C</type><process_name>VLLM::Worker</process_name><used_memory>70000 MiB</used_memory></process_info>
        </processes>
    </gpu>"""


def xml(gpus: int = 2, *, change: tuple[str, str] | None = None, before: str = "", inside: str = "") -> str:
    """Write what nvidia-smi prints; `change` replaces one text in the first GPU."""
    written = [GPU.format(bus=f"{number:02X}") for number in range(0x19, 0x19 + gpus)]
    if change is not None:
        assert change[0] in written[0]
        written[0] = written[0].replace(*change)
    return (
        f'{before}<?xml version="1.0" ?>\n<!DOCTYPE nvidia_smi_log SYSTEM "nvsmi_device_v13.dtd">\n<nvidia_smi_log>\n'
        f"    <driver_version>580.95.05</driver_version>\n    <cuda_version>13.0</cuda_version>\n"
        f"    <attached_gpus>{gpus}</attached_gpus>{''.join(written)}{inside}\n</nvidia_smi_log>\n"
    )


def judged(text: str, expected: int | None = 2) -> Judgement:
    return judge(parse(text), expected)


def samples() -> list[Path]:
    return sorted(SAMPLES.glob(TELEGRAF))


needs_samples = pytest.mark.skipif(
    not samples(), reason="the sample outputs (../shared/data/gpu) are not here"
)


def test_all_readings_of_a_gpu_are_read() -> None:
    facts = parse(xml())
    assert (facts.driver_version, facts.cuda_version, facts.attached_gpus) == ("580.95.05", "13.0", 2)
    assert facts.problems == ()
    gpu = facts.gpus[0]
    assert (gpu.index, gpu.bus_id, gpu.uuid) == (
        0,
        "0000:19:00.0",
        "GPU-aaaaaaaa-bbbb-cccc-dddd-000000000019",
    )
    assert (gpu.name, gpu.serial, gpu.pstate) == ("NVIDIA H100 80GB HBM3", "13201230019", "P0")
    assert (gpu.temperature_c, gpu.memory_temperature_c, gpu.tlimit_c) == (41, 48, 46)
    assert (gpu.memory_used_mib, gpu.memory_total_mib, gpu.utilization) == (70123, 81559, 0)
    assert (gpu.power_w, gpu.power_limit_w, gpu.persistence) == (412.5, 700.0, True)
    assert (gpu.ecc.volatile_uncorrected, gpu.ecc.volatile_corrected, gpu.ecc.aggregate_uncorrected) == (
        0,
        2,
        1,
    )
    assert (gpu.pcie.gen, gpu.pcie.gen_max, gpu.pcie.width, gpu.pcie.width_max) == (1, 5, 16, 16)
    assert gpu.clock_reasons == ("sw_power_cap",)
    assert gpu.clock_counters_us == {"hw_thermal_slowdown": 1200}
    assert (gpu.remapped_rows.pending, gpu.remapped_rows.failure, gpu.remapped_rows.uncorrectable) == (
        False,
        False,
        1,
    )
    assert [(process.pid, process.name) for process in gpu.processes] == [(4711, "VLLM::Worker")]
    assert gpu.broken == {}


def test_facts_are_plain_json_and_come_back_the_same() -> None:
    facts = parse(xml())
    assert NvidiaSmi.model_validate_json(facts.model_dump_json()) == facts


def test_a_host_with_all_its_gpus_is_healthy_at_idle_clocks_and_under_the_power_cap() -> None:
    judgement = judged(xml())
    assert judgement.verdict is Verdict.HEALTHY
    assert judgement.lines == ()


@pytest.mark.parametrize(
    "text", ["N/A", "[N/A]", "Requested functionality has been deprecated", "[Not Supported]", ""]
)
def test_what_the_tool_does_not_say_is_none_and_not_broken(text: str) -> None:
    gpu = parse(xml(change=("412.50 W", text))).gpus[0]
    assert gpu.power_w is None
    assert gpu.broken == {}


@pytest.mark.parametrize(
    "text", ["ERR!", "[GPU requires reset]", "[Unknown Error]", "Unknown Error", "GPU is lost"]
)
def test_an_error_in_place_of_a_value_is_broken_and_never_zero(text: str) -> None:
    gpu = parse(xml(change=("<gpu_temp>41 C", f"<gpu_temp>{text}"))).gpus[0]
    assert gpu.temperature_c is None
    assert gpu.broken == {"gpu_temp": text}


@pytest.mark.parametrize(
    ("change", "verdict", "action"),
    [
        (("<dram_uncorrectable>0", "<dram_uncorrectable>3"), Verdict.UNHEALTHY, "needs a reset"),
        (("exceeded>No<", "exceeded>Yes<"), Verdict.UNHEALTHY, "replace"),
        (("failure>No<", "failure>Yes<"), Verdict.UNHEALTHY, "replace"),
        (("<remapped_row_unc>1", "<remapped_row_unc>512"), Verdict.UNHEALTHY, "replace"),
        (("pending>No<", "pending>Yes<"), Verdict.HEALTHY, "schedule a reset"),
        (("action>None<", "action>Reset<"), Verdict.UNHEALTHY, "needs a reset"),
        (("action>None<", "action>Node Reboot Required<"), Verdict.UNHEALTHY, "reboot"),
        (("action>None<", "action>Drain P2P<"), Verdict.UNHEALTHY, "ask a person"),
        (("action>None<", "action>Something New<"), Verdict.UNHEALTHY, "ask a person"),
        (("41 C", "[GPU requires reset]"), Verdict.UNHEALTHY, "needs a reset"),
        (("state>P0", "state>ERR!"), Verdict.UNHEALTHY, "needs a reset"),
        (("412.50 W", "[Unknown Error]"), Verdict.UNKNOWN, "watch"),
        (("fan_speed>N/A", "fan_speed>ERR!"), Verdict.HEALTHY, None),
        (("41 C", "N/A"), Verdict.UNKNOWN, "watch"),
        (("<gpu_temp_tlimit>46", "<gpu_temp_tlimit>4"), Verdict.HEALTHY, "watch"),
        (("48 C", "97 C"), Verdict.HEALTHY, "watch"),
        (("slowdown>Not Active", "slowdown>Active"), Verdict.HEALTHY, "watch"),
        (("<current_link_width>16x", "<current_link_width>8x"), Verdict.UNHEALTHY, "reboot"),
        (("Completed", "In Progress"), Verdict.UNHEALTHY, "ask a person"),
        (("<status>Success", "<status>Unknown status"), Verdict.UNHEALTHY, "ask a person"),
        (("pending_mig>Disabled", "pending_mig>Enabled"), Verdict.HEALTHY, "schedule a reset"),
        (("mode>Enabled</persistence", "mode>Disabled</persistence"), Verdict.HEALTHY, "watch"),
    ],
)
def test_each_reading_is_judged_by_its_threshold(
    change: tuple[str, str], verdict: Verdict, action: str | None
) -> None:
    judgement = judged(xml(change=change))
    assert judgement.verdict is verdict
    assert judgement.gpus[0].verdict is verdict
    assert judgement.gpus[1].verdict is Verdict.HEALTHY
    assert [why.action for why in judgement.gpus[0].reasons] == ([action] if action else [])


def test_a_gpu_without_ecc_is_fine() -> None:
    assert judged(xml(change=("<dram_uncorrectable>0", "<dram_uncorrectable>N/A"))).verdict is Verdict.HEALTHY


def test_a_missing_gpu_makes_the_host_unhealthy_though_each_other_is_fine() -> None:
    judgement = judged(xml(7), 8)
    assert judgement.verdict is Verdict.UNHEALTHY
    assert judgement.lines == ("7 of 8 GPUs answer (reboot)",)


def test_without_an_expected_number_a_host_is_unknown_and_says_how_to_mend_it() -> None:
    judgement = judged(xml(), None)
    assert judgement.verdict is Verdict.UNKNOWN
    assert "vars: {gpus: N}" in judgement.lines[0]


def test_the_driver_counting_more_than_it_describes_is_unhealthy() -> None:
    text = xml().replace("<attached_gpus>2", "<attached_gpus>3")
    assert judged(text, 2).verdict is Verdict.UNHEALTHY


@pytest.mark.parametrize(
    ("line", "index", "bus"),
    [
        ("Unable to determine the device handle for GPU 0000:4F:00.0: Unknown Error", None, "0000:4f:00.0"),
        ("Unable to determine the device handle for GPU0000:4F:00.0: Unknown Error", None, "0000:4f:00.0"),
        ("Unable to determine the device handle for GPU 3: GPU is lost.  Reboot the system", 3, None),
        (
            "Unable to determine the device handle for gpu 00000000:4F:00.0: Unknown Error",
            None,
            "0000:4f:00.0",
        ),
        ("Unable to determine the device handle for GPU3: 0000:4F:00.0: Unknown Error", 3, "0000:4f:00.0"),
        ("Unable to determine the device handle for GPU1: 0000:4F:00.0: GPU is lost", 1, "0000:4f:00.0"),
    ],
)
def test_every_spelling_of_a_lost_gpu_is_understood(line: str, index: int | None, bus: str | None) -> None:
    for text in (xml(before=line + "\n"), xml(inside=line), line):
        facts = parse(text)
        assert [(p.kind, p.index, p.bus_id) for p in facts.problems] == [("gpu_lost", index, bus)]
        assert judge(facts, 3).verdict is Verdict.UNHEALTHY


def test_gpus_keep_their_number_when_one_before_them_is_lost() -> None:
    facts = parse(
        xml(3, before="Unable to determine the device handle for GPU1: 0000:4F:00.0: Unknown Error\n")
    )
    assert [gpu.index for gpu in facts.gpus] == [0, 2, 3]


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("No devices were found\n", "no_devices"),
        (
            "Failed to initialize NVML: Driver/library version mismatch\nNVML library version: 580.173\n",
            "driver_mismatch",
        ),
        (
            "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver. Make sure …\n",
            "driver_unreachable",
        ),
        ("Failed to initialize NVML: Unknown Error\n", "nvml_failed"),
    ],
)
def test_an_error_instead_of_the_table_is_a_fact(text: str, kind: str) -> None:
    facts = parse(text)
    assert [problem.kind for problem in facts.problems] == [kind]
    assert judge(facts, 8).verdict is Verdict.UNHEALTHY


def test_a_corrupted_inforom_is_seen_after_the_table() -> None:
    facts = parse(xml() + "WARNING: infoROM is corrupted at gpu 0000:19:00.0\n")
    assert [(problem.kind, problem.bus_id) for problem in facts.problems] == [
        ("inforom_corrupted", "0000:19:00.0")
    ]
    assert judge(facts, 2).verdict is Verdict.UNHEALTHY


def test_a_table_cut_in_the_middle_is_not_taken_for_a_smaller_host() -> None:
    text = xml(8)
    with pytest.raises(FactsError, match="ends in the middle, after 6 whole GPUs"):
        parse(text[: text.index('<gpu id="00000000:1F')])


@pytest.mark.parametrize(
    "text",
    [
        "",
        "bash: nvidia-smi: command not found\n",
        '<?xml version="1.0"?><!DOCTYPE nvidia_smi_log [<!ENTITY a SYSTEM "file:///etc/passwd">]><x>&a;</x>',
        '<!DOCTYPE nvidia_smi_log [<!ENTITY a "b">]><nvidia_smi_log><gpu id="1"><uuid>&a;</uuid></gpu></nvidia_smi_log>',
        "<nvidia_smi_log>" + "<a>" * 5000 + "</a>" * 5000 + "</nvidia_smi_log>",
        "<nvidia_smi_log><gpu></nvidia_smi_log>",
    ],
)
def test_what_is_no_such_xml_is_refused_with_what_was_expected(text: str) -> None:
    with pytest.raises(FactsError, match="expected the XML of `nvidia-smi -q -x`"):
        parse(text)


def test_the_error_shows_the_first_line_seen() -> None:
    with pytest.raises(FactsError, match="begins 'bash: nvidia-smi: command not found'"):
        parse("\n  bash: nvidia-smi: command not found\n")


@needs_samples
@pytest.mark.parametrize("sample", samples(), ids=lambda path: path.stem)
def test_real_output_of_every_schema_is_read(sample: Path) -> None:
    facts = parse(sample.read_text())
    assert len(facts.gpus) == 1
    gpu = facts.gpus[0]
    assert gpu.uuid is not None
    assert gpu.uuid.startswith("GPU-")
    assert gpu.temperature_c is not None
    assert 10 < gpu.temperature_c < 90
    assert gpu.memory_total_mib is not None
    assert gpu.pcie.width in {8, 16}
    assert gpu.broken == {}
    assert judge(facts, 1).gpus[0].verdict is Verdict.HEALTHY


@pytest.mark.parametrize(
    ("state", "watts", "why", "holders"),
    [("idle", 77.56, "gpu_idle", 0), ("load", 695.97, "sw_power_cap", 1)],
)
def test_a_real_h200_is_healthy_at_rest_and_at_its_power_limit(
    state: str, watts: float, why: str, holders: int
) -> None:
    facts = parse((OURS / f"h200-driver-580-{state}.xml").read_text())
    (gpu,) = facts.gpus
    assert (facts.driver_version, gpu.name, gpu.memory_total_mib) == ("580.159.04", "NVIDIA H200", 143771)
    assert (gpu.power_w, gpu.power_limit_w, gpu.clock_reasons) == (watts, 700.0, (why,))
    assert (gpu.ecc.tpc_repair_pending, gpu.ecc.channel_repair_pending) == (False, False)
    assert (gpu.recovery_action, len(gpu.processes), gpu.broken) == ("None", holders, {})
    assert judge(facts, 1).gpus[0].verdict is Verdict.HEALTHY


@cache
def whole() -> list[str]:
    return [xml(3), *(sample.read_text() for sample in samples())]


FILLINGS = ["", "\x00", "<", "]]>", "&x;", "9" * 6000, "\ud800", "é", "</gpu>", "ERR!"]


@settings(max_examples=200, deadline=None)
@given(
    which=st.integers(0, 20),
    share=st.floats(0, 1),
    hole=st.sampled_from([0, 1, 7, 500]),
    filled=st.sampled_from(FILLINGS),
    cut=st.booleans(),
)
def test_text_cut_anywhere_or_mangled_is_facts_or_a_facts_error(
    which: int, share: float, hole: int, filled: str, *, cut: bool
) -> None:
    texts = whole()
    text = texts[which % len(texts)]
    start = int(share * len(text))
    mangled = text[:start] + ("" if cut else filled + text[start + hole :])
    try:
        facts = parse(mangled)
    except FactsError as error:
        assert "expected" in str(error)  # noqa: PT017
    else:
        assert judge(facts, 1).verdict in Verdict
        assert facts.model_dump_json()
