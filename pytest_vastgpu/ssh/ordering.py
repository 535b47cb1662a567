"""Nothing is said of a channel after it was closed: paramiko alone does not see to that.

It composes a message with the channel's lock held and sends it without. Where the other side closes the channel in
between, the answer to that goes out first, and a server that hears of a channel it has forgotten ends the whole
connection, or takes the message for another channel that has the number by now
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
    """The channel, which from now on says nothing after its close. For one that was just opened."""
    transport = channel.get_transport()
    channel.transport = cast("paramiko.Transport", _UntilClosed(transport))
    return channel


class _UntilClosed:
    """A transport as one channel sees it: what comes after the channel's close is dropped."""

    def __init__(self, transport: Any) -> None:  # no type says that a transport has a method for messages
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
