"""Expressions are typed and strict; values of commands reach a real shell whole, as one argument, and never as code."""

import contextlib
import json
import re
import subprocess
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bot.language import template
from bot.language.template import TemplateError, Unknown

CONTEXT: dict[str, Any] = {
    "alert": {"host": "gpu-03", "labels": {"alertname": "VLLMDown", "job-name": "vllm"}},
    "inputs": {"port": 8000, "container": "vllm", "deep": {"items": [1, 2]}},
    "steps": {
        "probe": {"failed": True, "stdout": "x" * 70_000},
        "gpu": {"facts": {"gpus": [{"t": 70}, {"t": 81}]}},
    },
    "nothing": None,
    "huge": 10**5000,
    "yes": True,
}
HOSTILE = [
    "$(touch x)", "`touch x`", '"; touch x; "', "'; touch x; '", "a b\tc", "*", "~", "\n", "a\nb", "\\", "\\n", "$HOME",
    "${HOME}", "!!", "%s", "#x", "x'\"y", "&", ">x", "<x", "|cat", "é😀", "", " ", ";", "--x=1"[2:], "\x1b[31m", "(",
]  # fmt: skip


@pytest.mark.parametrize(
    ("expression", "result"),
    [
        ("inputs.port", 8000),
        ("inputs.port + 1 > 8000", True),
        ("steps.probe.failed and not nothing", True),
        ("steps.gpu.facts.gpus | length == 2", True),
        ("steps.gpu.facts.gpus | map(attribute='t') | max", 81),
        ("steps.gpu.facts.gpus | map(attribute='t')", [70, 81]),
        ("alert.labels['job-name']", "vllm"),
        ("'gpu' in alert.host", True),
        ("alert.host.split('-')", ["gpu", "03"]),
        ("zzz is defined", False),
        ("nothing", None),
        ("inputs.deep.items", [1, 2]),
        ("'3.7' | int", 3),
        ("nothing | int(default=3)", 3),
        ("{'a': inputs.port} | tojson", '{"a": 8000}'),
        ("'a-b' | replace('-', '.')", "a.b"),
        ("[1, 2] | join(', ')", "1, 2"),
        ("2 ** 10", 1024),
        ("'a' + 'b'", "ab"),
        ("[1] + [2]", [1, 2]),
        ("2.55 | round(1)", 2.5),
        ("2.1 | round(method='ceil')", 3.0),
        ("steps.gpu.facts.gpus | sum(attribute='t')", 151),
        ("[1, 2] | sum", 3),
    ],
)
def test_an_expression_keeps_its_types(expression: str, result: Any) -> None:
    assert template.evaluate(expression, CONTEXT) == result
    assert type(template.evaluate(expression, CONTEXT)) is type(result)


