"""What an instance shall be: said by the market, carried out by the guest."""

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
    from pytest_vastgpu.local.fleet.machine import SimulatedGpu


@dataclass(frozen=True)
class ContainerFaults:
    """What goes wrong with an instance once it runs. Times are seconds since its start; ``inf`` is for ever."""

    ssh_refused_s: float = 0.0
    """So long its SSH ports refuse connections, as when the server is not up yet."""
    ssh_black_hole: bool = False
    """Its SSH ports never answer at all: connecting times out. Linux only; elsewhere they accept and stay silent."""
    ssh_reset_first_n: float = 0
    """So many of the first SSH connections are reset before the server has said a word."""
    ssh_slow_s: float = 0.0
    """So long each SSH connection waits for the server's first word."""
    proxy_broken: bool = False
    """The proxy's address refuses connections, and the container's log says why; a direct address works."""
    key_refused_s: float = 0.0
    """So long no key is accepted, as while a key has not reached the host yet."""
    host_key_changes_after_s: float | None = None
    """From then on the SSH server shows another host key."""
    tunnels_die_after_s: float | None = None
    """An SSH connection is cut this long after its first forwarded channel was opened."""
    nvidia_smi_fails: str = ""
    """``nvidia-smi`` prints this and exits with status 9, as when the driver cannot be reached."""
    libcuda_missing: bool = False
    """``ldconfig -p`` knows no libcuda."""
    disk_full: bool = False
    """Its home has no free space left. Needs isolation."""
    onstart_never_runs: bool = False
    """The start script is stored but not run."""
    tools_missing: list[str] = field(default_factory=list)
    """Names, or patterns of names, of programs that are not to be found, as in an image that lacks them."""
    server: dict[str, Any] = field(default_factory=dict)
    """What takes the server's place, see :mod:`pytest_vastgpu.local.faults.server_shim`; empty for nothing."""


@dataclass(frozen=True)
class ContainerSpec:
    """One instance."""

    instance_id: int
    directory: Path
    """Its disk. Survives stop and start; ``destroy`` removes it."""
    environment: Mapping[str, str]
    """The environment of its first process, and only of that; ``VAST_TCP_PORT_<n>`` is added for published ports."""
    authorized_keys: tuple[str, ...]
    onstart: str
    """Stored as ``~/onstart.sh`` and run at each start where there is SSH; empty for none."""
    command: str
    """The entrypoint's command line where there is no SSH; empty otherwise."""
    ssh: bool
    direct: bool
    """Whether 22/tcp is published besides the proxy's port."""
    jupyter: bool
    """Whether the run type asks for Jupyter, of which there is none here."""
    ports: tuple[tuple[int, str], ...]
    """Container ports to publish, with their protocol, ``tcp`` or ``udp``; from 70000 on, identity ports."""
    market_url: str
    """The market's URL, ``http://127.0.0.1:PORT``; it is valid inside too."""
    market_socket: Path
    """Unix socket of the same market, which a relay inside forwards to."""
    gpus: tuple[SimulatedGpu, ...]
    """Simulated devices; none means this machine's own devices, as they are."""
    network: bool
    """Whether it may reach out as this machine's user can."""
    host_name: str = ""
    """Empty: this machine's. Needs isolation; elsewhere it stays this machine's."""
    faults: ContainerFaults = field(default_factory=ContainerFaults)


@dataclass(frozen=True)
class InitConfig:
    """What the guest is told, once; open sockets come along with it in the order that is said here."""

    instance_id: int
    directory: str
    environment: dict[str, str]
    init: list[str]
    """The first process's command line."""
    path: str
    """``PATH`` of every process of the instance."""
    user: str
    how: How
    ssh_listeners: int
    """The first so many sockets are the SSH server's."""
    published: list[int]
    """Then one socket for each of these container ports, of the kind of its protocol."""
    egress: bool
    """Whether the last socket takes connections that want to go out."""
    ways_out: dict[str, str]
    """Variables that tell how to get out, with ``{port}`` for the port inside that leads there."""
    market_port: int
    market_socket: str
    host_name: str
    faults: ContainerFaults

    def line(self) -> bytes:
        """One line of JSON."""
        return json.dumps(asdict(self)).encode() + b"\n"

    @classmethod
    def from_line(cls, line: bytes) -> InitConfig:
        """Reads what :meth:`line` wrote."""
        values = json.loads(line)
        return cls(**{**values, "faults": ContainerFaults(**values["faults"])})
