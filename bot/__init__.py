"""Sickbay: alerts in, runbooks over SSH, a human asked where it must, the result in Slack."""
