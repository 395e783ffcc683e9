"""Tests of Sickbay, one file per room."""
