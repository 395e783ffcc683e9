"""A public key as it stands in files and on the wire, and the fields it is made of."""

import base64
import hashlib
from dataclasses import dataclass
from typing import Self

CERTIFICATE = "-cert-v01@openssh.com"
"""How the kind of every OpenSSH certificate ends."""


class Malformed(ValueError):
    """The bytes are not what they should be."""


@dataclass(frozen=True, slots=True)
class Key:
    """A public key, or a certificate about one."""

    kind: str
    blob: bytes

    @classmethod
    def of(cls, blob: bytes) -> Self:
        """Take a key as it came over the wire.

        Raises:
            Malformed: when it does not even say what kind it is.

        """
        return cls(Fields(blob).text(), blob)

    @property
    def fingerprint(self) -> str:
        """As `ssh-keygen -lf` prints it; that of a certificate is the one of its key there, and not here."""
        digest = base64.b64encode(hashlib.sha256(self.blob).digest()).decode()
        return "SHA256:" + digest.rstrip("=")

    @property
    def certified(self) -> bool:
        """Is it a certificate?"""
        return self.kind.endswith(CERTIFICATE)

    @property
    def line(self) -> str:
        """As a line of a `.pub` file or of known_hosts has it."""
        return f"{self.kind} {base64.b64encode(self.blob).decode()}"


class Fields:
    """Fields of SSH's wire format, read one after the other."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.at = 0
        """Bytes read so far."""

    @property
    def left(self) -> int:
        """Bytes not read yet."""
        return len(self._data) - self.at

    def take(self, count: int) -> bytes:
        """Return the next bytes as they are.

        Raises:
            Malformed: when there are fewer.

        """
        if count > self.left:
            raise Malformed("it is cut off")
        self.at += count
        return self._data[self.at - count : self.at]

    def number(self, size: int) -> int:
        """Return the next whole number of `size` bytes."""
        return int.from_bytes(self.take(size), "big")

    def string(self) -> bytes:
        """Return the next bytes that say how long they are."""
        return self.take(self.number(4))

    def text(self) -> str:
        """Return the next string, shown as text whatever it holds."""
        return self.string().decode("utf-8", "backslashreplace")
