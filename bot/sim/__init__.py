"""Pretend worlds for the demo and the tests: a Slack workspace and a GPU fleet on loopback, spoken to by the real clients."""
