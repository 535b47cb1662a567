from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

import pytest

from pytest_vastgpu.diagnosis.kinds import kind_of
from tests.diagnosis import rates

DOCUMENT = Path(__file__).parents[2] / "docs" / "servers.md"
RIGHT = {"channel": "server_log", "server": "vllm", "label": "ready", "text": "Application startup complete.\n"}
WRONG = {"channel": "server_log", "server": "mine", "label": "warmup", "text": "RuntimeError: Error 802\n"}


@pytest.mark.parametrize("name", rates.own_sets())
def test_the_sets_keep_their_rates(name: str) -> None:
    given = rates.own_sets()[name]
    wrong = [sample.id for sample in given if not sample.right(rates.judge(sample).failure_class)]
    told = rates.score(name, given)
    assert f"{name}: {len(given) - len(wrong)}/{len(given)} right, 0 hosts blamed wrongly" in told
    assert "0 fatal at a prefix, 0 of their lines fatal alone" in told
    assert len(wrong) <= 0.03 * len(given), wrong


def test_any_labelled_outputs_are_scored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(rates, "own_sets", dict)
    one, two = tmp_path / "one.jsonl", tmp_path / "two" / "more.jsonl"
    two.parent.mkdir()
    one.write_text(f"{json.dumps(RIGHT)}\n{json.dumps(WRONG)}\n", encoding="utf-8")
    two.write_text(json.dumps({**WRONG, "accept": ["infra_fatal"]}) + "\n", encoding="utf-8")
    monkeypatch.setenv(rates.LABELLED, str(two.parent))
    assert rates.main([str(one)]) == 0
    told = capsys.readouterr().out
    assert f"{one}: 1/2 right, 1 hosts blamed wrongly; of 2 logs of healthy starts 0 fatal at a prefix" in told
    assert "by server: mine 0/1, vllm 1/1" in told
    assert "wrong: one-2: infra_fatal, not warmup" in told
    assert f"{two}: 1/1 right, 0 hosts blamed wrongly" in told


@pytest.mark.parametrize("text", ["{", "[1]", '{"channel": "smoke", "text": "", "label": "ready"}', "{}"])
def test_what_cannot_be_scored_is_named(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(rates, "own_sets", dict)
    bad = tmp_path / "bad.jsonl"
    bad.write_text(text, encoding="utf-8")
    for path, words in ((bad, "bad.jsonl, line 1: no labelled output"), (tmp_path / "none", "does not exist")):
        assert rates.main([str(path)]) == 2
        assert words in capsys.readouterr().err


@pytest.mark.parametrize(("wrong", "code"), [(1, 0), (2, 1)])
def test_nine_in_ten_must_be_right_of_each_server(
    wrong: int, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(rates, "own_sets", dict)
    monkeypatch.delenv(rates.LABELLED, raising=False)
    given = tmp_path / "given.jsonl"
    other = {**RIGHT, "label": "unknown"}
    few = [{**other, "server": "seldom"}] * (rates.ENOUGH - 1)
    items = [*[RIGHT] * (rates.ENOUGH - wrong), *[other] * wrong, *few]
    given.write_text("".join(f"{json.dumps(item)}\n" for item in items), encoding="utf-8")
    assert rates.main([str(given)]) == code
    told = capsys.readouterr().out
    assert ("falls short: of vllm only 8 of 10 are right: less than 90%" in told) == bool(code)
    assert "of seldom" not in told


def test_the_document_says_how_often_verdicts_are_right_now() -> None:
    rows = re.findall(
        r"^\| (.+?) \| (\d+) \| (\d+) \((\d+)%\) \| (\d+) \((\d+)%\) \|$", DOCUMENT.read_text(), re.MULTILINE
    )
    told = {}
    for name, total, first, first_share, now, now_share in rows:
        assert f"{int(first) / int(total):.0%}" == f"{first_share}%"
        assert f"{int(now) / int(total):.0%}" == f"{now_share}%"
        in_backticks = re.search(r"`(.+)`", name)
        told[kind_of(in_backticks[1] if in_backticks else name)] = (int(total), int(now))
    given = rates.own_sets()["judging"]
    totals = Counter(sample.server for sample in given)
    right = Counter(sample.server for sample in given if sample.right(rates.judge(sample).failure_class))
    counted = {server: (totals[server], right[server]) for server in totals}
    assert told == {**counted, "all": (totals.total(), right.total())}
