"""What the checks look at: the environment of the command, the market that a run would use, and time limits."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field
from pathlib import Path

from pytest_vastgpu.cli.doctor.finding import Finding
from pytest_vastgpu.cli.doctor.finding import problem
from pytest_vastgpu.cli.doctor.limits import Limits
from pytest_vastgpu.cli.doctor.market import Market
from pytest_vastgpu.core import environment
from pytest_vastgpu.settings import DEFAULT_URL


@dataclass(frozen=True)
class Situation:
    """Everything that the checks look at. Its ``repr`` has no environment, because secrets are there."""

    environ: Mapping[str, str] = field(repr=False)
    home: Path
    directory: Path
    """The working directory."""
    limits: Limits
    market: Market | None
    """None where a run would use the local market."""

    @property
    def url(self) -> str:
        """The URL of the market that ``VAST_URL`` names, or of Vast.ai."""
        return (environment.market_url(self.environ) or DEFAULT_URL).rstrip("/")

    @property
    def key(self) -> str:
        """The API key, as it was given."""
        return self.environ.get(environment.API_KEY, "")

    @property
    def in_ci(self) -> bool:
        """Whether a CI system runs this."""
        return self.environ.get("CI", "").lower() not in {"", "0", "false"}


@dataclass(frozen=True)
class Check:
    """One check.

    :param name: The subject, for a check that gives no finding itself.
    :param look: Looks and judges.
    :param remedy: What to do if the check gets no answer in time.
    """

    name: str
    look: Callable[[Situation], Sequence[Finding]]
    remedy: str

    def silent(self, said: Exception) -> Finding:
        """The finding where there was no answer in time."""
        return problem(self.name, str(said), self.remedy)


def rents_at_market(environ: Mapping[str, str]) -> bool:
    """Whether a run rents at a market, by the environment; an ini file or the command line may say otherwise."""
    asked = environ.get("VAST_BACKEND", "").strip() or "auto"
    return asked != "local" and bool(environment.api_key(environ))
