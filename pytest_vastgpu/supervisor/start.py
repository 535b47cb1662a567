"""The program of the supervisor process: has the local market start while the supervisor itself is imported.

Its arguments are the listening descriptor and the backend.
"""

from __future__ import annotations

import contextlib
import resource
import sys

from pytest_vastgpu.errors import LocalMarketError
from pytest_vastgpu.local.embed import LocalMarket


def main() -> int:
    """Run the supervisor.

    :returns: See :meth:`pytest_vastgpu.supervisor.process.Process.live`.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))  # a dump holds keys
    descriptor, backend = sys.argv[1:]
    market = LocalMarket(rate_limits=False)  # this run has it to itself
    try:
        if backend == "local":
            with contextlib.suppress(LocalMarketError, OSError):  # the run starts it then, and raises this
                market.begin()
        from pytest_vastgpu.supervisor import process  # late: to import it takes as long as the market's start

        return process.main(int(descriptor), market)
    finally:
        market.stop()
