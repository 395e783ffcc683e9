"""A pretend Slack: Web API, Socket Mode and a page that looks like a channel, for the demo and the tests.

The real slack-bolt app talks to it without knowing. It is strict where Slack is strict (every block, every limit,
every expiry), because a message Slack refuses is a message nobody sees. It was built from Slack's documentation and
never compared with Slack itself: passing here does not prove that Slack accepts it.
"""

from bot.sim.slack.loop_thread import PretendSlackThread
from bot.sim.slack.server import PretendSlack
from bot.sim.slack.socket_mode import Delivery
from bot.sim.slack.workspace import BOT_USER, File, Message, User, View

__all__ = ["BOT_USER", "Delivery", "File", "Message", "PretendSlack", "PretendSlackThread", "User", "View"]
