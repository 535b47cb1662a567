"""Collects all rules in their order, and finds those that apply to a line."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import chain

from pytest_vastgpu.diagnosis.literals import LEAST_CHARS
from pytest_vastgpu.diagnosis.rules import container
from pytest_vastgpu.diagnosis.rules import gpu
from pytest_vastgpu.diagnosis.rules import gpu_fit
from pytest_vastgpu.diagnosis.rules import host
from pytest_vastgpu.diagnosis.rules import hub
from pytest_vastgpu.diagnosis.rules import python
from pytest_vastgpu.diagnosis.rules import registry
from pytest_vastgpu.diagnosis.rules import request
from pytest_vastgpu.diagnosis.rules import servers
from pytest_vastgpu.diagnosis.rules import signs
from pytest_vastgpu.diagnosis.rules import ssh
from pytest_vastgpu.diagnosis.rules import vllm
from pytest_vastgpu.diagnosis.rules.base import Rule
from pytest_vastgpu.model import Channel

RULES: tuple[Rule, ...] = (
    *ssh.RULES,
    *registry.RULES,
    *container.RULES,
    *request.RULES,
    *gpu.RULES,
    *gpu_fit.RULES,
    *host.RULES,
    *hub.RULES,
    *vllm.RULES,
    *servers.RULES,
    *signs.RULES,
    *python.RULES,
)
"""In the order in which they are tried on a line: special ones before general ones."""


class Rules:
    """The rules that may apply to a line, in their order."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self._rules = rules
        by_needle: dict[str, list[int]] = {}
        for number, rule in enumerate(rules):
            for needle in rule.required_literals or ():
                by_needle.setdefault(needle, []).append(number)
        self._by_start: dict[str, list[tuple[str, list[int]]]] = {}
        """Needles by their first characters: few of a thousand begin with characters that stand in a line."""
        for needle, numbers in by_needle.items():
            self._by_start.setdefault(needle[:LEAST_CHARS], []).append((needle, numbers))
        self._always = [number for number, rule in enumerate(rules) if rule.required_literals is None]

    def match(self, text: str) -> Rule | None:
        """The first rule that matches this line."""
        lowered = text.lower()
        runs = {lowered[at : at + LEAST_CHARS] for at in range(len(lowered) - LEAST_CHARS + 1)}
        starts = runs & self._by_start.keys()
        found = [numbers for start in starts for needle, numbers in self._by_start[start] if needle in lowered]
        for number in sorted({*self._always, *chain.from_iterable(found)}):
            rule = self._rules[number]
            if rule.matches.search(text) and not (rule.excludes and rule.excludes.search(text)):
                return rule
        return None


@cache
def rules_for(channel: Channel, server: str, context: str, chatter: bool) -> Rules:
    """The rules for a channel; for lines marked as information only those that apply to such lines."""
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
