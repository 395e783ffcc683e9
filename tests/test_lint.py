"""Everything that can be known before a run is told before a run: all of it, at its line."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field, model_validator

from bot.inventory import Host, Inventory
from bot.language.inputs import Noun
from bot.language.schema import Invalid, read
from bot.library import lint_files, load_library, load_runbook, load_text
from bot.lint import lint


class Restart(Noun):
    """Arguments of a step kind that changes a host."""

    name: str
    grace: int = 10


class Check(Noun):
    """Arguments of a step kind with a rule over two of them."""

    port: int = 8000
    low: int = 1
    high: int = 2
    headers: dict[str, str] = Field({})

    @model_validator(mode="after")
    def _ordered(self) -> "Check":
        if self.low > self.high:
            raise ValueError("low is more than high")
        return self


class Drain(Noun):
    """Arguments of a step kind that drains."""

    keep: str = ""


class Nothing(Noun):
    """A step kind without arguments."""


@dataclass(frozen=True)
class Kind:
    """What lint has to know of a step kind."""

    arguments: type[BaseModel]
    mutating: bool = False
    turns: str | None = None
    secrets: frozenset[str] = frozenset()


KINDS = {
    "docker.restart": Kind(Restart, mutating=True),
    "http.check": Kind(Check, secrets=frozenset({"headers"})),
}
PARSERS = ("nvidia_smi", "kernel_log")
INVENTORY = Inventory([Host("gpu-01", "10.0.0.1", groups=("serving",))])

GOOD = """\
version: 1
name: restart-vllm
description: Restart one container
kind: mutate
triggers: [{command: true}]
inputs:
  container: {pattern: "^[a-z]+$", default: vllm}
  note: {}
hosts: "{{ alert.host }}"
steps:
  - id: probe
    uses: http.check
    with: {port: "{{ host.vars.port }}"}
  - id: gpu
    run: nvidia-smi -q -x
    parse: nvidia_smi
    mutates: false
    expect: facts.gpus | length == host.vars.gpus and result.ok
  - id: restart
    when: steps.probe.failed or steps.gpu.facts.gpus | length == 0
    uses: docker.restart
    with: {name: "{{ inputs.container }}", grace: 5}
  - run: |
      cd /tmp
      logger -- "{{ inputs.container }}" "{{ run.id }}"
verify:
  - uses: http.check
    until: result.ttft_ms < 3000
    retries: 3
"""


def mistakes(
    text: str,
    *,
    file: str = "restart-vllm.yaml",
    inventory: Inventory | None = None,
    secrets: tuple[str, ...] | None = None,
) -> list[str]:
    try:
        load_text(text, file=file, kinds=KINDS, parsers=PARSERS, inventory=inventory, secrets=secrets)
    except Invalid as error:
        return str(error).splitlines()
    return []


def changed(*pairs: tuple[str, str]) -> str:
    text = GOOD
    for old, new in pairs:
        assert old in text
        text = text.replace(old, new, 1)
    return text


def test_a_good_runbook_has_no_mistakes() -> None:
    assert mistakes(GOOD, inventory=INVENTORY) == []


ENDLESS = (
    "nothing puts the server back that this step takes out of traffic, when the run fails least of all "
    "(add `uses: haproxy.undrain` under `always` or as its `rollback`, or say why it stays: `with: {keep: …}`)"
)


@pytest.mark.parametrize(
    ("step", "end", "found"),
    [
        ("uses: lb.drain", "", [ENDLESS]),
        ("uses: lb.drain, with: {keep: ''}", "", [ENDLESS]),
        ("uses: lb.drain", "always: [{uses: lb.state}]", [ENDLESS]),
        ("uses: lb.drain", "rescue: [{uses: lb.undrain}]", [ENDLESS]),
        ("uses: lb.drain", "always: [{uses: lb.undrain}]", []),
        ("uses: lb.drain, rollback: {uses: lb.undrain}", "", []),
        ("uses: lb.drain, with: {keep: new disk}", "", []),
        ("uses: lb.drain, with: {keep: '{{ inputs.why }}'}", "", []),
    ],
)
def test_a_drain_ends_or_is_said_to_be_kept(step: str, end: str, found: list[str]) -> None:
    text = f"""\
version: 1
name: out
description: Take it out
kind: mutate
triggers: [{{command: true}}]
inputs:
  why: {{default: maintenance}}
