"""What a command does with an argument: takes it as data, reads it as code, or runs it as a command.

Commands run commands (`sudo -u svc timeout 5 ssh node …`), so this follows them from the front, over their options, to the one
that gets the argument. An option nobody knows here may take a word behind it or not: both ways are followed, and one that
ends badly is enough. Behind a command that is not known to take data only, a word that reads code counts wherever it stands.
"""

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Literal, NamedTuple

ASSIGNMENT = re.compile(r"[A-Za-z_]\w*\+?=")
_LOADED = re.compile(
    r"(PATH|ENV|BASH_ENV|IFS|PS4|SHELL|EDITOR|VISUAL|PAGER|\w+_PAGER|LD_\w+|PYTHON(PATH|STARTUP|HOME)|PERL5\w+|PERLLIB|RUBY(OPT|LIB)|"
    r"NODE_(OPTIONS|PATH)|GIT_SSH\w*|GIT_CONFIG\w*|PROMPT_COMMAND|LESS(OPEN|CLOSE)|RSYNC_RSH)\+?="
)
_BUILTIN = frozenset(
    ("eval", "let", "source", ".", "trap", "alias", "[[", "unset", "declare", "typeset", "read", "getopts", "mapfile", "readarray",
     "hash", "enable", "bind", "complete", "compgen"),
)  # fmt: skip
ELSEWHERE = frozenset(
    ("ssh", "slogin", "rsh", "autossh", "mosh", "pdsh", "clush", "dsh", "pssh", "parallel-ssh", "ansible", "salt"),
)  # fmt: skip
"""Commands that run their words on other machines."""
_READ_CODE = (
    frozenset(("eval", "watch", "parallel", "at", "batch", "expect", "tmux", "screen", "make", "crontab"))
    | ELSEWHERE
)
ORDINARY = frozenset(
    ("at", "batch", "time", "node", "command", "exec", "find", "script", "screen", "make", "watch", "env", "nice", "parallel", "expect", "su", "ip",
     "timeout"),
)  # fmt: skip
"""Words that mean something else where no command stands."""
_EXPORTS = frozenset(("export", "local", "readonly"))
DATA = frozenset(
    ("echo", "printf", "test", "[", "true", "false", ":", "cat", "head", "tail", "grep", "egrep", "fgrep", "zgrep", "rg", "cut", "tr", "uniq", "wc",
     "ls", "stat", "du", "df", "mkdir", "rmdir", "touch", "rm", "cp", "mv", "ln", "chmod", "chown", "chgrp", "readlink", "realpath", "basename",
     "dirname", "logger", "journalctl", "systemctl", "loginctl", "nvidia-smi", "dcgmi", "curl", "wget", "ping", "jq", "yq", "kill", "pkill",
     "killall", "pgrep", "ps", "lsof", "ss", "mount", "umount", "sleep", "date", "id", "getent", "sha256sum", "md5sum", "tee", "cd", "return", "exit",
     "shift", "wait", "dmesg", "scontrol", "squeue", "sinfo", "sacct", "sacctmgr", "redis-cli", "rabbitmqctl", "case", "for", "in", "seq", "fuser"),
)  # fmt: skip
"""Commands that take all their arguments as data, whatever these are called."""
_SUBCOMMANDS = frozenset(
    ("docker", "podman", "nerdctl", "kubectl", "oc", "crictl", "ctr", "lxc", "incus", "ip", "docker-compose", "apptainer", "singularity"),
)  # fmt: skip

Danger = tuple[str, str]
"""What is wrong with a value here, and what to write instead."""
NAMES: Danger = ("a value cannot name the command", "write the command out, one step for each")


class _Kind(NamedTuple):
    """How a command reads its words."""

    then: Literal["command", "script", "data"] = "command"
    """What comes behind options and operands."""
    operands: int = 0
    takes: str = ""
    """Options with a word behind them."""
    flags: str = ""
    """Options without."""
    code: str = ""
    """Options whose word is code."""
    assigns: bool = False
    mixed: bool = False
    """May options stand behind operands?"""


