"""Text as it was typed, before Slack made something else of it: smart quotes, links around host names, ampersands."""

import re


def undecorated(text: str) -> str:
    """Undo what Slack makes of typed text."""
    text = re.sub(r"<(?:mailto:|https?://)[^|>]*\|([^>]*)>", r"\1", text)
    text = re.sub(r"<!subteam\^[A-Z0-9]+\|@?([^>]*)>", r"@\1", text)
    text = re.sub(r"<[@#][A-Z0-9]+\|[@#]?([^>]*)>", r"@\1", text)
    text = re.sub(r"<(https?://[^>]*)>", r"\1", text)
    for written, meant in (("&lt;", "<"), ("&gt;", ">"), ("&amp;", "&")):
        text = text.replace(written, meant)
    return text.translate(str.maketrans("“”„‟‘’‚‛\u00a0", "\"\"\"\"'''' "))