steps:
  - {{id: drain, {step}}}
verify:
  - {{uses: lb.state}}
{end}
"""
    kinds = {
        "lb.drain": Kind(Drain, mutating=True, turns="drain"),
        "lb.undrain": Kind(Nothing, mutating=True, turns="ready"),
        "lb.state": Kind(Nothing),
    }
    document = read(text.encode(), file="out.yaml")
    mistakes = lint(document, kinds=kinds, parsers=PARSERS)
    assert list(map(str, mistakes)) == [f"out.yaml:9: {mistake}" for mistake in found]


@pytest.mark.parametrize(
    ("old", "new", "mistake"),
    [
        (
            "uses: http.check",
            "uses: http.chek",
            "12: unknown step kind `http.chek` (did you mean `http.check`?)",
        ),
        ("parse: nvidia_smi", "parse: nvidia", "16: unknown parser `nvidia` (did you mean `nvidia_smi`?)"),
        ("grace: 5", "grace: soon", '22: `docker.restart`: `grace`: expected a whole number, not "soon"'),
        ("grace: 5", "grce: 5", "22: `docker.restart`: unknown key `grce` (did you mean `grace`?)"),
        ('name: "{{ inputs.container }}", ', "", "22: `docker.restart`: missing `name`"),
        ('with: {port: "{{ host.vars.port }}"}', "with: {low: 3}", "13: `http.check`: low is more than high"),
        ("steps.probe.failed", "steps.prob.failed", "20: there is no step `prob` (did you mean `probe`?)"),
        ("steps.probe.failed", "steps.probe.faild", "20: a step has no `faild` (did you mean `failed`?)"),
        ("steps.probe.failed", "steps.restart.failed", "20: step `restart` has not run when this is read"),
        ("steps.probe.failed", "steps.verify_1.failed", "20: step `verify_1` has not run when this is read"),
        ("steps.probe.failed", "result.failed", "20: `result` is known in `until` and `expect` only"),
        ("steps.probe.failed", "step.probe.failed", "20: unknown name `step` (did you mean `steps`?)"),
        ("steps.probe.failed", "steps.probe.failed =", "20: `steps.probe.failed = or"),
        ("steps.probe.failed", "nothing | lenght", "20: `nothing | lenght or"),
        (
            "inputs.container }}",
            "inputs.contaner }}",
            "22: there is no input `contaner` (did you mean `container`?)",
        ),
        (
            "host.vars.gpus",
            "host.gpus",
            "18: `host` has no `gpus` (it has name, address, groups, and what you wrote down yourself as vars.<name>)",
        ),
        ("run.id", "run.ids", "25: `run` has no `ids` (did you mean `id`?)"),
        ('"{{ run.id }}"', "{{ run.id }}", "25: `{{ run.id }}`: a value without quotes would be split"),
        ('"{{ run.id }}"', "'{{ run.id }}'", "25: `{{ run.id }}`: $ is not expanded inside single quotes"),
        (
            '-- "{{ inputs.container }}"',
            '-- "{{ inputs.note }}"',
            "8: `inputs.note` goes into a command that changes the host",
        ),
        ("cd /tmp", "{% if x %}", "23: statements like {% are not read here"),
        ("    retries: 3\n", "", "28: `until` without `retries` is looked at once only"),
        (
            "name: restart-vllm",
            "name: restart",
            "2: the name `restart` is not the file's (write `restart-vllm`",
        ),
        ("{{ alert.host }}", "{{ inputs.container }}", "9: unknown name `inputs`"),
        ("{{ alert.host }}", "gpu-02", "9: no such host: gpu-02"),
        ("{{ alert.host }}", "@servin", "did you mean @serving?"),
        (
            "    parse: nvidia_smi\n",
            "    parse: nvidia_smi\n    idempotent: true\n",
            "17: `idempotent` says that a change may be done twice, and this step changes nothing",
        ),
        (
            "    parse: nvidia_smi\n",
            "    parse: nvidia_smi\n    rollback: {run: x}\n",
            "17: there is nothing to roll back: this step changes nothing",
        ),
        (
            "    retries: 3\n",
            "    retries: 3\n    rollback: {run: x}\n",
            "30: `rollback` belongs to a step under `steps`, not under `verify`",
        ),
        (
            "  - run: |",
            "    rollback: {uses: http.check}\n  - run: |",
            "23: a rollback that only looks undoes nothing",
        ),
        (
            "  - run: |",
            "    rollback: {run: x, retries: 2}\n  - run: |",
            "23: unknown key `retries`",
        ),
        ("  - run: |", "    rollback: {timeout: 5s}\n  - run: |", "23: a step has either `run` or `uses`"),
        (
            "  - run: |",
            "    rollback: {run: 'x \"{{ steps.restat.ok }}\"'}\n  - run: |",
            "23: there is no step `restat` (did you mean `restart`?)",
        ),
        ("id: gpu", "id: probe", "14: step id `probe` is used twice"),
        ("    run: nvidia-smi -q -x\n", "", "14: a step has either `run` or `uses`"),
    ],
)
def test_a_mistake_is_told_at_its_line(old: str, new: str, mistake: str) -> None:
    found = mistakes(changed((old, new)), inventory=INVENTORY)
    assert any(mistake in each for each in found), found
    assert len(found) == 1 or "steps.prob" in new or "id: probe" in new, found


def test_a_rollback_may_name_what_ran_before_it_and_rescue_may_name_the_rollback() -> None:
    undo = "    idempotent: true\n    rollback: {run: 'x \"{{ steps.verify_1.ok }}\"'}\n  - run: |"
    rescue = "    retries: 3\nrescue:\n  - {run: y, when: steps.restart_rollback.failed}\n"
    assert mistakes(changed(("  - run: |", undo), ("    retries: 3\n", rescue))) == []


def test_no_step_may_have_the_name_of_a_rollback() -> None:
    text = changed(("  - run: |", "    rollback: {run: x}\n  - run: |"), ("id: gpu", "id: restart_rollback"))
    assert "step id `restart_rollback` is used twice" in "\n".join(mistakes(text))


def test_an_observe_runbook_changes_nothing() -> None:
    text = changed(
        ("kind: mutate", "kind: observe\napproval: {required: 1}"), ("mutates: false", "mutates: true")
    )
    assert [each.split(" (")[0] for each in mistakes(text)] == [
        "restart-vllm.yaml:5: an observe runbook changes nothing, so nobody is asked",
        "restart-vllm.yaml:18: an observe runbook may use no mutating step",
        "restart-vllm.yaml:22: `docker.restart` changes the host, and an observe runbook may use no mutating step",
    ]


@pytest.mark.parametrize(
    ("rail", "mistake"),
    [
        ("lock: '{{ hots.name }}'", "unknown name `hots`"),
        ("lock: '{{ steps.probe.ok }}'", "unknown name `steps`"),
        ("guard: {min_ready: {group: '@servng', replicas: 1}}", "servng"),
        (
            "guard: {min_ready: {group: '@serving', replicas: 2}}",
            "@serving has 1 hosts, and 2 must stay ready (write at most 1)",
        ),
        ("guard: {min_redy: {group: '@serving', replicas: 1}}", "min_ready"),
        ("limits: {runs: 0, per: 1h}", "runs"),
        ("limits: {runs: 2, per: 1h, by: card}", "by"),
        ("cooldown: 30", "needs its unit"),
        ("on_conflict: wait", "on_conflict"),
    ],
)
def test_a_rail_that_could_not_hold_is_a_mistake(rail: str, mistake: str) -> None:
    found = mistakes(changed(("kind: mutate", f"kind: mutate\n{rail}")), inventory=INVENTORY)
    assert any(mistake in each for each in found), found


def test_rails_that_can_hold_are_none() -> None:
    rails = (
        "lock: 'rack {{ host.vars.rack }} {{ inputs.container }}'\non_conflict: skip\ncooldown: 30m\n"
        "limits: {runs: 2, per: 6h, by: gpu, then: refuse}\nguard: {min_ready: {group: '@serving', replicas: 1}}"
    )
    assert mistakes(changed(("kind: mutate", f"kind: mutate\n{rails}")), inventory=INVENTORY) == []


def test_an_observe_runbook_needs_no_rails() -> None:
    text = changed(("kind: mutate", "kind: observe\ncooldown: 3m\nlock: host"))
    found = [each for each in mistakes(text) if "has nothing to guard" in each]
    assert [each.split(" (")[0].split(": ", 1)[1] for each in found] == [
        "an observe runbook changes nothing, so `cooldown` has nothing to guard",
        "an observe runbook changes nothing, so `lock` has nothing to guard",
    ]


def test_mistakes_of_yaml_types_and_language_come_together() -> None:
    text = changed(
        ("name: restart-vllm", "name: restart-vllm\nname: twice"), ("description: Restart one container\n", ""),
        ("retries: 3", "retrys: 3"), ("uses: http.check", "uses: http.chek"), ("host.vars.gpus", "hots.vars.gpus"),
    )  # fmt: skip
    found = "\n".join(mistakes(text))
    for part in (
        "given twice",
        "missing `description`",
        "unknown key `retrys`",
        "unknown step kind",
        "unknown name `hots`",
    ):
        assert part in found


def test_rules_without_types_are_told_beside_type_errors() -> None:
    found = mistakes(GOOD.split("verify:", maxsplit=1)[0].replace("version: 1", "version: 2"))
    assert [each.split(": ", 1)[1] for each in found] == [
        "`version`: expected 1, not 2",
        "a mutate runbook needs `verify`: how is it known that it worked?",
    ]


WATCH = """\
version: 1
name: watch
description: Look now and then
kind: observe
triggers:
  - command: true
  - schedule: "*/10 * * * *"
