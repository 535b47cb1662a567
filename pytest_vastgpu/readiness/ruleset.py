"""All rules in their order, and which of them are about a line. What is known stands in ``rules_*``."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import chain

from pytest_vastgpu.model import Channel
from pytest_vastgpu.readiness import rules_container
from pytest_vastgpu.readiness import rules_gpu
from pytest_vastgpu.readiness import rules_gpu_fit
from pytest_vastgpu.readiness import rules_host
from pytest_vastgpu.readiness import rules_hub
from pytest_vastgpu.readiness import rules_python
from pytest_vastgpu.readiness import rules_registry
from pytest_vastgpu.readiness import rules_request
from pytest_vastgpu.readiness import rules_servers
from pytest_vastgpu.readiness import rules_signs
from pytest_vastgpu.readiness import rules_ssh
from pytest_vastgpu.readiness import rules_vllm
from pytest_vastgpu.readiness.rules import Rule

RULES: tuple[Rule, ...] = (
    *rules_ssh.RULES,
    *rules_registry.RULES,
    *rules_container.RULES,
    *rules_request.RULES,
    *rules_gpu.RULES,
    *rules_gpu_fit.RULES,
    *rules_host.RULES,
    *rules_hub.RULES,
    *rules_vllm.RULES,
    *rules_servers.RULES,
    *rules_signs.RULES,
    *rules_python.RULES,
)
"""In the order in which they are tried on a line: special ones before general ones."""


class Rules:
    """The rules that may be about a line, in their order."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self._rules = rules
        self._by_needle: dict[str, list[int]] = {}
        for number, rule in enumerate(rules):
            for needle in rule.needles or ():
                self._by_needle.setdefault(needle, []).append(number)
        self._always = [number for number, rule in enumerate(rules) if rule.needles is None]

    def match(self, text: str) -> Rule | None:
        """The first rule that knows this line."""
        lowered = text.lower()
        found = [numbers for needle, numbers in self._by_needle.items() if needle in lowered]
        for number in sorted({*self._always, *chain.from_iterable(found)}):
            rule = self._rules[number]
            if rule.matches.search(text) and not (rule.excludes and rule.excludes.search(text)):
                return rule
        return None


@cache
def rules_for(channel: Channel, server: str, context: str, chatter: bool) -> Rules:
    """The rules for a channel; for lines marked as information only those that are read there."""
    return Rules(
        [
            rule
            for rule in RULES
            if channel in rule.channels
            and (not rule.servers or server in rule.servers)
            and (rule.belongs is None or rule.belongs.search(context))
            and (rule.chatty or not chatter)
        ]
    )
