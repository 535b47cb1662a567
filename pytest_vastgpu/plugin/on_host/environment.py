"""The environment of the tests on a host: a shell script that finds or makes it there, and says which."""

from __future__ import annotations

ABOUT = "about.json"
"""The file below a host's working directory in which the script says what it has found."""

_ABOUT = """
import json, os, sys
about = {"python": sys.executable, "version": sys.version.split()[0], "work": os.getcwd()}
with open("about.json", "w") as file:
    json.dump(about, file)
"""


def setup(command: str) -> str:
    """The setup command of a host.

    :param command: The user's own command; empty: what the project's files say.
    """
    return f"set -e\n(cd project && {command or ':'})\nexec python3 - <<'EOF'{_ABOUT}EOF\n"
