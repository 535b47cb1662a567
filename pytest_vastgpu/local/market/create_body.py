"""The request body of a create, checked. Pure."""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field
from fnmatch import fnmatchcase
from typing import Any

from pytest_vastgpu.local.container.network.ports import Port
from pytest_vastgpu.local.market import env_flags
from pytest_vastgpu.local.market.errors import invalid

_LONGEST_LABEL = 256
_LONGEST_IMAGE = 1024
LONGEST_ONSTART = 4048
"""Characters, by the API's specification."""
_LOGIN = re.compile(r"-u \S+ -p \S+ \S+")
_LEAST_BID = 0.001
_MOST_BID = 128.0
LEAST_DISK_GB = 8.0
"""The smallest disk that can be rented, and the default."""
_JUPYTER_PORT = 8080


@dataclass(frozen=True)
class CreateBody:
    """The checked body of a create request."""

    image: str
    disk_gb: float
    label: str | None
    runtype: str
    """As the API reports it: ``ssh_direc ssh_proxy``, ``ssh_proxy``, ``args`` …"""
    environment: Mapping[str, str]
    env_pairs: env_flags.Pairs
    """The ``env`` object of the request, with its ports and flags."""
    ports: tuple[Port, ...]
    host_name: str
    """Empty: the host name of the machine."""
    image_login: str = field(repr=False)
    """Secret."""
    onstart: str
    args: tuple[str, ...]
    bid_usd_h: float | None
    """None: on demand."""
    starts: bool
    cancel_unavail: bool
    template: str | None

    @property
    def ssh(self) -> bool:
        return self.runtype != "args"

    @property
    def direct(self) -> bool:
        return "ssh_direc" in self.runtype.split()

    @property
    def jupyter(self) -> bool:
        return self.runtype.startswith("jupyter")


def parse_create_body(body: object, templates: Mapping[str, Mapping[str, Any]]) -> CreateBody:
    """Check the body of a create request.

    :param templates: The account's templates by hash. The body's own values win over its template's; the two
        environments are merged.
    :raises ApiError: if the body is not valid.
    """
    if not isinstance(body, dict):
        raise invalid("Invalid json body")
    wanted = _with_template(body, templates)
    image = wanted.get("image")
    if not isinstance(image, str) or not image.strip() or len(image) > _LONGEST_IMAGE:
        raise invalid("'image' is required and must be a string of at most 1024 characters")
    label = wanted.get("label")
    if label is not None and (not isinstance(label, str) or len(label) > _LONGEST_LABEL):
        raise invalid("label_too_long")
    login = wanted.get("image_login") or ""
    if not isinstance(login, str) or (login and not _LOGIN.fullmatch(login)):
        raise invalid("'image_login' must be of the form '-u USER -p PASSWORD REGISTRY'")
    onstart = str(wanted.get("onstart") or "")
    if len(onstart) > LONGEST_ONSTART:
        raise invalid(f"'onstart' must be at most {LONGEST_ONSTART} characters long, not {len(onstart)}")
    args = _args(wanted)
    pairs = env_flags.pairs(wanted.get("env"))
    bid = wanted.get("price")
    if bid is not None and _number("price", bid) < _LEAST_BID:
        raise invalid(f"Please set a bid price >= {_LEAST_BID:g}.")
    if bid is not None and _number("price", bid) > _MOST_BID:
        raise invalid(f"Please set a bid price <= {_MOST_BID:g}.")
    if body.get("runtype") and body.get("use_ssh"):
        raise invalid("runtype and use_ssh cannot both be set")
    disk_gb = LEAST_DISK_GB if wanted.get("disk") is None else _number("disk", wanted["disk"])
    if disk_gb < LEAST_DISK_GB:
        raise invalid(f"'disk' must be at least {LEAST_DISK_GB:g} GB, not {disk_gb:g}")
    runtype = _runtype(wanted.get("runtype"), args)
    target = wanted.get("target_state") or "running"
    if not isinstance(target, str) or target not in {"running", "stopped"}:
        raise invalid("Invalid target state")
    cancel = wanted.get("cancel_unavail")
    return CreateBody(
        image=image.strip(),
        disk_gb=disk_gb,
        label=label,
        runtype=runtype,
        environment=env_flags.variables(pairs),
        env_pairs=pairs,
        ports=_ports(pairs, runtype),
        host_name=env_flags.host_name(pairs),
        image_login=login,
        onstart=onstart,
        args=args,
        bid_usd_h=None if bid is None else _number("price", bid),
        starts=target == "running",
        cancel_unavail=bool(cancel) if cancel is not None else bid is None and target == "running",
        template=wanted.get("template_hash_id"),
    )


