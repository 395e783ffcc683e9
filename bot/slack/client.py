"""The one place where Slack clients are made, so that none of them ever speaks to another address or without a limit.

Three tempers: a patient one for answers to people, which retries by itself; a plain one for the outbox, which has to
see every refusal: it must not post twice when a connection broke, and a wait for one message must not hold up others;
and a brief one for worker threads that ask who somebody is while that somebody waits.
What is posted is masked once more here, whoever wrote it.
"""

from typing import Any

from slack_sdk import WebClient
from slack_sdk.errors import SlackApiError
from slack_sdk.http_retry.builtin_async_handlers import (
    AsyncConnectionErrorRetryHandler,
    AsyncRateLimitErrorRetryHandler,
    AsyncServerErrorRetryHandler,
)
from slack_sdk.web.async_client import AsyncWebClient
from slack_sdk.web.async_slack_response import AsyncSlackResponse

from bot.secrets.mask import Mask

SLACK = "https://slack.com/api/"
_TIMEOUT = 15
_BRIEF = 3


class _Masked(AsyncWebClient):
    """A client whose every request leaves without secrets, but for the token that it calls with."""

    mask: Mask

    async def api_call(
        self, api_method: str, *, params: Any = None, json: Any = None, **more: Any
    ) -> AsyncSlackResponse:
        """Call a method of the Web API."""
        kept = {"token": params["token"]} if params and "token" in params else {}
        params = params and {**self.mask.over(params), **kept}
        return await super().api_call(api_method, params=params, json=self.mask.over(json), **more)


def client(
    token: str, base_url: str = SLACK, *, patient: bool = True, mask: Mask | None = None
) -> AsyncWebClient:
    """Return a client; `base_url` may point at a pretend Slack."""
    handlers: list[Any] = []
    if patient:
        handlers = [
            AsyncConnectionErrorRetryHandler(max_retry_count=1),
            AsyncRateLimitErrorRetryHandler(max_retry_count=2),
            AsyncServerErrorRetryHandler(max_retry_count=2),
        ]
    made = _Masked(
        token=token,
        base_url=base_url if base_url.endswith("/") else f"{base_url}/",
        timeout=_TIMEOUT,
        retry_handlers=handlers,
    )
    made.mask = mask or Mask()
    return made


def brief_client(token: str, base_url: str = SLACK) -> WebClient:
    """Return a client that blocks, for a few seconds at most, and tries once."""
    base_url = base_url if base_url.endswith("/") else f"{base_url}/"
    return WebClient(token=token, base_url=base_url, timeout=_BRIEF, retry_handlers=[])


def error_of(error: SlackApiError) -> str:
    """Return Slack's word for what is wrong, such as `channel_not_found`; empty when it gave none."""
    try:
        return str(error.response.get("error") or "")
    except (AttributeError, ValueError):
        return ""


def wait_of(error: SlackApiError) -> float | None:
    """Return the seconds that Slack wants to be left alone; None when it is not about that."""
    response = error.response
    if getattr(response, "status_code", 0) != 429 and error_of(error) != "ratelimited":
        return None
    headers = getattr(response, "headers", None) or {}
    value = next((value for name, value in headers.items() if name.lower() == "retry-after"), None)
    value = value[0] if isinstance(value, list) else value
    return float(value) if value is not None and str(value).isdigit() else 1.0
