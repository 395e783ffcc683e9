"""What docker, vLLM, HAProxy and curl say, as facts."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.facts import Facts, FactsError, curl, docker_inspect, haproxy, vllm

CONTAINER: dict[str, Any] = {
    "Id": "8d1f00aa55",
    "Name": "/vllm",
    "RestartCount": 3,
    "State": {
        "Status": "running",
        "Running": True,
        "OOMKilled": False,
        "Pid": 4711,
        "ExitCode": 0,
        "Error": "",
        "StartedAt": "2026-11-20T08:15:30.123456789Z",
        "FinishedAt": "0001-01-01T00:00:00Z",
        "Health": {"Status": "healthy", "FailingStreak": 0, "Log": []},
    },
    "Config": {"Image": "vllm/vllm-openai:v0.11.0", "Env": ["HF_TOKEN=hf_do_not_show"]},
    "HostConfig": {"RestartPolicy": {"Name": "unless-stopped", "MaximumRetryCount": 0}},
}

METRICS = """\
# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="llama-70b"} 12.0
vllm:num_requests_running{engine="1",model_name="llama-70b"} 3.0
# HELP vllm:num_requests_waiting Number of requests waiting to be processed.
# TYPE vllm:num_requests_waiting gauge
vllm:num_requests_waiting{engine="0",model_name="llama-70b"} 4.0
# HELP vllm:kv_cache_usage_perc KV-cache usage.
# TYPE vllm:kv_cache_usage_perc gauge
vllm:kv_cache_usage_perc{engine="0",model_name="llama-70b"} 0.25
vllm:kv_cache_usage_perc{engine="1",model_name="llama-70b"} 0.75
# HELP vllm:prompt_tokens_total Number of prefill tokens processed.
# TYPE vllm:prompt_tokens_total counter
vllm:prompt_tokens_total{engine="0",model_name="llama-70b"} 1.5e+06
# HELP vllm:generation_tokens_total Number of generation tokens processed.
# TYPE vllm:generation_tokens_total counter
vllm:generation_tokens_total{engine="0",model_name="llama-70b"} 100.0
vllm:generation_tokens_total{engine="1",model_name="llama-70b"} 23.0
# HELP vllm:generation_tokens_created Number of generation tokens processed.
# TYPE vllm:generation_tokens_created gauge
vllm:generation_tokens_created{engine="0",model_name="llama-70b"} 1.7633e+09
# HELP vllm:iteration_tokens_total Histogram of number of tokens per engine_step.
# TYPE vllm:iteration_tokens_total histogram
vllm:iteration_tokens_total_bucket{engine="0",le="1.0",model_name="llama-70b"} 5.0
vllm:iteration_tokens_total_bucket{engine="0",le="+Inf",model_name="llama-70b"} 40.0
vllm:iteration_tokens_total_count{engine="0",model_name="llama-70b"} 40.0
vllm:iteration_tokens_total_sum{engine="0",model_name="llama-70b"} 1620.0
# HELP vllm:request_success_total Count of successfully processed requests.
# TYPE vllm:request_success_total counter
vllm:request_success_total{engine="0",finished_reason="stop",model_name="llama-70b"} 7.0
vllm:request_success_total{engine="0",finished_reason="length",model_name="llama-70b"} 2.0
# HELP process_open_fds Number of open file descriptors.
# TYPE process_open_fds gauge
process_open_fds 88.0
"""

STAT_COLUMNS = (
    "pxname,svname,qcur,qmax,scur,smax,slim,stot,bin,bout,dreq,dresp,ereq,econ,eresp,wretr,wredis,status,weight,act,"
    "bck,chkfail,chkdown,lastchg,downtime,qlimit,pid,iid,sid,throttle,lbtot,tracked,type,rate,rate_lim,rate_max,"
    "check_status,check_code,check_duration,"
)
STATE_COLUMNS = (
    "be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight srv_iweight "
    "srv_time_since_last_change srv_check_status srv_check_result srv_check_health srv_check_state srv_agent_state "
    "bk_f_forced_id srv_f_forced_id srv_fqdn srv_port srvrecord srv_use_ssl srv_check_port srv_check_addr "
    "srv_agent_addr srv_agent_port"
)


def stat_row(server: str, status: str, scur: int, *, qcur: int = 0, kind: int = 2) -> str:
    return (
        f"be_vllm,{server},{qcur},0,{scur},9,,120,1,2,,0,,0,0,0,0,{status},100,1,0,0,0,3600,0,,1,3,1,,120,,{kind},0,,5,"
        "L7OK,200,2,"
    )


def state_row(server: str, operation: int, admin: int) -> str:
    return (
        f"3 be_vllm 1 {server} 127.0.1.1 {operation} {admin} 100 100 3600 15 3 4 6 0 0 0 - 8000 - 0 0 - - 0"
    )


STAT = "\n".join(
    [
        f"# {STAT_COLUMNS}",
        stat_row("FRONTEND", "OPEN", 9, kind=0),
        stat_row("gpu-01", "UP", 5),
        stat_row("gpu-02", "DRAIN", 2, qcur=1),
        stat_row("gpu-03", "MAINT", 0),
        stat_row("BACKEND", "UP", 7, kind=1),
        "",
        "",
    ]
)
STATE = "\n".join(
    [
        "1",
        f"# {STATE_COLUMNS}",
        state_row("gpu-01", 2, 0),
        state_row("gpu-02", 2, 8),
        state_row("gpu-03", 0, 1),
        "",
        "",
    ]
)
CURL = '{"object":"list","data":[]}\n200 0.004512 \n'


def test_a_container_that_runs_is_read_without_its_environment() -> None:
    facts = docker_inspect.parse(json.dumps([CONTAINER], indent=4))
    container = facts.containers[0]
    assert (container.name, container.status, container.running) == ("vllm", "running", True)
    assert (container.restart_count, container.exit_code, container.oom_killed) == (3, 0, False)
    assert container.started_at == datetime(2026, 11, 20, 8, 15, 30, 123456, tzinfo=UTC)
    assert container.finished_at is None
    assert (container.health, container.restart_policy, container.pid) == ("healthy", "unless-stopped", 4711)
    assert "hf_do_not_show" not in facts.model_dump_json()


def test_a_missing_container_is_a_fact() -> None:
    facts = docker_inspect.parse("[]\nError: No such object: vllm\n")
    assert (facts.containers, facts.missing) == ((), ("vllm",))


def test_what_docker_leaves_out_is_none_and_not_false() -> None:
    container = docker_inspect.parse('[{"Id": "8d1f"}]').containers[0]
    assert (container.running, container.restart_count, container.exit_code) == (None, None, None)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '[{"Name": "/x"}]',
        "[1]",
        "{}",
        "Cannot connect to the Docker daemon",
        '[{"Id": "8d',
        "[" * 99999,
    ],
)
def test_what_is_no_inspection_is_refused(text: str) -> None:
    with pytest.raises(FactsError, match="expected the JSON of `docker inspect NAME`"):
        docker_inspect.parse(text)


def test_vllm_counters_are_summed_over_engines() -> None:
    facts = vllm.parse(METRICS)
    assert facts.models == ("llama-70b",)
    assert (facts.running, facts.waiting) == (15, 4)
    assert (facts.generation_tokens, facts.prompt_tokens, facts.iterations) == (123, 1_500_000, 40)
    assert (facts.kv_cache_usage, facts.finished, facts.preemptions) == (0.75, 9, None)


def test_the_older_name_of_the_cache_metric_is_read() -> None:
    assert vllm.parse(METRICS.replace("kv_cache_usage", "gpu_cache_usage")).kv_cache_usage == 0.75


def test_a_reading_that_is_no_number_is_unknown_and_not_zero() -> None:
    facts = vllm.parse(METRICS.replace("12.0", "NaN"))
    assert facts.running is None


def test_a_counter_cut_in_half_is_unknown_and_not_smaller() -> None:
    cut = METRICS[: METRICS.index("1.5e+06") + 1]
    assert vllm.parse(cut).prompt_tokens is None


@pytest.mark.parametrize(
    "text", ["", "<html>502 Bad Gateway</html>", "process_open_fds 88.0\n", "vllm:x{a= 1\n"]
)
def test_what_is_no_scrape_of_vllm_is_refused(text: str) -> None:
    with pytest.raises(FactsError, match="expected vLLM's metrics"):
        vllm.parse(text)


def test_show_stat_lists_servers_without_frontends_and_backends() -> None:
    servers = haproxy.parse(STAT).servers
    assert [(s.name, s.status, s.sessions, s.queued, s.drain, s.maint) for s in servers] == [
        ("gpu-01", "UP", 5, 0, False, False),
        ("gpu-02", "DRAIN", 2, 1, True, False),
        ("gpu-03", "MAINT", 0, 0, None, True),
    ]
    assert (servers[0].backend, servers[0].weight, servers[0].check) == ("be_vllm", 100, "L7OK")
    assert (servers[0].operation, servers[0].admin) == (None, None)


def test_servers_state_names_who_holds_a_server_back() -> None:
    servers = haproxy.parse(STATE).servers
    assert [(s.name, s.operation, s.admin, s.drain, s.maint) for s in servers] == [
        ("gpu-01", "running", (), False, False),
        ("gpu-02", "running", ("forced drain",), True, False),
        ("gpu-03", "stopped", ("forced maint",), False, True),
    ]
    assert servers[0].sessions is None


@pytest.mark.parametrize("text", [STAT + STATE, STATE + STAT])
def test_both_tables_are_joined_in_either_order(text: str) -> None:
    drained = haproxy.parse(text).servers[1]
    assert (drained.name, drained.sessions, drained.operation) == ("gpu-02", 2, "running")
    assert (drained.drain, drained.weight) == (True, 100)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Permission denied\n",
        "Unknown command: 'show stats'.\n",
        STAT[: STAT.index("gpu-02") + 30],
        STATE[: STATE.rindex("127.0.1.1") + 11],
    ],
)
def test_what_is_no_table_or_half_a_row_is_refused(text: str) -> None:
    with pytest.raises(FactsError, match="expected HAProxy's"):
        haproxy.parse(text)


def test_an_answered_request_has_code_time_and_body() -> None:
    facts = curl.parse(CURL)
    assert (facts.http_code, facts.time_total_s, facts.error, facts.ok) == (200, 0.004512, None, True)
    assert json.loads(facts.body) == {"object": "list", "data": []}


def test_a_refused_request_says_so_and_has_no_code() -> None:
    facts = curl.parse(
        "\n000 0.000213 Failed to connect to 127.0.0.1 port 8000\n"
        "curl: (7) Failed to connect to 127.0.0.1 port 8000 after 0 ms: Could not connect to server\n"
    )
    assert (facts.http_code, facts.exit_code, facts.ok) == (None, 7, False)
    assert facts.error == "Failed to connect to 127.0.0.1 port 8000"


def test_an_older_curl_without_a_message_is_read() -> None:
    facts = curl.parse("curl: (28) Operation timed out after 10001 milliseconds\n\n000 10.001\n")
    assert (facts.http_code, facts.exit_code) == (None, 28)
    assert facts.error == "Operation timed out after 10001 milliseconds"


@pytest.mark.parametrize("text", ["", "{}", "sh: curl: not found"])
def test_text_without_the_line_of_curl_is_refused(text: str) -> None:
    with pytest.raises(FactsError, match="expected the line that curl"):
        curl.parse(text)


WHOLE: list[tuple[Callable[[str], Facts], str]] = [
    (docker_inspect.parse, json.dumps([CONTAINER], indent=4)),
    (vllm.parse, METRICS),
    (haproxy.parse, STAT + STATE),
    (curl.parse, CURL),
]
FILLINGS = [
    "",
    "\x00",
    '"',
    "{",
    "}",
    "[[",
    ",",
    ' le="',
    "9" * 5000,
    "NaN",
    "\ud800",
    "é",
    "\n",
    "# ",
    "null",
    "1e999",
]


@settings(max_examples=400, deadline=None)
@given(
    which=st.integers(0, len(WHOLE) - 1),
    share=st.floats(0, 1),
    hole=st.sampled_from([0, 1, 5, 60]),
    filled=st.sampled_from(FILLINGS) | st.text(max_size=10),
    cut=st.booleans(),
)
def test_text_cut_anywhere_or_mangled_is_facts_or_a_facts_error(
    which: int, share: float, hole: int, filled: str, *, cut: bool
) -> None:
    parse, text = WHOLE[which]
    start = int(share * len(text))
    mangled = text[:start] + ("" if cut else filled + text[start + hole :])
    try:
        facts = parse(mangled)
    except FactsError as error:
        assert "expected" in str(error)  # noqa: PT017
    else:
        assert facts.model_dump_json()
