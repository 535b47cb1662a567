"""Whatever the other side does, a call ends in time, with a value or with a market error."""

from __future__ import annotations

import datetime as dt
import gzip
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_address
from itertools import count
from pathlib import Path
from typing import cast

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from pytest_vastgpu.core.clock import Cancelled
from pytest_vastgpu.core.clock import CancelToken
from pytest_vastgpu.core.clock import SystemClock
from pytest_vastgpu.errors import MarketError
from pytest_vastgpu.errors import MarketUnreachable
from pytest_vastgpu.errors import NotSent
from pytest_vastgpu.providers.base import CreateRequest
from pytest_vastgpu.providers.vast.client import MarketClient
from pytest_vastgpu.providers.vast.throttle import Throttle
from pytest_vastgpu.providers.vast.transport import TRIES
from pytest_vastgpu.selection.offer_query import OfferQuery
from tests.providers.vast.raw import Converse
from tests.providers.vast.raw import RawServer
from tests.providers.vast.raw import dribbles
from tests.providers.vast.raw import raw_server
from tests.providers.vast.raw import read_request
from tests.providers.vast.raw import says

LIMIT_S = 0.2
PATIENCE_S = 30.0
PAUSE_BEFORE_ANSWER_S = 0.2
OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
Call = Callable[[MarketClient], object]
CALLS: dict[str, Call] = {
    "search": lambda client: client.search(OfferQuery((), 10, 1)),
    "create": lambda client: client.create(1, CreateRequest("image", 10, "label")),
    "show": lambda client: client.show(7),
    "list": lambda client: client.list_instances(),
    "destroy": lambda client: client.destroy(7),
    "attach": lambda client: client.attach_key(7, "ssh-ed25519 AAAA"),
    "logs": lambda client: client.logs(7, 10),
    "account": lambda client: client.account(),
}


def connected(url: str, tmp_path: Path, cancel: CancelToken | None = None, limit_s: float = LIMIT_S) -> MarketClient:
    throttle = Throttle(tmp_path, "t", spaced=False)
    return MarketClient(url, "key", throttle, timeout_s=limit_s, wait=lambda _: None, cancel=cancel)


def body(text: bytes, headers: bytes = b"") -> bytes:
    return OK + headers + b"Content-Length: %d\r\n\r\n" % len(text) + text


# --- slow ones --------------------------------------------------------------------------------------------------------


class _Watched:
    """A server's socket that tells when its answer is well under way."""

    def __init__(self, sock: socket.socket, under_way: threading.Event) -> None:
        self._sock = sock
        self._under_way = under_way
        self._pieces = 0

    def recv(self, size: int) -> bytes:
        self._under_way.set()
        return self._sock.recv(size)

    def sendall(self, data: bytes) -> None:
        self._sock.sendall(data)
        self._pieces += 1
        if self._pieces == 3:
            self._under_way.set()


class AtOnce(SystemClock):
    """A clock on which the limit of an exchange is over once the server's answer to it is well under way."""

    def __init__(self) -> None:
        self._ahead_s = 0.0
        self._under_way = [threading.Event() for _ in range(TRIES)]
        """Of each exchange in turn: each has a connection of its own."""
        self._waits, self._answers = count(), count()

    def monotonic(self) -> float:
        return super().monotonic() + self._ahead_s

    def wait(self, condition: threading.Condition, until: Callable[[], bool], seconds: float) -> bool:
        under_way = self._under_way[next(self._waits)]
        while not (until() or under_way.is_set()):
            condition.wait(0.01)
        if not until():
            self._ahead_s += seconds
        return until()

    def watched(self, sock: socket.socket) -> socket.socket:
        return cast("socket.socket", _Watched(sock, self._under_way[next(self._answers)]))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> AtOnce:
    clock = AtOnce()
    monkeypatch.setattr("pytest_vastgpu.providers.vast.transport.time", clock)
    return clock


def silent(sock: socket.socket) -> None:
    sock.recv(1)


def tls(sock: socket.socket) -> None:
    """Half of a handshake's record, a byte at a time."""
    dribbles(b"\x16\x03\x03\x40\x00", b"\x00")(sock)


