"""Where the runbooks lie that come with Sickbay, and the templates of messages and of a first sickbay.yaml.

In the repository they stand at the top, beside `bot/`, because people read and change them; an installed package carries
them inside `bot/` (see `tool.setuptools` in pyproject.toml).
"""

from pathlib import Path


def shipped(name: str) -> Path:
    """Return the folder `runbooks` or `templates`."""
    room = Path(__file__).resolve().parent
    installed = room / name
    return installed if installed.is_dir() else room.parent / name
