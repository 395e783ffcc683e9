"""What people can say, the same in Slack and in the terminal, answered with a card.

verbs                does it
grammar              reads it: one set of words for all doors
deciding · halting   approve, deny, cancel; freeze, thaw, the breaker's reset: who may, and what comes of it
views · reporting    what a message shows, and what an incident's report tells, read from the store
"""
