"""The README cannot lie: what it shows is loaded, linted and looked up."""

import re
import sqlite3
from configparser import ConfigParser
from contextlib import closing
from pathlib import Path

import pytest

from bot.cli.main import audit, cli, slack
from bot.commands.grammar import usages
from bot.config.config import Config, check_routes, load
from bot.config.settings import SshSection
from bot.facts.registry import PARSERS
from bot.language.runbook import Runbook, Step
from bot.library import lint_files, load_library, load_text
from bot.people.permissions import DEEDS
from bot.rehearsal import break_steps, rehearse
from bot.shipped import shipped
from bot.steps import KINDS
from bot.store import Store
from bot.store.timeline import verify

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")
RUNBOOKS = (ROOT / "runbooks/README.md").read_text("utf-8")
BLOCKS = re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)
COMMANDS = {
    command.name or command.callback.__name__ for command in cli.registered_commands if command.callback
}


def test_the_configurations_it_shows_load_and_their_routes_fit_the_shipped_runbooks(tmp_path: Path) -> None:
    shown = [block for block in BLOCKS if "hosts:" in block and "version:" not in block]
    assert len(shown) == 4
    library, _ = load_library([shipped("runbooks")], kinds=KINDS, parsers=PARSERS)
    for text in shown:
        path = tmp_path / "sickbay.yaml"
        path.write_text(text)
        config, document = load(path, {"HOME": str(tmp_path)})
        assert check_routes(config, document, library) == []
        assert len(config.inventory) > 0


def test_every_section_of_the_configuration_and_no_other_is_in_its_table() -> None:
    table = README.partition("| section | what stands there |")[2].partition("\n\n")[0]
    named = [re.findall(r"`([a-z]+)`", line.split("|")[1]) for line in table.splitlines()[2:]]
    assert {name for names in named for name in names} == set(Config.model_fields)
    for key, number in re.findall(r"`([a-z_]+): ([0-9]+)`", table):
        assert SshSection.model_fields[key].default == int(number), key
    assert Config().web.listen in table
    assert str(Config().store.path) in table
    assert f"`[{', '.join(Config().check)}]`" in table


def test_whoever_follows_its_first_example_may_take_each_of_the_next_steps(tmp_path: Path) -> None:
    path = tmp_path / "sickbay.yaml"
    path.write_text(BLOCKS[0])
    config, _ = load(path, {"HOME": str(tmp_path)})
    alice = config.persons["alice"]
    lacking = [right for right in DEEDS if not config.rights.has(alice, right)]
    assert lacking == ["break_glass"], "one approves alone only where somebody meant it"
    assert config.inventory.hosts["gpu-03"].vars["haproxy"]["server"] == "be_vllm/gpu-03"


def test_a_copy_made_as_it_says_is_whole_while_sickbay_writes(tmp_path: Path) -> None:
    with closing(Store(tmp_path / "sickbay.db")) as store:
        store.timeline.note("x.y")
        with closing(sqlite3.connect(tmp_path / "sickbay.db")) as shell:
            shell.execute(f"VACUUM INTO '{tmp_path / 'vacuumed.db'}'")
            with closing(sqlite3.connect(tmp_path / "copied.db")) as copy:
                shell.backup(copy)
    for name in ("vacuumed.db", "copied.db"):
        found = verify(tmp_path / name)
        assert (found.events, found.fault) == (1, "")
        with closing(Store(tmp_path / name)) as store:
            store.timeline.note("x.z")


def test_the_unit_it_shows_starts_what_there_is() -> None:
    (unit,) = re.findall(r"```ini\n(.*?)```", README, re.DOTALL)
    parsed = ConfigParser()
    parsed.optionxform = str  # type: ignore[assignment,method-assign]
    parsed.read_string(unit)
    _, command, *options = parsed["Service"]["ExecStart"].split()
    assert command in COMMANDS
    assert options == ["--config", "/etc/sickbay/sickbay.yaml", "--log-json"]
    assert not re.search(r"^[A-Z].*[ \t]#", unit, re.MULTILINE), (
        "systemd takes a comment on a line of its own only"
    )


def test_the_runbook_it_shows_has_no_mistake() -> None:
    (text,) = (block for block in BLOCKS if block.startswith("version: 1"))
    (name,) = re.findall(r"^name: (\S+)", text, re.MULTILINE)
    loaded = load_text(text, file=f"{name}.yaml", kinds=KINDS, parsers=PARSERS)
    assert loaded.runbook.name == name


