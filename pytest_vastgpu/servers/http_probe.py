"""HTTP requests to a server on the instance, in one probe: builds the shell text and parses its output.

The text uses ``curl``, or Python if the image has no curl, or bash if it has neither, as ``ollama/ollama``, which then
speaks HTTP only. The secret goes from the environment to the client through a pipe, because ``ps`` shows command lines
to every user of the machine.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass

_BOUNDARY = "pytest-vastgpu-7f1c9a52"
KEY_HEADER = "Authorization: Bearer "
"""The header that carries the instance's key, up to the key."""
ELSEWHERE_S = 3
"""Time limit of a request to a place where the server was not expected, in seconds."""
_ASK = r"""
ask() {
  if command -v curl >/dev/null 2>&1; then
    printf 'header = "%s%s"\n' "$key_header" "$VASTGPU_API_KEY" |
      curl --config - -sSk -g --noproxy '*' --max-time "$3" \
        -w "\n@> %{url_effective} %{redirect_url}\n@@ $1 %{http_code}\n" \
        ${4:+-H 'Content-Type: application/json' --data-raw "$4"} \
        ${5:+-H "Content-Type: $5" --data-binary @/dev/fd/3} "$base$2" 2>&1
  else
    python3 - "$base$2" "$1" "$3" "${4:-}" "${5:-}" <<'VASTGPU_PYTHON'
import http.client, os, ssl, sys, urllib.error, urllib.parse, urllib.request
url, name, seconds, body, form = sys.argv[1:]
data = open(3, "rb").read() if form else body.encode() or None
class Stay(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_):
        return None
header, _, before = os.environ["key_header"].partition(": ")
head = {header: before + os.environ.get("VASTGPU_API_KEY", ""), "Content-Type": form or "application/json"}
try:
    request = urllib.request.Request(url, data, head)
    any_certificate = urllib.request.HTTPSHandler(context=ssl._create_unverified_context())
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), Stay, any_certificate)
    try:
        answer = opener.open(request, timeout=float(seconds))
    except urllib.error.HTTPError as error:
        answer = error
    print(answer.read().decode("utf-8", "replace"))
    to = answer.headers.get("Location", "") if 300 <= answer.status < 400 else ""
    print("@>", url, urllib.parse.urljoin(url, to) if to else "")
    print("@@", name, answer.status)
except (OSError, http.client.HTTPException) as error:
    print(error)
    print("@>", url, "")
    print("@@", name, "000")
VASTGPU_PYTHON
  fi
}
command -v curl >/dev/null 2>&1 || command -v python3 >/dev/null 2>&1 || ask() {
  timeout "$3" bash -c '
    place=${0#http://}; path=/${place#*/}; place=${place%%/*}; LC_ALL=C
    exec 4<>"/dev/tcp/${place%:*}/${place##*:}" || exit
    type=${3:-application/json} length=${4:-${#2}}
    { if [ "$length" != 0 ]; then
        printf "POST %s HTTP/1.0\r\nContent-Type: %s\r\nContent-Length: %s\r\n" "$path" "$type" "$length"
      else
        printf "GET %s HTTP/1.0\r\n" "$path"
      fi
      printf "Host: %s\r\n%s%s\r\n\r\n%s" "$place" "$key_header" "$VASTGPU_API_KEY" "$2"
      [ -z "$3" ] || cat <&3
    } >&4
    read -r _ status _ <&4
    while IFS=": " read -r name value <&4; value=${value%?}; [ -n "$value" ]; do
      case $name:$value in
        [Ll]ocation:/*) to=http://$place$value ;;
        [Ll]ocation:*) to=$value ;;
      esac
    done
    cat <&4
    case $status in [1-5][0-9][0-9]) printf "\n@> %s %s\n@@ %s %s\n" "$0" "$to" "$1" "$status" ;; *) exit 1 ;; esac
  ' "$base$2" "$1" "${4:-}" "${5:-}" "${6:-}" 2>&1 || printf '\n@> %s \n@@ %s 000\n' "$base$2" "$1"
}
"""
_ANSWER = re.compile(r"(?:^@> (\S+) ?(\S*)\n)?^@@ (\w+) (\d{3})$", re.MULTILINE)


