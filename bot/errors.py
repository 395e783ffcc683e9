"""The tree of errors a person may see: what happened, where, and what to do next."""

Path = tuple[str | int, ...]
"""Keys and list positions from the root of a file to a value."""


class SickbayError(Exception):
    """Something a person can mend; its text is shown as it is, without a traceback."""

    def __init__(self, what: str, *, where: str = "", advice: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.advice = advice

    def __str__(self) -> str:
        text = f"{self.where}: {self.what}" if self.where else self.what
        return f"{text}\n  → {self.advice}" if self.advice else text


class Misplaced(ValueError):
    """What a model's validator finds wrong at a place below the model, such as `("steps", 2, "id")`.

    A plain ValueError is shown where the model begins; this one where the reader has to look.
    """

    def __init__(self, path: Path, what: str, advice: str = "") -> None:
        super().__init__(what)
        self.path = path
        self.advice = advice
