"""Which state of a rental may follow which."""

from __future__ import annotations

from pytest_vastgpu.model import State

TRANSITIONS: dict[State, frozenset[State]] = {
    State.INTENDED: frozenset({State.CREATED, State.FAILED}),
    State.CREATED: frozenset({State.BOOTING, State.FAILED, State.DESTROYING}),
    State.BOOTING: frozenset({State.REACHABLE, State.FAILED, State.DESTROYING}),
    State.REACHABLE: frozenset({State.CHECKED, State.FAILED, State.DESTROYING}),
    State.CHECKED: frozenset({State.WARMING, State.FAILED, State.DESTROYING}),
    State.WARMING: frozenset({State.READY, State.FAILED, State.DESTROYING}),
    State.READY: frozenset({State.WARMING, State.FAILED, State.KEPT, State.DESTROYING}),
    State.FAILED: frozenset({State.KEPT, State.DESTROYING, State.GONE}),
    State.KEPT: frozenset({State.DESTROYING, State.GONE}),
    State.DESTROYING: frozenset({State.GONE}),
    State.GONE: frozenset(),
}
"""Which states may follow a state. A cancelled rental goes to *destroying* from any state."""
