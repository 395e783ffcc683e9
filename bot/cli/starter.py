"""What one begins with: `sickbay init` writes a sickbay.yaml, and `sickbay slack manifest` prints Slack's app."""

import os
from pathlib import Path

from bot.cli.terminal import OK
from bot.cli.workshop import configured
from bot.errors import SickbayError
from bot.shipped import shipped


def init(file: Path) -> int:
    """Write the file to begin with; nothing that is there is ever written over.

    Raises:
        SickbayError: when there is one already, or it cannot be written.

    """
    text = (shipped("templates") / "sickbay.yaml").read_text("utf-8")
    try:
        with file.open("x", encoding="utf-8") as new:
            new.write(text)
    except FileExistsError as error:
        advice = "edit that one, or name another file: sickbay init FILE"
        raise SickbayError(
            "it is there already, and stays as it is", where=str(file), advice=advice
        ) from error
    except OSError as error:
        what = f"cannot be written: {error.strerror or error}"
        raise SickbayError(what, where=str(file), advice="name a file in a folder that is yours") from error
    print(f"Written: {file}. Put your hosts and people into it, then run `sickbay doctor`.")  # noqa: T201
    return OK


def manifest(url: str | None, config: Path | None) -> int:
    """Print the app manifest: for Socket Mode, or with the address where Slack is to post.

    Raises:
        SickbayError: when the configuration wants HTTP and no address is given.

    """
    from bot.slack.manifest import manifest_yaml

    found = configured(config, os.environ)
    if url is None and found is not None and found.slack.transport == "http":
        raise SickbayError(
            "with `slack: {transport: http}` Slack posts to Sickbay, so the app has to know where",
            where="slack manifest",
            advice="give the public address: sickbay slack manifest --url https://sickbay.example.org",
        )
    if url is not None and not url.startswith("https://"):
        raise SickbayError(
            f"{url[:80]!r} is no address for Slack", where="--url", advice="it posts to https://… only"
        )
    print(manifest_yaml("socket" if url is None else "http", url or ""))  # noqa: T201
    return OK
