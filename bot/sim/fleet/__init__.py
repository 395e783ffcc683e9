"""A pretend fleet: GPU hosts with vLLM behind a HAProxy, spoken to by the real SSH protocol on loopback addresses.

Commands run in a real shell, each in a directory of its host, so that wrappers, pipes, exit codes and signals are real;
only the named tools (`nvidia-smi`, `docker`, `curl`, …) are pretended, and answer from state that actions change.
"""

from bot.sim.fleet.fleet import PretendFleet
from bot.sim.fleet.state import Timing

__all__ = ["PretendFleet", "Timing"]
