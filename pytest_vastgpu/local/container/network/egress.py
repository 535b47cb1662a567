"""The egress of an instance that may use this machine's network: an HTTP proxy in the process of the market.

The container init accepts connections and passes them to the market as open sockets. The market forwards them to the
user's own proxy if there is one. Otherwise it serves them itself: ``CONNECT``, and requests with an absolute URL.
"""

from __future__ import annotations

import asyncio
import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import SplitResult
from urllib.parse import urlsplit

from pytest_vastgpu.local.container.network.relay import Streams
from pytest_vastgpu.local.container.network.relay import splice

if TYPE_CHECKING:
    from collections.abc import Mapping

_PROXY_VARIABLES = ("https_proxy", "HTTPS_PROXY", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY")
_NO_PROXY_VARIABLES = ("no_proxy", "NO_PROXY")
_TRUST_VARIABLES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
"""The certificates that the user trusts: needed behind a proxy that decrypts TLS."""
_HEAD_S = 30.0
"""The time limit for the head of a client's request."""
_HUB_VARIABLES = ("HF_HOME", "HF_HUB_CACHE", "HF_ENDPOINT")
"""The directory of the user's downloads from the Hugging Face hub, and the address of the hub."""
_REFUSED = b"HTTP/1.1 %s\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


def _proxy_of_user(environment: Mapping[str, str]) -> SplitResult:
    own = next((value for name in _PROXY_VARIABLES if (value := environment.get(name))), "")
    return urlsplit(own if "://" in own or not own else f"http://{own}")


def egress_variables(environment: Mapping[str, str], *, isolated: bool) -> dict[str, str]:
    """Return the variables that give programs in an instance access to the network.

    Models are large, so downloads go to the user's own cache, which outlives the instance.
    An isolated instance uses a port on its own loopback, for which the values have ``{port}``.

    :param environment: The user's environment.
    """
    kept = _TRUST_VARIABLES if isolated else (*_TRUST_VARIABLES, *_PROXY_VARIABLES)
    variables = {name: environment[name] for name in (*kept, *_HUB_VARIABLES) if environment.get(name)}
    cache = environment.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    variables.setdefault("HF_HOME", str(Path(cache) / "huggingface"))  # the hub library's own default
    if isolated:
        upstream = _proxy_of_user(environment)
        credentials, at, _ = upstream.netloc.rpartition("@")
        proxy = f"{upstream.scheme or 'http'}://{credentials}{at}127.0.0.1:{{port}}"
        variables |= dict.fromkeys(("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY"), proxy)
    users = "" if isolated else next((value for name in _NO_PROXY_VARIABLES if (value := environment.get(name))), "")
    # The market, and servers inside the instance, are on loopback and need no proxy.
    variables |= dict.fromkeys(_NO_PROXY_VARIABLES, ",".join(filter(None, (users, "127.0.0.1,localhost"))))
    return variables


class Egress:
    """Forwards the outgoing connections of an instance.

    :param environment: The user's environment: its proxy is used, if it has one.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._outer, self.inner = socket.socketpair()
        self._outer.setblocking(False)
        self._upstream = _proxy_of_user(environment)
        self._connections: set[asyncio.Task[None]] = set()
        asyncio.get_running_loop().add_reader(self._outer, self._take)

    def close(self) -> None:
        """Close the egress and its connections."""
        if self._outer.fileno() != -1:
            asyncio.get_running_loop().remove_reader(self._outer)
            self._outer.close()
        for connection in self._connections:
            connection.cancel()

    def _take(self) -> None:
        message, descriptors, _, _ = socket.recv_fds(self._outer, 1, 1)
        if not message:
            self.close()
        for descriptor in descriptors:
            os.set_inheritable(descriptor, False)
            task = asyncio.ensure_future(self._carry(socket.socket(fileno=descriptor)))
            self._connections.add(task)
            task.add_done_callback(self._connections.discard)

    async def _carry(self, connection: socket.socket) -> None:
        client = await asyncio.open_connection(sock=connection)
        try:
            if self._upstream.hostname:
                port = self._upstream.port or (443 if self._upstream.scheme == "https" else 80)
                await splice(client, await asyncio.open_connection(self._upstream.hostname, port))
            else:
                await _serve(client)
        except OSError:  # the target is not reachable, or the client disconnected: the connection is closed below
            pass
        finally:
            client[1].close()


async def _serve(client: Streams) -> None:
    """Serve a connection as an HTTP proxy does (RFC 9110 section 9.3.6, RFC 9112 section 3.2.2)."""
    reader, writer = client
    try:
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), _HEAD_S)
        request_line, _, fields = head.decode("latin-1").partition("\r\n")
        method, target, version = request_line.split(" ")
        tunnel = method == "CONNECT"
        url = urlsplit(f"//{target}" if tunnel else target)
        host, port = url.hostname, url.port or (443 if tunnel else 80)
    except (TimeoutError, ValueError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        writer.write(_REFUSED % b"400 Bad Request")
        return
    if not host or (not tunnel and url.scheme != "http"):
        writer.write(_REFUSED % b"400 Bad Request")
        return
    try:
        onward = await asyncio.open_connection(host, port)
    except OSError:
        writer.write(_REFUSED % b"502 Bad Gateway")
        return
    if tunnel:
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
    else:
        path = url._replace(scheme="", netloc="", fragment="").geturl() or "/"
        # One request for each connection: the next request may be for another host.
        kept = [line for line in fields.split("\r\n") if line and not _is_connection_field(line)]
        request = [f"{method} {path} {version}", *kept, "Connection: close", "", ""]
        onward[1].write("\r\n".join(request).encode("latin-1"))
    await splice(client, onward)


def _is_connection_field(line: str) -> bool:
    return line.partition(":")[0].strip().lower() in ("connection", "proxy-connection", "keep-alive")
