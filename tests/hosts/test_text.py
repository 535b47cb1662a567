"""Text to values and back, and how two caches become one."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from pytest_vastgpu.hosts.book import KEPT_PER_MACHINE
from pytest_vastgpu.hosts.book import KEPT_S
from pytest_vastgpu.hosts.book import Book
from pytest_vastgpu.hosts.book import pruned
from pytest_vastgpu.hosts.book import union
from pytest_vastgpu.hosts.evidence import Ban
from pytest_vastgpu.hosts.evidence import Entry
from pytest_vastgpu.hosts.evidence import Evidence
from pytest_vastgpu.hosts.fields import machine_id
from pytest_vastgpu.hosts.reader import parse
from pytest_vastgpu.hosts.writer import record_text
from pytest_vastgpu.hosts.writer import snapshot_text
from pytest_vastgpu.model import FailureClass

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
TIMES = st.integers(1, 4_000_000_000_000).map(lambda ms: ms / 1000)
SECONDS = st.floats(0, 1e6, allow_nan=False)
EXTRA = st.dictionaries(st.sampled_from(["note", "owner"]), st.one_of(TEXT, st.integers(), st.booleans()), max_size=2)
BANS = st.builds(Ban, st.one_of(TIMES, st.just(math.inf)), TEXT, TIMES, EXTRA)
ENTRIES = st.builds(Entry, st.booleans(), st.one_of(st.none(), BANS), EXTRA).filter(lambda entry: entry != Entry())
IDS = st.integers(1, 5)


@st.composite
def evidence(draw: st.DrawFn) -> Evidence:
    return Evidence(
        id=draw(st.one_of(st.sampled_from(["a", "b", "1e3", "no"]), TEXT.filter(bool))),
        time=draw(TIMES),
        machine_id=draw(IDS),
        outcome=draw(st.sampled_from(FailureClass)),
        host_id=draw(st.integers(0, 3)),
        gpu_name=draw(TEXT),
        reason=draw(TEXT),
        workload=draw(TEXT),
        seconds=draw(st.dictionaries(st.sampled_from(["booting", "warming"]), SECONDS)),
        run_id=draw(TEXT),
        extra=draw(EXTRA),
    )


BOOKS = st.builds(
    Book,
    st.lists(evidence(), max_size=4).map(lambda items: {item.id: item for item in items}),
    st.dictionaries(IDS, ENTRIES, max_size=2),
    st.dictionaries(IDS, ENTRIES, max_size=2),
    EXTRA,
)


@given(BOOKS)
def test_a_book_survives_writing_and_reading(book: Book) -> None:
    parsed = parse(snapshot_text(book))
    assert parsed.book == book
    assert (parsed.damage, parsed.broken, parsed.notes) == ("", (), ())


@given(BOOKS, evidence())
def test_a_record_that_is_appended_is_read(book: Book, item: Evidence) -> None:
    parsed = parse(snapshot_text(book) + record_text(item))
    assert parsed.book == union(book, Book({item.id: item}))
    assert parsed.broken == ()


@given(BOOKS, BOOKS, BOOKS)
@settings(max_examples=50)
def test_union_is_a_union(one: Book, two: Book, three: Book) -> None:
    assert union(one, one) == one
    assert union(one, Book()) == one
    assert union(one, two) == union(two, one)
    assert union(union(one, two), three) == union(one, union(two, three))


@pytest.mark.parametrize("value", [123, "123", 123.0, " 123 "])
def test_ids_as_people_write_them(value: object) -> None:
    assert machine_id(value) == 123


@pytest.mark.parametrize("value", [True, -1, 0, 1.5, "x", None, "", math.nan, [1]])
def test_what_is_no_id(value: object) -> None:
    with pytest.raises(ValueError, match="is not an id"):
        machine_id(value)


HEAD = "pytest-vastgpu-hosts: 1\n"


@pytest.mark.parametrize(
    ("text", "entry"),
    [
        ("ban: forever", Entry(ban=Ban())),
        ("ban: true", Entry(ban=Ban())),
        ("ban: {}", Entry(ban=Ban())),
        ("ban: 2027-01-15", Entry(ban=Ban(until=1_799_971_200.0))),
        ("ban: 2027-01-15 08:00", Entry(ban=Ban(until=1_800_000_000.0))),
        ("ban: {until: 2027-01-15T08:00:00Z, reason: slow}", Entry(ban=Ban(1_800_000_000.0, "slow"))),
        ("ban: {until: 2027-01-15T09:00:00+01:00, ticket: 5}", Entry(ban=Ban(1_800_000_000.0, extra={"ticket": 5}))),
        ("allow: true", Entry(allowed=True)),
        ("note: mine", Entry(extra={"note": "mine"})),
    ],
)
@pytest.mark.parametrize("key", ["42", '"42"', "42.0"])
def test_what_people_write(text: str, entry: Entry, key: str) -> None:
    parsed = parse(f"{HEAD}machines:\n  {key}:\n    {text}\n".encode())
    assert parsed.book.machines == {42: entry}
    assert parsed.notes == ()


@pytest.mark.parametrize("text", ["ban: tomorrow", "allow: perhaps", "evidence: [{id: a}]", "evidence: nothing"])
def test_what_is_not_understood_is_told_and_kept(text: str) -> None:
    parsed = parse(f"{HEAD}machines:\n  42:\n    {text}\n  43: {{ban: forever}}\n".encode())
    assert parsed.book.machines == {43: Entry(ban=Ban())}
    assert len(parsed.notes) == 1
    assert "42" in parsed.notes[0]
    again = parse(snapshot_text(parsed.book))
    assert again.notes == ()
    assert text.split(": ")[1].strip("[]{}").split(":")[0] in str(again.book.extra["not_understood"])


def test_a_machine_that_stands_twice_keeps_both() -> None:
    item = Evidence("a", 1_800_000_000.0, 42, FailureClass.READY)
    text = snapshot_text(Book({"a": item})).replace(b"hosts: {}", b"  42:\n    ban: forever\nhosts: {}")
    assert parse(text).book == Book({"a": item}, {42: Entry(ban=Ban())})


def test_windows_line_ends_and_byte_order_mark() -> None:
    item = Evidence("a", 1_800_000_000.0, 42, FailureClass.READY)
    text = b"\xef\xbb\xbf" + (snapshot_text(Book()) + record_text(item)).replace(b"\n", b"\r\n")
    assert parse(text).book == Book({"a": item})


def test_pruning_keeps_what_counts() -> None:
    now = 1_800_000_000.0
    many = [Evidence(f"m{n}", now - n, 1, FailureClass.READY) for n in range(KEPT_PER_MACHINE + 5)]
    old = Evidence("old", now - KEPT_S, 2, FailureClass.READY)
    book = Book(
        {item.id: item for item in [*many, old]},
        {1: Entry(ban=Ban(until=now)), 2: Entry(ban=Ban(until=now + 1)), 3: Entry(ban=Ban(until=now), extra={"a": 1})},
    )
    kept = pruned(book, now)
    assert kept.evidence == {item.id: item for item in many[:KEPT_PER_MACHINE]}
    assert kept.machines == {2: Entry(ban=Ban(until=now + 1)), 3: Entry(extra={"a": 1})}
    assert pruned(kept, now) == kept


@given(BOOKS, st.data())
@settings(max_examples=100)
def test_no_damage_raises_and_none_takes_later_records_along(book: Book, data: st.DataObject) -> None:
    text = bytearray(snapshot_text(book))
    for _ in range(data.draw(st.integers(1, 5))):
        text[data.draw(st.integers(0, len(text) - 1))] = data.draw(st.sampled_from(b"\x00\t\n :-[]{}!&*?|'\"%@\xff0a"))
    item = Evidence("after", 1_800_000_000.0, 42, FailureClass.READY)
    parsed = parse(bytes(text) + b"\n..." + record_text(item))
    assert parsed.newer or "after" in parsed.book.evidence


@pytest.mark.parametrize(
    "text", ["a: !!timestamp x", "a: !!bool x", "a: !!int ''", "a: !!float .", "? [a]\n: b", "!!set {a}"]
)
def test_values_that_do_not_fit_their_tags(text: str) -> None:
    assert parse(text.encode()).damage
