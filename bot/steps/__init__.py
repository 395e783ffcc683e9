"""The words of the runbook language: what `uses:` may name.

Each kind is a file of two pure functions, see `kind`; a plain `run:` is `shell`.
"""

from bot.steps import (
    boot,
    capture,
    gpu_check,
    haproxy_state,
    http,
    llm_completion,
    serving_ready,
    vllm_progress,
)
from bot.steps.docker import INSPECT_KIND, RESTART_KIND
from bot.steps.haproxy_change import DRAIN_KIND, MAINTENANCE_KIND, UNDRAIN_KIND
from bot.steps.kind import Kind

KINDS: dict[str, Kind] = {
    "docker.inspect": INSPECT_KIND,
    "docker.restart": RESTART_KIND,
    "gpu.check": gpu_check.KIND,
    "haproxy.drain": DRAIN_KIND,
    "haproxy.maintenance": MAINTENANCE_KIND,
    "haproxy.state": haproxy_state.KIND,
    "haproxy.undrain": UNDRAIN_KIND,
    "host.boot": boot.KIND,
    "host.capture": capture.KIND,
    "http.check": http.KIND,
    "llm.completion": llm_completion.KIND,
    "serving.ready": serving_ready.KIND,
    "vllm.progress": vllm_progress.KIND,
}
