"""The front door: what one types in a terminal.

main             the commands of `sickbay`; each opens its own file, and only when it is called
options · mishap what several commands take, and what stands before them; errors told at the door
starter          `init` and `slack manifest`: what one begins with
serve · demo     the bot; the same with a pretend Slack and a pretend fleet
desk · follow    what people say there, and what was started, followed to its end; gauge shows how far it is
doctor           what is missing or wrong, each with what to do next
workshop         `lint`, `test` and `schema`, for whoever writes runbooks
explain          what leads to a runbook, who has to agree, what its steps see
enroll           a host's key compared by a person, and known from then on
audit · export   is the timeline what was written; an incident told to who was not there
login            who is at the terminal
terminal · logs  cards, and log lines
"""