def entrypoint(create_body: CreateBody, images: Mapping[str, str]) -> str | None:
    """Return the command line of the first process of an instance without SSH; None if the image is unknown.

    :param images: Entrypoints by image pattern.
    """
    name = create_body.image.partition("@")[0]
    known = next((line for pattern, line in images.items() if fnmatchcase(name, pattern)), None)
    # In this run type the official client sends --entrypoint as onstart. With a program there, and its arguments, the
    # image's own entrypoint does not matter.
    replaced = create_body.onstart if create_body.args and len(create_body.onstart.split()) == 1 else ""
    if known is None and not replaced:
        return None
    return " ".join([create_body.onstart or known or "", shlex.join(create_body.args)]).strip()


def _with_template(body: Mapping[str, Any], templates: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    given = {name: value for name, value in body.items() if value is not None}
    named = given.get("template_hash_id")
    if named is None:
        return given
    if not isinstance(named, str) or named not in templates:
        raise invalid(f"Template {named} not found")
    template = templates[named]
    env = dict(env_flags.pairs(template.get("env"))) | dict(env_flags.pairs(given.get("env")))
    scalars = {name: template.get(name) for name in ("image", "onstart", "runtype", "args_str")}
    return {**{name: value for name, value in scalars.items() if value}, **given, "env": env}


def _runtype(wanted: object, args: tuple[str, ...]) -> str:
    if wanted is None:
        return "args" if args else "ssh_proxy"
    if not isinstance(wanted, str):
        raise invalid("'runtype' must be a string")
    words = wanted.replace(",", " ").split()
    known = {"ssh", "ssh_proxy", "ssh_direc", "ssh_direct", "jupyter", "jupyter_proxy", "jupyter_direc"}
    known |= {"jupyter_direct", "args"}
    if not words or not set(words) <= known:
        raise invalid(f"Invalid runtype {wanted!r}")
    if "args" in words:
        return "args"
    jupyter = any(word.startswith("jupyter") for word in words)
    direct = any("direc" in word for word in words)
    kinds = ["jupyter_direc" if direct else "jupyter_proxy"] if jupyter else []
    return " ".join([*kinds, *(["ssh_direc"] if direct else []), "ssh_proxy"])


def _args(wanted: Mapping[str, Any]) -> tuple[str, ...]:
    args = wanted.get("args")
    if isinstance(args, list):
        return tuple(str(each) for each in args)
    text = wanted.get("args_str") or (args if isinstance(args, str) else "")
    return env_flags.words("args", str(text))


def _ports(pairs: env_flags.Pairs, runtype: str) -> tuple[Port, ...]:
    """The requested ports, and the port that Vast adds for Jupyter. The local market runs no Jupyter."""
    requested = env_flags.ports(pairs)
    own = ((_JUPYTER_PORT, "tcp"),) if "jupyter_direc" in runtype.split() else ()
    return (*requested, *(port for port in own if port not in requested))


def _number(field: str, value: object) -> float:
    try:
        number = float(value) if isinstance(value, (int, float, str)) else math.nan
    except ValueError:
        number = math.nan
    if not 0 <= number < math.inf:
        raise invalid(f"'{field}' must be a number, not {value!r}")
    return number