@pytest.mark.parametrize(
    ("expression", "name", "text"),
    [
        ("stepz", "stepz", "did you mean `steps`"),
        ("steps.prob.failed", "steps.prob", "did you mean `probe`"),
        ("alert.hots == 'x'", "alert.hots", "did you mean `host`"),
        ("inputs.port > 3 and inputs.nope", "inputs.nope", "known here: container, deep, port"),
        ("[inputs.nope]", "inputs.nope", "not known"),
        ("steps.gpu.facts.gpus[7].t", "steps.gpu.facts.gpus.7", "not known"),
        ("1 if nothing", "", "gives nothing"),
    ],
)
def test_an_unknown_name_is_an_error_that_names_it(expression: str, name: str, text: str) -> None:
    with pytest.raises(Unknown) as caught:
        template.evaluate(expression, CONTEXT)
    assert caught.value.name == name
    assert text in str(caught.value)


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        ("''.__class__.__mro__", "not allowed"),
        ("alert.host.__class__", "not allowed"),
        ("alert['__class__']", "not allowed"),
        ("alert.__init__.__globals__", "not allowed"),
        ("'{0.__class__}'.format(1)", "not allowed"),
        ("'{:999999999d}'.format(1)", "not allowed"),
        ("'x' * 999999999", "for numbers"),
        ("[0] * 999999999", "for numbers"),
        ("'%999999999d' % 1", "for numbers"),
        ("10 ** 10 ** 10", "too large"),
        ("range(99999999) | list", "range"),
        (" * ".join(["10 ** 64"] * 80), "product is too large"),
        ("[" + " * ".join(["10 ** 64"] * 80) + "] | tojson", "product is too large"),
        ("huge", "number is too large"),
        ("[huge]", "number is too large"),
        ("huge * 2", "product is too large"),
        ("huge ~ 'x'", "cannot be worked out"),
        ("'x' + huge", "cannot be worked out"),
        ("'x'.ljust(999999999)", "not allowed"),
        ("steps.probe.stdout", "larger than 64"),
        ("range(1000) | map('replace', '', 'x' ~ steps.probe.stdout) | list", ""),
        ("range(1000) | join(steps.probe.stdout)", "too long"),
        (
            "range(1000) | map('string') | map('replace', '', '" + "x" * 2000 + "') | map('list') | list",
            "too long",
        ),
        ("1.5 | round(999999999, 'ceil')", "15 digits"),
        ("[[1], [2]] | sum(start=[])", ""),
        ("['a', 'b'] | sum", "for numbers"),
        ("steps.gpu.facts.gpus | sum(attribute='nope')", "nope"),
        ("alert.host" + " ~ steps.probe.stdout" * 40, "joins more than 32"),
        ("[" * 900 + "]" * 900, "intricate"),
        ("not " * 990 + "1", "intricate"),
        ("1" + " + 1" * 990, "intricate"),
        ("inputs" + ".a" * 1500, ""),
        ("'99' | replace('9', '" + "9" * 2500 + "') | int", "not a number"),
        ("alert.update({'a': 1})", "not allowed"),
        ("'abc' | int", "not a number"),
        ("1 / 0", "division by zero"),
        ("alert.host > 3", "not supported"),
        ("alert.host.upper", "forgotten"),
        ("a && b", "and, or, not"),
        ("inputs.port = 3", "=="),
        ("{{ inputs.port }}", "without {{ }}"),
        ("inputs.port | lengt", "did you mean `length`"),
        ("", "empty"),
        ("x" * 5000, "longer"),
        ("(" * 900 + "1" + ")" * 900, "intricate"),
    ],
)
def test_what_an_expression_may_not_do_is_refused_in_plain_words(expression: str, text: str) -> None:
    with pytest.raises(TemplateError) as caught:
        template.evaluate(expression, CONTEXT)
    assert text in str(caught.value)


@pytest.mark.parametrize(
    "name", ["lipsum", "cycler", "joiner", "namespace", "dict", "self", "__builtins__", "caller"]
)
def test_jinjas_globals_are_not_there(name: str) -> None:
    with pytest.raises(TemplateError):
        template.evaluate(name, CONTEXT)


TOKENS = [
    "inputs", ".", "port", "alert", "|", "(", ")", "[", "]", "'x'", "1", " ", "+", "*", "**", "-", "~", "is defined", "not ",
    " and ", " if ", " else ", "map", "join", "int", "range", ",", "{", "}", ":", "items", "()", "%", "/", "__class__",
]  # fmt: skip


@given(st.lists(st.sampled_from(TOKENS), max_size=14).map("".join) | st.text(max_size=30))
@settings(max_examples=400, deadline=None)
def test_any_text_gives_plain_data_or_a_template_error(expression: str) -> None:
    with contextlib.suppress(TemplateError):
        json.dumps(template.evaluate(expression, CONTEXT))
        template.names(expression)


def test_names_are_what_an_expression_reads() -> None:
    assert template.names("steps.probe.failed and inputs['container'] in x[alert.host]") == {
        "steps.probe.failed", "inputs.container", "x", "alert.host",
    }  # fmt: skip
    assert template.names("range(3) | map('int') | list") == set()


def test_a_text_that_is_one_value_keeps_its_type_and_a_mixed_one_becomes_text() -> None:
    data = {
        "port": "{{ inputs.port }}",
        "url": "http://{{ alert.host }}:{{ inputs.port }}/",
        "list": ["{{ yes }}", 3],
    }
    assert template.value(data, CONTEXT) == {"port": 8000, "url": "http://gpu-03:8000/", "list": [True, 3]}
    assert template.value("{{ yes }} {{ yes }}", CONTEXT) == "true true"
    with pytest.raises(TemplateError, match="has no plain text"):
        template.value("x {{ nothing }}", CONTEXT)


def test_a_command_carries_its_values_as_shell_variables() -> None:
    text, env = template.command(
        'docker restart -- "{{ inputs.container }}" "p={{ inputs.port }}" "${#HOME}"', CONTEXT
    )
    assert text == 'docker restart -- "${sickbay_1}" "p=${sickbay_2}" "${#HOME}"'
    assert env == {"sickbay_1": "vllm", "sickbay_2": "8000"}


