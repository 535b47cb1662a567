"""Text to values and back, and how two caches become one."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from pytest_vastgpu.model import FailureClass
from pytest_vastgpu.providers.market_name import VAST
from pytest_vastgpu.reputation.contents import KEPT_IN_ALL
from pytest_vastgpu.reputation.contents import KEPT_PER_MACHINE
from pytest_vastgpu.reputation.contents import KEPT_S
from pytest_vastgpu.reputation.contents import CacheContents
from pytest_vastgpu.reputation.contents import MarketRecords
from pytest_vastgpu.reputation.contents import pruned
from pytest_vastgpu.reputation.contents import together
from pytest_vastgpu.reputation.contents import union
from pytest_vastgpu.reputation.fields import machine_id
from pytest_vastgpu.reputation.outcomes import Ban
from pytest_vastgpu.reputation.outcomes import Outcome
from pytest_vastgpu.reputation.outcomes import Override
from pytest_vastgpu.reputation.reader import parse
from pytest_vastgpu.reputation.writer import record_text
from pytest_vastgpu.reputation.writer import snapshot_text

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
TIMES = st.integers(1, 4_000_000_000_000).map(lambda ms: ms / 1000)
SECONDS = st.floats(0, 1e6, allow_nan=False)
EXTRA = st.dictionaries(st.sampled_from(["note", "owner"]), st.one_of(TEXT, st.integers(), st.booleans()), max_size=2)
BANS = st.builds(Ban, st.one_of(TIMES, st.just(math.inf)), TEXT, TIMES, EXTRA)
ENTRIES = st.builds(Override, st.booleans(), st.one_of(st.none(), BANS), EXTRA).filter(
    lambda entry: entry != Override()
)
IDS = st.integers(1, 5)


@st.composite
def evidence(draw: st.DrawFn) -> Outcome:
    return Outcome(
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
    MarketRecords,
    st.lists(evidence(), max_size=4).map(lambda items: {item.id: item for item in items}),
    st.dictionaries(IDS, ENTRIES, max_size=2),
    st.dictionaries(IDS, ENTRIES, max_size=2),
    EXTRA,
)


LOCAL = "http://127.0.0.1:8000"
CONTENTS = st.builds(
    CacheContents,
    st.dictionaries(st.sampled_from([VAST, LOCAL]), BOOKS.filter(lambda book: book != MarketRecords()), max_size=2),
    EXTRA,
)


def of_vast(book: MarketRecords) -> bytes:
    return snapshot_text(CacheContents({VAST: book}))


@given(CONTENTS)
def test_contents_survive_writing_and_reading(contents: CacheContents) -> None:
    parsed = parse(snapshot_text(contents))
    assert parsed.contents == contents
    assert (parsed.damage, parsed.broken, parsed.notes, parsed.old) == ("", (), (), False)


@pytest.mark.slow
@given(CONTENTS, evidence(), st.sampled_from([VAST, LOCAL]))
def test_a_record_that_is_appended_is_read(contents: CacheContents, item: Outcome, market: str) -> None:
    parsed = parse(snapshot_text(contents) + record_text(market, item))
    assert parsed.contents == together(contents, CacheContents({market: MarketRecords({item.id: item})}))
    assert parsed.broken == ()


@given(BOOKS, BOOKS, BOOKS)
@settings(max_examples=25)
def test_union_is_a_union(one: MarketRecords, two: MarketRecords, three: MarketRecords) -> None:
    assert union(one, one) == one
    assert union(one, MarketRecords()) == one
    assert union(one, two) == union(two, one)
    assert union(union(one, two), three) == union(one, union(two, three))


@given(CONTENTS, CONTENTS)
@settings(max_examples=25)
def test_markets_are_united_each_by_itself(one: CacheContents, two: CacheContents) -> None:
    both = together(one, two)
    assert both == together(two, one)
    for market in (VAST, LOCAL):
        assert both.of(market) == union(one.of(market), two.of(market))


@pytest.mark.parametrize("value", [123, "123", 123.0, " 123 "])
def test_ids_as_people_write_them(value: object) -> None:
    assert machine_id(value) == 123


@pytest.mark.parametrize("value", [True, -1, 0, 1.5, "x", None, "", math.nan, [1]])
def test_what_is_no_id(value: object) -> None:
    with pytest.raises(ValueError, match="is not an id"):
        machine_id(value)


HEAD = "pytest-vastgpu-hosts: 2\n"


@pytest.mark.parametrize(
    ("text", "entry"),
    [
        ("ban: forever", Override(ban=Ban())),
        ("ban: true", Override(ban=Ban())),
        ("ban: {}", Override(ban=Ban())),
        ("ban: 2027-01-15", Override(ban=Ban(until=1_799_971_200.0))),
        ("ban: 2027-01-15 08:00", Override(ban=Ban(until=1_800_000_000.0))),
        ("ban: {until: 2027-01-15T08:00:00Z, reason: slow}", Override(ban=Ban(1_800_000_000.0, "slow"))),
        ("ban: {until: 2027-01-15T09:00:00+01:00, ticket: 5}", Override(ban=Ban(1_800_000_000.0, extra={"ticket": 5}))),
        ("allow: true", Override(allowed=True)),
        ("note: mine", Override(extra={"note": "mine"})),
    ],
)
@pytest.mark.parametrize("key", ["42", '"42"', "42.0"])
def test_what_people_write(text: str, entry: Override, key: str) -> None:
    parsed = parse(f"{HEAD}markets:\n  Vast.AI:\n    machines:\n      {key}:\n        {text}\n".encode())
    assert parsed.contents.of(VAST).machines == {42: entry}
    assert parsed.notes == ()


@pytest.mark.parametrize("text", ["ban: tomorrow", "allow: perhaps", "evidence: [{id: a}]", "evidence: nothing"])
def test_what_is_not_understood_is_told_and_kept(text: str) -> None:
    machines = f"machines:\n      42:\n        {text}\n      43: {{ban: forever}}\n"
    parsed = parse(f"{HEAD}markets:\n  {LOCAL}:\n    {machines}".encode())
    assert parsed.contents.of(LOCAL).machines == {43: Override(ban=Ban())}
    assert len(parsed.notes) == 1
    assert "42" in parsed.notes[0]
    again = parse(snapshot_text(parsed.contents))
    assert again.notes == ()
    kept = str(again.contents.extra["not_understood"])
    assert text.split(": ")[1].strip("[]{}").split(":")[0] in kept
    assert LOCAL in kept


def test_a_machine_that_stands_twice_keeps_both() -> None:
    item = Outcome("a", 1_800_000_000.0, 42, FailureClass.READY)
    text = of_vast(MarketRecords({"a": item})).replace(
        b"    hosts: {}", b"      42:\n        ban: forever\n    hosts: {}"
    )
    assert parse(text).contents.of(VAST) == MarketRecords({"a": item}, {42: Override(ban=Ban())})


def test_windows_line_ends_and_byte_order_mark() -> None:
    item = Outcome("a", 1_800_000_000.0, 42, FailureClass.READY)
    text = b"\xef\xbb\xbf" + (snapshot_text(CacheContents()) + record_text(VAST, item)).replace(b"\n", b"\r\n")
    assert parse(text).contents == CacheContents({VAST: MarketRecords({"a": item})})


def test_pruning_keeps_what_counts() -> None:
    now = 1_800_000_000.0
    many = [Outcome(f"m{n}", now - n, 1, FailureClass.READY) for n in range(KEPT_PER_MACHINE + 5)]
    old = Outcome("old", now - KEPT_S, 2, FailureClass.READY)
    book = MarketRecords(
        {item.id: item for item in [*many, old]},
        {
            1: Override(ban=Ban(until=now)),
            2: Override(ban=Ban(until=now + 1)),
            3: Override(ban=Ban(until=now), extra={"a": 1}),
        },
    )
    contents = pruned(CacheContents({VAST: book, LOCAL: MarketRecords({"old": old})}), now)
    assert set(contents.markets) == {VAST}
    kept = contents.of(VAST)
    assert kept.evidence == {item.id: item for item in many[:KEPT_PER_MACHINE]}
    assert kept.machines == {2: Override(ban=Ban(until=now + 1)), 3: Override(extra={"a": 1})}
    assert pruned(contents, now) == contents


def test_no_more_is_kept_than_is_quick_to_read() -> None:
    now = 1_800_000_000.0
    many = [Outcome(f"m{n}", now - n, n + 1, FailureClass.READY) for n in range(KEPT_IN_ALL + 5)]
    kept = pruned(CacheContents({VAST: MarketRecords({item.id: item for item in many})}), now).of(VAST)
    assert set(kept.evidence) == {item.id for item in many[:KEPT_IN_ALL]}


@given(BOOKS, st.data())
@settings(max_examples=50)
def test_no_damage_raises_and_none_takes_later_records_along(book: MarketRecords, data: st.DataObject) -> None:
    text = bytearray(of_vast(book))
    for _ in range(data.draw(st.integers(1, 5))):
        text[data.draw(st.integers(0, len(text) - 1))] = data.draw(st.sampled_from(b"\x00\t\n :-[]{}!&*?|'\"%@\xff0a"))
    item = Outcome("after", 1_800_000_000.0, 42, FailureClass.READY)
    parsed = parse(bytes(text) + b"\n..." + record_text(VAST, item))
    assert parsed.newer or "after" in parsed.contents.of(VAST).evidence


@pytest.mark.parametrize(
    "text", ["a: !!timestamp x", "a: !!bool x", "a: !!int ''", "a: !!float .", "? [a]\n: b", "!!set {a}"]
)
def test_values_that_do_not_fit_their_tags(text: str) -> None:
    assert parse(text.encode()).damage


BOMB = "\n".join(["a0: &a0 [x, x]", *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 40))])
MERGED = "\n".join(
    ["a0: &a0 {k: v}", *(f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}]}}" for n in range(1, 40))]
)
DOUBLED = "a: &a [x]\n" + "b: *a\n" * 60


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (BOMB, "aliases repeat"),
        (MERGED, ""),
        (DOUBLED, ""),
        ("a: &a [*a]", "nested more than"),
        ("a: &a {b: *a}", "nested more than"),
        ("a: " + "[" * 100 + "]" * 100, "nested more than"),
        ("a: " + "[" * 100_000, "nesting depth"),
        ("a: " + "- " * 100_000, ""),
        ("a: " + "{a: " * 100_000, ""),
        ('a: "\\ud800"', "Unicode"),
    ],
)
def test_text_that_means_more_than_it_says_ends_quickly(text: str, why: str) -> None:
    parsed = parse(f"{HEAD}{text}\n".encode())
    assert why in parsed.damage
    assert snapshot_text(parsed.contents)


def test_a_lone_surrogate_is_written_escaped() -> None:
    item = Outcome("a", 1_800_000_000.0, 42, FailureClass.INFRA_FATAL, 7, "H\ud800", "\udcff")
    parsed = parse(snapshot_text(CacheContents()) + record_text(VAST, item))
    (read,) = parsed.contents.of(VAST).evidence.values()
    assert (read.gpu_name, read.reason) == ("H\\ud800", "\\udcff")


OLD = b"""\
pytest-vastgpu-hosts: 1
machines:
  42:
    ban: forever
    evidence:
    - {time: 2027-01-15T08:00:00Z, outcome: infra_fatal, host: 7, id: paid}
  1:
    allow: true
    evidence:
    - {time: 2027-01-15T08:00:00Z, outcome: infra_fatal, host: 1, id: played}
