"""`python -m bot` is `sickbay`."""

from bot.cli.main import main

main()