SLOW: dict[str, Converse] = {
    "nothing": silent,
    "status line": dribbles(b"HTTP/1.1 200 ", b"O"),
    "headers": dribbles(OK, b"X-More: yes\r\n"),
    "one header": dribbles(OK + b"X-More: ", b"x"),
    "body": dribbles(OK + b"Content-Length: 1000000\r\n\r\n"),
    "body without end": dribbles(OK + b"\r\n"),
    "chunk": dribbles(CHUNKED + b"fffff\r\n"),
    "chunks": dribbles(CHUNKED, b"1\r\n \r\n"),
    "length of a chunk": dribbles(CHUNKED, b"0"),
    "trailers": dribbles(CHUNKED + b"2\r\n{}\r\n0\r\n", b"X-More: yes\r\n"),
    "continue": dribbles(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
}


@pytest.mark.parametrize("what", SLOW)
def test_whatever_dribbles_has_one_deadline_and_is_cut(tmp_path: Path, clock: AtOnce, what: str) -> None:
    with (
        raw_server(lambda sock: SLOW[what](clock.watched(sock))) as server,
        connected(server.url, tmp_path, CancelToken(clock), PATIENCE_S) as client,
    ):
        began = time.monotonic()
        with pytest.raises(MarketError, match=r"none within 30 s|not ended after 30 s|cannot be read") as told:
            client.account()
        assert time.monotonic() - began < PATIENCE_S
        assert not isinstance(told.value, NotSent), "a create would be sent again"
        assert what == "nothing" or server.hung_up.wait(PATIENCE_S), "the connection is still open"
        assert server.asked <= 2, "a market that takes so long is not tried again and again"


def test_a_handshake_that_dribbles_has_one_deadline_and_is_cut(tmp_path: Path, clock: AtOnce) -> None:
    hung_up = threading.Semaphore(0)
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        for _ in range(2):  # nothing was sent: it is tried again
            sock, _ = listener.accept()
            with sock:
                sock.recv(65536)
                try:
                    tls(clock.watched(sock))
                except OSError:
                    hung_up.release()

    threading.Thread(target=serve, daemon=True).start()
    url = f"https://127.0.0.1:{listener.getsockname()[1]}"
    with (
        listener,
        connected(url, tmp_path, CancelToken(clock), PATIENCE_S) as client,
        pytest.raises(NotSent, match="none within"),
    ):
        client.create(1, CreateRequest("image", 10, "label"))
    assert all(hung_up.acquire(timeout=PATIENCE_S) for _ in range(2))


def test_a_look_up_that_hangs_has_the_same_deadline_and_sends_nothing_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answered = threading.Event()
    resolve = socket.getaddrinfo

    def slow(*arguments: object, **more: object) -> object:
        answered.wait(PATIENCE_S)
        return resolve(*arguments, **more)  # type: ignore[arg-type] # as they came

    with raw_server(says(body(b"{}"))) as server:
        monkeypatch.setattr(socket, "getaddrinfo", slow)
        with connected(server.url, tmp_path) as client, pytest.raises(NotSent, match="none within"):
            client.create(1, CreateRequest("image", 10, "label"))
        threads = [thread for thread in threading.enumerate() if thread.name == "vastgpu-market"]
        answered.set()
        for thread in threads:
            thread.join(PATIENCE_S)
        assert threads
        assert server.asked == 0


def certified(tmp_path: Path, host: str) -> Path:
    """A file with a key and a certificate that it has signed itself."""
    key = Ed25519PrivateKey.generate()
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, host)])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(1))
        .not_valid_after(now + dt.timedelta(1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address(host))]), critical=False)
        .sign(key, None)
    )
    how = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    file = tmp_path / "certificate.pem"
    file.write_bytes(key.private_bytes(*how) + certificate.public_bytes(serialization.Encoding.PEM))
    return file


def test_an_exchange_through_tls_is_cut_too(tmp_path: Path, clock: AtOnce, monkeypatch: pytest.MonkeyPatch) -> None:
    file = certified(tmp_path, "127.0.0.2")
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    hung_up = threading.Semaphore(0)
    listener = socket.create_server(("127.0.0.2", 0))

    def serve() -> None:
        for _ in range(2):  # a look may be tried again
            sock, _ = listener.accept()
            with context.wrap_socket(sock, server_side=True) as secured:
                read_request(secured)
                try:
                    dribbles(OK, b"X-More: yes\r\n")(clock.watched(secured))
                except OSError:
                    hung_up.release()

    threading.Thread(target=serve, daemon=True).start()
    url = f"https://127.0.0.2:{listener.getsockname()[1]}"
    with (
        listener,
        connected(url, tmp_path, CancelToken(clock), PATIENCE_S) as client,
        pytest.raises(MarketUnreachable, match="none within"),
    ):
        client.account()
    assert all(hung_up.acquire(timeout=PATIENCE_S) for _ in range(2))