SHELL = _Kind(
    "script",
    takes="o O rcfile init-file",
    flags="abefhiklmnprtuvxBCEHPTDsl login norc noprofile posix",
    code="c",
)
PYTHON = _Kind("script", takes="W X", flags="bBdEhiIOPqsSuvVx", code="c m")
_SQL = _Kind("data", takes="h p U d v P D", code="c e f command execute file", mixed=True)
_EXEC = _Kind(
    operands=1,
    takes="e u w n c env user workdir env-file detach-keys namespace container context pod-running-timeout index target image",
    flags="ditTq interactive tty detach privileged stdin",
)
_RUN = _Kind(
    operands=1,
    takes="e u w v p m c h l a env user workdir volume publish memory name network gpus hostname label mount runtime shm-size env-file ipc "
    "pid device cap-add cap-drop security-opt ulimit cpus restart log-driver add-host image namespace",
    flags="ditPq rm init privileged read-only detach interactive tty no-healthcheck",
    code="entrypoint",
)
_KINDS: dict[str, _Kind] = {
    "sudo": _Kind(takes="u g h p C r t T U D R user group host prompt chdir chroot", flags="AbEeHiKklNnPSsVv non-interactive preserve-env set-home login shell", assigns=True),
    "doas": _Kind(takes="u C", flags="Lns"),
    "env": _Kind(takes="u C unset chdir", flags="i0v ignore-environment", code="S split-string", assigns=True),
    "exec": _Kind(takes="a", flags="cl"),
    "command": _Kind(flags="pvV"),
    "builtin": _Kind(),
    "busybox": _Kind(),
    "coproc": _Kind(),
    "time": _Kind(takes="f o format output", flags="apvqV"),
    "nohup": _Kind(),
    "setsid": _Kind(flags="cfw ctty fork wait"),
    "timeout": _Kind(operands=1, takes="k s kill-after signal", flags="v foreground preserve-status verbose"),
    "nice": _Kind(takes="n adjustment", flags="0123456789"),
    "ionice": _Kind(takes="c n p P u class classdata", flags="t ignore"),
    "chrt": _Kind(operands=1, takes="T P D", flags="abfiorRv"),
    "taskset": _Kind(operands=1, flags="ac"),
    "numactl": _Kind(takes="i N m p C l cpunodebind membind interleave physcpubind preferred", flags="asH"),
    "stdbuf": _Kind(takes="i o e input output error"),
    "flock": _Kind(operands=1, takes="w E wait timeout conflict-exit-code", flags="enosuxF nonblock shared exclusive close unlock", code="c command"),
    "nsenter": _Kind(takes="t S G target setuid setgid", flags="amuinpUCTFZrw all mount uts ipc net pid user cgroup preserve-credentials"),
    "unshare": _Kind(takes="S G R w", flags="muinpUCTfr fork mount-proc map-root-user"),
    "chroot": _Kind(operands=1, takes="userspec groups"),
    "xargs": _Kind(takes="n P I L d E s a max-args max-procs max-lines delimiter arg-file replace", flags="0rtpox null no-run-if-empty verbose"),
    "strace": _Kind(takes="o p e s u P a b E", flags="fFcCttTvxyqkDr"),
    "systemd-run": _Kind(takes="u p E H M t slice unit uid gid property setenv working-directory description", flags="qGrdPS scope user pty wait pipe collect quiet same-dir"),
    "srun": _Kind(takes="w n N p t c J A o e nodelist ntasks nodes partition time cpus-per-task gres job-name", flags="lvu overlap exclusive pty"),
    "pkexec": _Kind(takes="user"),
    "tini": _Kind(takes="p e", flags="sgvw"),
    "prlimit": _Kind(takes="p pid", flags="v"),
    "setarch": _Kind(operands=1, flags="BFILRSTXZv"),
    "gosu": _Kind(operands=1),
    "sshpass": _Kind(takes="p f d P", flags="ev"),
    "setpriv": _Kind(takes="reuid regid groups ruid euid", flags="no-new-privs clear-groups init-groups"),
    "runuser": _Kind(takes="u g G s w user group supp-group shell", flags="lfmpP login fast", code="c command session-command"),
    "sg": _Kind("script", operands=1, code="c"),
    "su": _Kind("script", operands=1, takes="g G s w group shell", flags="lmpPf login", code="c command session-command", mixed=True),
    "script": _Kind("data", code="c command", mixed=True),
    "awk": _Kind("script", takes="F v i l field-separator assign", code="f e source file"),
    "sed": _Kind("script", takes="l line-length", flags="nEirsuz quiet silent regexp-extended in-place null-data separate", code="e f expression file", mixed=True),
    "perl": _Kind("script", takes="M m I F", flags="acdlnpstTuUvwWXi0", code="e E"),
    "ruby": _Kind("script", flags="anplswWvi", code="e r I"),
    "node": _Kind("script", code="e p r eval print require import"),
    "php": _Kind("script", takes="d c", code="r f B R E"),
    "lua": _Kind("script", code="e l"),
    "psql": _SQL, "mysql": _SQL, "mariadb": _SQL, "sqlite3": _Kind("script", operands=1, code="cmd init"),
    "rsync": _Kind("data", code="e rsh rsync-path", mixed=True),
    "tar": _Kind("data", code="I F to-command checkpoint-action use-compress-program", mixed=True),
    "sort": _Kind("data", code="compress-program", mixed=True),
    "git": _Kind("data", code="c upload-pack exec", mixed=True),
}  # fmt: skip
_FAMILIES = (
    (re.compile(r"(ba|da|a|z|k|fi|c|tc)?sh"), SHELL),
    (re.compile(r"python[0-9.]*"), PYTHON),
    (re.compile(r"[gm]awk"), _KINDS["awk"]),
    (re.compile(r"gsed"), _KINDS["sed"]),
)


