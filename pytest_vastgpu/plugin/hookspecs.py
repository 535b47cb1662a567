"""What others can plug in. Implement these in a conftest file or a plugin.

A conftest file that must also work where this plugin is switched off (``-p no:vastgpu``) marks its implementations
with ``@pytest.hookimpl(optionalhook=True)``. With xdist the hooks are called in the controller, which reads only the
conftest files of the directories named on the command line (and ``testpaths``), not those further down: one there is a
usage error.

A hook is called in the process that has it, on a thread of its own, whatever a test does there just then.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pytest_vastgpu.model import Attempt
    from pytest_vastgpu.model import Offer
    from pytest_vastgpu.model import Workload
    from pytest_vastgpu.servers.base import Adapter


@pytest.hookspec
def pytest_vastgpu_adapters() -> list[Adapter]:  # type: ignore[empty-body] # a hook specification has no body
    """Called once, before anything is rented: adapters for kinds of servers that this package does not know.

    :returns: Adapters; a workload names the one it wants by its ``name``.

    Example::

        def pytest_vastgpu_adapters():
            return [MyServerAdapter()]
    """


@pytest.hookspec
def pytest_vastgpu_modify_offers(offers: list[Offer], workload: Workload) -> None:
    """Called before each rent, possibly in a background thread: filter or re-order the offers in place.

    :param offers: What strictness admits, best first.
    :param workload: What shall run.

    Example::

        def pytest_vastgpu_modify_offers(offers, workload):
            offers[:] = [offer for offer in offers if offer.geolocation.endswith(("SE", "NO"))]
    """


@pytest.hookspec
def pytest_vastgpu_outcome(attempt: Attempt, workload: Workload) -> None:
    """Called after each attempt, possibly in a background thread: when an instance is ready, failed or was lost.

    :param attempt: What was tried and what came of it; ``attempt.verdict`` is None where it became ready.
    :param workload: What was to run.

    Example::

        def pytest_vastgpu_outcome(attempt, workload):
            if attempt.verdict is not None:
                print(attempt.offer.machine_id, attempt.verdict.reason)
    """
