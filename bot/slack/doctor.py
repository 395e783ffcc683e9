"""Is Slack set up right? Each thing looked at, in plain words, with what to do about it."""

from collections.abc import Collection

import aiohttp
from slack_sdk.errors import SlackApiError
from slack_sdk.web.async_client import AsyncWebClient

from bot.config.settings import SlackSection
from bot.config.tokens import Secrets
from bot.runs.approval import Person
from bot.slack.client import client, error_of
from bot.slack.door import shown
from bot.slack.manifest import SCOPES

Check = tuple[bool, str, str]
"""Is it well, what was looked at, and what to do if not."""
_PAGES = 10


async def checks(settings: SlackSection, secrets: Secrets, people: Collection[Person] = ()) -> list[Check]:
    """Look at tokens, scopes, the channel, the way in, and those who may decide; changes nothing."""
    slack = client(shown(secrets.slack_bot_token), settings.base_url)
    try:
        found = await _token(slack, _wanted(settings))
        if found[0][0]:
            found.append(await _channel(slack, settings.channel))
            if settings.transport == "socket":
                found.append(await _socket(slack, shown(secrets.slack_app_token)))
            found += [await _group(slack, *one) for one in settings.usergroups.items()]
            found += [check for one in people if (check := await _person(slack, one)) is not None]
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        reason = str(error) or type(error).__name__
        return [
            (
                False,
                f"{settings.base_url} cannot be reached: {reason}",
                "check the network, proxy and firewall",
            )
        ]
    return found


def _wanted(settings: SlackSection) -> list[str]:
    """Return the scopes that this configuration needs: an app that was installed before user groups were may stay."""
    return [scope for scope in SCOPES if settings.usergroups or scope != "usergroups:read"]


async def _token(slack: AsyncWebClient, scopes: Collection[str]) -> list[Check]:
    try:
        answer = await slack.auth_test()
    except SlackApiError as error:
        advice = "copy the Bot User OAuth Token (xoxb-…) of the installed app into SLACK_BOT_TOKEN"
        return [(False, f"the bot token is refused: {error_of(error)}", advice)]
    found: list[Check] = [(True, f"signed in to {answer.get('team')} as @{answer.get('user')}", "")]
    headers = {name.lower(): value for name, value in answer.headers.items()}
    if "x-oauth-scopes" not in headers:
        return [*found, (False, "Slack does not say which scopes the token has", "install the app again")]
    granted = {scope.strip() for scope in str(headers["x-oauth-scopes"]).split(",")}
    missing = [scope for scope in scopes if scope not in granted]
    if not missing:
        return [*found, (True, f"all {len(scopes)} scopes are granted", "")]
    wanted = "\n".join(f"{scope}: to {SCOPES[scope]}" for scope in missing)
    advice = f"{wanted}\nAdd them (`sickbay slack manifest` has them all) and install the app again."
    return [*found, (False, f"scopes are missing: {', '.join(missing)}", advice)]


async def _channel(slack: AsyncWebClient, called: str) -> Check:
    invite = f"write `/invite @sickbay` in {called}"
    try:
        channel = await _find(slack, called)
    except SlackApiError as error:
        return (False, f"channel {called}: {error_of(error)}", "check `slack: channel:` in sickbay.yaml")
    if channel is None:
        return (False, f"there is no channel {called} that the bot can see", f"if it is private, {invite}")
    if channel.get("is_archived"):
        return (False, f"channel {called} is archived", "name another under `slack: channel:`")
    if not channel.get("is_member"):
        return (False, f"the bot is not in channel {called}", invite)
    return (True, f"the bot is in channel #{channel.get('name')}", "")


async def _find(slack: AsyncWebClient, called: str) -> dict[str, object] | None:
    name = called.removeprefix("#")
    try:
        channel: dict[str, object] = (await slack.conversations_info(channel=name))["channel"]
    except SlackApiError as error:
        if error_of(error) != "channel_not_found":
            raise
    else:
        return channel
    cursor = None
    for _ in range(_PAGES):
        answer = await slack.conversations_list(
            types="public_channel,private_channel", limit=1000, cursor=cursor
        )
        for one in answer.get("channels") or []:
            if one.get("name") == name:
                return dict(one)
        cursor = (answer.get("response_metadata") or {}).get("next_cursor")
        if not cursor:
            break
    return None


async def _group(slack: AsyncWebClient, group: str, roles: Collection[str]) -> Check:
    """Does a user group give anybody the roles it should?"""
    where = f"user group {group} ({', '.join(roles)})"
    try:
        users = (await slack.usergroups_users_list(usergroup=group)).get("users") or []
    except SlackApiError as error:
        advice = "nobody has a role by it now; check its id under `slack: usergroups:`, and the scope usergroups:read"
        return (False, f"{where}: {error_of(error)}", advice)
    if not users:
        return (False, f"{where} has no members", "add people to it in Slack, or take it out")
    return (True, f"{where}: {len(users)} people", "")


async def _person(slack: AsyncWebClient, person: Person) -> Check | None:
    """Is somebody under `people:` still a user? None when all is well, or nothing is said of Slack."""
    if not person.slack:
        return None
    who = f"{person.name} ({person.slack})"
    advice = "take them out of `people:`, or correct the id: in Slack, profile, …, Copy member ID"
    try:
        user = (await slack.users_info(user=person.slack)).get("user") or {}
    except SlackApiError as error:
        return (False, f"{who}: {error_of(error)}", advice)
    return (False, f"{who} is deactivated in Slack", advice) if user.get("deleted") else None


async def _socket(slack: AsyncWebClient, token: str) -> Check:
    advice = (
        "make an app-level token (xapp-…) with the scope connections:write and put it into SLACK_APP_TOKEN"
    )
    if not token:
        return (False, "SLACK_APP_TOKEN is not set", advice)
    try:
        await slack.apps_connections_open(app_token=token)
    except SlackApiError as error:
        return (False, f"Socket Mode is refused: {error_of(error)}", advice)
    return (True, "Socket Mode opens", "")
