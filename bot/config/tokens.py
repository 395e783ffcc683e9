"""The secrets that Sickbay itself cannot do without: Slack's tokens and the webhook's secret, from the environment."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Self

from pydantic import SecretStr

from bot.config.settings import Config
from bot.secrets.shapes import SHORTEST


@dataclass(frozen=True, slots=True)
class Secrets:
    """What comes from the environment; prints as asterisks."""

    slack_bot_token: SecretStr | None = None
    slack_app_token: SecretStr | None = None
    slack_signing_secret: SecretStr | None = None
    alertmanager: SecretStr | None = None

    @classmethod
    def read(cls, config: Config, environ: Mapping[str, str]) -> Self:
        """Take the secrets; an empty variable is one that is not set."""

        def secret(name: str) -> SecretStr | None:
            text = environ.get(name, "").strip()
            return SecretStr(text) if text else None

        return cls(*map(secret, _variables(config)))

    def short(self, config: Config) -> list[str]:
        """Name the variables whose values are shorter than what can be masked."""
        held = (getattr(self, field.name) for field in fields(self))
        return [
            name
            for name, secret in zip(_variables(config), held, strict=True)
            if secret is not None and len(secret.get_secret_value()) < SHORTEST
        ]

    def values(self) -> list[str]:
        """Return what must never be shown, for the mask."""
        held = (getattr(self, field.name) for field in fields(self))
        return [secret.get_secret_value() for secret in held if secret is not None]


def _variables(config: Config) -> tuple[str, str, str, str]:
    """Return where the secrets are, in the order of the fields."""
    alertmanager = config.alerts.alertmanager.secret_env
    return ("SLACK_BOT_TOKEN", "SLACK_APP_TOKEN", "SLACK_SIGNING_SECRET", alertmanager)
