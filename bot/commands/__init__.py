"""What people can say, the same in Slack and in the terminal, answered with a card.

verbs                does it
grammar · typed      reads it: one set of words for all doors; what Slack makes of typed text, undone
deciding · halting   approve, deny, cancel, release; freeze, thaw, the breaker's reset: who may, and what comes of it
reporting            what an incident's report tells, read from the store
"""
