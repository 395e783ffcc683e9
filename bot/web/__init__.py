"""The web door: alerts come in, health and metrics go out."""

from bot.web.door import Web

__all__ = ["Web"]
