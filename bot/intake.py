"""Reading alerts from monitors' own formats.

One invalid alert in a body is reported and does not sink the others. The Alertmanager form is its webhook payload,
version 4 (prometheus.io/docs/alerting/latest/configuration/#webhook_config).
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, AwareDatetime, BaseModel, Field, ValidationError

from bot.alert import Alert


def _utf8(text: str) -> str:
    r"""Refuse half of a character (`\ud800`), which JSON can spell and no database can keep."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError("not UTF-8") from error
    return text


Text = Annotated[str, AfterValidator(_utf8)]
Labels = dict[Text, Text]


class Unreadable(ValueError):
    """The body as a whole is not what the door expects."""


class _Alert(BaseModel):
    status: Literal["firing", "resolved"]
    labels: Labels = Field(max_length=100)
    annotations: Labels = Field({}, max_length=100)
    starts_at: AwareDatetime = Field(alias="startsAt")
    ends_at: AwareDatetime | None = Field(None, alias="endsAt")
    url: Text = Field("", alias="generatorURL", max_length=4000)
    fingerprint: str = Field(min_length=1, max_length=128, pattern=r"^[\x21-\x7e]+$")


@dataclass(frozen=True, slots=True)
class Rejection:
    """An alert of a body that was not taken."""

    index: int
    reason: str


def alertmanager(body: Any) -> tuple[list[Alert], list[Rejection]]:
    """Read a webhook body of Alertmanager, version 4.

    Raises:
        Unreadable: when it is no such body at all.

    """
    if not isinstance(body, dict) or not isinstance(body.get("alerts"), list):
        raise Unreadable("expected Alertmanager's webhook body: an object with a list `alerts`")
    if body.get("version") != "4":
        raise Unreadable(
            f'expected version "4" of Alertmanager\'s webhook body, not {str(body.get("version"))[:20]!r}'
        )
    taken: list[Alert] = []
    rejected: list[Rejection] = []
    for index, item in enumerate(body["alerts"]):
        try:
            taken.append(_read(_Alert.model_validate(item)))
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False, include_context=False)[0]
            place = ".".join(map(str, first["loc"]))[:80] or "the alert"
            rejected.append(Rejection(index, f"{place}: {first['msg'][:200]}"))
        except OverflowError:
            rejected.append(Rejection(index, "startsAt or endsAt: outside the years 1 to 9999"))
    return taken, rejected


def _read(alert: _Alert) -> Alert:
    ends_at: datetime | None = None
    if alert.ends_at is not None and alert.ends_at.year > 1 and alert.status == "resolved":
        ends_at = alert.ends_at.astimezone(UTC)
    return Alert(
        source="alertmanager",
        fingerprint=alert.fingerprint,
        status=alert.status,
        starts_at=alert.starts_at.astimezone(UTC),
        ends_at=ends_at,
        labels=alert.labels,
        annotations=alert.annotations,
        url=alert.url,
    )
