"""The stages, for all stories."""

from tests.stories.faults import opened_ward, steady
from tests.stories.stage import stage

__all__ = ["opened_ward", "stage", "steady"]
