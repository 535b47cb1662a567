"""The specification of an instance, and the configuration of its container init."""

from __future__ import annotations

import json
from dataclasses import asdict
from dataclasses import dataclass
from dataclasses import field
from pathlib import Path
from typing import TYPE_CHECKING
from typing import Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_vastgpu.local.container.isolation import How
    from pytest_vastgpu.local.gpu import SimulatedGpu


@dataclass(frozen=True)
class ContainerFaults:
    """The faults of a running instance. Times are seconds since its start; ``inf`` means for ever."""

    ssh_refused_s: float = 0.0
    """The time for which its SSH ports refuse connections, as before the server is up."""
    ssh_black_hole: bool = False
    """Its SSH ports never answer at all: connecting times out. Linux only; elsewhere they accept and stay silent."""
    ssh_reset_first_n: float = 0
    """The number of first SSH connections that are reset before the server sends anything."""
    ssh_slow_s: float = 0.0
    """The delay before the server sends anything on an SSH connection."""
    proxy_broken: bool = False
    """The proxy's port refuses connections, and the container's log says why; a direct port works."""
    key_refused_s: float = 0.0
    """The time for which no key is accepted, as before a key has reached the host."""
    attached_keys_ignored: bool = False
    """Only keys in its home's ``authorized_keys`` are accepted, where the market writes none."""
    written_keys_ignored: bool = False
    """Only keys from the market are accepted."""
    login_hijacked_s: float = 0.0
    """The start script is run this much later; until ``~/.no_auto_tmux`` exists, no command is carried out."""
    host_key_changes_after_s: float | None = None
    """The time after which the SSH server shows another host key."""
    tunnels_die_after_s: float | None = None
    """The time from the first forwarded channel of an SSH connection until the connection is cut."""
    nvidia_smi_fails: str = ""
    """``nvidia-smi`` prints this text and exits with status 9, as if it could not reach the driver."""
    libcuda_missing: bool = False
    """``ldconfig -p`` does not list libcuda."""
    disk_full: bool = False
    """Its home has no free space left. Needs isolation."""
    onstart_never_runs: bool = False
    """The start script is stored but not run."""
    tools_missing: list[str] = field(default_factory=list)
    """Names, or patterns of names, of programs that are missing, as in an image without them."""
    session_tools_missing: list[str] = field(default_factory=list)
    """The same, but only for sessions over SSH: the image's ``PATH`` leads to them."""
    server: dict[str, Any] = field(default_factory=dict)
    """The settings of :mod:`pytest_vastgpu.local.faults.server_shim`, which replaces the server; empty for no fault."""


@dataclass(frozen=True)
class ContainerSpec:
    """The specification of an instance."""

    instance_id: int
    directory: Path
    """Its disk, which survives stop and start; ``destroy`` removes it."""
    environment: Mapping[str, str]
    """The environment of its first process only; ``VAST_TCP_PORT_<n>`` is added for each published port."""
    authorized_keys: tuple[str, ...]
    onstart: str
    """The start script: with SSH it is stored as ``~/onstart.sh`` and run at each start. Empty for none."""
    command: str
    """Without SSH the command line of the entrypoint; empty with SSH."""
    ssh: bool
    direct: bool
    """Whether 22/tcp is published besides the port of the proxy."""
    jupyter: bool
    """Whether the run type includes Jupyter, which the local market does not run."""
    ports: tuple[tuple[int, str], ...]
    """The container ports to publish, with their protocol, ``tcp`` or ``udp``; from 70000 on, identity ports."""
    market_url: str
    """The URL of the market, ``http://127.0.0.1:PORT``, which also works inside."""
    market_socket: Path
    """The Unix socket of the market, to which a relay inside forwards."""
    gpus: tuple[SimulatedGpu, ...]
    """The simulated GPUs; empty for this machine's own."""
    network: bool
    """Whether it may use the network as this machine's user can."""
    hides: tuple[str, ...] = ()
    """Directories of this machine that it shall not see. Needs isolation."""
    host_name: str = ""
    """Empty for this machine's host name, which is also used without isolation."""
    faults: ContainerFaults = field(default_factory=ContainerFaults)


@dataclass(frozen=True)
class InitConfig:
    """The configuration of a container init, which it gets once. Open sockets come with it, in the order given here."""

    instance_id: int
    directory: str
    environment: dict[str, str]
    init: list[str]
    """The first process's command line."""
    path: str
    """``PATH`` of sessions over SSH."""
    user: str
    how: How
    ssh_listeners: int
    """The number of the first sockets, which are for the SSH server."""
    published: list[int]
    """The container ports for which the next sockets are, one for each port."""
    egress: bool
    """Whether the last socket takes outgoing connections."""
    egress_variables: dict[str, str]
    """The variables for outgoing connections, with ``{port}`` for the port inside that accepts them."""
    market_port: int
    market_socket: str
    hides: list[str]
    """Directories that its processes shall not see, and"""
    keeps: list[str]
    """what below these they see all the same."""
    host_name: str
    faults: ContainerFaults

    def line(self) -> bytes:
        """Write as a line of JSON."""
        return json.dumps(asdict(self)).encode() + b"\n"

    @classmethod
    def from_line(cls, line: bytes) -> InitConfig:
        """Read what :meth:`line` wrote."""
        values = json.loads(line)
        return cls(**{**values, "faults": ContainerFaults(**values["faults"])})