def test_one_expression_twice_is_one_variable() -> None:
    text, env = template.command('echo "{{ yes }}" "{{yes}}"', CONTEXT)
    assert (text, env) == ('echo "${sickbay_1}" "${sickbay_1}"', {"sickbay_1": "true"})


@pytest.mark.parametrize(
    ("run", "text"),
    [
        ("echo {{ yes }}", "without quotes"),
        ("echo '{{ yes }}'", "single quotes"),
        ('echo "a"{{ yes }}', "without quotes"),
        ('echo "$(echo {{ yes }})"', "without quotes"),
        ('"{{ inputs.container }}" restart', "cannot name the command"),
        ('sudo A=1 "{{ inputs.container }}"', "cannot name the command"),
        ('true && x"{{ inputs.container }}"', "cannot name the command"),
        ('echo "${{ yes }}"', "directly before"),
        ('echo "\\{{ yes }}"', "directly before"),
        ('echo "${x:-"{{ yes }}"}"', "nobody can be sure"),
        ('cat <<X\n"{{ yes }}"\nX', "here-document"),
        ('echo $(( "{{ yes }}" ))', "arithmetic"),
        ('echo `echo "{{ yes }}"`', "backticks"),
        ("echo $'\\'' \"{{ yes }}\"", "nobody can be sure"),
        ('sh -c "echo {{ yes }}"', "reads this argument as code"),
        ('docker exec -t x bash -lc "{{ yes }}"', "reads this argument as code"),
        ('python3 -c "print({{ yes }})"', "reads this argument as code"),
        ('eval "{{ yes }}"', "reads this argument as code"),
        ('[[ "{{ yes }}" -eq 1 ]]', "reads this argument as code"),
        ('awk "/{{ yes }}/" f', "reads this argument as code"),
        ('sed -n -e "s/{{ yes }}//" f', "reads this argument as code"),
        ("{% if yes %}a{% endif %}", "statements"),
        ('echo "{{ yes"', "never closed"),
        ('docker inspect -f "{{.State}}" x', "{{ '{{.State}}' }}"),
        ('echo "{{ nothing }}"', "has no plain text"),
        ('echo "{{ [1] }}"', "has no plain text"),
        ("echo \"{{ '-rf' }}\"", "put `--` before it"),
        ("echo \"\"\"{{ '' }}{{ '-rf' }}\"", "put `--` before it"),
        ("echo -- x; rm \"{{ '-rf' }}\"", "put `--` before it"),
        ("echo \"{{ 'a\\x00b' }}\"", "NUL"),
        ('echo "{{ huge }}"', "number is too large"),
        (["{{ inputs.container }}"], "cannot name the command"),
        (["rm", "{{ '-rf' }}"], "put `--` before it"),
        (["sh", "-c", "echo {{ yes }}"], "reads this argument as code"),
    ],
)
def test_a_value_that_could_become_more_than_a_value_is_refused(run: str | list[str], text: str) -> None:
    with pytest.raises(TemplateError) as caught:
        template.command(run, CONTEXT)
    assert text in str(caught.value)


CODE, NAMES, PIPED = "reads this argument as code", "cannot name the command", "runs what is piped into it"


