"""The plain step: `run:` with a command of the runbook's own.

The only thing known of it is its exit code, and what the parser that the step names makes of its output.
"""

from typing import Any

from bot.effect import Command, Finished
from bot.facts import FactsError
from bot.facts.registry import PARSERS
from bot.language import template
from bot.language.runbook import Step
from bot.steps.answer import NOT_FOUND, last_line, words
from bot.steps.kind import CannotPlan, Context, Effect, Judgement


def plan(step: Step, context: Context) -> Effect:
    """Fill in the command; whether it changes the host is for the caller, who knows the runbook.

    Raises:
        CannotPlan: when the step has no command.
        TemplateError: for a value that is unknown or stands where none may.

    """
    if step.run is None:
        raise CannotPlan(f"step {step.id} has no `run`")
    text, env = template.command(step.run, context)
    timeout = step.timeout.total_seconds()
    return Effect(Command(text, env, timeout=timeout, mutating=step.mutates is True))


def judge(step: Step, answer: Finished, _context: Context) -> Judgement:
    """Say whether the command did well, and read its output."""
    facts, trouble = _parsed(step, answer)
    if answer.exit_code != 0:
        advice = "give the program's full path" if answer.exit_code == NOT_FOUND else ""
        return Judgement(ok=False, summary=words(answer), facts=facts, advice=advice)
    if trouble is not None:
        return Judgement(ok=False, summary=trouble.what, facts=facts, advice=trouble.advice)
    return Judgement(ok=True, summary=last_line(answer.stdout) or "done, and printed nothing", facts=facts)


def _parsed(step: Step, answer: Finished) -> tuple[dict[str, Any], FactsError | None]:
    """Return the facts, or why there are none."""
    if step.parse is None:
        return {}, None
    if answer.stdout.cut:
        kept, total = len(answer.stdout.data), answer.stdout.total
        why = f"only {kept} of {total} bytes were kept"
        return {}, FactsError(f"output that `{step.parse}` can read whole", "", why=why)
    parser = PARSERS.get(step.parse)
    if parser is None:
        known = ", ".join(sorted(PARSERS))
        return {}, FactsError(f"one of the parsers {known}", "", why=f"the step names {step.parse}")
    try:
        return parser(answer.stdout.text).model_dump(mode="json"), None
    except FactsError as error:
        return {}, error
