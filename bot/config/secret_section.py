"""The section `secrets:` of sickbay.yaml: where the value of each secret is kept, which is never the file itself."""

from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, model_validator

from bot.language.inputs import Noun
from bot.secrets.secret import NAME

SecretName = Annotated[str, Field(pattern=f"^{NAME}$")]


class SecretSection(Noun):
    """Where a secret's value is read from; it never stands in the file itself."""

    env: str | None = Field(
        None, pattern=r"^[A-Z_][A-Z0-9_]*$", description="name of the variable that holds it"
    )
    file: Path | None = Field(None, description="a file that holds it, which others may not read")

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.env is None) == (self.file is None):
            raise ValueError("a secret is either `env: VARIABLE` or `file: PATH`")
        return self
