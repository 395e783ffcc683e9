"""Is Slack set up right? Each thing looked at, in plain words, with what to do about it."""

import aiohttp
from slack_sdk.errors import SlackApiError
from slack_sdk.web.async_client import AsyncWebClient

from bot.settings import Secrets, SlackSection
from bot.slack.client import client, error_of
from bot.slack.door import shown
from bot.slack.manifest import SCOPES

Check = tuple[bool, str, str]
"""Is it well, what was looked at, and what to do if not."""
_PAGES = 10


async def checks(settings: SlackSection, secrets: Secrets) -> list[Check]:
    """Look at tokens, scopes, the channel and the way in; changes nothing."""
    slack = client(shown(secrets.slack_bot_token), settings.base_url)
    try:
        found = await _token(slack)
        if found[0][0]:
            found.append(await _channel(slack, settings.channel))
            if settings.transport == "socket":
                found.append(await _socket(slack, shown(secrets.slack_app_token)))
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


async def _token(slack: AsyncWebClient) -> list[Check]:
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
    missing = [scope for scope in SCOPES if scope not in granted]
    if not missing:
        return [*found, (True, f"all {len(SCOPES)} scopes are granted", "")]
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