@pytest.mark.parametrize(
    ("run", "text"),
    [
        ('timeout 10 ssh node "systemctl is-active {{ v }}"', f"`ssh` {CODE}"),
        ('sudo -n ssh node "a {{ v }}"', CODE),
        ('sudo -nu svc ssh node "a {{ v }}"', CODE),
        ('xargs -n1 ssh node "a {{ v }}"', CODE),
        ('pdsh -w n "a {{ v }}"', "let `hosts` name that machine"),
        ('clush -w n "a {{ v }}"', CODE),
        ('wrapper --x y ssh node "{{ v }}"', CODE),
        ('wrapper bash -c "{{ v }}"', CODE),
        ('kubectl exec p -- bash -c "a {{ v }}"', CODE),
        ('kubectl -n a exec p -c c -- bash -c "a {{ v }}"', CODE),
        ('docker run --rm --gpus all image sh -c "{{ v }}"', CODE),
        ('docker compose exec svc sh -c "{{ v }}"', CODE),
        ('docker run --entrypoint sh img -c "{{ v }}"', CODE),
        ('docker compose run --entrypoint=bash svc -c "{{ v }}"', CODE),
        ('docker run img -c "{{ v }}"', CODE),
        ('docker create --entrypoint sh img -c "{{ v }}"', CODE),
        ('docker service create img sh -c "{{ v }}"', CODE),
        ('sg video -c "{{ v }}"', CODE),
        ('srun -w n bash -c "{{ v }}"', CODE),
        ('sudo -n sed -i "s/a/{{ v }}/" f', CODE),
        ('sed -l 5 "s/{{ v }}/a/" f', CODE),
        ('sed -e"s/{{ v }}/a/" f', CODE),
        ('sed 1p f -e "{{ v }}"', CODE),
        ('nice -n 5 awk "/{{ v }}/" f', "awk -v x="),
        ('awk -F : "/{{ v }}/" f', CODE),
        ('ionice -c 3 stdbuf -oL nsenter -t 1 -m -- flock -n /x perl -pe "s/{{ v }}//" f', CODE),
        ('flock /x -c "a {{ v }}"', CODE),
        ('flock -c "a {{ v }}"', CODE),
        ('chroot /x setsid nohup sh -e -u -o pipefail -c "{{ v }}"', CODE),
        ('sh -c -x "{{ v }}"', CODE),
        ('sh -c"{{ v }}"', CODE),
        ('bash --norc -ce "{{ v }}"', CODE),
        ('bash -x "/opt/{{ v }}"', CODE),
        ('su - svc -c "{{ v }}"', CODE),
        ('su svc -c "{{ v }}"', CODE),
        ('runuser svc -c "{{ v }}"', CODE),
        ('runuser -u svc -- sh -c "{{ v }}"', CODE),
        ('env -S "{{ v }}"', CODE),
        ('psql -h db --command="select {{ v }}"', CODE),
        ('mysql -uroot -e "select {{ v }}"', CODE),
        ('rsync -ave "ssh {{ v }}" a b', CODE),
        ('tar --to-command="{{ v }}" -xf a', CODE),
        ('find . -exec sh -c "{{ v }}" \\;', CODE),
        ('>/dev/null eval "{{ v }}"', CODE),
        ('sudo "$SHELL" -c "{{ v }}"', f"`$SHELL` {CODE}"),
        ('$SHELL -xc "{{ v }}"', f"`$SHELL` {CODE}"),
        ('2>&1 eval "{{ v }}"', CODE),
        ('export "{{ v }}"', CODE),
        ('make "{{ v }}"', CODE),
        ('busybox sh -c "{{ v }}"', CODE),
        ('sh -c "$(echo "{{ v }}")"', CODE),
        ('sudo -u svc "{{ v }}"', NAMES),
        ('sudo --nobody-knows x "{{ v }}"', NAMES),
        ('timeout 5 "{{ v }}"', NAMES),
        ('timeout -k 3 5 "{{ v }}"', NAMES),
        ('env -i "{{ v }}"', NAMES),
        ('env A=b "{{ v }}"', NAMES),
        ('docker exec c "{{ v }}"', NAMES),
        ('srun -w n -N 1 "{{ v }}"', NAMES),
        ('gosu vllm "{{ v }}"', NAMES),
        ('apptainer exec img "{{ v }}"', NAMES),
        ('pkexec "{{ v }}"', NAMES),
        ('docker exec -it -u root c "{{ v }}"', NAMES),
        ('kubectl exec p -- "{{ v }}"', NAMES),
        ('nice -n 5 nohup "{{ v }}"', NAMES),
        ('xargs -r "{{ v }}"', NAMES),
        ('find . -exec "{{ v }}" \\;', NAMES),
        ('"$(command -v "{{ v }}")" x', NAMES),
        ('>/dev/null "{{ v }}"', NAMES),
        ("sudo " * 1000 + '"{{ v }}"', "split it over steps"),
        ("x sudo y " * 40 + 'sh -c "{{ v }}"', CODE),
        ('$x "{{ v }}"', NAMES),
        ('timeout ${x} 5 "{{ v }}"', NAMES),
        ('$(true) sh -c "{{ v }}"', CODE),
        ('PATH="{{ v }}" ls', "`PATH` tells programs what to run"),
        ('sudo LD_PRELOAD="{{ v }}" ls', "`LD_PRELOAD` tells programs what to run"),
        ('export BASH_ENV="{{ v }}"', "`BASH_ENV` tells programs what to run"),
        ('echo "{{ v }}" | sh', f"`sh` {PIPED}"),
        ('echo "{{ v }}" |& sudo -n bash -s', PIPED),
        ('echo "{{ v }}" | tr a b |\nssh node', PIPED),
        ('echo "{{ v }}" | ssh node sh', PIPED),
        ('echo "{{ v }}" | bash -euo pipefail', PIPED),
        ('echo "{{ v }}" | python3 -', PIPED),
        ('echo "{{ v }}" | docker exec -i c sh', PIPED),
        ('echo "{{ v }}" | . /dev/stdin', PIPED),
        ('echo "{{ v }}" | xargs sudo', PIPED),
        ('echo "{{ v }}" | xargs sh -c', PIPED),
        ('echo "{{ v }}" | xargs -I{} sh -c "echo {}"', PIPED),
        ('echo "{{ v }}" | xargs -I % sh -c "a %"', PIPED),
        ('echo "{{ v }}" | xargs -n1 -I{} sudo {} x', PIPED),
        ('echo "{{ v }}" | psql db', PIPED),
        ('echo "{{ v }}" | sudo -u x -s', PIPED),
        ('echo "{{ v }}" | chroot /x', PIPED),
        ('{ echo "{{ v }}"; echo b; } | sh', PIPED),
        ('(echo "{{ v }}") 2>&1 | sh', PIPED),
        ('for x in a; do echo "{{ v }}"; done | sh', PIPED),
        ('echo "{{ v }}" | { cat; sh; }', PIPED),
        ('echo "{{ v }}" | (cd /; sh)', PIPED),
        ('echo "{{ v }}" | while true; do sh; done', PIPED),
        ('x="{{ v }}"; echo "$x" | sh', PIPED),
        ('echo "{{ v }}" > >(sh)', "not read by every sh"),
        ('x="{{ v }}"; $x', f"`$x` holds it, and there a value {NAMES}"),
        ('x="a {{ v }}"\nssh node "${x}"', f"`$x` holds it, and there `ssh` {CODE}"),
        ('x="$(echo "{{ v }}")"; y="$x"; eval "$y"', f"`$y` holds it, and there `eval` {CODE}"),
        ('for x in a "{{ v }}"; do sh -c "$x"; done', CODE),
    ],
)
def test_no_wrapper_pipe_or_variable_makes_a_value_a_command(run: str, text: str) -> None:
    with pytest.raises(TemplateError) as caught:
        template.command(run, {"v": "a"})
    assert text in str(caught.value)
    assert [place.problem for _, place in template.problems(run) if text in f"{place.problem} {place.advice}"]


