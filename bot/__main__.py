"""`python -m bot` is `sickbay`."""

from bot.cli import main

main()
