"""`GET /metrics` of vLLM: whether it makes progress.

`/health` only reads an error flag: it says 200 while the engine hangs. What cannot lie is whether tokens come out:
two readings some time apart, `running` above 0 and the counters unchanged, is a stall. Counters are summed over the
engines of one server; renamed metrics are read under both names.
"""

import math
from collections.abc import Iterable

from prometheus_client.parser import text_string_to_metric_families

from bot.facts import Facts, FactsError, bounded

EXPECTED = "vLLM's metrics (`vllm:…` in Prometheus text)"
LARGEST = 8 * 1024 * 1024
MOST_MODELS = 100


class Vllm(Facts):
    """One reading of one vLLM server."""

    models: tuple[str, ...]
    running: int | None
    """Requests in the batch now."""
    waiting: int | None
    generation_tokens: int | None
    """Tokens produced so far."""
    prompt_tokens: int | None
    iterations: int | None
    """Steps of the engine so far."""
    kv_cache_usage: float | None
    """Fullest engine, 0 to 1."""
    preemptions: int | None
    finished: int | None
    """Requests answered so far."""


def parse(text: str) -> Vllm:
    """Read one scrape.

    Raises:
        FactsError: when it is not Prometheus text, is cut, or holds no metric of vLLM.

    """
    text = bounded(text, EXPECTED, LARGEST)
    if "vllm:" not in text:
        raise FactsError(EXPECTED, text)
    text = text[: text.rfind("\n") + 1]  # a last line without its end may be half a number
    values: dict[str, list[float]] = {}
    models: set[str] = set()
    try:
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if sample.name.startswith("vllm:") and not sample.name.endswith("_bucket"):
                    values.setdefault(sample.name, []).append(float(sample.value))
                    models.add(sample.labels.get("model_name", ""))
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, OverflowError) as error:
        raise FactsError(EXPECTED, text, why=f"a line is cut or damaged: {error}") from error
    return Vllm(
        models=tuple(sorted(models - {""})[:MOST_MODELS]),
        running=_sum(values.get("vllm:num_requests_running")),
        waiting=_sum(values.get("vllm:num_requests_waiting")),
        generation_tokens=_sum(values.get("vllm:generation_tokens_total")),
        prompt_tokens=_sum(values.get("vllm:prompt_tokens_total")),
        iterations=_sum(values.get("vllm:iteration_tokens_total_count")),
        kv_cache_usage=_most(
            values.get("vllm:kv_cache_usage_perc") or values.get("vllm:gpu_cache_usage_perc") or ()
        ),
        preemptions=_sum(values.get("vllm:num_preemptions_total")),
        finished=_sum(values.get("vllm:request_success_total")),
    )


def _sum(values: list[float] | None) -> int | None:
    """Return the total; one reading that is no number makes it unknown."""
    if not values or not all(math.isfinite(value) and abs(value) < 2**63 for value in values):
        return None
    return round(sum(values))


def _most(values: Iterable[float]) -> float | None:
    return max((value for value in values if math.isfinite(value)), default=None)