@pytest.mark.parametrize(
    "run",
    [
        'echo "{{ v }}" | grep foo',
        'echo "{{ v }}" | grep -c bash',
        'sudo -n docker restart "{{ v }}"',
        'timeout 30 nvidia-smi -i "{{ v }}"',
        'sudo -u "{{ v }}" id',
        'sudo -nu svc docker logs --tail 5 -- "{{ v }}"',
        'docker exec "{{ v }}" nvidia-smi',
        'docker exec -it "{{ v }}" sh -c "nvidia-smi"',
        'docker exec c nvidia-smi -i "{{ v }}"',
        'docker run --rm --name "{{ v }}" --gpus all image nvidia-smi',
        'docker run -d --gpus all --ipc=host -p 8000:8000 vllm/vllm-openai:v1 --model "{{ v }}"',
        'docker run -d vllm/vllm-openai:v1 --model m --tensor-parallel-size "{{ v }}"',
        'docker compose run --rm vllm --model "{{ v }}"',
        'docker compose up -d "{{ v }}"',
        'docker network create "{{ v }}"',
        'srun -w "{{ v }}" nvidia-smi',
        'srun nvidia-smi -i "{{ v }}"',
        'gosu vllm vllm serve "{{ v }}"',
        'apptainer exec --nv img vllm serve "{{ v }}"',
        'kubectl -n a delete pod -- "{{ v }}"',
        'kubectl exec "{{ v }}" -n a -- nvidia-smi',
        'systemctl restart ssh "{{ v }}"',
        'journalctl -u ssh --since "{{ v }}"',
        'scontrol update node "{{ v }}" state=resume',
        'flock -n /x docker restart "{{ v }}"',
        'env A="{{ v }}" printenv A',
        'sudo -n A="{{ v }}" printenv A',
        "awk -F : -v x=\"{{ v }}\" '$1 == x' f",
        'sed -i.bak 1p "{{ v }}"',
        'python3 /opt/x.py -c "{{ v }}"',
        'sh -e /opt/x.sh -c "{{ v }}"',
        'perl -ne print "{{ v }}"',
        'psql -d "{{ v }}" -c "select 1"',
        'find "{{ v }}" -name x -exec rm -- {} +',
        'echo "{{ v }}" | sudo tee /x >/dev/null',
        'echo "{{ v }}" | python3 -c "import sys"',
        'echo "{{ v }}" | python3 -m json.tool | awk "{print}"',
        'echo "{{ v }}" | ssh node "cat > /tmp/x"',
        'echo "{{ v }}" | xargs -r docker inspect --',
        'echo "{{ v }}" | xargs -n 1',
        'echo "{{ v }}" | xargs -I{} docker inspect x{} --type container',
        'docker inspect "{{ v }}"; true | sh',
        'echo "{{ v }}" || sh /opt/x',
        'echo "{{ v }}" >&2 && bash /opt/x',
        'date +%s > "{{ v }}"',
        '$SUDO docker restart "{{ v }}"',
        '"$TOOL" "{{ v }}"',
        "x sudo y " * 40 + '"{{ v }}"',
        'x="{{ v }}"; [ -n "$x" ] && docker restart "$x"',
        'x=$(docker inspect "{{ v }}"); echo "$x" 2>&1 | head -1',
        'X="{{ v }}" sh -c \'echo "$X"\'',
        ["sudo", "-n", "docker", "restart", "{{ v }}"],
    ],
)
def test_what_takes_a_value_as_data_is_taken_behind_wrappers_too(run: str | list[str]) -> None:
    assert [place.problem for _, place in template.problems(run)] == []
    template.command(run, {"v": "a"})


