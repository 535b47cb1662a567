"""The program of a worker on a host: it makes the host look like home to xdist's own worker, and becomes that.

execnet sends its source, so it imports nothing of this package.
"""

from __future__ import annotations

if __name__ == "__channelexec__":
    import inspect
    import os
    import sys
    from pathlib import Path
    from typing import Any

    workerinput, arguments, options, _ = channel.receive()  # type: ignore[name-defined] # noqa: F821 - execnet's
    host = workerinput["vastgpu_host"]
    sys.path[:0] = host["path"]
    os.chdir(host["directory"])
    options["basetemp"] = host["basetemp"]
    Path(host["basetemp"]).parent.mkdir(parents=True, exist_ok=True)

    from xdist import remote

    class _Channel:
        """The channel, with what it has received already."""

        def receive(self) -> Any:
            return workerinput, host["arguments"], options, sys.path

        def __getattr__(self, name: str) -> Any:
            return getattr(channel, name)  # type: ignore[name-defined] # noqa: F821

    exec(  # noqa: S102 - xdist's own worker, which is such a program, too
        compile(inspect.getsource(remote), str(remote.__file__), "exec"),
        {"__name__": __name__, "channel": _Channel()},
    )