# --- called off -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("call", CALLS)
def test_a_call_ends_when_it_is_called_off(tmp_path: Path, call: str) -> None:
    cancel = CancelToken()
    reached = threading.Event()

    def hang(sock: socket.socket) -> None:
        reached.set()
        dribbles(OK, b"X-More: yes\r\n")(sock)

    with (
        ThreadPoolExecutor() as pool,
        raw_server(hang) as server,
        MarketClient(
            server.url,
            "key",
            Throttle(tmp_path, "t", spaced=False),
            timeout_s=600,
            wait=cancel.wait,
            cancel=cancel,
            insist_s=0.0,
        ) as client,
    ):
        running = pool.submit(CALLS[call], client)
        assert reached.wait(PATIENCE_S)
        cancel.cancel()
        with pytest.raises(Cancelled):
            running.result(PATIENCE_S)
        assert server.hung_up.wait(PATIENCE_S)
        with pytest.raises((Cancelled, NotSent)):
            CALLS[call](client)
        assert server.asked == 1


def test_a_create_that_is_called_off_still_takes_the_answer_that_is_on_its_way(tmp_path: Path) -> None:
    cancel = CancelToken()

    def answer(sock: socket.socket) -> None:
        cancel.cancel()
        threading.Event().wait(PAUSE_BEFORE_ANSWER_S)
        sock.sendall(body(b'{"success": true, "new_contract": 77}'))

    with raw_server(answer) as server, connected(server.url, tmp_path, cancel, limit_s=PATIENCE_S) as client:
        assert client.create(1, CreateRequest("image", 10, "label")) == 77


def test_a_create_that_is_called_off_before_it_is_sent_has_rented_nothing(tmp_path: Path) -> None:
    cancel = CancelToken()
    cancel.cancel()
    with raw_server(says(b"")) as server, connected(server.url, tmp_path, cancel) as client:
        with pytest.raises(NotSent):
            client.create(1, CreateRequest("image", 10, "label"))
        assert server.asked == 0


def test_one_that_dribbles_keeps_no_other_waiting(tmp_path: Path) -> None:
    first = threading.Event()

    def converse(sock: socket.socket) -> None:
        if first.is_set():
            says(body(b'{"id": 1, "credit": 2.5}'))(sock)  # and hangs up: no later try gets an answer on it
        else:
            first.set()
            dribbles(OK)(sock)

    with (
        ThreadPoolExecutor() as pool,
        raw_server(converse) as server,
        connected(server.url, tmp_path, limit_s=PATIENCE_S) as client,
    ):
        waiting = pool.submit(client.account)
        assert first.wait(PATIENCE_S)
        assert client.account().credit_usd == 2.5
        assert not waiting.done()
        server.close()
        with pytest.raises(MarketError):
            waiting.result(PATIENCE_S)


def test_a_connection_is_used_again(tmp_path: Path) -> None:
    made = []

    class Counts(RawServer):
        def _serve(self, sock: socket.socket) -> None:
            made.append(sock)
            super()._serve(sock)

    server = Counts(says(body(b'{"id": 1, "credit": 2.5}'), ends=False))
    try:
        with connected(server.url, tmp_path, limit_s=PATIENCE_S) as client:
            for _ in range(3):
                client.account()
    finally:
        server.close()
    assert (len(made), server.asked) == (1, 3)


# --- odd ones ---------------------------------------------------------------------------------------------------------

