"""Offers by column, so that a search looks at each different value of a field once, and not at each offer."""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

from pytest_vastgpu.local.offers import Row


class Table:
    """Rows that are searched again and again, and of which few change."""

    def __init__(self, rows: Iterable[Row] = ()) -> None:
        self._rows = list(rows)
        self._columns: dict[str, list[Any]] = {}
        self._indexes: dict[str, dict[Any, set[int]]] = {}

    @property
    def rows(self) -> Sequence[Row]:
        """The rows; each one's position is what the columns and indexes speak of."""
        return self._rows

    def append(self, row: Row) -> int:
        """One row more; its position."""
        self._rows.append(row)
        self._columns.clear()
        self._indexes.clear()
        return len(self._rows) - 1

    def replace(self, position: int, row: Row) -> None:
        """Another row in the place of one."""
        self._rows[position] = row
        for field, column in self._columns.items():
            before, column[position] = column[position], row.get(field)
            if field in self._indexes and before != column[position]:
                self._indexes[field][before].discard(position)
                self._indexes[field].setdefault(column[position], set()).add(position)

    def column(self, field: str) -> Sequence[Any]:
        """A field's value in each row; None where a row has none."""
        if field not in self._columns:
            self._columns[field] = [row.get(field) for row in self._rows]
        return self._columns[field]

    def index(self, field: str) -> Mapping[Any, set[int]]:
        """The positions of each of a field's values."""
        if field not in self._indexes:
            index: dict[Any, set[int]] = {}
            for position, value in enumerate(self.column(field)):
                index.setdefault(value, set()).add(position)
            self._indexes[field] = index
        return self._indexes[field]
