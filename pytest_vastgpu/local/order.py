"""What a create asks for. Pure."""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from pytest_vastgpu.local.refusal import invalid

_LONGEST_LABEL = 256
_LONGEST_IMAGE = 1024
_MOST_PORTS = 64
_MOST_ENV_BYTES = 32 * 1024
_LEAST_BID = 0.001
_MOST_BID = 128.0
_DEFAULT_DISK_GB = 8.0
_PORT = re.compile(r"-p\s+(?:[\d.]+:)?(?:(\d+):)?(\d+)(?:/(tcp|udp))?")
_FLAG = re.compile(r"-\w|--\w")
_NAME = re.compile(r"[A-Za-z_]\w*")


@dataclass(frozen=True)
class Order:
    """A create, checked."""

    image: str
    disk_gb: float
    label: str | None
    runtype: str
    """As the API reports it: ``ssh_direc ssh_proxy``, ``ssh_proxy``, ``args`` …"""
    environment: Mapping[str, str]
    env_pairs: tuple[tuple[str, str], ...]
    """The ``env`` object as it came, ports and flags included."""
    ports: tuple[tuple[int, str], ...]
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


def parse_order(body: object, templates: Mapping[str, Mapping[str, Any]]) -> Order:
    """The order in the body of a create.

    :param templates: By hash, what the body may refer to; its own values win, environments are merged.
    :raises Refusal: as the API refuses.
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
    args = _args(wanted)
    pairs = _env_pairs(wanted.get("env"))
    bid = wanted.get("price")
    if bid is not None and _number("price", bid) < _LEAST_BID:
        raise invalid(f"Please set a bid price >= {_LEAST_BID:g}.")
    if bid is not None and _number("price", bid) > _MOST_BID:
        raise invalid(f"Please set a bid price <= {_MOST_BID:g}.")
    if body.get("runtype") and body.get("use_ssh"):
        raise invalid("runtype and use_ssh cannot both be set")
    disk = wanted.get("disk")
    target = wanted.get("target_state") or "running"
    if not isinstance(target, str) or target not in {"running", "stopped"}:
        raise invalid("Invalid target state")
    cancel = wanted.get("cancel_unavail")
    return Order(
        image=image.strip(),
        disk_gb=_DEFAULT_DISK_GB if disk is None else _number("disk", disk),
        label=label,
        runtype=_runtype(wanted.get("runtype"), args),
        environment={name: value for name, value in pairs if _NAME.fullmatch(name)},
        env_pairs=pairs,
        ports=_ports(pairs),
        onstart=str(wanted.get("onstart") or ""),
        args=args,
        bid_usd_h=None if bid is None else _number("price", bid),
        starts=target == "running",
        cancel_unavail=bool(cancel) if cancel is not None else bid is None and target == "running",
        template=wanted.get("template_hash_id"),
    )


def entrypoint(order: Order, images: Mapping[str, str]) -> str | None:
    """The command line of the first process where there is no SSH; None if nothing is known of the image.

    :param images: Entrypoints by pattern.
    """
    name = order.image.partition("@")[0]
    known = next((line for pattern, line in images.items() if fnmatchcase(name, pattern)), None)
    if known is None:
        return None
    # In this run type the official client sends --entrypoint as onstart.
    return " ".join([order.onstart or known, shlex.join(order.args)]).strip()


def _with_template(body: Mapping[str, Any], templates: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    given = {name: value for name, value in body.items() if value is not None}
    named = given.get("template_hash_id")
    if named is None:
        return given
    if not isinstance(named, str) or named not in templates:
        raise invalid(f"Template {named} not found")
    template = templates[named]
    env = dict(_env_pairs(template.get("env"))) | dict(_env_pairs(given.get("env")))
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
    return _words("args", str(text))


def _words(field: str, text: str) -> tuple[str, ...]:
    try:
        return tuple(shlex.split(text))
    except ValueError as error:
        raise invalid(f"'{field}': {error}") from error


def _env_pairs(env: object) -> tuple[tuple[str, str], ...]:
    """From the documented object, or from Docker's flags in one text."""
    if env is None:
        return ()
    if isinstance(env, str):
        return tuple(_env_flags(_words("env", env)))
    if not isinstance(env, dict) or not all(isinstance(value, (str, int, float)) for value in env.values()):
        raise invalid("'env' must be an object of strings")
    pairs = tuple((str(name), str(value)) for name, value in env.items())
    if sum(len(name.encode()) + len(value.encode()) for name, value in pairs) > _MOST_ENV_BYTES:
        raise invalid("'env' is too large")
    return pairs


def _env_flags(words: tuple[str, ...]) -> list[tuple[str, str]]:
    pairs: list[tuple[str, str]] = []
    each = iter(words)
    for flag in each:
        value = next(each, "")
        if flag in {"-e", "--env"}:
            name, _, text = value.partition("=")
            pairs.append((name, text))
        elif flag in {"-p", "--publish"}:
            pairs.append((f"-p {value}", "1"))
        elif _FLAG.match(flag):
            pairs.append((flag, value))
    return pairs


def _ports(pairs: tuple[tuple[str, str], ...]) -> tuple[tuple[int, str], ...]:
    ports: dict[tuple[int, str], None] = {}
    for name, _ in pairs:
        if not name.startswith("-p"):
            continue
        found = _PORT.fullmatch(name.strip())
        # From 70000 on, a number asks for a port that is the same inside and outside; any will do here.
        if found is None or not 0 < int(found.group(2)) < 80000:
            raise invalid(f"'env': {name!r} is not a port: -p 8000:8000")
        ports[int(found.group(2)), found.group(3) or "tcp"] = None
    if len(ports) > _MOST_PORTS:
        raise invalid(f"'env': more than {_MOST_PORTS} ports")
    return tuple(port for port in ports if port[0] < 65536)


def _number(field: str, value: object) -> float:
    try:
        number = float(value) if isinstance(value, (int, float, str)) else math.nan
    except ValueError:
        number = math.nan
    if not 0 <= number < math.inf:
        raise invalid(f"'{field}' must be a number, not {value!r}")
    return number
