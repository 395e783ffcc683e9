"""`sickbay test`: the tests beside the runbooks, replayed by the real engine without a host.

Everything is real but the hosts, the people and the time: planner, engine and store do what they do in production, so
a test that passes says what would happen. A command that the test does not expect, or a reply that nobody asked for,
fails the test: both mean that the runbook is not what its test says.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bot.errors import SickbayError
from bot.facts.registry import PARSERS
from bot.language.runbook import EVIDENCE
from bot.language.schema import Document, Invalid, read, validate
from bot.library import Loaded, load_runbook
from bot.rehearsal.case import Case, Reply
from bot.rehearsal.faults import Faulty, broken, faults_of
from bot.rehearsal.stage import Played, Stage, scratch
from bot.runs.run import RunState
from bot.steps import KINDS
from bot.steps.kind import Kind

SUFFIX = ".test.yaml"


@dataclass(frozen=True, slots=True)
class Result:
    """What came of one case."""

    name: str
    problems: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Did all come as expected?"""
        return not self.problems


def rehearse(paths: Iterable[Path], kinds: Mapping[str, Kind] = KINDS) -> Iterator[Result]:
    """Replay all cases of these files, and of all test files in these folders.

    Raises:
        SickbayError: when there is no such file or folder.

    """
    for file in _files(paths):
        yield from _replay_file(file, kinds)


@dataclass(frozen=True, slots=True)
class Faults:
    """What came of the generated faults of one runbook."""

    name: str
    cases: int
    """How many faults came to an answer that is not the one it had been."""
    problems: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Were there faults, and did every rule hold?"""
        return self.cases > 0 and not self.problems


def break_steps(paths: Iterable[Path], kinds: Mapping[str, Kind] = KINDS) -> Iterator[Faults]:
    """Play each good case of each runbook again and again, each time with one step that goes wrong in one way.

    Raises:
        SickbayError: when there is no such file or folder.

    """
    for file in _files(paths):
        yield _break_file(file, kinds)


def _break_file(file: Path, kinds: Mapping[str, Kind]) -> Faults:
    name, count = file.name.removesuffix(SUFFIX), 0
    problems: list[str] = []
    try:
        loaded, document = _read(file, kinds)
        cases = list(_cases(document))
        good = [(place, case) for place, case in cases if case.expect.state == "succeeded"]
        if not good:
            why = f"{file}:1: no case ends as succeeded, so there is no good way to break; write one"
            return Faults(name, 0, (why,))
        for place, case in good:
            others = [other for _, other in cases if other is not case]
            replies = [reply for other in others for reply in other.given.replies]
            spare = [one for one in replies if one.step not in ("", EVIDENCE)]  # evidence answers by itself
            play = partial(_on_stage, case, loaded, kinds)
            well = play()
            if well.run.state is not RunState.SUCCEEDED:
                problems.append(f"{place}: the case ends as {well.run.state}, not as it says: mend it first")
                continue
            for bend, found in _broken(play, well, spare):
                count += 1
                problems += [
                    f"{place}: with {bend.fault} at step {bend.step}: {problem}" for problem in found
                ]
    except Invalid as error:
        problems += map(str, error.mistakes)
    except SickbayError as error:
        problems += str(error).splitlines()
    return Faults(name, count, tuple(problems))


def _broken(
    play: Callable[..., Played], well: Played, spare: Sequence[Reply]
) -> Iterator[tuple[Faulty, list[str]]]:
    """Play a good case, which went well, with each fault that changes it, and say which rules did not hold."""
    for bend in faults_of(well):
        try:
            found = list(broken(play(bend, spare), bend, well))
        except SickbayError as error:
            found = [error.what]
        if bend.bit or found:
            yield bend, found


def _cases(document: Document) -> Iterator[tuple[str, Case]]:
    """Yield each case with its place."""
    for name in document.data if isinstance(document.data, dict) else ():
        yield f"{document.file}:{document.line((name,))}", validate(Case, document, (name,))


def _on_stage(
    case: Case,
    loaded: Loaded,
    kinds: Mapping[str, Kind],
    bend: Faulty | None = None,
    spare: Sequence[Reply] = (),
) -> Played:
    with scratch() as folder:
        return Stage(case, loaded, Path(folder), bend=bend, spare=spare, kinds=kinds).played()


def _files(paths: Iterable[Path]) -> Iterator[Path]:
    for path in paths:
        if path.is_dir():
            files = sorted(path.glob(f"*{SUFFIX}"))
        elif path.is_file() and path.name.endswith(SUFFIX):
            files = [path]
        else:
            what = "no test of a runbook" if path.exists() else "no such file or folder"
            raise SickbayError(what, where=str(path), advice=f"tests are called NAME{SUFFIX}")
        yield from files


def _read(file: Path, kinds: Mapping[str, Kind]) -> tuple[Loaded, Document]:
    """Read a test file and the runbook beside it."""
    book = file.with_name(file.name.removesuffix(SUFFIX) + ".yaml")
    loaded = load_runbook(book, kinds=kinds, parsers=PARSERS)
    return loaded, read(file.read_bytes(), file=str(file))


def _replay_file(file: Path, kinds: Mapping[str, Kind]) -> Iterator[Result]:
    try:
        loaded, document = _read(file, kinds)
    except SickbayError as error:
        yield Result(file.name, tuple(str(error).splitlines()))
        return
    if not isinstance(document.data, dict):
        yield Result(file.name, (f"{file}:1: expected a mapping from the names of cases to cases",))
        return
    for name in document.data:
        yield Result(f"{loaded.runbook.name}: {name}", tuple(replay(document, name, loaded, kinds)))


def replay(document: Document, name: str, loaded: Loaded, kinds: Mapping[str, Kind] = KINDS) -> Iterator[str]:
    """Play one case, and yield what is not as expected, each with the line of the case."""
    place = f"{document.file}:{document.line((name,))}"
    try:
        case = validate(Case, document, (name,))
        with scratch() as folder:
            for problem in Stage(case, loaded, Path(folder), kinds=kinds).problems():
                yield f"{document.file}:{document.line((name, *problem.at))}: {problem.text}"
    except Invalid as error:
        yield from map(str, error.mistakes)
    except SickbayError as error:
        yield f"{place}: {error.what}" + (f" ({error.advice})" if error.advice else "")
