"""The one place that removes secrets from texts: the secrets that this process knows, and text that looks like one.

Code that learns a secret adds it to :data:`KNOWN`. All text that is shown or stored passes through
:mod:`pytest_vastgpu.core.text.sanitize`, which from then on removes the secret.
"""

from __future__ import annotations

import contextlib
import os
import re
import threading
from base64 import b64encode
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
from html import escape
from json import dumps  # bound now: a test may replace json.dumps
from shlex import quote as shell_quote
from shlex import split as split_words
from typing import TYPE_CHECKING
from urllib.parse import quote
from urllib.parse import quote_plus

from pytest_vastgpu.core.image_login import ImageLogin

if TYPE_CHECKING:
    from pytest_vastgpu.model import Workload

LONG_VALUE_CHARS = 8
"""A value of the workload's environment of at least this length counts as a secret, whatever its name."""
_LEAST_LINE = 16
"""Characters; a line of a multi-line secret is also hidden by itself from this length on, as in a private key."""
_LEAST_ENCODED = 6
"""Encoded forms of shorter values are not searched for, because they occur in texts by chance."""

_SECRET_NAME = re.compile(r"key|token(?!s|iz)|secret|pass|auth|credential|login|cookie|dsn", re.IGNORECASE)
_SECRET_OPTION = re.compile(r"[\w-]*(?:key|token|secret|passw(?:or)?d|credentials?)", re.IGNORECASE)
_PUBLIC = re.compile(r"true|false|yes|no|on|off|none|null|auto|\d{1,2}", re.IGNORECASE)
"""Values without information: they are not secret, whatever their variable is called."""
_PLACE = re.compile(r"/[\w./@+-]*")
"""A path: it is not secret unless its variable's name says so."""
_LOOKS_SECRET = re.compile(
    r"""
      \bhf_[A-Za-z0-9]{8,} | \bsk-[A-Za-z0-9_-]{8,} | \bgh[pousr]_[A-Za-z0-9]{8,} | \bgithub_pat_\w{8,}
    | (?<=Bearer\ )(?![<*])\S+ | (?<=Basic\ )[A-Za-z0-9+/=]{8,}
    | (?<=://)[^\s/:@]*:[^\s/@]+(?=@)
    | (?i:(?<=api_key=)|(?<=api-key=)|(?<=token=)|(?<=password=)|(?<=secret=)|(?<=api_key':\ ')|(?<=Signature=)
      |(?<=--api-key\ )|(?<=--password\ )|(?<=--token\ )|(?<=--hf-token\ )|(?<=--auth-token\ )|(?<=--secret\ )
      |(?<=api_key':\ \[')|(?<=api_key":\ ")|(?<=token":\ ")|(?<=password":\ ")|(?<=secret":\ "))
      (?![<*])[^\s&'",)]+
    | (?<=_KEY=)(?![<*])[^\s&'",)]+ | (?<=_KEY":\ ")(?![<*])[^\s&'",)]+
    | (?<![0-9A-Za-z:/])[0-9a-f]{64}(?![0-9A-Za-z])
    """,
    re.VERBOSE,
)
"""The last expression has the form of Vast's API keys. It skips digests (``sha256:…``) and paths that contain one."""
_API_KEY = re.compile("[0-9a-f]{64}")
_JSON_SECRET = re.compile(r'("\w*(?:key|token|password|login|secret)\w*"\s*:\s*)"[^"]*"?', re.IGNORECASE)
_PRIVATE_KEY = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL)
_HINTS = (
    *("hf_", "sk-", "ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_", "bearer ", "basic ", "://"),
    *("key", "token", "password", "secret", "signature="),
)
"""A line in lower case without any of these contains nothing that looks like a secret."""


def without_lookalikes(text: str) -> str:
    """A text without anything that looks like a key, a token or a password."""
    if "PRIVATE KEY-----" in text:
        text = _PRIVATE_KEY.sub("<removed>", text)
    # Logs are long and few of their lines matter here: to search all lines closely would take seconds.
    lines = text.splitlines(keepends=True)
    return "".join(_LOOKS_SECRET.sub("<removed>", line) if _hints_at_secret(line) else line for line in lines)


def without_json_secrets(text: str) -> str:
    """A text without the strings that JSON in it has under names such as ``api_key``; it may end within one."""
    return _JSON_SECRET.sub(r'\1"***"', text)


def _hints_at_secret(line: str) -> bool:
    lowered = line.lower()
    return any(hint in lowered for hint in _HINTS) or (len(line) >= 64 and _API_KEY.search(line) is not None)


