"""The clock as somebody who asks: ticks of schedules become runs, and what those runs find becomes alerts.

A scheduled run speaks to nobody. What it finds is told as an alert of Sickbay's own: routes, incidents and their ends are
then those of any alert.

timetable      which ticks are due, and the runs that they start
harvest        what such a run saw, held against what was found and doubted before
sight          what a run saw of each host: pure
"""

from bot.timetable.timetable import Rules, Timetable

__all__ = ["Rules", "Timetable"]
