"""OpenSSH certificates: read from their bytes, and what speaks against one, in a person's words.

Pure: what time it is and who is asked for come in as arguments. The rules are OpenSSH's (PROTOCOL.certkeys), but for one:
a host certificate without principals would stand for every machine, and is refused, as newer OpenSSH does.
"""

from dataclasses import dataclass
from datetime import UTC, datetime

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import SSHCertificate, load_ssh_public_identity

from bot.ssh.public_key import CERTIFICATE, Fields, Key, Malformed

USER, HOST = 1, 2
FOR_EVER = 2**64 - 1
_FIELDS_OF_KEY = {
    "ssh-ed25519": 1,
    "ecdsa-sha2-nistp256": 2,
    "ecdsa-sha2-nistp384": 2,
    "ecdsa-sha2-nistp521": 2,
    "ssh-rsa": 2,
}
SIGNATURES = (
    "ssh-ed25519",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "rsa-sha2-256",
    "rsa-sha2-512",
)
"""What an authority may sign with: no SHA-1."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """What a certificate says, before anybody believes it."""

    blob: bytes
    key: Key
    """The key it is about."""
    role: int
    """`USER` or `HOST`."""
    name: str
    """Its key id, for people."""
    serial: int
    principals: tuple[str, ...]
    after: int
    before: int
    """Seconds since 1970; it holds from the first up to, but not at, the second."""
    critical: tuple[str, ...]
    """Options that whoever does not know them must refuse."""
    authority: Key
    """Who signed it."""
    signature: str
    """Algorithm of the signature."""

    @property
    def title(self) -> str:
        """What people call it."""
        return f"certificate {self.name!r} (serial {self.serial})"


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a certificate is not taken, and what to do about it."""

    why: str
    advice: str


def read(blob: bytes) -> Certificate:
    """Take a certificate apart.

    Raises:
        Malformed: when it is none, or of a kind that is not supported.

    """
    fields = Fields(blob)
    kind = fields.text()
    plain = kind.removesuffix(CERTIFICATE)
    if plain == kind or plain not in _FIELDS_OF_KEY:
        raise Malformed(f"certificates of the kind {kind} are not supported")
    fields.string()  # the nonce
    begin = fields.at
    for _ in range(_FIELDS_OF_KEY[plain]):
        fields.string()
    key = len(plain).to_bytes(4, "big") + plain.encode() + blob[begin : fields.at]
    serial, role, name = fields.number(8), fields.number(4), fields.text()
    principals = tuple(_texts(fields.string()))
    after, before = fields.number(8), fields.number(8)
    critical = tuple(_texts(fields.string())[::2])
    fields.string()  # extensions: nobody has to know them
    fields.string()  # reserved
    authority = Key.of(fields.string())
    signature = Fields(fields.string()).text()
    if fields.left:
        raise Malformed("something follows its end")
    return Certificate(
        blob=blob,
        key=Key(plain, key),
        role=role,
        name=name,
        serial=serial,
        principals=principals,
        after=after,
        before=before,
        critical=critical,
        authority=authority,
        signature=signature,
    )


def _texts(data: bytes) -> list[str]:
    fields, found = Fields(data), []
    while fields.left:
        found.append(fields.text())
    return found


def against_host(certificate: Certificate, name: str, now: float) -> Fault | None:
    """Say what speaks against it as the certificate of the host called `name`; None when nothing does."""
    if certificate.role != HOST:
        what = "a user certificate" if certificate.role == USER else f"of the unknown type {certificate.role}"
        return Fault(
            f"the {certificate.title} is {what}, and a host must show a host certificate",
            "sign the host's key with `ssh-keygen -s CA_KEY -h -I NAME -n NAME,ADDRESS host_key.pub`",
        )
    if not certificate.principals:
        return Fault(
            f"the {certificate.title} names no host at all, so it would stand for every one",
            f"sign it again with `ssh-keygen … -h -n {name}`",
        )
    if name not in certificate.principals:
        return Fault(
            f"the {certificate.title} is for {', '.join(certificate.principals)} and not for {name}",
            f"give the host one that names it (`ssh-keygen … -h -n {name}`), or correct its address: it is compared "
            "letter by letter, without a port",
        )
    if certificate.critical:
        return Fault(
            f"the {certificate.title} has critical options that nobody here knows: {', '.join(certificate.critical)}",
            "a host certificate has none: sign it again without `-O`",
        )
    return _time(certificate, now, "sign a new one for the host, and look at both clocks") or _forged(
        certificate
    )


def against_user(certificate: Certificate, key: Key, now: float) -> Fault | None:
    """Say what speaks against offering it together with this key; whether it is believed is the host's to say."""
    if certificate.role != USER:
        return Fault(
            f"the {certificate.title} is not a user certificate",
            "sign your key again, without `ssh-keygen -h`",
        )
    if certificate.key != key:
        return Fault(
            f"the {certificate.title} is for another key ({certificate.key.fingerprint})",
            "put the certificate beside the key it was made for",
        )
    return _time(certificate, now, "get a new one from whoever signs them, and look at this machine's clock")


def _time(certificate: Certificate, now: float, advice: str) -> Fault | None:
    if now < certificate.after:
        return Fault(f"the {certificate.title} is not valid before {_moment(certificate.after)}", advice)
    if now >= certificate.before:
        return Fault(f"the {certificate.title} expired at {_moment(certificate.before)}", advice)
    return None


def _moment(seconds: int) -> str:
    try:
        return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} UTC"
    except (ValueError, OverflowError, OSError):
        return f"second {seconds}"


def _forged(certificate: Certificate) -> Fault | None:
    """Say why the authority did not sign this, or not well enough."""
    advice = "sign it again with OpenSSH's ssh-keygen and a key of ed25519, ecdsa or rsa"
    if certificate.signature not in SIGNATURES:
        return Fault(
            f"the {certificate.title} is signed with {certificate.signature}, which is not accepted",
            "sign it again with `ssh-keygen -t rsa-sha2-512 …`, or with an ed25519 key",
        )
    try:
        loaded = load_ssh_public_identity(Key.of(certificate.blob).line.encode())
        if not isinstance(loaded, SSHCertificate):
            return Fault("it is no certificate", advice)
        loaded.verify_cert_signature()
    except InvalidSignature:
        return Fault(
            f"the {certificate.title} was not signed by the authority it names, or was changed since",
            "somebody may stand between you and the host; nothing was sent to it",
        )
    except (ValueError, UnsupportedAlgorithm) as error:
        return Fault(f"the {certificate.title} cannot be checked: {error}", advice)
    return None
