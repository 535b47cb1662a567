from __future__ import annotations

import threading
from pathlib import Path

from pytest_vastgpu.core.events import Event
from pytest_vastgpu.core.events import EventLog


def test_two_may_end_to_listen_at_the_same_time(tmp_path: Path) -> None:
    """Runs that share a supervisor come and go."""
    log = EventLog(tmp_path)
    heard: list[Listens] = []

    class Listens:
        def __call__(self, event: Event) -> None:
            heard.append(self)

        def __eq__(self, other: object) -> bool:
            if beside.ident is None:
                beside.start()
                beside.join(0.1)  # it is through, or waits until this is
            return self is other

        __hash__ = object.__hash__

    one, other, stays = Listens(), Listens(), Listens()
    beside = threading.Thread(target=lambda: None)
    beside.start()
    for each in (one, other, stays):
        log.listen(each)
    beside = threading.Thread(target=log.unlisten, args=(other,))
    log.unlisten(one)
    beside.join()
    log.write(Event("", None, "it goes on"))
    assert heard == [stays]
