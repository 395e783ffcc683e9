"""What all step kinds read out of an answer: how the command ended, its last words, a program that is not there."""

from dataclasses import replace

from bot.effect import Finished, Output
from bot.printable import clean
from bot.steps.kind import Judgement
from bot.verdict import Verdict

LONGEST = 300
"""Characters of a host's words that a summary repeats."""

NOT_FOUND = 127
"""The shell's exit code for a program it cannot find."""


def last_line(output: Output) -> str:
    """Return the last line that says something, shortened."""
    return last_of(output.text)


def last_of(text: str) -> str:
    """Return the last line of a text that says something, shortened, without control characters."""
    lines = reversed(text.replace("\r", "\n").split("\n"))  # only what is shown is cleaned: outputs are long
    line = next((said for line in lines if (said := clean(line).strip())), "")
    return line if len(line) <= LONGEST else line[: LONGEST - 1] + "…"


def ending(answer: Finished) -> str:
    """Say how the command ended: `exit code 3`, `killed by KILL`."""
    if answer.exit_code is None:
        return f"killed by {answer.signal or 'a signal'}"
    return f"exit code {answer.exit_code}"


def words(answer: Finished) -> str:
    """Say how it ended and what it said last: `exit code 1: no such container`."""
    said = last_line(answer.stderr) or last_line(answer.stdout)
    return f"{ending(answer)}: {said}" if said else ending(answer)


def absent(program: str) -> Judgement:
    """Judge a check whose program the host does not have: nothing is known."""
    return unknown(
        f"{program} is not installed here, or not on the PATH of an SSH command",
        f"install {program}, or make it known to non-interactive logins",
    )


def unknown(summary: str, advice: str) -> Judgement:
    """Judge a check that was made and tells nothing."""
    return Judgement(ok=True, summary=summary, verdict=Verdict.UNKNOWN, advice=advice)


def believed(judgement: Judgement, answer: Finished) -> Judgement:
    """Take back what is good in a judgement when the command did not end well: who knows what it left out."""
    if answer.exit_code == 0 or judgement.verdict not in (None, Verdict.HEALTHY):
        return judgement
    summary = f"{judgement.summary}; but the command ended with {ending(answer)}"
    return replace(judgement, summary=summary, verdict=Verdict.UNKNOWN, advice="run it by hand on that host")
