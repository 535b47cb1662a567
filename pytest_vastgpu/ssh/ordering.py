"""Prevents messages about a channel after its close, which paramiko does not guarantee.

paramiko composes a message with the channel's lock held, and sends it without the lock. Where the other side closes the
channel in between, paramiko sends its own close first. A server that then gets a message for a channel it has forgotten
ends the whole connection, or takes the message for another channel that has got the same number
(https://github.com/paramiko/paramiko/issues/1115).
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING
from typing import Any
from typing import cast

if TYPE_CHECKING:
    import paramiko

_CLOSE = 97
"""``SSH_MSG_CHANNEL_CLOSE``, RFC 4254, section 9."""


def ordered(channel: paramiko.Channel) -> paramiko.Channel:
    """Make a newly opened channel send nothing after its close; returns it."""
    transport = channel.get_transport()
    channel.transport = cast("paramiko.Transport", _UntilClosed(transport))
    return channel


class _UntilClosed:
    """A transport for one channel that drops all messages after the channel's close."""

    def __init__(self, transport: Any) -> None:  # the type stubs lack the method for messages
        self._transport = transport
        self._lock = threading.Lock()
        self._closed = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def _send_user_message(self, message: paramiko.Message) -> None:
        with self._lock:
            if self._closed:
                return
            self._closed = message.asbytes()[0] == _CLOSE
            self._transport._send_user_message(message)
