"""Messages on real sockets."""

from __future__ import annotations

import json
import os
import socket
import struct
import threading
from collections.abc import Iterator

import pytest
from hypothesis import example
from hypothesis import given
from hypothesis import strategies as st

from pytest_vastgpu.core import messages
from tests.support.looks import PATIENCE_S

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    one, other = socket.socketpair()
    with one, other:
        yield one, other


@given(st.text(st.characters(), max_size=40))
@example("\ud83d" + "\ude00")  # each alone, which together would be another text
def test_any_text_arrives_as_it_was(text: str) -> None:
    one, other = socket.socketpair()
    with one, other:
        messages.send(one, {"text": text})
        assert messages.receive(other) == {"text": text}


def test_a_large_message_arrives_however_it_is_cut(pair: Pair) -> None:
    one, other = pair
    text = "ü" * 3_000_000
    sender = threading.Thread(target=messages.send, args=(one, [text]))
    sender.start()
    assert messages.receive(other) == [text]
    sender.join()


def test_a_message_that_comes_byte_by_byte_is_put_together(pair: Pair) -> None:
    one, other = pair
    found: list[object] = []
    reader = threading.Thread(target=lambda: found.append(messages.receive(other)))
    reader.start()
    data = json.dumps({"a": 1}).encode()
    for byte in struct.pack("!I", len(data)) + data:
        one.send(bytes([byte]))
    reader.join()
    assert found == [{"a": 1}]


def test_messages_do_not_run_into_each_other(pair: Pair) -> None:
    one, other = pair
    for number in range(100):
        messages.send(one, number)
    assert [messages.receive(other) for _ in range(100)] == list(range(100))


def test_what_is_too_large_is_not_sent(pair: Pair) -> None:
    one, other = pair
    with pytest.raises(messages.TooLarge, match="a message of 13 bytes; 10 are the most"):
        messages.send(one, "x" * 11, 10)
    messages.send(one, "short")
    assert messages.receive(other) == "short"


@pytest.mark.parametrize("length", [513, 2**31, 2**32 - 1])
def test_what_announces_too_much_is_refused_before_it_is_read(pair: Pair, length: int) -> None:
    one, other = pair
    one.sendall(struct.pack("!I", length) + b"{}")
    with pytest.raises(messages.TooLarge, match=f"a message of {length} bytes; 512 are the most"):
        messages.receive(other, 512)
    assert other.recv(10) == b"{}", "nothing but the length was read"


@pytest.mark.parametrize("sent", [b"", b"\0", struct.pack("!I", 10), struct.pack("!I", 10) + b'{"a"'])
def test_the_end_in_the_middle_of_a_message_is_the_end(pair: Pair, sent: bytes) -> None:
    one, other = pair
    one.sendall(sent)
    one.close()
    with pytest.raises(EOFError):
        messages.receive(other)


@pytest.mark.parametrize(
    "data", [b"", b"{", b"hello", b"\xff\xfe\xfd", b"\x80\x04K\x01.", b"{'a': 1}", b"1" * 5000], ids=str
)
def test_what_is_no_json_is_a_value_error(pair: Pair, data: bytes) -> None:
    one, other = pair
    one.sendall(struct.pack("!I", len(data)) + data)
    with pytest.raises(ValueError, match=r".") as caught:
        messages.receive(other)
    assert not isinstance(caught.value, messages.TooLarge)


def test_silence_ends_with_the_sockets_time(pair: Pair) -> None:
    _, other = pair
    other.settimeout(0.01)
    with pytest.raises(TimeoutError):
        messages.receive(other)


def test_whether_something_can_be_read(pair: Pair) -> None:
    one, other = pair
    assert not messages.readable(other, 0)
    messages.send(one, 1)
    assert messages.readable(other, PATIENCE_S)
    messages.receive(other)
    assert not messages.readable(other, 0)
    one.close()
    assert messages.readable(other, PATIENCE_S), "the end can be read, too"


def test_a_socket_beyond_the_first_thousand_descriptors_can_be_waited_for(pair: Pair) -> None:
    import fcntl
    import resource

    one, other = pair
    if resource.getrlimit(resource.RLIMIT_NOFILE)[0] < 1100:
        pytest.skip("so many descriptors are not to be had here")
    high = socket.socket(fileno=fcntl.fcntl(other, fcntl.F_DUPFD_CLOEXEC, 1050))
    with high:
        messages.send(one, 1)
        assert messages.readable(high, PATIENCE_S)


def test_the_peer_of_a_socket_is_known(pair: Pair) -> None:
    assert messages.peer_uid(pair[0]) == os.getuid()


def test_a_patched_socket_module_is_none_of_its_business(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a test's own")

    one, other = pair
    for name in ("sendall", "recv_into"):
        monkeypatch.setattr(socket.socket, name, refuse)
    monkeypatch.setattr(json, "dumps", refuse)
    monkeypatch.setattr(json, "loads", refuse)
    monkeypatch.setattr("select.poll", refuse)
    messages.send(one, 1)
    assert messages.readable(other, PATIENCE_S)
    assert messages.receive(other) == 1
