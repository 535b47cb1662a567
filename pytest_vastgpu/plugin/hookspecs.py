"""The hooks of this package. Implement them in a conftest file or a plugin.

A conftest file that must also work where this plugin is switched off (``-p no:vastgpu``) marks its implementations
with ``@pytest.hookimpl(optionalhook=True)``. With xdist the hooks are called in the controller, which reads only the
conftest files of the directories named on the command line (and ``testpaths``). An implementation in a conftest file
further down is a usage error.

A hook is called in the process that has it, in a thread of its own, at the same time as tests may run.
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

    :param offers: The offers that the strictness admits, best first.
    :param workload: The workload to run.

    Example::

        def pytest_vastgpu_modify_offers(offers, workload):
            offers[:] = [offer for offer in offers if offer.geolocation.endswith(("SE", "NO"))]
    """


@pytest.hookspec
def pytest_vastgpu_outcome(attempt: Attempt, workload: Workload) -> None:
    """Called after each attempt, possibly in a background thread: when an instance is ready, failed or was lost.

    :param attempt: The attempt and its result; ``attempt.verdict`` is None where the instance became ready.
    :param workload: The workload of the attempt.

    Example::

        def pytest_vastgpu_outcome(attempt, workload):
            if attempt.verdict is not None:
                print(attempt.offer.machine_id, attempt.verdict.reason)
    """
