from __future__ import annotations

import io
import json

import pytest

from pytest_vastgpu.cli.classify_stream import EXIT_CODES
from pytest_vastgpu.cli.classify_stream import USAGE_EXIT_CODE
from pytest_vastgpu.cli.classify_stream import classify_stream
from pytest_vastgpu.model import FailureClass
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
        ("[" * 100_000, "line 2: is nested too deeply"),
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


@pytest.mark.parametrize("text", ["", "\n \n"])
def test_no_text_is_told(text: str) -> None:
    _, out, _ = run(text)
    assert out.startswith("class:  unknown (cannot be said from this text)\nreason: no_text\n")
    _, out, _ = run(json.dumps({"text": text}), jsonl=True)
    assert json.loads(out)["reason"] == "no_text"


@pytest.mark.parametrize("error", ["mylib.errors.Oops", "OddThing: hmm", "my.module.OddThing: hmm", "Stop:"])
def test_a_traceback_counts_whatever_its_exception_is_called(error: str) -> None:
    frames = 'Traceback (most recent call last):\n  File "x.py", line 3, in <module>\n    run()\n'
    _, out, _ = run(f"loading\n{frames}{error}\n", as_json=True)
    assert (json.loads(out)["class"], json.loads(out)["evidence"]) == ("unknown", error)


@pytest.mark.parametrize(
    ("text", "code"),
    [("hello\n", 0), ("", 15), ("OSError: [Errno 98] Address already in use\n", 12), ("Odd: x\n", 0)],
)
def test_the_exit_code_can_tell_the_class(text: str, code: int) -> None:
    assert run(text, exit_code=True)[0] == code
    assert run(text)[0] == 0


def test_every_class_has_an_exit_code_and_only_faults_have_one_that_is_not_0() -> None:
    assert set(EXIT_CODES) == set(FailureClass)
    assert {each for each, code in EXIT_CODES.items() if not code} == {FailureClass.READY, FailureClass.WARMUP}
    faults = [code for code in EXIT_CODES.values() if code]
    assert len(set(faults)) == len(faults)
    assert 1 not in faults
    assert USAGE_EXIT_CODE not in faults
