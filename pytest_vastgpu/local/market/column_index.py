"""Offers by column, so that a search looks at each different value of a field once, and not at each offer."""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from itertools import compress
from typing import Any

from pytest_vastgpu.local.market.offer_rows import Row

_MOST_VALUES = 500
_BITS = bytes.maketrans(b"01", b"\x00\x01")


class ColumnIndex:
    """Rows that are searched again and again, and of which few change.

    Sets of rows are whole numbers: the bit at a row's position says whether it is in.
    """

    def __init__(self, rows: Iterable[Row] = ()) -> None:
        self._rows = list(rows)
        self._columns: dict[str, list[Any]] = {}
        self._indexes: dict[str, dict[Any, int] | None] = {}

    @property
    def rows(self) -> Sequence[Row]:
        """The rows; each one's position is what the columns and indexes speak of."""
        return self._rows

    @property
    def everything(self) -> int:
        """The set of all rows."""
        return (1 << len(self._rows)) - 1

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
            index = self._indexes.get(field)
            if index is not None and before != column[position]:
                index[before] &= ~(1 << position)
                index[column[position]] = index.get(column[position], 0) | 1 << position

    def column(self, field: str) -> Sequence[Any]:
        """A field's value in each row; None where a row has none."""
        if field not in self._columns:
            self._columns[field] = [row.get(field) for row in self._rows]
        return self._columns[field]

    def index(self, field: str) -> Mapping[Any, int] | None:
        """The rows that have each of a field's values; None where there are so many that it would not help."""
        if field not in self._indexes:
            index: dict[Any, int] | None = None
            if len(set(self.column(field))) <= _MOST_VALUES:
                index = {}
                for position, value in enumerate(self.column(field)):
                    index[value] = index.get(value, 0) | 1 << position
            self._indexes[field] = index
        return self._indexes[field]

    def positions(self, chosen: int) -> list[int]:
        """The positions of a set, from the first on."""
        bits = bin(chosen)[:1:-1].encode().translate(_BITS)
        return list(compress(range(len(bits)), bits))
