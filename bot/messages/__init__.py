"""From state to what people read: neutral cards, with the words from `templates/` and the secrets taken out.

Everything here is a pure function of what was stored; whoever shows a card asks again and gets the newest state, so
no message is ever computed from an older message.
"""

from bot.messages.approval import DIGEST, approval_card, plan_card, plan_text, preview_card
from bot.messages.card import Card
from bot.messages.drains import drain_table
from bot.messages.glass import glass_card
from bot.messages.incident import again_card, incident_card
from bot.messages.listing import (
    help_card,
    host_table,
    incident_table,
    mishap_card,
    notice,
    refusal,
    refusal_card,
    run_table,
    runbook_table,
)
from bot.messages.progress import RunView
from bot.messages.report import report_card
from bot.messages.run import output_text, output_wanted, run_card
from bot.messages.schedules import ScheduleRow, schedule_table
from bot.messages.standstill import standstill_card
from bot.messages.words import say
from bot.secrets.mask import Mask

__all__ = [
    "DIGEST",
    "Card",
    "Mask",
    "RunView",
    "ScheduleRow",
    "again_card",
    "approval_card",
    "drain_table",
    "glass_card",
    "help_card",
    "host_table",
    "incident_card",
    "incident_table",
    "mishap_card",
    "notice",
    "output_text",
    "output_wanted",
    "plan_card",
    "plan_text",
    "preview_card",
    "refusal",
    "refusal_card",
    "report_card",
    "run_card",
    "run_table",
    "runbook_table",
    "say",
    "schedule_table",
    "standstill_card",
]
