"""The error that ends a way to a host before anything was sent; it never leaves the room."""

from bot.effect import Unreachable


class Unreached(Exception):
    """The host could not be spoken to."""

    def __init__(self, outcome: Unreachable) -> None:
        super().__init__(outcome.reason)
        self.outcome = outcome
