"""The rules of the house, held by reading the code."""

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from bot.ssh import Ssh

ROOT = Path(__file__).parents[1]
BOT = ROOT / "bot"
MODULES = sorted(BOT.rglob("*.py"))
NAMES_THAT_NAME_NOTHING = {
    "util", "utils", "helper", "helpers", "manager", "common", "core", "base", "processor", "control", "misc", "shared",
}  # fmt: skip
PURE = [
    "alert", "chain", "clock", "duration", "effect", "errors", "evidence", "facts", "finding", "fleet", "guard", "incident", "intake", "inventory", "language",
    "messages", "people", "program", "report", "route", "runs", "steps", "verdict", "witness", "wording", "engine/preconditions.py",
]  # fmt: skip
OUTSIDE = {
    "socket",
    "subprocess",
    "paramiko",
    "fabric",
    "sqlalchemy",
    "sqlite3",
    "urllib",
    "aiohttp",
    "slack_sdk",
    "slack_bolt",
    "asyncio",
    "time",
    "random",
    "os",
}
MAPPED = [
    "cli",
    "commands",
    "config",
    "engine",
    "guard",
    "language",
    "people",
    "runs",
    "secrets",
    "ssh",
    "timetable",
]
DOORS = ["web/", "slack/", "sim/", "app.py", "cli/serve.py", "cli/demo.py", "cli/doctor.py"]
WITHIN = ["ssh/"]
"""Async inside, because one thread carries a thousand connections; its face is not."""


def room(path: Path) -> str:
    return str(path.relative_to(BOT))


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


@pytest.mark.parametrize("path", MODULES, ids=room)
def test_a_room_says_what_it_is_for_is_short_and_has_a_name_that_names_something(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert ast.get_docstring(ast.parse(text)), "no module docstring"
    assert text.count("\n") <= 400, "past 400 lines: cut it at its second reason to change"
    assert path.stem not in NAMES_THAT_NAME_NOTHING


@pytest.mark.parametrize("path", MODULES, ids=room)
def test_nouns_steps_and_facts_do_no_io(path: Path) -> None:
    if room(path) in PURE or room(path).split("/")[0].removesuffix(".py") in PURE:
        assert {name.split(".")[0] for name in imports(path)} & OUTSIDE == set()


@pytest.mark.parametrize("path", MODULES, ids=room)
def test_async_stays_at_the_doors(path: Path) -> None:
    if not any(room(path).startswith(door) for door in DOORS + WITHIN):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        assert not [node for node in ast.walk(tree) if isinstance(node, ast.AsyncFunctionDef)]


def test_nobody_outside_the_ssh_room_sees_that_it_is_async_inside() -> None:
    face = [getattr(Ssh, name) for name in dir(Ssh) if not name.startswith("_")]
    assert face
    assert not [one for one in face if inspect.iscoroutinefunction(one)]
    knowing = [path for path in MODULES if any(name.startswith("bot.ssh") for name in imports(path))]
    inner = re.compile(r"bot\.ssh\.(loop|link|wire|session|carrier|pool|login|slots)\b")
    outside = [path for path in knowing if not room(path).startswith("ssh/")]
    assert not [room(path) for path in outside if any(inner.match(name) for name in imports(path))]


@pytest.mark.parametrize("path", MODULES, ids=room)
def test_only_one_place_makes_a_slack_client(path: Path) -> None:
    if room(path) != "slack/client.py":
        calls = [
            node.func for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.Call)
        ]
        assert not [call for call in calls if ast.unparse(call).endswith("WebClient")]


@pytest.mark.parametrize("folder", [BOT, *(BOT / name for name in MAPPED)], ids=room)
def test_the_map_of_the_house_and_of_each_room_names_what_is_there(folder: Path) -> None:
    names = {path.stem for path in folder.iterdir() if path.suffix == ".py" or path.is_dir()}
    doc = ast.get_docstring(ast.parse((folder / "__init__.py").read_text(encoding="utf-8"))) or ""
    assert {name for name in names if name[0] != "_" and not re.search(rf"\b{name}\b", doc)} == set()


def test_nothing_but_tests_and_the_demo_knows_the_pretended_world() -> None:
    knowing = {room(path) for path in MODULES if any(name.startswith("bot.sim") for name in imports(path))}
    assert {name for name in knowing if not name.startswith("sim/")} <= {"cli/demo.py"}


def test_the_lock_pins_every_package_with_hashes_and_names_no_registry() -> None:
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    assert "://" not in text
    assert not re.search(r"^--(index|extra|find|trusted)", text, re.MULTILINE)
    pins = re.findall(r"^[A-Za-z0-9_.-]+==\S+ \\\n    --hash=sha256:", text, re.MULTILINE)
    assert len(pins) == len(re.findall(r"^[A-Za-z0-9_.-]+==", text, re.MULTILINE))


def test_every_test_file_belongs_to_a_room() -> None:
    rooms = {path.stem for path in MODULES} | {path.name for path in BOT.rglob("*") if path.is_dir()}
    rooms |= {"house", "parts", "kill", "readme", "runbooks"}
    for path in (ROOT / "tests").glob("test_*.py"):
        words = path.stem.removeprefix("test_").split("_")
        assert any("_".join(words[:count]) in rooms for count in range(len(words), 0, -1)), path.name
