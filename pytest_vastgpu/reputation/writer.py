"""Writes values as the text of a host cache; :mod:`pytest_vastgpu.reputation.reader` describes the format. Pure."""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime

import yaml

from pytest_vastgpu.reputation.contents import CacheContents
from pytest_vastgpu.reputation.contents import MarketRecords
from pytest_vastgpu.reputation.contents import by_time
from pytest_vastgpu.reputation.outcomes import Outcome
from pytest_vastgpu.reputation.outcomes import Override
from pytest_vastgpu.reputation.record_codec import OnOneLine
from pytest_vastgpu.reputation.record_codec import write_record

try:
    from yaml import CSafeDumper as _BaseDumper
except ImportError:  # PyYAML was built without libyaml: the Python version is slower
    from yaml import SafeDumper as _BaseDumper  # type: ignore[assignment] # another class with the same interface

FORMAT = "pytest-vastgpu-hosts"
"""First key of the snapshot; its value is the version of the format."""
VERSION = 2
END = b"...\n"
"""The line that ends each document."""
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
    """The text of a record to append. It begins with a line break, so that it never continues a line that is cut."""
    fields = {"market": market, "machine": evidence.machine_id, **write_record(evidence)}
    return b"\n---\n" + _dump(fields) + END


def snapshot_text(contents: CacheContents) -> bytes:
    """The text of a whole file with these contents."""
    markets = {market: _book_out(book) for market, book in sorted(contents.markets.items())}
    return HEADER.encode() + _dump({FORMAT: VERSION, "markets": markets, **contents.extra}) + END


def _book_out(book: MarketRecords) -> dict[str, object]:
    of_machine: dict[int, list[Outcome]] = defaultdict(list)
    for item in book.evidence.values():
        of_machine[item.machine_id].append(item)
    machines = {}
    for machine_id in sorted(of_machine.keys() | book.machines.keys()):
        out = write_record(book.machines.get(machine_id, Override()))
        if items := sorted(of_machine.get(machine_id, ()), key=by_time):
            out["evidence"] = [write_record(item) for item in items]
        machines[machine_id] = out
    hosts = {host_id: write_record(entry) for host_id, entry in sorted(book.hosts.items())}
    return {"machines": machines, "hosts": hosts, **book.extra}


class _Dumper(_BaseDumper):
    """Writes times as ``2030-01-31T18:00:00Z``, no anchors, and escapes lone surrogates, which no file can hold."""

    def ignore_aliases(self, data: object) -> bool:
        return True

    def represent_time(self, value: datetime) -> yaml.ScalarNode:
        text = value.isoformat(timespec="milliseconds" if value.microsecond else "seconds")
        return self.represent_scalar("tag:yaml.org,2002:timestamp", text.replace("+00:00", "Z"))

    def represent_text(self, value: str) -> yaml.ScalarNode:
        return self.represent_str(value.encode(errors="backslashreplace").decode())

    def represent_on_one_line(self, value: OnOneLine) -> yaml.MappingNode:
        return self.represent_mapping("tag:yaml.org,2002:map", value, flow_style=True)


_Dumper.add_representer(str, _Dumper.represent_text)
_Dumper.add_representer(datetime, _Dumper.represent_time)
_Dumper.add_representer(OnOneLine, _Dumper.represent_on_one_line)


def _dump(content: object) -> bytes:
    text = yaml.dump(content, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=1000, default_flow_style=False)
    return str(text).encode()