@pytest.mark.parametrize(
    "run",
    [
        'if [ "{{ inputs.container }}" = x ]; then echo "{{ yes }}"; fi 2>&1',
        'sh -c \'echo "$1"\' sh "{{ yes }}"',
        "# don't stop\necho \"{{ yes }}\" # isn't {{ yes }} fine",
        'X="{{ yes }}" printenv X',
        'echo a && (cd / && echo "{{ yes }}") | cat',
        'for x in a b; do echo "$x{{ yes }}"; done',
        "rm -- \"{{ '-rf' }}\"",
        "echo \"x{{ '-rf' }}\"",
        "docker inspect --format \"{{ '{{.State.Status}}' }}\" x",
        'awk -v x="{{ yes }}" "{print x}" f',
        'sed -n 1p "{{ inputs.container }}"',
        'echo "a" \'b\' "it\'s {{ yes }}" \\"',
        'case "{{ yes }}" in true) echo "{{ yes }}" ;; esac',
        ["A=b", "x"],
        ["if", "x"],
    ],
)
def test_what_authors_commonly_write_is_taken(run: str | list[str]) -> None:
    assert list(template.problems(run)) == []
    text, _ = template.command(run, CONTEXT)
    assert subprocess.run(["sh", "-n", "-c", text], check=False).returncode == 0


VALUES = st.one_of(
    st.sampled_from(HOSTILE), st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=20)
)
# Each shape takes a value in one argument of `printf`, with text of the author's around it.
SHAPES = [
    ("printf '%s\\0' -- \"{{ v }}\"", "--\0{}\0"),
    ("printf '%s\\0' \"a{{ v }}b\"", "a{}b\0"),
    ("printf '%s\\0' 'q'\"x{{ v }}\"'\"'", 'qx{}"\0'),
    ("# isn't\nprintf '%s\\0' \"it's {{ v }}\" # \"", "it's {}\0"),
    ('true; { printf \'%s\\0\' "x{{ v }}\\""; } 2>&1', 'x{}"\0'),
    ('V="{{ v }}"; printf \'%s\\0\' "$V"', "{}\0"),
    ('V="{{ v }}" sh -c \'printf "%s\\0" "$V"\'', "{}\0"),
    ('sh -c \'printf "%s\\0" "$1"\' sh "x{{ v }}"', "x{}\0"),
    ("if true; then\nprintf '%s\\0' \\\n  \"${HOME:+}{{ v }}\" \\' || false; fi", "{}\0'\0"),
    ("(printf '%s\\0' \"$(printf '%s.' \"x{{ v }}\")\")", "x{}.\0"),
]