def secret_variables(variables: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """The variables of a workload's environment that must not be shown: those with a secret-looking name, and
    those with a long value.
    """
    return [(name, value) for name, value in variables if isinstance(value, str) and _is_secret(str(name), value)]


def _words(command: str) -> list[str]:
    try:
        return split_words(command)
    except ValueError:  # a quote is not closed; the shell will report that
        return command.split()


def _secret_options(words: Sequence[str]) -> Iterator[tuple[str, str]]:
    """The secrets in ``--api-key VALUE``, ``--api-key=VALUE`` and ``HF_TOKEN=VALUE``, by name."""
    for word, following in zip(words, (*words, "")[1:], strict=True):
        name, equals, value = word.partition("=")
        if not _SECRET_OPTION.fullmatch(name):
            continue
        if equals:
            yield name, value
        elif name.startswith("-") and not following.startswith("-"):
            yield name, following


def looks_secret(name: str) -> bool:
    """Whether the name of a variable or a header means that it holds a secret."""
    return _SECRET_NAME.search(name) is not None


def _is_secret(name: str, value: str) -> bool:
    if not value or _PUBLIC.fullmatch(value):
        return False
    if looks_secret(name):
        return True
    return len(value) >= LONG_VALUE_CHARS and not _PLACE.fullmatch(value)


class Redactor:
    """Removes known secrets from texts. Any thread may use it."""

    def __init__(self) -> None:
        self._variables: set[str] = set()
        self._lock = threading.Lock()
        self._forms: dict[str, str] = {}
        """What replaces each form of a secret. The longest form is first, because one secret may be part of another."""

    def add(self, name: str, value: str) -> None:
        """Add a secret.

        :param name: Shown in its place, in angle brackets.
        """
        if not value or value.isspace():
            return
        lines = [line for line in value.splitlines() if len(line) >= _LEAST_LINE and not line.startswith("-----")]
        found = dict.fromkeys(_forms(value), f"<{name}>")
        if len(value.splitlines()) > 1:
            found.update(dict.fromkeys(lines, f"<{name}>"))
        with self._lock:
            merged = {**found, **self._forms}
            self._forms = dict(sorted(merged.items(), key=lambda form: -len(form[0])))

    def add_variable(self, name: str) -> None:
        """Add an environment variable. Its value is read whenever a text is searched, and stored nowhere else."""
        with self._lock:
            self._variables = {*self._variables, name}  # another thread may be looking through them

    def add_login(self, name: str, text: str) -> None:
        """Add a login at a container registry: the whole text, and its password."""
        self.add(name, text)
        if text:
            with contextlib.suppress(ValueError):  # it is no login; another check reports that
                login = ImageLogin.parse(text)
                self.add(name, login.password.reveal())
                self.add(name, login.text().reveal())

    def add_workload(self, workload: Workload) -> None:
        """Add the secrets of a workload: in its environment, its arguments and its commands."""
        for name, value in secret_variables(workload.env):
            self.add(name, value)
        if isinstance(workload.image_login, str):
            self.add_login("image_login", workload.image_login)
        # A field of another type is no workload's; another check reports that.
        commands = [_words(text) for text in (workload.command, workload.setup) if isinstance(text, str)]
        for words in ([word for word in workload.args if isinstance(word, str)], *commands):
            for name, value in _secret_options(words):
                self.add(name, value)

    def add_long(self, name: str, value: str) -> None:
        """Add a secret, unless it is so short (``test``, ``EMPTY``) that other texts hold it by chance: they would be
        other texts without it.
        """
        if len(value) >= LONG_VALUE_CHARS:
            self.add(name, value)

    def add_command(self, command: str) -> None:
        """Add the long secrets of a shell command, such as ``--password VALUE``."""
        for name, value in _secret_options(_words(command)):
            self.add_long(name, value)

    def forget(self) -> None:
        """Forget all secrets."""
        with self._lock:
            self._forms = {}
            self._variables = set()

    def __call__(self, text: str) -> str:
        """The text without secrets."""
        for variable in self._variables:
            for form in sorted(_forms(os.environ.get(variable, "")), key=len, reverse=True):
                text = text.replace(form, f"<{variable}>") if form else text
        for form, name in self._forms.items():
            if form in text:
                text = text.replace(form, name)
        return without_lookalikes(text)


def _forms(value: str) -> set[str]:
    """The forms in which a secret may be written: unchanged, and as programs encode it on the way into a log."""
    forms = {value, value.strip()}
    if len(value) >= _LEAST_ENCODED:
        data = value.encode(errors="surrogatepass")
        forms |= {
            quote(data, safe=""),
            quote(data),
            quote_plus(data),
            dumps(value)[1:-1],
            dumps(value, ensure_ascii=False)[1:-1],
            repr(value)[1:-1],
            escape(value),
            escape(value, quote=False),
            shell_quote(value),
            data.hex(),
        }
        forms |= {form.lower() for form in forms if "%" in form}
        # Base64 depends on the preceding bytes; these are the characters that the value alone determines.
        for before in range(3):
            encoded = b64encode(b"\0" * before + data).decode().rstrip("=")
            whole = len(encoded) - (1 if (before + len(data)) % 3 else 0)
            core = encoded[-(-before * 4 // 3) : whole]
            if len(core) >= _LEAST_ENCODED:
                forms |= {core, core.translate(str.maketrans("+/", "-_"))}
    return forms


KNOWN = Redactor()
"""The secrets that this process knows."""
