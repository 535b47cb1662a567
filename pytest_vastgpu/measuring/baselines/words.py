"""What a stored baseline makes us suspect, in sentences for people. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator
from collections.abc import Sequence

from pytest_vastgpu.core.text.nearest import did_you_mean
from pytest_vastgpu.measuring.baselines.files import Entry
from pytest_vastgpu.measuring.baselines.files import Stored
from pytest_vastgpu.measuring.baselines.history import BLIND
from pytest_vastgpu.measuring.baselines.history import Change
from pytest_vastgpu.measuring.baselines.history import Spread
from pytest_vastgpu.measuring.baselines.history import against
from pytest_vastgpu.measuring.comparing.comparison import RULES
from pytest_vastgpu.measuring.figures import amount
from pytest_vastgpu.measuring.figures import percent


def no_such(baseline: str, stored: Sequence[Stored], where: str) -> str:
    """What is wrong with a name under which nothing was saved; empty: there is something.

    :param where: The directory that was looked in.
    """
    names = sorted({each.baseline for each in stored})
    if baseline in names:
        return ""
    others = f"there is {', '.join(names)}{did_you_mean(baseline, names)}" if names else "nothing is kept there"
    return f"no baseline {baseline!r} is kept in {where}: {others}; --vast-baseline=save:{baseline} keeps one"


def compare(entry: Entry, baseline: str, stored: Sequence[Stored]) -> list[str]:
    """What a measurement makes us suspect, in sentences for people.

    :param stored: Of all names, in any order.
    """
    found = against(entry, baseline, stored)
    if found.why:
        return [f"not compared: {found.why}; --vast-baseline=save:{baseline} keeps what is measured now"]
    changes = found.changes
    if not changes:
        return [f"not compared: it has no metric in common with baseline {baseline!r}"]
    if all(each.blind and each.p >= RULES.suspected_p for each in changes):
        return [f"not compared: too unsure is {', '.join(each.metric for each in changes)}; measure for longer"]
    return list(_sentences(entry, baseline, found.base, changes))


def _sentences(entry: Entry, baseline: str, base: Sequence[Stored], changes: Sequence[Change]) -> Iterator[str]:
    machines = sorted({each.entry.machine for each in base})
    last = base[-1]
    of = f"commit {last.commit[:9]}" if last.commit else "no commit"
    whose = "this machine" if machines == [entry.machine] else f"machine {', '.join(machines)}, not this one"
    than = f"baseline {baseline!r} ({last.when[:10]}, {of}, {whose})"
    suspects = [each for each in changes if each.p < RULES.suspected_p]
    clear = [each for each in changes if not each.blind]
    sensitivity = [_sees(clear, machines, entry)] if clear else []
    if blind := [each.metric for each in changes if each.blind and each not in suspects]:
        sensitivity.append(f"too unsure to compare: {', '.join(blind)}")
    if suspects:
        yield f"suspected, against {than}: {'; '.join(map(_worse, suspects))}"
        yield "; ".join([*sensitivity, f"to settle it, compare on one host: {_settles(suspects, last, baseline)}"])
    else:
        yield "; ".join([f"nothing suspected, against {than}: {', '.join(map(_moved, clear))}", *sensitivity])
    if wild := [
        each.metric for each in changes if each.high < 0 and not 1 / BLIND < each.now.value / each.before < BLIND
    ]:
        yield f"better by more than {BLIND:g} times: {', '.join(wild)}; was the baseline, or this, no usual run?"
    failed, before = (sum(each.errors.values()) for each in (entry, last.entry))
    if failed and not before:
        yield f"{failed} of its requests failed, and none of the baseline's did"


def _sees(clear: Sequence[Change], machines: Sequence[str], entry: Entry) -> str:
    least = ", ".join(f"{each.metric} from {percent(each.resolves, 0)} on" for each in clear)
    return f"in 8 of 10 cases it suspects {least} ({_why(clear[0].spread, machines, entry)})"


def _why(usual: Spread, machines: Sequence[str], entry: Entry) -> str:
    what = "starts on one machine" if list(machines) == [entry.machine] else "machines of a kind"
    source = f"learned from {usual.learned} pairs of saves" if usual.learned else "published, nothing learned yet"
    return f"{what} differ by {percent(usual.sigma, 0)}, {source}"


def _worse(change: Change) -> str:
    word = "lower" if change.now.better > 0 else "higher"
    return (
        f"{change.metric} is {percent(change.slower, 0)} {word} "
        f"({percent(change.low, 0)} to {percent(change.high, 0)}): "
        f"{amount(change.now.value, change.now.unit)}, was {amount(change.before, change.now.unit)}"
    )


def _moved(change: Change) -> str:
    lower = (change.slower > 0) is (change.now.better > 0)
    return f"{change.metric} {percent(abs(change.slower), 0)} {'lower' if lower else 'higher'}"


def _settles(suspects: Sequence[Change], last: Stored, baseline: str) -> str:
    gates = ", ".join(
        f"{each.metric}={min(0.5, max(0.05, math.floor(each.slower * 100) / 100)):g}" for each in suspects
    )
    then = f"commit {last.commit[:9]}" if last.commit else f"baseline {baseline!r}"
    return (
        f"vast_compare(baseline=<the workload of {then}>, candidate=<this one>, load=<this load>)"
        f".assert_no_regression({gates})"
    )