inputs:
  port: {type: integer, default: 8000}
hosts: "@serving"
steps: [{uses: http.check, with: {port: "{{ inputs.port }}"}}]
"""


@pytest.mark.parametrize(
    ("old", "new", "wanted"),
    [
        ("watch", "watch", []),
        ("*/10 * * * *", "*/10 * * *", ["7: `schedule`: a schedule has five fields"]),
        ("*/10 * * * *", "*/10 * 32 * *", ["7: `schedule`: '*/10 * 32 * *' is no schedule"]),
        ("*/10 * * * *", "@daily", ["7: `schedule`: a schedule has five fields"]),
        ('"*/10 * * * *"', "10", ["7: `schedule`: expected text, not 10"]),
        (
            '  - schedule: "*/10 * * * *"',
            '  - {schedule: "1 2 * * *", command: true}',
            ["7: a trigger is one of"],
        ),
        (
            "kind: observe",
            "kind: mutate\nverify: [{uses: http.check}]",
            ["8: a schedule changes nothing by itself, and this runbook changes hosts"],
        ),
        ("@serving", "{{ alert.host }}", ["10: a schedule has no alert to take the host from"]),
        ("default: 8000", "required: true", ["9: nobody is there to give the input `port`"]),
    ],
)
def test_what_the_clock_cannot_start_is_told_at_its_line(old: str, new: str, wanted: list[str]) -> None:
    assert old in WATCH
    found = mistakes(WATCH.replace(old, new, 1), file="watch.yaml", inventory=INVENTORY)
    assert len(found) == len(wanted), found
    assert all(f"watch.yaml:{one}" in line for one, line in zip(wanted, found, strict=True)), found


TEXTS = {"restart-vllm.yaml": GOOD.splitlines(), "watch.yaml": WATCH.splitlines()}
JUNK: list[Any] = [
    "",
    "3",
    "[]",
    "{}",
    "[[x]]",
    "{a: {b: c}}",
    "null",
    "'{{'",
    "'{{ x }}'",
    "{{ x }}",
    "true",
]


@given(
    st.sampled_from([(file, at) for file, lines in TEXTS.items() for at in range(len(lines))]),
    st.sampled_from(JUNK),
)
@settings(max_examples=200, deadline=None)
def test_any_value_anywhere_gives_mistakes_or_a_runbook(place: tuple[str, int], junk: str) -> None:
    file, at = place
    lines = TEXTS[file]
    key, colon, _ = lines[at].partition(": ")
    text = "\n".join([*lines[:at], f"{key}{colon}{junk}", *lines[at + 1 :]])
    assert all(each.startswith(f"{file}:") for each in mistakes(text, file=file, inventory=INVENTORY))


SECRET_LINES = [
    ("    run: nvidia-smi -q -x\n", '    run: curl -H "{{ secrets.hf_token }}" x\n', ""),
    ("    run: nvidia-smi -q -x\n", '    run: [curl, "a {{ secrets.hf_token }}"]\n', ""),
    ('port: "{{ host.vars.port }}"', 'headers: {A: "Bearer {{ secrets.hf_token }}"}', ""),
    ("    run: nvidia-smi -q -x\n", '    run: curl -H "{{ secrets.hf_tokn }}" x\n',
     "there is no secret `hf_tokn` (did you mean `hf_token`?)"),
    ("    run: nvidia-smi -q -x\n", '    run: curl -H "{{ secrets.zzz }}" x\n',
     "there is no secret `zzz` (name it under `secrets:` in sickbay.yaml)"),
    ("    run: nvidia-smi -q -x\n", '    run: curl -H "{{ secrets.hf_token | upper }}" x\n',
     "a secret stands alone in its braces"),
    ("    run: nvidia-smi -q -x\n", "    run: curl -H \"{{ 'Bearer ' ~ secrets.hf_token }}\" x\n",
     "a secret stands alone in its braces"),
    ('port: "{{ host.vars.port }}"', 'port: "{{ secrets.hf_token }}"', "no secret may stand here"),
    ("facts.gpus | length == host.vars.gpus", "secrets.hf_token == 'x'", "no secret may stand here"),
    ("when: steps.probe.failed or", "when: secrets.hf_token or", "no secret may stand here"),
    ('hosts: "{{ alert.host }}"', 'hosts: "{{ secrets.hf_token }}"', "no secret may stand here"),
    ("    run: nvidia-smi -q -x\n", '    run: sh -c "{{ secrets.hf_token }}"\n', "reads this argument as code"),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "mistake"), SECRET_LINES)
def test_a_secret_is_known_by_its_name_and_stands_where_it_travels_apart(
    old: str, new: str, mistake: str
) -> None:
    text = changed((old, new))
    found = mistakes(text, secrets=("hf_token",))
    if not mistake:
        assert found == []
        return
    line = text[: text.index(new.strip().splitlines()[0])].count("\n") + 1
    (only,) = found
    assert only.startswith(f"restart-vllm.yaml:{line}: ")
    assert mistake in only


def test_without_a_configuration_any_secret_may_be_named() -> None:
    assert mistakes(changed(("    run: nvidia-smi -q -x\n", '    run: curl "{{ secrets.zzz }}"\n'))) == []


def test_a_loaded_runbook_keeps_its_text_and_digest(tmp_path: Path) -> None:
    path = tmp_path / "restart-vllm.yaml"
    path.write_text(GOOD, encoding="utf-8")
    loaded = load_runbook(path, kinds=KINDS, parsers=PARSERS)
    assert (loaded.text, loaded.file, len(loaded.digest)) == (GOOD, str(path), 64)
    path.write_text(GOOD + "# a comment\n", encoding="utf-8")
    assert load_runbook(path, kinds=KINDS, parsers=PARSERS).digest != loaded.digest


def test_a_library_tells_the_mistakes_of_all_files(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "restart-vllm.yaml").write_text(GOOD, encoding="utf-8")
    (tmp_path / "one" / "bad.yaml").write_text("a: [", encoding="utf-8")
    (tmp_path / "one" / "restart-vllm.test.yaml").write_text("not: a runbook", encoding="utf-8")
    (tmp_path / "two" / "worse.yml").write_text("name: other", encoding="utf-8")
    library, mistakes = load_library([tmp_path / "one", tmp_path / "two"], kinds=KINDS, parsers=PARSERS)
    assert list(library) == ["restart-vllm"]
    told = str(Invalid(mistakes))
    assert "bad.yaml:2: not YAML" in told
    assert "worse.yml:1: missing `version`" in told
    assert "there are two runbooks `restart-vllm`" in told
    assert ".test.yaml" not in told
    count, found = lint_files(
        [tmp_path / "one", tmp_path / "two" / "worse.yml"], kinds=KINDS, parsers=PARSERS
    )
    assert count == 3
    assert {Path(each.file).name for each in found} == {"bad.yaml", "worse.yml"}


def test_a_library_is_found_by_name(tmp_path: Path) -> None:
    (tmp_path / "restart-vllm.yaml").write_text(GOOD, encoding="utf-8")
    assert list(load_library([tmp_path], kinds=KINDS, parsers=PARSERS)[0]) == ["restart-vllm"]


def test_of_a_file_without_end_only_so_much_is_read_that_it_can_be_refused(tmp_path: Path) -> None:
    path = tmp_path / "huge.yaml"
    with path.open("wb") as file:
        file.truncate(50 * 1024**3)  # a sparse file: 50 GiB that lie nowhere
    with pytest.raises(Invalid, match=r"huge\.yaml:1: the file is larger than 1024 KiB \(split it\)"):
        load_runbook(path, kinds=KINDS, parsers=PARSERS)
