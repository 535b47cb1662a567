from __future__ import annotations

import io
import json

import pytest

from pytest_vastgpu.cli.classify import classify_stream
from tests.diagnosis.samples import logs
from tests.diagnosis.samples import samples


def run(text: str, **options: object) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    code = classify_stream(io.StringIO(text), out, stderr=err, **options)  # type: ignore[arg-type] # a table of options
    return code, out.getvalue(), err.getvalue()


def test_in_words() -> None:
    code, out, err = run(logs()["fail-port-in-use"], server="vllm")
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        "class:  workload_fatal (the workload is at fault; it would fail the same everywhere)",
        "reason: address_in_use",
        "line:   OSError: [Errno 98] Address already in use",
        "remedy: two programs of the workload want the same port: change one",
    ]


def test_as_json() -> None:
    code, out, _ = run("No devices were found\n", channel="nvidia_smi", as_json=True)
    assert code == 0
    assert json.loads(out)["class"] == "infra_fatal"
    assert set(json.loads(out)) == {"class", "reason", "evidence", "remedy"}


def test_one_object_a_line_in_order() -> None:
    given = samples()
    lines = [
        json.dumps(
            {"server": s.server, "channel": s.channel.value, "context": s.context or None, "text": s.text, "x": 1}
        )
        for s in given
    ]
    code, out, _ = run("\n".join(lines) + "\n", jsonl=True)
    answers = [json.loads(line) for line in out.splitlines()]
    assert code == 0
    assert len(answers) == len(given)
    assert sum(a["class"] == s.label.value for a, s in zip(answers, given, strict=True)) >= 0.97 * len(given)


def test_the_options_stand_in_for_absent_fields() -> None:
    line = json.dumps({"text": "root@203.0.113.7: Permission denied (publickey)."})
    _, out, _ = run(line, jsonl=True, channel="ssh", context="phase=running_for_minutes")
    assert json.loads(out)["reason"] == "ssh_key_refused"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{", "line 2: is not JSON"),
        ("[1]", "line 2: must be a JSON object with a field 'text'; it is a list"),
        ('{"channel": "ssh"}', "line 2: has no field 'text'"),
        ('{"text": "x", "channel": "telegraph"}', "line 2: unknown channel 'telegraph'; known are server_log,"),
        ('{"text": "x", "server": 3}', "line 2: field 'server' must be a string; it is 3"),
    ],
)
def test_a_bad_line_is_named_and_the_others_are_judged(line: str, words: str) -> None:
    code, out, err = run('{"text": "ok"}\n' + line + '\n{"text": "[Errno 98]"}\n', jsonl=True)
    assert code == 2
    reasons = [json.loads(answer)["reason"] for answer in out.splitlines()]
    assert reasons == ["nothing_wrong_seen", "not_judged", "address_in_use"]
    assert err.startswith(f"vastgpu classify: {words}")


def test_a_byte_order_mark_is_no_part_of_the_first_line() -> None:
    code, out, _ = run('\ufeff{"text": "[Errno 98]"}\n', jsonl=True)
    assert (code, json.loads(out)["reason"]) == (0, "address_in_use")


def test_an_unknown_channel() -> None:
    code, out, err = run("x", channel="smoke")
    assert (code, out) == (2, "")
    assert "unknown channel 'smoke'" in err
