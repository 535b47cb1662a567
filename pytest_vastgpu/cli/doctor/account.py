"""Checks of the account: its credit, and what ended runs have left there."""

from __future__ import annotations

import time
from collections.abc import Mapping
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pytest_vastgpu.cli.doctor.finding import Finding
from pytest_vastgpu.cli.doctor.finding import ok
from pytest_vastgpu.cli.doctor.finding import problem
from pytest_vastgpu.cli.doctor.finding import warning
from pytest_vastgpu.cli.doctor.pending import NoAnswer
from pytest_vastgpu.cli.doctor.situation import Situation
from pytest_vastgpu.errors import BadApiKey
from pytest_vastgpu.errors import ConfigurationError
from pytest_vastgpu.errors import MarketAnswerInvalid
from pytest_vastgpu.errors import MarketUnreachable
from pytest_vastgpu.errors import NotAuthorized
from pytest_vastgpu.settings import OPTIONS

if TYPE_CHECKING:
    from pytest_vastgpu.client.calls import Warm

_BILLING_PAGE = "https://cloud.vast.ai/billing/"
_FIFTH = 5
"""Credit of less than the budget divided by this is little."""


# --- credit -----------------------------------------------------------------------------------------------------------


def check_credit(now: Situation) -> Sequence[Finding]:
    """Whether the account can pay a run."""
    if now.market is None:
        return []
    answer = now.market.account.outcome()
    credit_usd = answer if isinstance(answer, Exception) else answer.credit_usd
    return [judge_credit(credit_usd, _budget_usd(now.environ))]


def judge_credit(credit_usd: float | Exception, budget_usd: float) -> Finding:
    """Judge a credit, or why it is not known. Pure."""
    if isinstance(credit_usd, NotAuthorized):
        return ok("credit", "not known: the key may not look at it (see scopes)")
    if isinstance(credit_usd, BadApiKey | MarketUnreachable | NoAnswer | ConfigurationError | MarketAnswerInvalid):
        return warning("credit", "not known", "see key and market")
    if isinstance(credit_usd, Exception):
        return warning("credit", f"not known: {credit_usd}", f"look at {_BILLING_PAGE}")
    remedy = f"add credit at {_BILLING_PAGE}"
    if credit_usd <= 0:
        return problem("credit", f"{credit_usd:.2f} USD: nothing can be rented", remedy)
    if credit_usd < budget_usd / _FIFTH:
        text = f"{credit_usd:.2f} USD, less than a fifth of the budget of a run ({budget_usd:g} USD)"
        return warning("credit", text, f"{remedy}, or lower the budget", f"export VAST_BUDGET={credit_usd:.2f}")
    return ok("credit", f"{credit_usd:.2f} USD; a run spends {budget_usd:g} USD at most (--vast-budget)")


def _budget_usd(environ: Mapping[str, str]) -> float:
    option = next(each for each in OPTIONS if each.field == "budget")
    try:
        return float(option.parse(environ.get(option.variable, "").strip() or str(option.default)))
    except ValueError:  # told where the variables are looked at
        return float(option.default)


# --- what ended runs have left ----------------------------------------------------------------------------------------


def check_left(now: Situation) -> Sequence[Finding]:
    """Whether runs that are over have left something that costs money."""
    if now.market is None:
        return []
    listed = now.market.instances.outcome()
    if isinstance(listed, Exception):
        return []
    from pytest_vastgpu.core.account import account_identity
    from pytest_vastgpu.core.directories import runs_dir
    from pytest_vastgpu.supervisor.cleanup.sweep import would

    return [judge_left(would(listed, runs_dir(), account_identity(now.market.url, now.market.key)))]


def judge_left(reasons: Sequence[str]) -> Finding:
    """Judge what a sweep would destroy: a sentence for each. Pure."""
    if not reasons:
        return ok("left over", "runs that are over have left nothing")
    more = f", and {len(reasons) - 1} more" if len(reasons) > 1 else ""
    return warning("left over", reasons[0] + more, "the next run destroys it, and so does", "vastgpu reap --no-dry-run")


def check_warm(_: Situation) -> Sequence[Finding]:
    """What waits for the next run with ``--vast-reuse``."""
    from pytest_vastgpu.client import warm

    return [judge_warm(known.project, found) for known in warm.all_warm() if (found := warm.instances(known))]


def judge_warm(project: str, found: Sequence[Warm]) -> Finding:
    """Judge what is warm for a project: that is wanted, and costs money. Pure."""
    usd_h = sum(each.price_usd_h for each in found)
    until = time.strftime("%H:%M", time.localtime(max(each.until for each in found)))
    what = f"instance {found[0].instance_id} is" if len(found) == 1 else f"{len(found)} instances are"
    text = f"{what} warm for {project} until {until}, at {usd_h:.3f} USD/h (`vastgpu down` ends that)"
    return ok("warm", text)
