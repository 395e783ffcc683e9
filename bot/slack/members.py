"""What Slack says of its own users: does the account still exist, is it of our workspace, which user groups is it in?

Asked from worker threads when somebody wants to do something, so with a client that blocks, for a few seconds at most.
What Slack said holds for a minute, so a click is judged by what was so a minute ago at the most. What it does not
say is unknown, and is not kept. A Slack that is silent is left alone for a few seconds, so that many clicks do not
wait one behind the other.
"""

import threading
import time
from collections.abc import Callable, Collection, Mapping
from http.client import HTTPException
from typing import Any

from slack_sdk import WebClient
from slack_sdk.errors import SlackApiError, SlackClientError

from bot.config.settings import SlackSection
from bot.config.tokens import Secrets
from bot.people.authority import Member
from bot.slack.client import brief_client, error_of, wait_of

LIFE = 60.0
"""Seconds that an answer holds."""
_REST = 5.0
"""Seconds for which a method is left alone after it gave no answer."""
_NOBODY = {"user_not_found", "user_not_visible", "users_not_found"}


class _Silent(Exception):
    """Slack did not say; the text is why."""


class _Nobody(Exception):
    """Slack knows no such user."""


class SlackMembers:
    """Asks Slack, and remembers for a short while."""

    def __init__(
        self,
        client: WebClient,
        groups: Collection[str] = (),
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`groups` are the ids of the user groups that give a role."""
        self._client = client
        self._groups = tuple(groups)
        self._clock = clock
        self._lock = threading.Lock()
        self._kept: dict[tuple[str, ...], tuple[float, Mapping[str, Any]]] = {}
        self._resting: dict[str, tuple[float, str]] = {}

    def of(self, users: Collection[str]) -> Mapping[str, Member]:
        """Return what Slack says of each of these user ids; never raises."""
        with self._lock:
            return {user: self._member(user) for user in users}

    def _member(self, user: str) -> Member:
        try:
            info: Mapping[str, Any] = self._said("users.info", user=user)["user"]
            deleted, team = info["deleted"], info["team_id"]
            ours = self._said("auth.test")["team_id"]
        except _Silent as silent:
            return Member("unknown", untold=frozenset(self._groups), why=str(silent))
        except _Nobody:
            return Member("gone", why="is nobody that Slack knows")
        except KeyError as error:
            why = f"its answer lacks {error}"
            return Member("unknown", untold=frozenset(self._groups), why=why)
        if deleted:
            return Member("gone", why="is deactivated in Slack")
        if team != ours:
            return Member("foreign")
        return self._grouped(user)

    def _grouped(self, user: str) -> Member:
        inside, untold, why = set(), set(), ""
        for group in self._groups:
            try:
                users = self._said("usergroups.users.list", usergroup=group).get("users")
            except (_Silent, _Nobody) as silent:
                untold.add(group)
                why = str(silent)
                continue
            if user in (users or ()):
                inside.add(group)
        return Member("active", frozenset(inside), frozenset(untold), why)

    def _said(self, method: str, **arguments: str) -> Mapping[str, Any]:
        """Return Slack's answer, kept or new."""
        key = (method, *arguments.values())
        now = self._clock()
        kept = self._kept.get(key)
        if kept is not None and now < kept[0]:
            return kept[1]
        until, why = self._resting.get(method, (0.0, ""))
        if now < until:
            raise _Silent(why)
        try:
            answer = self._client.api_call(method, http_verb="GET", params=arguments)
        except SlackApiError as error:
            raise self._refused(method, error, now) from error
        except (SlackClientError, HTTPException, OSError, ValueError) as error:
            why = f"it cannot be reached: {getattr(error, 'reason', None) or error or type(error).__name__}"
            self._resting[method] = (self._clock() + _REST, why)
            raise _Silent(why) from error
        data: dict[str, Any] = answer.data if isinstance(answer.data, dict) else {}
        self._kept = {one: held for one, held in self._kept.items() if held[0] > now}
        self._kept[key] = (now + LIFE, data)
        return data

    def _refused(self, method: str, error: SlackApiError, now: float) -> Exception:
        word = error_of(error) or "no answer"
        if method == "users.info" and word in _NOBODY:
            return _Nobody(word)
        wait = wait_of(error)
        why = f"{method}: {word}"
        if wait is not None:
            self._resting[method] = (now + wait, why)
        return _Silent(why)


def members_of(settings: SlackSection, secrets: Secrets) -> SlackMembers:
    """Return whoever asks the Slack of a configuration."""
    token = secrets.slack_bot_token
    text = token.get_secret_value() if token is not None else ""
    return SlackMembers(brief_client(text, settings.base_url), settings.usergroups)
