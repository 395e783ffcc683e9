"""Reads from the store what messages show: for Slack, the terminal, the answers of the desk, and tests of runbooks."""

from bot.incident import Incident
from bot.messages import RunView, output_wanted
from bot.messages.progress import wrong
from bot.runs.approval import BROKEN
from bot.runs.record import Record
from bot.runs.run import Run
from bot.store import Store
from bot.store.holds import RELEASED

_OUTPUTS = 10
"""Outputs that are read for one message; all of them go into the file."""


def run_view(store: Store, run: Run) -> RunView:
    """Read all that a run's message shows; outputs only once it has ended, of what went wrong."""
    record = Record(store.attempts.of(run.id))
    outputs: dict[str, str] = {}
    if run.state.ended:
        bad = wrong(RunView(run, record))
        for attempt in [one for one in bad if output_wanted(one)][:_OUTPUTS]:
            streams = store.attempts.output(attempt)
            outputs[attempt.key] = "\n".join(stream.text.rstrip("\n") for stream in streams if stream.total)
    broken = store.timeline.of(run=run.id, kind=BROKEN)
    drains = store.drains.kept(run.id) if run.state.ended else []
    approval = store.approvals.get(run.id)
    held = store.holds.of(run.id) if run.state.ended else []
    released = store.timeline.of(run=run.id, kind=RELEASED) if run.state.ended else []
    return RunView(
        run,
        record,
        approval,
        outputs,
        broken=tuple(broken),
        drains=drains,
        held=held,
        released=released,
    )


def incident_views(store: Store, incident: Incident) -> list[RunView]:
    """Read an incident's runs, oldest first."""
    runs = [store.runs.get(run_id) for run_id in store.incidents.runs(incident.id)]
    return [run_view(store, run) for run in runs if run is not None]
