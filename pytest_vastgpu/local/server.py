"""The process of the local market."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pytest_vastgpu.local.container.fork_server import begin_fork_server


def serve(
    *,
    port: int = 0,
    fleet: Path | None = None,
    images: Sequence[str] = (),
    state_dir: Path | None = None,
    rate_limits: bool | None = None,
    lifeline: int | None = None,
    api_key: str = "",
) -> int:
    """Serve a local market until SIGINT, SIGTERM or the end of the lifeline; then destroy its instances.

    Once it serves, it writes one line of JSON to standard output: ``url``, ``api_key``, ``pid``, ``state_dir``.

    :param port: On 127.0.0.1; 0 for a free one.
    :param fleet: See :mod:`pytest_vastgpu.local.fleet.fleet`; None: this machine alone.
    :param images: Entrypoints of images, each as ``PATTERN=COMMAND``.
    :param state_dir: The directory for the disks of instances; None for one that is removed at the end.
    :param rate_limits: Whether minimum intervals between calls are enforced; None: as in the fleet.
    :param lifeline: A descriptor whose end of file ends the market.
    :param api_key: The account's key; empty: a random one.
    :returns: The exit code, 0.
    :raises LocalMarketError: if the fleet file, the port or the directory cannot be used.
    """
    begin_fork_server()
    # Imported now: the fork server and the market, which both import for long, do so at the same time.
    from pytest_vastgpu.local.service import serve_market

    serve_market(port, fleet, images, state_dir, rate_limits, lifeline, api_key)
    return 0
