"""Our SSH key is attached: after create, and once more where it is refused for long."""

from __future__ import annotations

from pytest_vastgpu.errors import BadApiKey
from pytest_vastgpu.errors import MarketError
from pytest_vastgpu.errors import NotAuthorized
from pytest_vastgpu.supervisor.rental.bringup.context import BringUpContext

_OF_THE_API_KEY = frozenset({"", "not_authorized"})
"""Error codes of a 403 that is about the API key; with another code, it is about the SSH key."""


def attach_key(context: BringUpContext) -> None:
    """Attach our public key. A refusal is only told: the start script carries the key as well.

    Both are needed: there are images that honour only one of them.

    :raises BadApiKey: the market knows our API key no more.
    :raises NotAuthorized: our API key may not attach SSH keys.
    """
    rental, services = context.rental, context.services
    try:
        services.provider.attach_key(rental.instance_id, services.key.public_line)
    except BadApiKey:
        raise
    except MarketError as error:
        if isinstance(error, NotAuthorized) and error.code in _OF_THE_API_KEY:
            raise
        rental.tell(f"the SSH key is not attached: {error}; the start script carries it, too")
