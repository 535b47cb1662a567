"""From *created* to *reachable*: what the market says of an instance, then whether SSH lets us in."""

from __future__ import annotations

import time

from pytest_vastgpu.errors import MarketAnswerInvalid
from pytest_vastgpu.errors import MarketError
from pytest_vastgpu.errors import MarketUnreachable
from pytest_vastgpu.errors import RateLimited
from pytest_vastgpu.lifecycle import decide
from pytest_vastgpu.lifecycle import ourselves
from pytest_vastgpu.lifecycle import signs
from pytest_vastgpu.lifecycle.effort import Effort
from pytest_vastgpu.lifecycle.link import Link
from pytest_vastgpu.lifecycle.rental import AttemptFailed
from pytest_vastgpu.lifecycle.signs import Look
from pytest_vastgpu.model import Channel
from pytest_vastgpu.model import InstanceStatus
from pytest_vastgpu.model import State
from pytest_vastgpu.model import Verdict
from pytest_vastgpu.readiness.verdicts import classify
from pytest_vastgpu.ssh.login import Address
from pytest_vastgpu.ssh.login import ConnectFailed

POLL_S = 1.0
"""Between two looks at the market; its own minimum interval for the list is 1 s."""
KNOCK_S = 0.5
"""Between two tries to connect."""
TRANSIENT = (MarketUnreachable, MarketAnswerInvalid, RateLimited)
"""What passes by itself, and must not cost a healthy instance."""
MARKET_SILENCE_S = 300.0
"""The market may be unreachable that long without costing a healthy instance."""
BOOT_LOG_LINES = 100


def boot(effort: Effort) -> InstanceStatus:
    """Wait until the market says that it runs and where it is.

    :raises AttemptFailed: with the verdict.
    :raises MarketError: if the market cannot be asked for too long.
    """
    rental = effort.rental
    rental.enter(State.BOOTING, "booting")
    looks: list[Look] = []
    told = ""
    heard = time.monotonic()
    while True:
        effort.go_on()
        try:
            found = effort.tools.client.list_instances(rental.label)
        except TRANSIENT:
            if time.monotonic() - heard > MARKET_SILENCE_S:
                raise
            effort.patience.wait(POLL_S)
            continue
        heard = time.monotonic()
        if found:
            rental.priced(found[0].price_usd_h)
        log = _container_log(effort) if signs.wants_log(looks, rental.age_s, _judge_status) else ""
        looks.append(Look(rental.age_s, found[0] if found else None, log))
        step = decide.boot(looks, effort.tools.settings.boot_timeout, _judge_status)
        if isinstance(step, decide.GiveUp):
            raise AttemptFailed(rental.fair(step.verdict))
        if found and isinstance(step, decide.Connect):
            return found[0]
        if found and (text := found[0].status_msg or found[0].actual_status) != told:
            told = text
            rental.tell(f"booting: {text[:100]}")
        effort.patience.wait(POLL_S)


def reach(effort: Effort, status: InstanceStatus) -> None:
    """Wait until SSH lets us in.

    :raises AttemptFailed: with the verdict.
    """
    rental = effort.rental
    running_at = rental.age_s
    knocks: list[decide.Knock] = []
    attached_again = False
    addresses = _addresses(status)
    rental.link = Link(addresses, effort.tools.key)
    while True:
        effort.go_on()
        try:
            rental.link.connection()
            break
        except ConnectFailed as failed:
            kinds = tuple(failure.kind for failure in failed.failures)
            knocks.append(decide.Knock(rental.age_s, kinds, str(failed)))
        step = decide.reach(knocks, running_at, effort.tools.settings.boot_timeout, attached_again)
        if isinstance(step, decide.GiveUp):
            proxy = next((address for address in addresses if address.kind == "proxy"), None)
            leaves = effort.tools.ssh_has_worked.is_set() or ourselves.proxy_answers(proxy)
            raise AttemptFailed(rental.fair(step.verdict, ssh_leaves=leaves))
        if isinstance(step, decide.AttachKey):
            attached_again = True
            attach_key(effort)
        if len(knocks) == 1:
            rental.tell(f"running; waiting for SSH ({knocks[0].failures[0].value})")
        effort.patience.wait(KNOCK_S)
    effort.tools.ssh_has_worked.set()
    rental.enter(State.REACHABLE, f"SSH answers after {rental.age_s:.1f} s")


def attach_key(effort: Effort) -> None:
    """What keeps it from being attached now may have passed when it is tried again, see :func:`decide.reach`."""
    try:
        effort.tools.client.attach_key(effort.rental.instance_id, effort.tools.key.public_line)
    except TRANSIENT as error:
        effort.rental.tell(f"the SSH key is not attached yet: {error}")


def _container_log(effort: Effort) -> str:
    try:
        return effort.tools.client.logs(effort.rental.instance_id, BOOT_LOG_LINES)
    except MarketError:
        return ""  # it may have none yet; others tell whether the market answers


def _addresses(status: InstanceStatus) -> list[Address]:
    """Where SSH is reached: direct first, it is quicker and works where the proxy's tunnel never comes up."""
    addresses = []
    if status.public_ipaddr and "22/tcp" in status.ports:
        addresses.append(Address(status.public_ipaddr, status.ports["22/tcp"], "direct"))
    if status.ssh_host and status.ssh_port:
        addresses.append(Address(status.ssh_host, status.ssh_port, "proxy"))
    return addresses


def _judge_status(text: str) -> Verdict:
    return classify(text, channel=Channel.STATUS_MSG)