def shell(run: str | list[str], value: str) -> bytes:
    text, env = template.command(run, {"v": value})
    assert value in ("", *env.values())
    done = subprocess.run(
        ["/bin/sh", "-c", text],
        env={"PATH": "/usr/bin:/bin", "HOME": "/", **env},
        capture_output=True,
        check=True,
    )
    assert done.stderr == b""
    return done.stdout


@pytest.mark.parametrize(("run", "printed"), SHAPES)
@given(value=VALUES)
@settings(max_examples=25, deadline=None)
def test_any_value_comes_out_of_a_real_shell_as_it_went_in(run: str, printed: str, value: str) -> None:
    if value.startswith("-"):
        value = f"x{value}"
    assert shell(run, value) == printed.replace("{}", value).encode()


@given(before=VALUES, value=VALUES, after=VALUES)
@example(before="a=b", value="$(id)", after="")
@settings(max_examples=60, deadline=None)
def test_arguments_of_a_list_are_quoted_one_by_one(before: str, value: str, after: str) -> None:
    literals = [re.sub(r"\r\n?", "\n", text.replace("{", "(")) for text in (before, after)]
    run = ["printf", "%s\\0", *literals, "--", "{{ v }}", f"x{literals[0]}{{{{ v }}}}{literals[1]}"]
    expected = [*literals, "--", value, f"x{literals[0]}{value}{literals[1]}"]
    assert shell(run, value) == "".join(f"{each}\0" for each in expected).encode()


AUTHOR_TOKENS = [
    "'", '"', "\\", "$", "(", ")", "{", "}", "`", "#", " ", "\n", "a", ";", "<<", "|", "&", "{{ v }}", "$(", "echo ", "]",
]  # fmt: skip
AUTHOR = st.lists(st.sampled_from(AUTHOR_TOKENS), max_size=12).map("".join)
WRAPPING = [
    "env ", "timeout 5 ", "nice -n 5 ", "nohup ", "setsid ", "stdbuf -oL ", "sh -c ", "sh -s ", "eval ", "xargs ", "xargs -I% ", "| sh", "| xargs ",
    "sed ", "awk ", "-e ", "-n ", "-- ", "sh ", "% ", "x=", '"$x" ', "$x ", '"{{ v }}" ', "'a' ", "; ", "\n", "{ ", "; } ", "(", ") ", "$(", "echo ", "5 ",
    "| ", ">/dev/null ", "2>&1 ", "for x in ", "; do ", "; done ", "export ", "exec ", "find . -prune -exec ", "\\; ", "&& ", "A=b ",
]  # fmt: skip


@given(st.lists(st.sampled_from(WRAPPING), max_size=9).map("".join), st.booleans())
@example('echo "{{ v }}" | timeout 5 sh ', False)
@example('x="{{ v }}" ; timeout 5 "$x" ', True)
@settings(max_examples=300, deadline=None)
def test_whatever_wraps_a_value_it_is_not_run(tmp_path_factory: Any, run: str, named: bool) -> None:
    """The value is a command, or the name of one, that would leave a mark."""
    folder = tmp_path_factory.mktemp("w")
    mark, program = folder / "mark", folder / "program"
    program.write_text(f"#!/bin/sh\n: > {mark}\n")
    program.chmod(0o755)
    value = str(program) if named else f": > {mark}"
    try:
        text, env = template.command(run, {"v": value})
    except TemplateError:
        return
    if env:
        subprocess.run(
            ["timeout", "-s", "KILL", "5", "/bin/sh", "-c", text],
            env={"PATH": "/usr/bin:/bin", **env},
            cwd=folder,
            capture_output=True,
            check=False,
            input=b"",
        )
    assert not mark.exists()


@given(AUTHOR)
@example("'\"{{ v }}\"'")
@example("$'\\'{{ v }}")
@settings(max_examples=250, deadline=None)
def test_whatever_the_author_writes_no_value_is_run_as_a_command(run: str) -> None:
    """The value would print the canary if any of it were read as shell text."""
    value = "\n\"'`;$(printf canary$((1+1)))\n#"
    try:
        text, env = template.command(run, {"v": value})
    except TemplateError:
        return
    if not env:
        return
    done = subprocess.run(
        ["/bin/sh", "-c", text],
        env={"PATH": "/usr/bin:/bin", **env},
        capture_output=True,
        check=False,
        input=b"",
    )
    assert b"canary2" not in done.stdout + done.stderr
