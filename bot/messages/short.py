"""Writing things short: durations, long lines, the tail of an output."""

from datetime import timedelta

from bot.wording import count

TAIL = 15
"""Lines of an output that are shown in a message; longer ones go into a file."""


def took(duration: timedelta) -> str:
    """Write a duration with the one or two units that matter."""
    seconds = duration.total_seconds()
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    if seconds < 59.5:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    return f"{hours // 24} days"


def cut(text: str, most: int) -> str:
    """Cut a text to a number of characters, visibly."""
    return text if len(text) <= most else f"{text[: max(0, most - 1)]}…"


def line(text: str, most: int = 200) -> str:
    """Return a text as one line of bounded length."""
    return cut(" ".join(text.split()), most)


def tail(text: str, lines: int = TAIL) -> str:
    """Return the last lines of an output, and say how many stand before them."""
    every = text.rstrip().splitlines()
    left = len(every) - lines
    if left <= 0:
        return "\n".join(every)
    return "\n".join([f"… {count(left, 'line')} before this, see the file", *every[left:]])
