"""Every parser, on every real sample there is, whole and cut: facts, or a FactsError, never anything else."""

from functools import cache
from pathlib import Path

import pytest

from bot.facts import Facts, FactsError
from bot.facts.registry import PARSERS

SAMPLES = Path(__file__).parents[2] / "shared" / "data" / "gpu"
CUTS = (0.0, 0.13, 0.5, 0.871, 0.999, 1.0)


@cache
def texts() -> tuple[str, ...]:
    files = sorted(path for path in SAMPLES.rglob("*") if path.is_file() and path.stat().st_size < 400_000)
    return tuple(path.read_text(errors="replace") for path in files)


def test_every_parser_has_the_name_that_runbooks_use() -> None:
    assert set(PARSERS) == {"curl", "docker_inspect", "haproxy", "kernel_log", "nvidia_smi", "vllm"}


@pytest.mark.skipif(not SAMPLES.exists(), reason="the sample outputs (../shared/data/gpu) are not here")
@pytest.mark.parametrize("name", PARSERS)
def test_a_parser_takes_or_refuses_whatever_a_host_prints(name: str) -> None:
    assert len(texts()) > 50
    for text in texts():
        for share in CUTS:
            cut = text[: int(share * len(text))]
            try:
                facts = PARSERS[name](cut)
            except FactsError as error:
                assert error.expected in str(error)  # noqa: PT017
            else:
                assert isinstance(facts, Facts)
