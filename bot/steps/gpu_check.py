"""`gpu.check`: are all GPUs there, and is each of them fit to work?

One `nvidia-smi -q -x` answers it. Whatever nvidia-smi says, or its exit code, is a finding about the host and never a
failure of the step: a machine whose driver is gone is exactly what was looked for.
"""

from collections import Counter
from collections.abc import Iterator
from typing import Any

from pydantic import Field

from bot.effect import Command, Finished
from bot.facts import FactsError, gpu_verdict, nvidia_smi
from bot.facts.gpu_verdict import Action, Reason
from bot.facts.nvidia_smi import NvidiaSmi
from bot.language.inputs import Noun
from bot.steps.answer import NOT_FOUND, absent, ending, unknown, words
from bot.steps.kind import CannotPlan, Context, Effect, Judgement, Kind
from bot.verdict import Verdict, worst

TIMEOUT = 45.0
"""A driver that is unwell answers late; one that is gone does not answer at all."""

_EXIT_CODES: dict[int, tuple[str, Action]] = {
    4: ("the driver may not be used by this login", "ask a person"),
    8: ("a GPU's external power is not attached", "replace"),
    9: ("the NVIDIA driver is not loaded", "reboot"),
    10: ("the driver sees an interrupt problem of a GPU", "reboot"),
    12: ("the NVML library was not found or does not fit", "ask a person"),
    14: ("an infoROM is corrupted", "ask a person"),
    15: ("a GPU has fallen off the bus", "reboot"),
}
"""What nvidia-smi's manual says of its exit codes, and what helps."""


class Arguments(Noun):
    """What stands under `with`."""

    expected: int | None = Field(
        None, ge=0, le=256, description="how many GPUs there should be; else `host.vars.gpus`"
    )


def plan(_arguments: Arguments, context: Context) -> Effect:
    """Ask nvidia-smi for everything."""
    written = _written(context)
    if written is not None and (isinstance(written, bool) or not isinstance(written, int)):
        raise CannotPlan(
            f"`vars.gpus` of {context['host']['name']} is not a whole number: {written!r}",
            advice="write how many GPUs it has, like `vars: {gpus: 8}`",
        )
    return Effect(Command("nvidia-smi -q -x", timeout=TIMEOUT))


def judge(arguments: Arguments, answer: Finished, context: Context) -> Judgement:
    """Judge every GPU, and the host by the worst of them and by their number."""
    if answer.exit_code == NOT_FOUND:
        return absent("nvidia-smi")
    if answer.stdout.cut:
        return unknown("nvidia-smi printed more than is kept", "run it by hand on that host")
    try:
        facts = nvidia_smi.parse(f"{answer.stdout.text}\n{answer.stderr.text}")
    except FactsError as error:
        if answer.exit_code in _EXIT_CODES:
            text, action = _EXIT_CODES[answer.exit_code]
            summary = f"nvidia-smi: {text} → {action}"
            return Judgement(ok=True, summary=summary, verdict=Verdict.UNHEALTHY, advice=words(answer))
        return unknown(
            f"nvidia-smi ended with {words(answer)}" if answer.exit_code != 0 else error.what, error.advice
        )
    expected = arguments.expected if arguments.expected is not None else _written(context)
    found = gpu_verdict.judge(facts, expected)
    reasons = (*found.reasons, *_of_exit_code(answer, found))
    verdict = worst([found.verdict, *(reason.verdict for reason in reasons)])
    lines = list(_lines(found, reasons))
    return Judgement(
        ok=True,
        summary=_summary(facts, verdict, lines),
        verdict=verdict,
        facts=_facts(facts, found, reasons, expected),
        advice="\n".join(lines[1:]),
    )


KIND = Kind(
    says="Judges every GPU of the host by `nvidia-smi`, and counts them.",
    arguments=Arguments,
    plan=plan,
    judge=judge,
)


def _written(context: Context) -> Any:
    return context["host"]["vars"].get("gpus")


def _of_exit_code(answer: Finished, found: gpu_verdict.Judgement) -> Iterator[Reason]:
    """An exit code that says more than the text does; a complaint of the text has said it already."""
    if answer.exit_code == 0 or found.verdict is Verdict.UNHEALTHY:
        return
    if answer.exit_code in _EXIT_CODES:
        text, action = _EXIT_CODES[answer.exit_code]
        yield Reason(text=f"nvidia-smi's exit code says: {text}", action=action, verdict=Verdict.UNHEALTHY)
    else:
        yield Reason(
            text=f"nvidia-smi ended with {ending(answer)}", action="ask a person", verdict=Verdict.UNKNOWN
        )


def _lines(found: gpu_verdict.Judgement, reasons: tuple[Reason, ...]) -> Iterator[str]:
    """Every reason as a sentence, the grave ones first."""
    weight = {Verdict.UNHEALTHY: 0, Verdict.UNKNOWN: 1, Verdict.HEALTHY: 2}
    of_host = [(weight[reason.verdict], f"{reason.text} → {reason.action}") for reason in reasons]
    of_gpus = [
        (
            weight[reason.verdict],
            f"GPU {gpu.index}{f' ({gpu.uuid})' if gpu.uuid else ''}: {reason.text} → {reason.action}",
        )
        for gpu in found.gpus
        for reason in gpu.reasons
    ]
    return (line for _, line in sorted([*of_host, *of_gpus], key=lambda each: each[0]))


def _summary(facts: NvidiaSmi, verdict: Verdict, lines: list[str]) -> str:
    names = Counter((gpu.name or "GPU of unknown make").removeprefix("NVIDIA ") for gpu in facts.gpus)
    seen = ", ".join(f"{count} × {name}" for name, count in names.items()) or "no GPU answers"
    more = f"; and {len(lines) - 1} more" if len(lines) > 1 else ""
    if verdict is Verdict.HEALTHY:
        return f"{seen}, all healthy" + (f"; {lines[0]}{more}" if lines else "")
    return f"{lines[0]}{more} ({seen})" if lines else seen


def _facts(
    facts: NvidiaSmi, found: gpu_verdict.Judgement, reasons: tuple[Reason, ...], expected: int | None
) -> dict[str, Any]:
    judged = {gpu.index: gpu for gpu in found.gpus}
    return {
        "count": len(facts.gpus),
        "expected": expected,
        "driver_version": facts.driver_version,
        "reasons": [reason.model_dump(mode="json") for reason in reasons],
        "gpus": [
            {
                "index": gpu.index,
                "uuid": gpu.uuid,
                "serial": gpu.serial,
                "bus_id": gpu.bus_id,
                "name": gpu.name,
                "temperature_c": gpu.temperature_c,
                "memory_used_mib": gpu.memory_used_mib,
                "memory_total_mib": gpu.memory_total_mib,
                "utilization": gpu.utilization,
                "verdict": str(judged[gpu.index].verdict),
                "reasons": [reason.model_dump(mode="json") for reason in judged[gpu.index].reasons],
            }
            for gpu in facts.gpus
        ],
    }