@dataclass(frozen=True)
class Answer:
    """The server's answer to one request."""

    status: int
    """HTTP status; 0: no answer."""
    body: str
    url: str = ""
    """The URL that was asked."""
    redirect: str = ""
    """The URL to which the answer redirects; no redirect is followed."""

    def json(self) -> object:
        """The body as parsed JSON; None if it is not JSON."""
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError):
            return None


@dataclass(frozen=True)
class Form:
    """What a browser sends that uploads a file: ``multipart/form-data``."""

    fields: Mapping[str, str]
    file_name: str
    file_type: str
    content: bytes

    @property
    def type(self) -> str:
        """The value of the header ``Content-Type``."""
        return f"multipart/form-data; boundary={_BOUNDARY}"

    def encoded(self) -> bytes:
        """The request's body; the file's field is called ``file``."""
        parts = [(f'name="{name}"', value.encode()) for name, value in self.fields.items()]
        described = f'name="file"; filename="{self.file_name}"\r\nContent-Type: {self.file_type}'
        parts.append((described, self.content))
        body = b"".join(
            f"--{_BOUNDARY}\r\nContent-Disposition: form-data; {head}\r\n\r\n".encode() + value + b"\r\n"
            for head, value in parts
        )
        return body + f"--{_BOUNDARY}--\r\n".encode()


def script(port: int, *lines: str, key_header: str = KEY_HEADER) -> str:
    """Shell text that runs the given lines; they may call the function ``ask`` (see :func:`request`).

    :param key_header: See :data:`KEY_HEADER`.
    """
    return "\n".join([_ASK.strip(), f"base=http://127.0.0.1:{port}", _exported(key_header), *lines])


def _exported(key_header: str) -> str:
    return f"export key_header={shlex.quote(key_header)}"


def request(name: str, path: str, *, timeout_s: int = 5, body: Mapping[str, object] | Form | None = None) -> str:
    """One request, for :func:`script`.

    :param body: Sent with POST, as JSON or as a form; None: GET.
    """
    words = ["ask", name, shlex.quote(path), str(timeout_s)]
    if isinstance(body, Form):
        # The body goes through descriptor 3, since the client reads its secret, or its program, from the standard input
        sent = body.encoded()
        return f"printf {_printable(sent)} | {' '.join(words)} '' {shlex.quote(body.type)} {len(sent)} 3<&0"
    if body is not None:
        words.append(shlex.quote(json.dumps(body)))
    return " ".join(words)


def _printable(content: bytes) -> str:
    """Any bytes as the format of the shell's ``printf``, in ASCII; with no ``-``, which might begin an option."""
    plain = (chr(each) if 32 <= each < 127 and each not in b"%\\-" else f"\\{each:03o}" for each in content)
    return shlex.quote("".join(plain))


def elsewhere(places: Sequence[tuple[str, str]], path: str) -> str:
    """Shell text that asks for a path at other places with GET, by HTTP, and by HTTPS where that gets no answer.

    :param places: Pairs of a scheme, which is tried first, and an authority such as ``127.0.0.1:9000``.
    """
    lines = [_ASK.strip(), "base=", _exported(KEY_HEADER)]
    for number, (scheme, place) in enumerate(places):
        plain, secure = (
            request(f"at{number}", f"{each}://{place}{path}", timeout_s=ELSEWHERE_S) for each in ("http", "https")
        )
        if scheme == "https":
            lines.append(secure)
        else:
            lines.append(f"answer=$({plain}); printf '%s\\n' \"$answer\"")
            lines.append(f'case "$answer" in *"@@ at{number} 000") {secure} ;; esac')
    return "\n".join(lines)


def answers(output: str) -> dict[str, Answer]:
    """The answers in a script's output, by the requests' names."""
    found: dict[str, Answer] = {}
    start = 0
    for match in _ANSWER.finditer(output):
        url, redirect, name, status = match.groups(default="")
        found[name] = Answer(int(status), output[start : match.start()].strip(), url, redirect)
        start = match.end()
    return found


def listed_models(answer: Answer) -> tuple[str, ...] | None:
    """Names in the answer of ``/v1/models``; None if the answer is no such list."""
    parsed = answer.json()
    if answer.status != 200 or not isinstance(parsed, dict) or not isinstance(parsed.get("data"), list):
        return None
    return tuple(str(item["id"]) for item in parsed["data"] if isinstance(item, dict) and "id" in item)
