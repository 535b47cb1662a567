"""The JSON Schemas (draft 2020-12) of the files that a run leaves for programs. Each says its version.

They are open: keys may be added without another version, and readers ignore those that they do not know. No key goes,
and none changes what it means, without another version.
"""

from __future__ import annotations

NAMES = ("cost", "events", "tests")
"""Of ``cost.json``, of a line of ``events.jsonl``, and of ``tests.json``."""


def schema(name: str) -> str:
    """The text of a schema.

    :param name: One of :data:`NAMES`.
    """
    from importlib import resources

    return resources.files(__name__).joinpath(f"{name}.json").read_text(encoding="utf-8")
