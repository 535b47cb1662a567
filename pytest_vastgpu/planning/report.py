"""Shows a plan as text, in the width of a terminal. Pure."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass

from pytest_vastgpu.core.text import sanitize
from pytest_vastgpu.model import HOST
from pytest_vastgpu.model import MachineRecord
from pytest_vastgpu.model import Workload
from pytest_vastgpu.planning.plan import NOTHING
from pytest_vastgpu.planning.plan import Affordable
from pytest_vastgpu.planning.plan import Plan
from pytest_vastgpu.planning.plan import WorkloadPlan
from pytest_vastgpu.reporting.sentences import count
from pytest_vastgpu.reporting.sentences import gpus
from pytest_vastgpu.selection.explanation import Change
from pytest_vastgpu.selection.pricing import hourly_usd
from pytest_vastgpu.selection.ranking import Ranked
from pytest_vastgpu.selection.relaxation import IN_WORKLOAD
from pytest_vastgpu.selection.strictness import POLICIES
from pytest_vastgpu.servers.host import alike
from pytest_vastgpu.settings import Strictness


@dataclass(frozen=True)
class Wording:
    """The words of the program that shows a plan."""

    title: str = ""
    """What was asked for, where that is one workload and no run of tests."""
    prefix: str = "--vast-"
    """What the options of a run begin with."""
    argument: Callable[[str, str], str] = lambda name, value: f"{name}={value}"
    """How an argument of a workload is typed, by its name and value."""
    of_arguments: str = IN_WORKLOAD
    """What follows arguments of a workload."""

    def options(self, text: str) -> str:
        """A text with the options as they are typed."""
        return text.replace("--vast-", self.prefix)

    def steps(self, change: Change) -> list[str]:
        """What to type for a change; the arguments of a workload come last, in one text."""
        ends = [step.endswith(IN_WORKLOAD) for step in change.steps]
        steps = [self.options(step) for step, argument in zip(change.steps, ends, strict=True) if not argument]
        pairs = [
            step.removesuffix(IN_WORKLOAD).partition("=")
            for step, argument in zip(change.steps, ends, strict=True)
            if argument
        ]
        if pairs:
            steps.append(", ".join(self.argument(name, value) for name, _, value in pairs) + self.of_arguments)
        return steps


OF_PYTEST = Wording()


def lines(plan: Plan, width: int, most: int | None = None, wording: Wording = OF_PYTEST) -> list[str]:
    """The plan for people, in lines that fit the width where no name of others is longer.

    :param most: Most offers of each workload; None: as many as would be tried.
    """
    most = plan.settings.attempts if most is None else most
    told: list[str] = []
    for each, *others in _together(plan.workloads):
        told += [*_workload(each, others, plan, width, most, wording), ""]
    facts = list(_facts(plan, wording))
    indent = max(len(name) for name, _ in facts) + 2
    for name, text in facts:
        told += _wrapped(wording.options(text), width, f"{name:<{indent}}", " " * indent)
    for subject, text in plan.problems:
        if wording.title and text == NOTHING:
            continue  # the only workload has said so
        of = f"{subject}: " if subject and not wording.title else ""
        told += _wrapped(wording.options(f"problem: {of}{text}"), width, "", "  ")
    return told


def _together(workloads: Sequence[WorkloadPlan]) -> list[list[WorkloadPlan]]:
    """The hosts of a run, which are alike, together; each other workload alone."""
    found: dict[Workload, list[WorkloadPlan]] = {}
    for each in workloads:
        found.setdefault(alike(each.workload) or each.workload, []).append(each)
    return list(found.values())


def _workload(
    each: WorkloadPlan, others: Sequence[WorkloadPlan], plan: Plan, width: int, most: int, wording: Wording
) -> Iterator[str]:
    """What is said of one workload.

    :param others: Further hosts like this one.
    """
    names = f"{each.name} to {others[-1].name}" if others else each.name
    yield from _wrapped(wording.title or f"{names}: {_who_asks(each)}", width, "", "  ")
    survey = each.found.survey
    for warm, same in plan.warm_for(each):
        use = (
            "is used where it still serves" if same else f"its server ({warm.workload}) is replaced where this one fits"
        )
        yield from _wrapped(f"instance {warm.instance_id} is warm, and {use}", width, "  ")
    if plan.warm_for(each):
        yield from _wrapped("otherwise, as without --vast-reuse:", width, "  ")
    if each.found.ranked:
        yield from _offers(each, width, most)
        if (more := len(each.found.ranked) - most) > 0:
            yield f"  … and {more} more"
        yield from _wrapped(_order(each, plan), width, "  ")
    elif survey.ranked:
        text = f"the hook pytest_vastgpu_modify_offers has left none of {count(len(survey.ranked), 'offer')}"
        yield from _wrapped(f"NOTHING TO RENT: {text}", width, "  ")
    else:
        yield from _wrapped(f"NOTHING TO RENT: {survey.why_none}", width, "  ")
    in_turn = [host.name for host in (each, *others) if host.affordable is Affordable.IN_TURN]
    if in_turn:
        which = f"{', '.join(in_turn)}: " if others else ""
        text = f"{which}rented only once another instance is given back: the budget does not cover it beside the others"
        yield from _wrapped(text, width, "  ")
    if each.affordable is Affordable.NEVER:
        text = f"NOT WITHIN THE BUDGET: one instance may cost {each.worst_usd:.2f} USD until its end of life"
        yield from _wrapped(text, width, "  ")
    if survey.changes:
        yield "  cheaper with:" if each.found.ranked else "  what to change:"
        for change in survey.changes:
            machine = f"machine {change.offer.machine_id} ({gpus(change.offer.num_gpus, change.offer.gpu_name)})"
            text = f"{' with '.join(wording.steps(change))}: {machine} at {change.hourly_usd:.2f} USD/h"
            yield from _wrapped(text, width, "    ", "      ")
    if survey.removed:
        several = " (one can fail several conditions)" if survey.seen > 1 else ""
        yield from _wrapped(f"removed, of {count(survey.seen, 'offer')} seen{several}:", width, "  ")
        for removed in survey.removed:
            yield from _wrapped(str(removed), width, "    ", "      ")


def _who_asks(each: WorkloadPlan) -> str:
    if alike(each.workload) is not None:
        return "the tests run there"
    if each.best is None:
        return count(each.tests, "test")
    maybe = each.tests - each.certain
    tests = count(each.tests, "test") + (f" ({maybe} of them may be skipped)" if 0 < maybe < each.tests else "")
    if not each.certain:
        return f"{tests}, which may be skipped: rented when one asks"
    if not each.at_once:
        return f"{tests}, rented when there is room (--vast-max-instances)"
    return f"{tests}, {count(each.at_once, 'instance')} when collection ends"


def _offers(each: WorkloadPlan, width: int, most: int) -> list[str]:
    """The table of offers; a column that is of little use to people is left out where there is no room for it."""
    for left_out in ((), ("offer",), ("offer", "country")):
        columns = {name: cell for name, cell in _COLUMNS.items() if name not in left_out}
        rows = [
            [str(rank), *(cell(ranked, each.workload) for cell in columns.values())]
            for rank, ranked in enumerate(each.found.ranked[:most], 1)
        ]
        table = [f"  {line}" for line in sanitize.table(("#", *columns), rows)]
        if max(map(len, table)) <= width:
            break
    return table


def _known(record: MachineRecord | None) -> str:
    return f"{record.successes:g}/{record.infra_failures:g}" if record else "-"


_COLUMNS: Mapping[str, Callable[[Ranked, Workload], str]] = {
    "offer": lambda ranked, _: str(ranked.offer.id),
    "machine": lambda ranked, _: str(ranked.offer.machine_id),
    "GPU": lambda ranked, _: gpus(ranked.offer.num_gpus, ranked.offer.gpu_name),
    "country": lambda ranked, _: ranked.offer.geolocation.rpartition(",")[2].strip() or "-",
    "USD/h": lambda ranked, workload: f"{hourly_usd(ranked.offer, workload):.3f}",
    "ready in": lambda ranked, _: duration(ranked.seconds),
    "USD to ready": lambda ranked, _: f"{ranked.expected_cost_usd:.4f}",
    "chance": lambda ranked, _: f"{ranked.chance:.0%}",
    "record": lambda ranked, _: _known(ranked.record),
}
"""The columns of the table, by their headings. USD/h includes disk and transfer, as --vast-max-price does."""


def _order(each: WorkloadPlan, plan: Plan) -> str:
    policy = POLICIES[Strictness(plan.settings.strictness)]
    by = "USD to ready: price x time / chance" if policy.by_record else "USD/h"
    hook = "; pytest_vastgpu_modify_offers has changed the list" if each.found.by_hook else ""
    record = "; record: starts that were ready/failed" if any(ranked.record for ranked in each.found.ranked) else ""
    return f"in this order, by {by} ({policy.strictness.value}){record}{hook}"


def _facts(plan: Plan, wording: Wording) -> Iterator[tuple[str, str]]:
    """What is said of the whole run, by name."""
    settings, of_run = plan.settings, not wording.title
    yield "market", settings.url if settings.backend == "vast" else "the local one, on this machine: play money"
    if plan.credit_usd is not None and settings.backend == "vast":
        low = ", less than the run may cost" if 0 < plan.credit_usd < plan.worst_usd else ""
        yield "credit", f"{plan.credit_usd:.2f} USD{low}"
    possible = {each.workload: each for each in plan.workloads if each.possible}
    order = [
        f"{possible[start.workload].name} on machine {start.offer.machine_id}"
        for start in plan.starts
        if start.workload in possible
    ]
    if len(order) > 1:
        together = all(each.affordable is not Affordable.IN_TURN for each in possible.values())
        yield "order", f"{', '.join(order)}; {'all' if together else 'what the budget covers'} at the same time"
    if possible:
        first, *_ = possible.values()
        of = f"{first.name}, failed starts included" if of_run else "failed starts included"
        hosts = any(each.workload.adapter == HOST for each in possible.values())
        comes_on_top = "; bringing the project and making its environment come on top" if hosts else ""
        text = f"in about {duration(first.ready_s)} ({of})"
        if len(possible) > 1:
            text += f"; all of them in about {duration(max(each.ready_s for each in possible.values()))}"
        yield "first test" if of_run else "ready", text + comes_on_top
        yield (
            "expected",
            f"about {plan.expected_usd:.2f} USD: {plan.until_ready_usd:.2f} USD until ready, the rest while each is "
            f"used as long as its workload expects ({_expected_uses(list(possible.values()))})",
        )
        here = settings.backend == "local"
        yield "how sure", _NO_HISTORY if here else _how_sure(list(possible.values()))
        yield "at worst", _at_worst(plan, of_run=of_run)
    if plan.unknown:
        yield "not known", f"what {count(plan.unknown, 'test')} will need: that is known only when they run"
    if plan.own:
        yield (
            "not known",
            f"what {count(plan.own, 'test')} will rent by vast_instance_factory or vast_compare while they run",
        )


def _at_worst(plan: Plan, *, of_run: bool) -> str:
    life = duration(plan.settings.longest_life)
    when = " when collection ends" if of_run else ""
    aside = f"{plan.set_aside_usd:.2f} USD to set aside{when} ({count(len(plan.starts), 'instance')} of at most {life})"
    text = f"{aside if plan.starts else f'nothing to set aside{when}'}, of {plan.settings.budget:g} USD (--vast-budget)"
    if plan.every_attempt_usd <= plan.set_aside_usd:
        return text
    attempts = max(each.attempts for each in plan.workloads)
    which = f"{plan.every_attempt_usd:.2f} USD if every attempt, up to {attempts} for each workload, lasts {life}"
    return f"{text}; {which}, but nothing is rented that the budget does not cover"


def _expected_uses(possible: Sequence[WorkloadPlan]) -> str:
    uses = sorted({each.workload.expected_use_s for each in possible})
    return " to ".join(dict.fromkeys((duration(uses[0]), duration(uses[-1]))))


_NO_HISTORY = "no history is kept of this machine: chances and times are assumptions"


def _how_sure(possible: Sequence[WorkloadPlan]) -> str:
    recorded = len(possible) - sum(1 for each in possible if each.best and each.best.record is None)
    if not recorded:
        return "no first machine has a record yet: chances and times are assumptions from what the market says of them"
    if recorded == len(possible):
        return "chances and times are from the records of the first machines (`vastgpu hosts show`)"
    return (
        f"{recorded} of {len(possible)} first machines have a record; the others' chances and times are assumptions "
        "from what the market says of them"
    )


def duration(seconds: float) -> str:
    """A duration for people: ``45 s``, ``6 min``, ``2 h 5 min``."""
    if not math.isfinite(seconds):
        return "never"
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    hours, rest = divmod(minutes, 60)
    if minutes < 90 or not hours:
        return f"{minutes} min"
    return f"{hours} h {rest} min" if rest else f"{hours} h"


def _wrapped(text: str, width: int, first: str, following: str | None = None) -> list[str]:
    indent = first if following is None else following
    return textwrap.wrap(
        sanitize.line(text),
        max(width, 40),
        initial_indent=first,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
