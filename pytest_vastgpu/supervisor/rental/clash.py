"""What keeps two servers from running on one instance at a time. Pure."""

from __future__ import annotations

from pytest_vastgpu.model import HOST
from pytest_vastgpu.model import Workload
from pytest_vastgpu.servers.building import ports_of


def clash(one: Workload, other: Workload, exposed: bool) -> str:
    """Why no instance can run the servers of two workloads at a time, and what would help; empty where nothing but what
    :func:`~pytest_vastgpu.supervisor.rental.reuse.apart` looks at may be in the way.

    :param exposed: Whether instances publish the port of their server.
    """
    if HOST in (one.adapter, other.adapter) or not one.port or not other.port:
        return "one has no server; give both a command that listens on a port"
    if exposed:
        return "an instance publishes one port, and each needs its own: leave --vast-expose out"
    if one.port == other.port:
        return f"both listen on port {one.port}; give one of them another port="
    if both := ports_of(one) & ports_of(other):
        ports = " and ".join(map(str, sorted(both)))
        return f"both listen on {ports}; give one of them others, by port= or by its arguments"
    if (one.files, one.listing) != (other.files, other.listing):
        return "they bring other files, and share a directory; have both bring all of them, under names of their own"
    if (one.setup, one.setup_uses) != (other.setup, other.setup_uses):
        return "they have another setup, and share what it makes; have one setup= that is for both"
    if one.setup and one.env != other.env:
        return "the setup, which runs once, would have another env=; set what differs in the arguments or the command"
    return ""
