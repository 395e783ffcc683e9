"""The only room that knows Slack: listeners, cards, outbox and the limits of the platform."""
