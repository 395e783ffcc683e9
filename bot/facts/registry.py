"""Which parser a runbook's `parse:` names."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from bot.facts import Facts, curl, docker_inspect, haproxy, kernel_log, nvidia_smi, vllm

PARSERS: Mapping[str, Callable[[str], Facts]] = MappingProxyType(
    {
        "curl": curl.parse,
        "docker_inspect": docker_inspect.parse,
        "haproxy": haproxy.parse,
        "kernel_log": kernel_log.parse,
        "nvidia_smi": nvidia_smi.parse,
        "vllm": vllm.parse,
    }
)
