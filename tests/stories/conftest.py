"""The stage, for all stories."""

from tests.stories.stage import stage

__all__ = ["stage"]
