"""Names that expressions may read, and where: what `lint` holds a runbook's expressions against."""

from collections.abc import Mapping

STEP_ATTRIBUTES = (
    "ok", "failed", "skipped", "started", "unreachable", "status", "verdict", "facts", "stdout", "stderr", "exit_code", "summary",
)  # fmt: skip
"""What `steps.<id>` has in expressions."""
ATTRIBUTES: Mapping[str, tuple[str, ...]] = {
    "alert": ("name", "host", "labels", "annotations", "starts_at", "status", "fingerprint"),
    "host": ("name", "address", "vars", "groups"),
    "run": ("id", "requester"),
}
ELSEWHERE = {
    "alert": "it has name, host, status, starts_at, labels.<name>, annotations.<name>",
    "host": "it has name, address, groups, and what you wrote down yourself as vars.<name>",
}
ROOTS = ("alert", "inputs", "host", "steps", "run")
SECRETS = "secrets"
"""Known in commands, and in those arguments of a step kind that take one."""
AFTERWARDS = ("result", "facts")
"""Names that exist once the step has answered: in `until` and `expect`."""