def test_the_runbook_and_its_test_that_the_language_is_shown_by_have_no_mistake_and_pass(
    tmp_path: Path,
) -> None:
    blocks = re.findall(r"```yaml\n(.*?)```", RUNBOOKS, re.DOTALL)
    (book,) = (block for block in blocks if block.startswith("version: 1"))
    (case,) = (block for block in blocks if "given:" in block)
    (name,) = re.findall(r"^name: (\S+)", book, re.MULTILINE)
    (tmp_path / f"{name}.yaml").write_text(book)
    (tmp_path / f"{name}.test.yaml").write_text(case)
    assert lint_files([tmp_path], kinds=KINDS, parsers=PARSERS) == (1, [])
    assert [one.problems for one in rehearse([tmp_path])] == [()]
    assert [one.problems for one in break_steps([tmp_path])] == [()]


def test_every_key_of_the_language_is_explained_where_runbooks_are() -> None:
    section = RUNBOOKS.partition("## The language")[2].partition("\n## ")[0]
    keys = {field.alias or key for model in (Runbook, Step) for key, field in model.model_fields.items()}
    assert {key for key in keys if not re.search(rf"`{key}\b|^ *(- )?{key}:", section, re.MULTILINE)} == set()


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_is_named(name: str) -> None:
    assert re.search(rf"`(sickbay )?{name}\b", README)


def test_every_command_it_names_exists() -> None:
    known = COMMANDS | {"audit", "slack", "help"}
    named = set(
        re.findall(r"(?<!/)\bsickbay ([a-z]+)\b(?=[ `.…])", "".join(re.findall(r"`[^`\n]+`", README)))
    )
    assert named - known == set()
    assert [command.name for command in slack.registered_commands] == ["manifest"]
    assert [command.name for command in audit.registered_commands] == ["verify"]


def test_every_command_in_its_shell_blocks_exists() -> None:
    shell = "".join(re.findall(r"```sh\n(.*?)```", README, re.DOTALL))
    named = set(re.findall(r"^sickbay ([a-z]+)", shell, re.MULTILINE))
    assert {"doctor", "serve"} <= named <= COMMANDS | {"audit"}


def test_every_variable_and_option_it_names_is_read() -> None:
    code = "".join(path.read_text("utf-8") for path in (ROOT / "bot").rglob("*.py"))
    named = set(re.findall(r"\b(?:SLACK|SICKBAY)_[A-Z_]+", README)) | set(re.findall(r"`(--[a-z-]+)", README))
    assert {"SLACK_BOT_TOKEN", "SICKBAY_ALERTMANAGER_SECRET", "--as"} <= named
    assert {name for name in named if f'"{name}"' not in code} == set()


def test_what_can_be_said_in_slack_is_in_the_table() -> None:
    verbs = {str(usage).split()[0].strip("`(',\"") for usage in usages()}
    assert {verb for verb in verbs if verb.isalpha() and f"`{verb}" not in README} == set()


def test_every_shipped_runbook_and_no_other_is_in_the_table() -> None:
    shown = set(re.findall(r"\(runbooks/([a-z-]+)\.yaml\)", README))
    assert shown == {
        path.stem for path in (ROOT / "runbooks").glob("*.yaml") if not path.stem.endswith(".test")
    }


@pytest.mark.parametrize("page", ["README.md", "runbooks/README.md", ".github/CONTRIBUTING.md"])
def test_every_link_and_picture_resolves(page: str) -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", (ROOT / page).read_text("utf-8")):
        assert (ROOT / page).parent.joinpath(target).exists(), target


def test_the_make_targets_it_names_exist() -> None:
    targets = set(re.findall(r"^([a-z.$()A-Z]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    named = set(re.findall(r"make ([a-z.]+)", README))
    assert {"demo", "test"} <= named
    assert {name for name in named if name not in targets and name != ".venv"} == set()


@pytest.mark.parametrize("name", sorted(KINDS))
def test_every_step_kind_is_described_where_runbooks_are(name: str) -> None:
    assert f"| `{name}` |" in RUNBOOKS
    assert KINDS[name].says in RUNBOOKS


@pytest.mark.parametrize("name", sorted(PARSERS))
def test_every_parser_is_named_where_runbooks_are(name: str) -> None:
    assert f"`{name}`" in RUNBOOKS
