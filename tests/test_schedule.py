"""Schedules by an arbitrary clock: no tick twice, none forgotten but as the rule says, whatever the clock does."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.language.schedule import LATE, MOST, Cron, Missed, Schedule, readable, step

START = datetime(2026, 3, 1, 3, 0, 30, tzinfo=UTC)
MINUTE = timedelta(minutes=1)

EXPRESSIONS = st.sampled_from(
    ["* * * * *", "*/10 * * * *", "5,35 * * * *", "0 3 * * *", "30 2 * * 0", "0 0 1 * *", "*/7 1-4 * * 1-5"]
)
ZONES = st.sampled_from(
    [UTC, ZoneInfo("Europe/Berlin"), ZoneInfo("America/St_Johns"), ZoneInfo("Asia/Kathmandu")]
)
CRONS = st.builds(Cron, EXPRESSIONS, ZONES)
MISSED: st.SearchStrategy[Missed] = st.sampled_from(["skip", "once"])


@dataclass
class Kept:
    """What a store remembers of one schedule, and what was run at which time of the clock."""

    cron: Cron
    missed: Missed
    cursor: datetime
    ran: list[datetime] = field(default_factory=list)
    counted: int = 0

    def look(self, now: datetime) -> datetime | None:
        """Take one step, as the timetable does."""
        moved = step(self.cron, self.cursor, now, self.missed, self.ran.__contains__)
        self.cursor = moved.cursor
        self.counted += moved.missed
        if moved.tick is not None:
            self.ran.append(moved.tick)
        return moved.tick


def ticks(cron: Cron, since: datetime, until: datetime) -> Iterator[datetime]:
    """Yield the ticks of a span, one by one."""
    while (tick := cron.after(since)) is not None and tick <= until:
        yield tick
        since = tick


# ── what may be written ──
@pytest.mark.parametrize(
    "expression", ["*/10 * * * *", "0 3 * * 1-5", "0 0 29 2 *", "15 14 1 * *", "0 9 * * MON"]
)
def test_what_cron_reads_is_read(expression: str) -> None:
    assert readable(expression) == expression


@pytest.mark.parametrize(
    ("expression", "why"),
    [
        ("*/10 * * *", "five fields"),
        ("*/10 * * * * *", "five fields"),
        ("@hourly", "five fields"),
        ("", "five fields"),
        ("61 * * * *", "is no schedule"),
        ("* 24 * * *", "is no schedule"),
        ("*/0 * * * *", "is no schedule"),
        ("a b c d e", "is no schedule"),
        ("0 0 31 2 *", "never comes|is no schedule"),
    ],
)
def test_what_is_no_schedule_is_refused_with_why(expression: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        readable(expression)


@settings(deadline=None)
@given(st.text("0123456789*/-,#LWabcMON? ", max_size=30) | st.text(max_size=20))
def test_any_text_is_a_schedule_or_refused(text: str) -> None:
    try:
        expression = readable(text)
    except ValueError:
        return
    following = Cron(expression).after(START)
    assert following is None or following > START
    assert Cron(expression).words


# ── the steps ──
@settings(deadline=None)
@given(CRONS, MISSED, st.lists(st.timedeltas(timedelta(days=-800), timedelta(days=800)), max_size=30))
def test_however_a_clock_jumps_no_tick_is_run_twice_and_one_step_runs_one_at_most(
    cron: Cron, missed: Missed, jumps: list[timedelta]
) -> None:
    kept, now = Kept(cron, missed, START), START
    for jump in jumps:
        now += jump
        tick = kept.look(now)
        assert tick is None or (tick <= now and tick in set(ticks(cron, tick - MINUTE, tick)))
        assert kept.cursor <= now, "what is to come is never decided"
    assert len(kept.ran) == len(set(kept.ran))
    assert len(kept.ran) <= len(jumps)


@settings(deadline=None)
@given(CRONS, MISSED, st.lists(st.timedeltas(timedelta(seconds=1), LATE), min_size=5, max_size=200))
def test_while_somebody_looks_often_enough_each_tick_is_run_once_and_none_is_missed(
    cron: Cron, missed: Missed, pauses: list[timedelta]
) -> None:
    kept, now = Kept(cron, missed, START), START
    for pause in pauses:
        now += min(pause, timedelta(seconds=55))
        kept.look(now)
    assert kept.ran == list(ticks(cron, START, now))
    assert kept.counted == 0


@settings(deadline=None)
@given(CRONS, st.lists(st.timedeltas(timedelta(0), timedelta(days=3)), min_size=1, max_size=20))
def test_once_makes_up_for_each_gap_with_one_run_and_counts_the_rest(
    cron: Cron, gaps: list[timedelta]
) -> None:
    kept, now = Kept(cron, "once", START), START
    for gap in gaps:
        due = list(ticks(cron, kept.cursor, now + gap)) if gap < timedelta(hours=6) else None
        cursor, now = kept.cursor, now + gap
        tick = kept.look(now)
        newest = cron.latest(cursor, now)
        assert tick == newest
        if due is not None:
            assert tick == (due[-1] if due else None)


@settings(deadline=None)
@given(CRONS, st.lists(st.timedeltas(timedelta(0), timedelta(hours=5)), min_size=1, max_size=20))
def test_skip_runs_what_is_fresh_and_counts_exactly_what_it_let_go(cron: Cron, gaps: list[timedelta]) -> None:
    kept, now = Kept(cron, "skip", START), START
    for gap in gaps:
        due = list(ticks(cron, kept.cursor, now + gap))
        now, before = now + gap, kept.counted
        tick = kept.look(now)
        fresh = bool(due) and now - due[-1] <= LATE
        assert tick == (due[-1] if fresh else None)
        assert kept.counted - before == min(len(due), MOST) - fresh


@settings(deadline=None)
@given(CRONS, MISSED, st.timedeltas(timedelta(days=1), timedelta(days=3000)))
def test_a_clock_set_far_ahead_and_set_right_again_goes_on_with_the_next_tick(
    cron: Cron, missed: Missed, ahead: timedelta
) -> None:
    kept = Kept(cron, missed, START)
    kept.look(START + ahead)
    assert len(kept.ran) <= 1
    kept.look(START)
    following = cron.after(START)
    assert following is not None
    before = list(kept.ran)
    assert kept.look(following) == (None if following in before else following)


@settings(deadline=None)
@given(CRONS, MISSED, st.timedeltas(timedelta(0), timedelta(hours=3)))
def test_a_clock_set_back_runs_no_tick_again_and_then_goes_on(
    cron: Cron, missed: Missed, back: timedelta
) -> None:
    kept, now = Kept(cron, missed, START), START
    for _ in range(300):
        now += timedelta(seconds=50)
        kept.look(now)
    before = list(kept.ran)
    late, now = now, now - back
    while now < late + timedelta(hours=1):
        kept.look(now)
        now += timedelta(seconds=50)
    assert kept.ran[: len(before)] == before
    assert sorted(kept.ran) == list(ticks(cron, START, now - timedelta(seconds=50)))


@settings(deadline=None)
@given(CRONS, st.timedeltas(timedelta(0), timedelta(days=40)))
def test_the_newest_tick_of_a_span_is_the_last_of_all(cron: Cron, span: timedelta) -> None:
    until = START + span
    every = list(ticks(cron, START, until)) if span < timedelta(days=2) else None
    newest = cron.latest(START, until)
    if every is not None:
        assert newest == (every[-1] if every else None)
    elif newest is not None:
        following = cron.after(newest)
        assert START < newest <= until
        assert following is None or following > until


def test_years_away_cost_no_years_of_ticks() -> None:
    every_minute = Cron("* * * * *")
    moved = step(every_minute, START, START + timedelta(days=4000), "once", lambda _: False)
    assert moved.tick == (START + timedelta(days=4000)).replace(second=0)
    assert moved.missed == MOST - 1


def test_hours_are_read_in_the_zone_and_the_hour_that_comes_twice_runs_once() -> None:
    berlin = ZoneInfo("Europe/Berlin")
    night = Cron("30 2 * * *", berlin)
    before = datetime(2026, 10, 24, 12, tzinfo=UTC)
    autumn = list(ticks(night, before, before + timedelta(days=2)))
    assert [tick.astimezone(berlin).strftime("%d %H:%M") for tick in autumn] == ["25 02:30", "26 02:30"]
    spring = datetime(2026, 3, 28, 12, tzinfo=UTC)
    assert len(list(ticks(night, spring, spring + timedelta(days=2)))) == 2, (
        "02:30 that is left out comes all the same"
    )
    assert Cron("0 3 * * *", berlin).after(START) == datetime(2026, 3, 2, 2, 0, tzinfo=UTC)


@settings(deadline=None)
@given(st.timedeltas(timedelta(0), timedelta(minutes=30)), st.datetimes(timezones=st.just(UTC)))
def test_a_schedule_is_late_by_a_part_of_the_jitter_that_stays_the_same(
    jitter: timedelta, since: datetime
) -> None:
    one, other = Schedule("gpu-check", Cron("* * * * *")), Schedule("serving-check", Cron("* * * * *"))
    assert timedelta(0) <= one.offset(since, jitter) <= jitter
    assert one.offset(since, jitter) == Schedule("gpu-check", Cron("* * * * *")).offset(since, jitter)
    assert jitter < timedelta(seconds=1) or one.offset(since, jitter) != other.offset(since, jitter)
