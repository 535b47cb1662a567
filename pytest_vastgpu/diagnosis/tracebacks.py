"""Follows Python tracebacks in a log, and recognises those of optional parts."""

from __future__ import annotations

import re
from dataclasses import replace

from pytest_vastgpu.diagnosis.evidence import shown
from pytest_vastgpu.diagnosis.lines import Level
from pytest_vastgpu.diagnosis.lines import Line
from pytest_vastgpu.diagnosis.lines import is_error

_PLACES = re.compile(r"custom[_ ]nodes?\b|load_custom_node|load_plugins_by_group|[/\\]extensions[/\\]", re.IGNORECASE)
"""Paths and loaders of parts that a server does not require."""
_WORDS = re.compile(
    r"""telemetry | usage\ stat | \[ComfyUI-Manager\] | update\ check | check(?:ing)?\ for\ updates
      | (?<![/\\])(?:plugin|extension)s?\b(?![/\\]).{0,80}\b(?:failed|error|not\ be\ (?:imported|loaded)|No\ module)
      | (?:(?:import|load)\w*|failed|error)\b.{0,80}(?<![/\\])\b(?:plugin|extension)s?\b(?![/\\])
    """,
    re.VERBOSE | re.IGNORECASE,
)
"""Words about such parts, and about telemetry and updates. An error's own words are about its cause."""
_EXCEPTION = re.compile(r"(?:[A-Za-z_]\w*\.)*[A-Za-z_]\w*(?:: |:?$)")
_INSIDE = re.compile(r"\s|$")
_CHAINED = re.compile(r"During handling of the above exception|The above exception was the direct cause")


class Tracebacks:
    """Follows the tracebacks of a log, line by line."""

    def __init__(self) -> None:
        self.unfinished = ""
        """The first line of a traceback whose error has not been read yet."""
        self._open = False
        self._optional = False
        """Whether the current text is about an optional part."""
        self._more = False
        """Whether a traceback that begins now is about the same part."""

    def follow(self, line: Line) -> Line:
        """The line as the rules should read it: a line about an optional part explains no failure."""
        begins = line.text.startswith("Traceback (most recent")
        inside = line.dull or _INSIDE.match(line.text) is not None
        about_part = (self._open or not line.dull) and (
            _PLACES.search(line.text) is not None or (not is_error(line.text) and _WORDS.search(line.text) is not None)
        )
        if begins:
            self._open, self._optional = True, self._optional and self._more
            self.unfinished = shown(line.printed) if line.level >= Level.PLAIN else ""
        elif inside:
            self._optional = self._optional or about_part
        else:
            if self._open and line.level is Level.PLAIN and _EXCEPTION.match(line.text):
                line = replace(line, level=Level.ERROR)  # it ends a traceback, whatever its exception is called
            chained = _CHAINED.match(line.text) is not None
            self._more = about_part or (chained and self._optional)
            self._optional = about_part or (self._optional and (chained or self._open))
            self._open, self.unfinished = False, ""
        if self._optional:
            self.unfinished = ""
            return replace(line, dull=True)
        return line
