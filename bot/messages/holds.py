"""What a run that has ended in doubt still holds, as people read it, and who let it go."""

from bot.fleet import named
from bot.messages.card import Words
from bot.messages.progress import RunView
from bot.messages.words import say


def holds(view: RunView) -> list[Words]:
    """Say which hosts a run keeps from being changed and how that ends; or that it has ended."""
    steps: dict[str, list[str]] = {}
    for one in view.held:
        steps.setdefault(one.step, []).append(one.what)
    lines = [say("run.holds", hosts=named(hosts), step=step, id=view.run.id) for step, hosts in steps.items()]
    for event in view.released:
        said = {name: event.data.get(name, "") for name in ("by", "reason")}
        lines.append(say("run.released", hosts=named(event.data.get("hosts", ())), at=event.at, **said))
    return lines
