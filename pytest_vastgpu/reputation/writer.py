"""Values written as the text of a host cache; :mod:`pytest_vastgpu.reputation.reader` tells its form. Pure."""

from __future__ import annotations

import math
from collections import defaultdict
from datetime import UTC
from datetime import datetime
from datetime import timedelta

import yaml

from pytest_vastgpu.reputation.contents import CacheContents
from pytest_vastgpu.reputation.contents import MarketRecords
from pytest_vastgpu.reputation.contents import by_time
from pytest_vastgpu.reputation.outcomes import Outcome
from pytest_vastgpu.reputation.outcomes import Override

try:
    from yaml import CSafeDumper as _BaseDumper
except ImportError:  # PyYAML was built without libyaml: the same, slower
    from yaml import SafeDumper as _BaseDumper  # type: ignore[assignment] # another class, used in the same way

FORMAT = "pytest-vastgpu-hosts"
"""First key of the snapshot; its value is the version of the format."""
VERSION = 2
END = b"...\n"
"""The line that ends each document."""
FOREVER = "forever"
"""End of a ban that has none."""
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
HEADER = """\
# What pytest-vastgpu remembers of machines and their operators. You may edit it, also while tests run; times are UTC.
# Each market, vast.ai or a URL, has its own
#   machines, by machine_id:  ban: {until: 2030-01-31, reason: too slow}  or  ban: forever  or  allow: true (no bans)
#   hosts, by host_id:        the same, for all machines of an operator
# Records are appended below the three dots and moved up when the file is rewritten; comments are not kept then.
# The same from the command line: vastgpu hosts --help
---
"""


def record_text(market: str, evidence: Outcome) -> bytes:
    """A record as it is appended. It begins with a line break, so that it never continues a line that was cut off."""
    fields = {"market": market, "machine": evidence.machine_id, **_evidence_out(evidence)}
    return b"\n---\n" + _dump(fields) + END


def snapshot_text(contents: CacheContents) -> bytes:
    """The contents as a whole file."""
    markets = {market: _book_out(book) for market, book in sorted(contents.markets.items())}
    return HEADER.encode() + _dump({FORMAT: VERSION, "markets": markets, **contents.extra}) + END


def _book_out(book: MarketRecords) -> dict[str, object]:
    of_machine: dict[int, list[Outcome]] = defaultdict(list)
    for item in book.evidence.values():
        of_machine[item.machine_id].append(item)
    machines = {}
    for machine_id in sorted(of_machine.keys() | book.machines.keys()):
        out = _entry_out(book.machines.get(machine_id, Override()))
        if items := sorted(of_machine.get(machine_id, ()), key=by_time):
            out["evidence"] = [_evidence_out(item) for item in items]
        machines[machine_id] = out
    hosts = {host_id: _entry_out(entry) for host_id, entry in sorted(book.hosts.items())}
    return {"machines": machines, "hosts": hosts, **book.extra}


class _OnOneLine(dict[str, object]):
    """A mapping that is written as ``{booting: 12.5, warming: 30.1}``."""


class _Dumper(_BaseDumper):
    """Writes times as ``2030-01-31T18:00:00Z``, no anchors, and lone surrogates, which no file can hold, escaped."""

    def ignore_aliases(self, data: object) -> bool:
        return True

    def represent_time(self, value: datetime) -> yaml.ScalarNode:
        text = value.isoformat(timespec="milliseconds" if value.microsecond else "seconds")
        return self.represent_scalar("tag:yaml.org,2002:timestamp", text.replace("+00:00", "Z"))

    def represent_text(self, value: str) -> yaml.ScalarNode:
        return self.represent_str(value.encode(errors="backslashreplace").decode())

    def represent_on_one_line(self, value: _OnOneLine) -> yaml.MappingNode:
        return self.represent_mapping("tag:yaml.org,2002:map", value, flow_style=True)


_Dumper.add_representer(str, _Dumper.represent_text)
_Dumper.add_representer(datetime, _Dumper.represent_time)
_Dumper.add_representer(_OnOneLine, _Dumper.represent_on_one_line)


def _dump(content: object) -> bytes:
    text = yaml.dump(content, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=1000, default_flow_style=False)
    return str(text).encode()


def _time_out(value: float) -> object:
    return FOREVER if value == math.inf else EPOCH + timedelta(milliseconds=round(value * 1000))


def _evidence_out(item: Outcome) -> dict[str, object]:
    """The fields of a piece of evidence, its machine aside. Its id comes last: a record without one is not whole."""
    known = {
        "time": _time_out(item.time),
        "outcome": item.outcome.value,
        "reason": item.reason,
        "host": item.host_id,
        "gpu": item.gpu_name,
        "workload": item.workload,
        "seconds": _OnOneLine(item.seconds),
        "run": item.run_id,
    }
    return {**{key: value for key, value in known.items() if value}, **item.extra, "id": item.id}


def _entry_out(entry: Override) -> dict[str, object]:
    out: dict[str, object] = {}
    if entry.allowed:
        out["allow"] = True
    if entry.ban is not None:
        since = {"since": _time_out(entry.ban.since)} if entry.ban.since else {}
        reason = {"reason": entry.ban.reason} if entry.ban.reason else {}
        out["ban"] = {"until": _time_out(entry.ban.until), **reason, **since, **entry.ban.extra}
    return {**out, **entry.extra}
