"""Fixtures shared by all rooms: only re-exports from tests/parts."""
