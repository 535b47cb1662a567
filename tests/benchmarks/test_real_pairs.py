from __future__ import annotations

from pathlib import Path

import pytest

from tests.benchmarks import real_pairs


@pytest.mark.parametrize(
    ("found", "wrong"),
    [
        ({("the same", "noise"): 20, ("slower", "regression"): 16, ("slower", "inconclusive"): 4}, []),
        ({("the same", "regression"): 1, ("slower", "regression"): 20}, ["1 of 'the same' found to be regression"]),
        ({("the same", "improvement"): 2, ("slower", "regression"): 20}, ["2 of 'the same' found to be improvement"]),
        ({("slower", "noise"): 1, ("slower", "regression"): 19}, ["1 of 'slower' found to be noise"]),
        (
            {("the same", "inconclusive"): 20, ("slower", "inconclusive"): 20},
            ["0 of the slower pairs are a regression"],
        ),
    ],
)
def test_pairs_are_wrong_where_a_finding_is_not_true_or_too_few_are_found(
    found: dict[tuple[str, str], int], wrong: list[str]
) -> None:
    faults = real_pairs.faults(found, 16)
    assert len(faults) == len(wrong)
    assert all(fault.startswith(start) for fault, start in zip(faults, wrong, strict=True))


def test_one_slower_pair_that_is_not_found_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen = {"slowdown": 0.1, "low": -0.2, "high": 0.5, "resolves": 0.3, "hosts": 1, "seconds": 20.0}
    ends = []
    for finding in ("regression", "inconclusive"):
        pairs = [{"kind": "the same", "finding": "noise", **seen}, {"kind": "slower", "finding": finding, **seen}]
        monkeypatch.setattr(real_pairs, "compared", lambda *_, pairs=pairs: iter(pairs))
        ends.append(real_pairs.main(["--pairs", "1", "--delay", "0.2"]))
    assert ends == [0, 1]
    printed = capsys.readouterr()
    assert "20% more time for each answer" in printed.out
    assert "0 of the slower pairs are a regression, 1 are the least" in printed.err


def test_a_finding_that_is_being_written_is_read_once_it_is_whole(tmp_path: Path) -> None:
    file = tmp_path / "found.jsonl"
    assert real_pairs._lines(file) == []
    for written, lines in (("{}\n", ["{}"]), ('{}\n{"ki', ["{}"]), ("{}\n{}\n", ["{}", "{}"])):
        file.write_text(written)
        assert real_pairs._lines(file) == lines