DEEP = b"[" * 100_000
PACKED = gzip.compress(json.dumps({"id": 1, "credit": 2.5, "instances": [], "offers": []}).encode())
GZIP = b"Content-Encoding: gzip\r\n"
LARGE = b"1" * 4_000
TEXTS: dict[str, bytes] = {
    "nothing": b"",
    "text": b"Welcome to the hotel's network",
    "html": b"<html><body>log in</body></html>",
    "half": b'{"success": tru',
    "list": b"[1, 2]",
    "null": b"null",
    "number": b"7",
    "text in json": b'"success"',
    "not a number": b"NaN",
    "deep list": DEEP,
    "deep object": b'{"instances": ' + DEEP + b"]" * len(DEEP) + b"}",
    "many digits": b'{"id": ' + b"1" * 100_000 + b"}",
    "numbers of no size": b'{"success": true, "id": 1e999, "new_contract": 1e999, "instances": 1e999, "offers": NaN}',
    "infinite": b'{"success": true, "id": Infinity, "credit": -Infinity, "new_contract": NaN, "result_url": NaN}',
    "huge": b'{"success": true, "id": %b, "credit": %b, "new_contract": %b, "instances": [{"id": %b}]}'
    % (LARGE, LARGE, LARGE, LARGE),
    "negative": b'{"success": true, "new_contract": -7, "id": -7, "instances": [{"id": -7}], "offers": [{"id": -7}]}',
    "twice": b'{"success": true, "success": false, "id": 1, "id": 2, "new_contract": 1, "new_contract": 2}',
    "nulls": b'{"success": null, "id": null, "instances": [null], "offers": [null], "new_contract": null, "msg": null}',
    "texts": b'{"success": "yes", "id": "x", "instances": "x", "offers": "x", "new_contract": "x", "result_url": "x"}',
    "lists": b'{"success": [], "id": [], "instances": [[]], "offers": [[]], "new_contract": [], "result_url": []}',
    "objects": b'{"success": {}, "id": {}, "instances": {}, "offers": {}, "new_contract": {}, "result_url": {}}',
    "surrogates": b'{"success": false, "error": "\\ud800", "msg": "\\udfff \\ud800", "result_url": "http://\\ud800/"}',
    "surrogates in an instance": b'{"instances": [{"id": 1, "label": "\\ud800", "status_msg": "\\udc80", '
    b'"actual_status": "\\ud9ff", "public_ipaddr": "\\ud800"}], "next_token": "\\ud800", "offers": '
    b'[{"id": 1, "machine_id": 2, "gpu_name": "\\ud800"}], "id": 1, "email": "\\ud800"}',
    "bad utf-8": b'{"success": false, "error": "\xff\xfe\x80", "msg": "\xc3\x28"}',
    "a mark of utf-16": '{"success": true}'.encode("utf-16"),
    "a mark of utf-8": b'\xef\xbb\xbf{"success": true}',
    "nul": b'{"success": true, "id": "\\u0000", "result_url": "http://\\u0000"}',
    "control characters": b'{"msg": "\x1b[2J\x00", "success": false}',
    "urls": b'{"success": true, "result_url": "http://[::1"}',
}
WHOLE: dict[str, bytes] = {
    **{name: body(text) for name, text in TEXTS.items()},
    **{f"refusal: {name}": body(text).replace(b"200 OK", b"400 No") for name, text in TEXTS.items()},
    "nothing at all": b"",
    "no http": b"SSH-2.0-OpenSSH_9.6\r\n",
    "http/0.9": b"<html>hello</html>",
    "http/2": b"HTTP/2 200\r\n\r\n{}",
    "no status": b"HTTP/1.1\r\n\r\n",
    "status 101": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nhello",
    "status 199": b"HTTP/1.1 199 Odd\r\n\r\n",
    "status 204": b"HTTP/1.1 204 No Content\r\n\r\n",
    "status 304": b"HTTP/1.1 304 Not Modified\r\n\r\n",
    "status 600": body(b"{}").replace(b"200", b"600"),
    "status 999": body(b"{}").replace(b"200", b"999"),
    "status 9999": body(b"{}").replace(b"200", b"9999"),
    "status -1": body(b"{}").replace(b"200", b"-1"),
    "redirect to nowhere": b"HTTP/1.1 301 Moved\r\nContent-Length: 0\r\nLocation: \r\n\r\n",
    **{
        f"redirect to {place!r}": b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: %b\r\n\r\n" % place
        for place in (
            b"http://[::1",
            b"http://a:b/",
            b"http://\xff\xfe/",
            b"ftp://127.0.0.1/",
            b"//",
            b"http://" + b"a" * 70_000,
            b"http://xn--/",
            b"http://\xe2\x98\x83.example/",
            b"http://user:word@127.0.0.1:0/",
        )
    },
    "headers without end": OK + b"X-More: yes\r\n" * 100_000,
    "a header without colon": OK + b"nonsense\r\n\r\n{}",
    "a header of no letters": OK + b"\xff\xfe: \xff\xfe\r\n\r\n{}",
    "bytes in headers": body(b"{}", b"Retry-After: \xff\xfe\r\nContent-Encoding: \xff\r\n"),
    "a long status": b"HTTP/1.1 200 " + b"x" * 200_000 + b"\r\n\r\n{}",
    "unknown charset": body(b"{}").replace(b"application/json", b'application/json; charset="no-such"'),
    "odd content type": body(b"{}").replace(b"application/json", b"\xff/\xff; charset=\xff"),
    "cookies": body(b"{}", b"Set-Cookie: \xff=\xff; Expires=Thu, 99 Foo 9999 99:99:99 GMT; Path=\x7f\r\n"),
    "not packed": body(b"{}", GZIP),
    "packed, cut": body(PACKED[:-9], GZIP),
    "packed, cut at once": body(PACKED[:3], GZIP),
    "packed, damaged": body(PACKED[:12] + b"\xff\xff\xff" + PACKED[15:], GZIP),
    "packed twice": body(gzip.compress(PACKED), b"Content-Encoding: gzip, gzip\r\n"),
    "packed otherwise": body(b"{}", b"Content-Encoding: br\r\n"),
    "too short": OK + b"Content-Length: 500\r\n\r\n{}",
    "too long": OK + b'Content-Length: 2\r\n\r\n{}{"success": true}',
    "two lengths": OK + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
    "no length": OK + b"Content-Length: many\r\n\r\n{}",
    "negative length": OK + b"Content-Length: -2\r\n\r\n{}",
    "length and chunks": OK + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}",
    "odd transfer": OK + b"Transfer-Encoding: gzip\r\n\r\n{}",
    "no chunks": CHUNKED + b"hello",
    "half a chunk": CHUNKED + b"ff\r\n{}",
    "large chunk": CHUNKED + b"f" * 30 + b"\r\n{}",
    "retry after": body(b"{}", b"Retry-After: Thu, 99 Foo\r\n").replace(b"200 OK", b"429 Slow"),
    "retry after ever": body(b"{}", b"Retry-After: 1e999\r\n").replace(b"200 OK", b"429 Slow"),
    "retry after nothing": body(b"{}", b"Retry-After: -1\r\n").replace(b"200 OK", b"429 Slow"),
    "retry after no number": body(b"{}", b"Retry-After: nan\r\n").replace(b"200 OK", b"429 Slow"),
}