BARE = "\0"
"""Stands in a word before an expansion without quotes: where that is empty, the word is not there."""
_VANISHES = re.compile(r"(\0\$(\{[^}]*\}|[\w@*#?!-]*))+")


def danger(words: Sequence[str], word: str) -> Danger | None:
    """Say what is wrong with a value behind these words of a command, in the word that begins so; None: it is data there."""
    stay = tuple(each for each in words if not _VANISHES.fullmatch(each))
    try:
        return _danger(tuple(words), word) or _danger(stay, word)
    except RecursionError:
        return "nobody can follow so many commands in one", "split it over steps"


@lru_cache(maxsize=4096)
def _danger(rest: tuple[str, ...], word: str) -> Danger | None:
    while rest and ASSIGNMENT.match(rest[0]):
        rest = rest[1:]
    if not rest:
        if not ASSIGNMENT.match(word):
            return NAMES
        return _loaded(word)
    name = basename(rest[0])
    if name[:1] == "-":  # an option of what an image starts by itself
        return _code(name) if re.fullmatch(r"-\w*[ce]|--(eval|command)", rest[-1]) else _anywhere(rest, word)
    if "$" in name and re.fullmatch(r"-\w*[ce]|--(eval|command)", rest[-1]):
        return _code(name.lstrip(BARE))
    if name in _EXPORTS:
        return _loaded(word) if ASSIGNMENT.match(word) else _code(name)
    if name in _BUILTIN or name in _READ_CODE:
        return _code(name)
    if name == "find":
        return _found(rest, word)
    if name in _SUBCOMMANDS:
        return _subcommand(rest, word)
    if name == "runuser" and not any(re.match(r"-u|--user", each) for each in rest):
        return _behind(_KINDS["su"], name, rest, word)
    if kind := kind_of(name):
        return _behind(kind, name, rest, word)
    return None if name in DATA else _anywhere(rest, word)


def kind_of(name: str) -> _Kind | None:
    """Return how a command of this name reads its words, if it does more than take them."""
    return _KINDS.get(name) or next((kind for family, kind in _FAMILIES if family.fullmatch(name)), None)


def basename(word: str) -> str:
    """Return the name of a command without its folder."""
    return word.rpartition("/")[2]


def _code(name: str) -> Danger:
    advice = 'hand the value over as an argument, like: sh -c \'echo "$1"\' sh "{{ … }}"'
    if name in ELSEWHERE:
        advice = "let `hosts` name that machine: then the step runs there, and the value stays a value"
    elif name in ("awk", "gawk", "mawk", "sed"):
        advice = "hand the value over as a variable, like: awk -v x=\"{{ … }}\" '$1 == x' file"
    return f"`{name}` reads this argument as code, so a value in it could become a command", advice


def _loaded(word: str) -> Danger | None:
    if not _LOADED.match(word):
        return None
    name = word.partition("=")[0].rstrip("+")
    return f"`{name}` tells programs what to run, so a value in it could become a command", "write it out"


def _found(rest: tuple[str, ...], word: str) -> Danger | None:
    """What `find` runs."""
    for at in range(len(rest) - 1, 0, -1):
        if rest[at] in ("-exec", "-execdir", "-ok", "-okdir"):
            inner = rest[at + 1 :]
            return None if {";", "+"} & set(inner) else _danger(inner, word)
    return None


def _subcommand(rest: tuple[str, ...], word: str) -> Danger | None:
    """`docker exec` and its like run a command; what else such programs do takes data."""
    for at, each in enumerate(rest[1:], 1):
        created = each == "create" and rest[1] in ("create", "container", "service")
        if each in ("exec", "run", "debug") or created:
            kind = _EXEC if each == "exec" else _RUN
            return _behind(kind, basename(rest[0]), rest[at:], word)
    return _anywhere(rest, word)


def _anywhere(rest: tuple[str, ...], word: str) -> Danger | None:
    """Behind a command nobody knows here each word may be one that it runs."""
    for at, each in enumerate(rest[1:], 1):
        name = basename(each)
        if name in ORDINARY and not (name in ("node", "su") and re.fullmatch(r"-\w*[cep]|--eval", rest[-1])):
            continue
        known = name in _READ_CODE or name in _SUBCOMMANDS or kind_of(name)
        if known and (found := _danger(rest[at:], word)):
            return found
    return None