hosts: {7: {note: mine}}
team: x
...

---
{machine: 43, time: 2027-01-15T08:00:00Z, outcome: ready, host: 7, id: paid too}
...

---
{machine: 100, time: 2027-01-15T08:00:00Z, outcome: ready, host: 100, id: played too}
...
"""


def test_what_format_1_says_is_vasts_except_what_only_a_local_market_can_have_shown() -> None:
    parsed = parse(OLD)
    assert (parsed.old, parsed.left_behind, parsed.broken, parsed.notes) == (True, 2, (), ())
    assert set(parsed.contents.markets) == {VAST}
    assert set(parsed.contents.of(VAST).evidence) == {"paid", "paid too"}
    assert parsed.contents.of(VAST).machines == {42: Override(ban=Ban()), 1: Override(allowed=True)}
    assert parsed.contents.of(VAST).hosts == {7: Override(extra={"note": "mine"})}
    assert parsed.contents.extra == {"team": "x"}


def test_a_market_that_is_no_market_is_told_and_kept() -> None:
    parsed = parse(f"{HEAD}markets:\n  my market: {{machines: {{42: {{ban: forever}}}}}}\n".encode())
    assert parsed.contents.markets == {}
    assert "'my market' is not the URL of a market" in parsed.notes[0]
    assert "ban" in str(parsed.contents.extra["not_understood"])


def test_two_spellings_of_a_market_are_one() -> None:
    ban = "{ban: forever}"
    text = f"{HEAD}markets:\n  {LOCAL}/: {{machines: {{1: {ban}}}}}\n  {LOCAL.upper()}: {{machines: {{2: {ban}}}}}\n"
    assert set(parse(text.encode()).contents.of(LOCAL).machines) == {1, 2}
