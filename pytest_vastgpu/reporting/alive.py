"""Says what is alive once nobody uses it, and so goes on costing money: the one place that has words for that. Pure.

Terminal, summary on GitHub, page and commands have their sentences from here.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from pytest_vastgpu.core.text.durations import HOUR_S
from pytest_vastgpu.core.text.durations import lasting

if TYPE_CHECKING:
    from pytest_vastgpu.reporting.run.report import RunReport


class Why(StrEnum):
    """Why something is alive."""

    KEPT = "kept"
    """For a look inside (``--vast-keep``)."""
    WARM = "warm"
    """For the next run (``--vast-reuse``)."""
    RESISTS = "resists"
    """It could not be destroyed, or not seen to be gone."""
    LEFT = "left"
    """Its run is over, was killed perhaps, and nobody looks after it."""


_HEADS = {Why.KEPT: "KEPT", Why.WARM: "WARM", Why.RESISTS: "STILL RUNNING", Why.LEFT: "LEFT"}


@dataclass(frozen=True)
class Alive:
    """Something that is alive. Its texts are safe to show, but not escaped for any format."""

    why: Why
    what: str
    """``instance 4711``."""
    command: str
    """What ends it: ``vastgpu destroy 4711``."""
    usd_h: float = 0.0
    """Its price; 0: not known."""
    until: float = 0.0
    """Epoch seconds at which it ends by itself at the latest; 0: nothing is known that ends it."""
    seconds: float = 0.0
    """How long it lives, from when this was noted until then; 0: not known."""
    workload: str = ""
    ssh: str = ""
    """The command line that logs in; empty where there is none."""
    cause: str = ""
    """Why it could not be destroyed, or whose it was."""

    @property
    def wanted(self) -> bool:
        """Whether somebody has asked for it, by an option."""
        return self.why in (Why.KEPT, Why.WARM)

    @property
    def usd(self) -> float:
        """What it still costs, if it lives until then; 0: not known."""
        return self.usd_h * self.seconds / HOUR_S

    def fact(self, *, utc: bool = False) -> str:
        """What it is, for how much and until when, in a line: ``KEPT: instance 4711 until …, at 0.360 USD/h``.

        :param utc: Whether the reader may be in another time zone.
        """
        return f"{_HEADS[self.why]}: {self.story(utc=utc)}"

    def sentence(self, *, utc: bool = False) -> str:
        """The fact, and the command that ends it."""
        return f"{self.fact(utc=utc)}: run `{self.command}`"

    @property
    def problem(self) -> str:
        """The story, and the command that ends it: the text of an error."""
        return f"{self.story()}: run `{self.command}`"

    def story(self, *, utc: bool = False) -> str:
        """The fact, without the word in front that says of which kind it is."""
        price = f"at {self.usd_h:.3f} USD/h" if self.usd_h else ""
        if self.wanted:
            workload = f" ({self.workload})" if self.workload else ""
            until = f" until {moment(self.until, utc=utc)}" if self.until else ""
            usd = f" ({self.usd:.4f} USD)" if self.usd else ""
            return f"{self.what}{workload}{until}{f', {price}{usd}' if price else ''}"
        if self.why is Why.RESISTS:
            what = f"{self.what} could not be destroyed ({self.cause})"
        else:
            what = f"{self.what} was not seen to be gone, and {self.cause}"
        until = f", until {moment(self.until, utc=utc)} at the latest" if self.until else ""
        return f"{what}; it may go on costing money{f', {price}' if price else ''}{until}"

    def lines(self) -> list[str]:
        """What a person needs at a terminal: the fact, how to look inside, how to end it."""
        if self.why is Why.KEPT:
            look = [f"  look inside: {self.ssh}"] if self.ssh else []
            return [self.fact(), *look, f"  end it now:  {self.command}"]
        if self.why is Why.WARM:
            return [self.fact(), f"  the next run with --vast-reuse uses it; to end it now: {self.command}"]
        return [self.sentence()]


def destroys(instance: int | str) -> str:
    """The command that destroys an instance.

    :param instance: Its id; its label where that is not known.
    """
    return f"vastgpu destroy {instance}"


def kept(instance: int | str, usd_h: float, until: float, seconds: float, ssh: str) -> Alive:
    """An instance that is kept for a look inside."""
    return Alive(Why.KEPT, f"instance {instance}", destroys(instance), usd_h, until, seconds, ssh=ssh)


def warm(instance: int | str, workload: str, usd_h: float, until: float = 0.0, seconds: float = 0.0) -> Alive:
    """An instance that waits for the next run."""
    return Alive(Why.WARM, f"instance {instance}", "vastgpu down", usd_h, until, seconds, workload)


def left(instance: int | str, run: str, now: float, usd_h: float = 0.0, until: float = 0.0) -> Alive:
    """An instance of a run that is over, or was killed, and that nobody looks after.

    :param until: Epoch seconds of the hard end of its life; one that is past has ended nothing.
    """
    cause = f"nobody looks after it, since run {run} is over"
    until = until if until > now else 0.0
    return Alive(Why.LEFT, f"instance {instance}", destroys(instance), usd_h, until, cause=cause)


def of_run(run: RunReport, now: float) -> list[Alive]:
    """What a run has left alive, as far as its files say; without what it still uses.

    :param now: Epoch seconds.
    """
    found: list[Alive] = []
    for each in run.left_alive:
        instance = each.id or each.label
        if each.kept_until > now:
            found.append(kept(instance, each.usd_h, each.kept_until, each.kept_until - now, f"vastgpu ssh {instance}"))
        elif run.running:
            found += [warm(instance, each.workload, each.usd_h)] if run.over else []
        else:
            found.append(left(instance, run.id, now, each.usd_h, each.ends_at))
    return sorted(found, key=lambda alive: alive.wanted)


def moment(at: float, *, utc: bool = False) -> str:
    """A time for people: ``23:59:26 on 29 Nov``, local time if not said otherwise."""
    zone, shown = (" UTC", time.gmtime(at)) if utc else ("", time.localtime(at))
    return time.strftime(f"%H:%M:%S{zone} on %d %b", shown)


def ends(why: Why | None, until: float, now: float) -> str:
    """When something ends, in a cell of a table: ``kept until 15:10``, ``in 43 min``, ``OVERDUE by 12 min``.

    :param why: None: a run uses it, or nobody knows.
    """
    if until < now:
        return f"OVERDUE by {lasting(now - until)}"
    if why in (Why.KEPT, Why.WARM):
        return time.strftime(f"{why.value} until %H:%M", time.localtime(until))
    return f"in {lasting(until - now)}"