def outcome(call: Call, client: MarketClient) -> object:
    """What a call gives, or its market error; both can be shown and written to a file."""
    try:
        found = call(client)
    except MarketError as error:
        found = str(error)
    repr(found).encode()
    return found


@pytest.fixture(scope="module")
def server() -> Iterator[RawServer]:
    with raw_server(says(b"")) as server:
        yield server


@pytest.mark.parametrize("what", WHOLE)
def test_any_odd_answer_is_a_value_or_a_market_error(tmp_path: Path, server: RawServer, what: str) -> None:
    server.converse, server.asked = says(WHOLE[what]), 0
    with (
        connected(server.url, tmp_path, limit_s=PATIENCE_S) as client,
        ThreadPoolExecutor(len(CALLS)) as pool,
    ):
        found = dict(zip(CALLS, pool.map(lambda call: outcome(call, client), CALLS.values()), strict=True))
        assert server.asked
    created = found["create"]
    assert isinstance(created, str) or (isinstance(created, int) and 0 < created < 2**63)
    for each in found.values():
        assert not isinstance(each, str) or len(each) < 2_000


@pytest.mark.parametrize("what", ["twice", "refusal: twice"])
def test_an_answer_that_says_two_things_is_believed_in_neither(tmp_path: Path, what: str) -> None:
    with raw_server(says(WHOLE[what])) as server, connected(server.url, tmp_path) as client:
        with pytest.raises(MarketError):
            client.destroy(7)
        with pytest.raises(MarketError):
            client.account()


def test_a_market_without_threads_to_ask_it_is_a_market_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with raw_server(says(b"")) as server, connected(server.url, tmp_path) as client:
        monkeypatch.setattr(threading.Thread, "start", no)
        with pytest.raises(MarketUnreachable, match="can't start new thread"):
            client.account()
