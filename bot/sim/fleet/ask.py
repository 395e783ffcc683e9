"""What every pretend tool runs: ask the fleet what to print, print it, exit as told.

Started by path with `python -I -S` for each command on each host, so it imports little. It is a real process: it can be
timed out, killed and piped like the tool it stands for.
"""

import json
import os
import socket
import sys

WANTS_INPUT = {"socat"}


def main(path: str, host: str, tool: str, argv: list[str]) -> int:
    """Ask, print, and return the exit code."""
    wants = tool in WANTS_INPUT or "@-" in argv
    stdin = sys.stdin.buffer.read().decode("utf-8", "replace") if wants else ""
    question = json.dumps({"host": host, "tool": tool, "argv": argv, "stdin": stdin})
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.connect(path)
        connection.sendall(question.encode() + b"\n")
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    if not answer:
        sys.stderr.write(f"{tool}: the pretend fleet has stopped\n")
        return 255
    reply = json.loads(answer)
    for name, text in reply["files"].items():
        with open(name, "w", encoding="utf-8") as file:  # noqa: PTH123 - pathlib costs more than the rest of the start
            file.write(text)
    sys.stdout.write(reply["stdout"])
    sys.stdout.flush()
    sys.stderr.write(reply["stderr"])
    sys.stderr.flush()
    return int(reply["exit"])


if __name__ == "__main__":
    try:
        code = main(sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4:])
    except BrokenPipeError:
        code = 141
    except OSError as error:
        sys.stderr.write(f"{sys.argv[3]}: {error}\n")
        code = 255
    # Whoever read the output may be gone already; closing it again on the way out must not complain.
    os._exit(code)