def _options(kind: _Kind, each: str) -> Iterator[Literal["flag", "takes", "code", "has"]]:
    """Yield what an option may be: alone, with a word behind it, with code behind it, with its word in it."""
    if kind is SHELL and not each.startswith("--") and "c" in each:
        yield "code"
        return
    if each.startswith("--"):
        name, equals, _ = each[2:].partition("=")
        if equals:
            yield "has"
        elif name in kind.code.split():
            yield "code"
        elif name in kind.takes.split():
            yield "takes"
        elif name in kind.flags.split():
            yield "flag"
        else:
            yield from ("flag", "takes")
        return
    short = kind.flags.split(" ")[0] if kind.flags else ""
    for at, letter in enumerate(each[1:], 1):
        last = at == len(each) - 1
        if letter in kind.code.split():
            yield "code" if last else "has"
            return
        elif letter in kind.takes.split():
            yield "takes" if last else "has"
            return
        elif letter not in short:
            yield from ("flag", "takes") if last else ("has",)
            if not last and each[-1] in kind.code.split():
                yield "code"
            return
    yield "flag"


def _behind(kind: _Kind, name: str, rest: tuple[str, ...], word: str) -> Danger | None:
    """Follow a command over its options and operands, each way they can be read."""
    closes = kind is _RUN and name not in ("kubectl", "oc")  # what stands behind an image is not docker's
    entry = _entrypoint(rest) if closes else ()
    waiting = [(1, kind.operands, False, True)]
    seen = set(waiting)
    while waiting:
        at, operands, coded, opened = waiting.pop()
        onward: list[tuple[int, int, bool, bool]] = []
        if at >= len(rest):
            if closes and not operands and re.match(r"--[a-z][a-z0-9-]*=", word):
                if entry and (found := _danger(entry, word)):
                    return found
            elif at == len(rest) and (
                found := _reached(kind, name, word, operands, coded=coded, opened=opened)
            ):
                return found
            continue
        each = rest[at]
        if opened and each == "--":
            onward.append((at + 1, operands, coded, False))
        elif opened and each[:1] in ("-", "+" if kind is SHELL else "-") and len(each) > 1:
            for how in _options(kind, each):
                if how == "code" and at + 1 == len(rest):
                    return _code(name)
                stdin = kind is SHELL and "s" in each and not each.startswith("--")
                # A shell takes its code behind all of its options, others right behind this one.
                skips = how == "takes" or (how == "code" and kind is not SHELL)
                done = coded or (how == "code" and kind is not SHELL) or stdin
                if how == "has" and kind.then == "script" and _attached(kind, each):
                    done = True
                onward.append((at + 1 + skips, operands, done, True))
        elif (kind.assigns and ASSIGNMENT.match(each)) or (name == "su" and each == "-"):
            onward.append((at + 1, operands, coded, opened))
        elif operands:
            onward.append((at + 1, operands - 1, coded, opened and not closes))
        elif kind.then == "command":
            if found := _danger((*entry, *rest[at:]), word):
                return found
        elif kind.mixed:
            onward.append((at + 1, operands, True, opened))
        waiting += set(onward) - seen
        seen.update(onward)
    return None


def _entrypoint(rest: Sequence[str]) -> tuple[str, ...]:
    """Return what an image is told to start instead of its own program."""
    for each, behind in zip(rest, (*rest[1:], ""), strict=True):
        if each == "--entrypoint" or each.startswith("--entrypoint="):
            return (each.partition("=")[2] or behind,)
    return ()


def _reached(kind: _Kind, name: str, word: str, operands: int, *, coded: bool, opened: bool) -> Danger | None:
    """The value stands at this place itself."""
    if opened and word[:1] == "-":
        loads = name == "perl" and re.match(r"-\w*[MmI]", word)
        choosing = loads or (word in ("-", "--") and kind.then != "data")
        return _code(name) if choosing or _attached(kind, word) else None
    if operands:
        return None
    if kind.then == "command":
        if kind.assigns and ASSIGNMENT.match(word):
            return _loaded(word)
        return NAMES
    return _code(name) if kind.then == "script" and not coded else None


def _attached(kind: _Kind, word: str) -> bool:
    """Is what stands in the same word as the option code?"""
    if word.startswith("--"):
        return "=" in word and word[2:].partition("=")[0] in kind.code.split()
    letters = set(kind.code.split())
    for letter in word[1:]:
        if letter in letters:
            return True
        if letter in kind.takes.split():
            return False
    return False
