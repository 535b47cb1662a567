"""Ways to run pytest and to write tests, beside ours."""

from __future__ import annotations

from tests.behaviour.neighbours.rows import LOST
from tests.behaviour.neighbours.rows import PLAIN
from tests.behaviour.neighbours.rows import Row

MODIFIES = """
def pytest_vastgpu_modify_offers(offers, workload): pass
"""
CONSTRUCTS: dict[str, Row] = {
    **{
        f"--dist={mode}": Row(plugins=("xdist",), options=("-n2", f"--dist={mode}"), passed=4 if mode == "each" else 2)
        for mode in ("load", "loadscope", "loadfile", "loadgroup", "worksteal", "each")
    },
    **{
        option: Row("def test_0(vast_instance): assert 0\n" + PLAIN, (), (option,), passed=0, failed=1)
        for option in ("-x", "--maxfail=1", "--sw")
    },
    "--lf": Row(options=("--lf",)),
    "--ff": Row(options=("--ff",)),
    "--pdb, longer at the prompt than a lease": Row(
        "import time\ndef test_1(vast_instance):\n    breakpoint()\n    ask(vast_instance)\n"
        + PLAIN.replace("test_1", "test_3"),
        options=("-s", "--vast-lease=15"),
        passed=3,
        stdin=b"time.sleep(20)\ncontinue\n",
    ),
    "importlib": Row(options=("--import-mode=importlib",)),
    "-l shows no key": Row(
        "def test_1(vast_instance): key = vast_instance.api_key; assert not key, (key, vast_instance)\n"
        + PLAIN.replace("test_1", "test_3"),
        options=("-l", "--full-trace", "--junitxml=junit.xml"),
        failed=1,
        says=("*<instance key>*",),
    ),
    "unittest": Row(
        """
import unittest
@pytest.mark.usefixtures("vast_instance")
class Test(unittest.TestCase):
    @pytest.fixture(autouse=True)
    def keep(self, vast_instance): self.instance = vast_instance
    def test_1(self):
        for number in range(3):
            with self.subTest(number=number):
                ask(self.instance)
    def test_2(self): ask(self.instance)
""",
        count=False,
        says=("*2 passed*",),
    ),
    "threads, streams, much data": Row(
        """
from concurrent.futures import ThreadPoolExecutor
def test_1(vast_instance):
    with ThreadPoolExecutor(32) as pool:
        assert set(pool.map(lambda _: httpx.get(vast_instance.endpoint, timeout=60).text, range(64))) == {"here I am"}
def test_2(vast_instance):
    with httpx.stream("GET", vast_instance.endpoint + "/events", timeout=60) as answer:
        assert [line for line in answer.iter_lines() if line] == [f"data: {n}" for n in range(5)]
    much = os.urandom(50_000_000)
    assert httpx.post(vast_instance.endpoint, content=much, timeout=60).content == much
""",
    ),
    "websocket": Row(
        """
import sys
from websockets.sync.client import connect
@pytest.fixture
def vast_workload():
    return command(f"exec {sys.executable} sockets.py", files={"sockets.py": "sockets.py"}, gpus=0)
def test_1(vast_instance):
    with connect(vast_instance.endpoint.replace("http", "ws"), open_timeout=60) as socket:
        socket.send("hello")
        assert socket.recv() == "hello"
""",
        passed=1,
        files={
            "sockets.py": """
import http
from websockets.sync.server import serve
def echo(socket):
    for text in socket: socket.send(text)
def answer(connection, request):
    if "Upgrade" not in request.headers: return connection.respond(http.HTTPStatus.OK, "ready")
with serve(echo, "127.0.0.1", 8000, process_request=answer) as server: server.serve_forever()
"""
        },
    ),
    "65 s idle": Row(
        """
import time
def test_1(vast_instance):
    with httpx.Client(timeout=60) as client:
        client.get(vast_instance.endpoint)
        time.sleep(65)
        assert client.get(vast_instance.endpoint).text == "here I am"
""",
        passed=1,
    ),
    "spawn and forkserver": Row(
        """
import multiprocessing
@pytest.mark.parametrize("how", ["spawn", "forkserver"])
def test_1(vast_instance, how):
    with multiprocessing.get_context(how).Pool(1) as pool:
        assert pool.apply(fetch, (vast_instance.endpoint,)) == "here I am"
def fetch(url): return httpx.get(url, timeout=60).text
""",
    ),
    "os.fork": Row(
        """
def test_1(vast_instance, vast_instance_factory, vast_workload):
    child = os.fork()
    if not child:
        os._exit(0 if vast_instance.run("true").ok else 1)
    assert os.waitpid(child, 0)[1] == 0
    ask(vast_instance)
""",
        passed=1,
    ),
    "a run within a test": Row(
        """
pytest_plugins = "pytester"
def test_1(vast_instance, pytester):
    pytester.makepyfile("def test_it(): pass")
    pytester.runpytest_inprocess().assert_outcomes(passed=1)
    ask(vast_instance)
""",
        passed=1,
    ),
    "proxies": Row(
        env={"HTTP_PROXY": "http://127.0.0.1:9", "ALL_PROXY": "http://127.0.0.1:9", "NO_PROXY": "127.0.0.1"}
    ),
    "LANG=C": Row(env={"LANG": "C", "LC_ALL": "C", "PYTHONUTF8": "0"}),
    "an odd ssh config": Row(
        files={".ssh/config": "Host *\n  ProxyCommand false\n  User nobody\n  NoSuchOption yes\n"}
    ),
    "an agent with 8 keys": Row(
        within=(
            *("ssh-agent", "sh", "-c"),
            'd=$(mktemp -d); for n in 1 2 3 4 5 6 7 8; do ssh-keygen -q -t ed25519 -N "" -f $d/$n; '
            'ssh-add -q $d/$n; done; exec "$0" "$@"',
        )
    ),
    "-O": Row("def test_1(vast_instance): ask(vast_instance)\ndef test_2(vast_instance): pass\n", python=("-O",)),
    "-X dev": Row(python=("-X", "dev")),
    "warnings are errors": Row(options=("-Werror",), env={"PYTHONWARNINGS": "error"}),
    "another user": Row(within=("unshare", "--user", "--map-user=1000", "--map-group=1000")),
    "an instance that is lost": Row(LOST, passed=1, errors=1, rents=2),
    "xfail and a lost instance": Row(
        LOST.replace("def test_1", "@pytest.mark.xfail(strict=False)\ndef test_1"),
        passed=1,
        errors=1,
        rents=2,
    ),
    "parameters": Row(
        """
@pytest.fixture(params=["one", "two"])
def vast_workload(request):
    return command("exec python3 server.py", files={"server.py": "server.py"}, gpus=0, env={"A": request.param})
def test_1(vast_instance, vast_workload): assert vast_instance.run("true").ok
""",
        rents=2,
    ),
    "parameters, and a handle of a wider scope": Row(
        """
@pytest.fixture(params=["one"])
def vast_workload(request):
    return command("exec python3 server.py", files={"server.py": "server.py"}, gpus=0, env={"A": request.param})
def test_1(vast_session_instance): pass
def test_2(vast_session_instance, vast_workload): ask(vast_session_instance)
""",
        passed=1,
        errors=1,
        says=("*The requested fixture has no parameter defined for test:*",),
    ),
    "getfixturevalue": Row("def test_1(request): ask(request.getfixturevalue('vast_instance'))\n", passed=1),
    "getfixturevalue, with workers": Row(
        "@pytest.mark.parametrize('n', (1, 2))\n"
        "def test_1(request, n): ask(request.getfixturevalue('vast_instance'))\n",
        ("xdist",),
        ("-n2",),
    ),
    "doctest": Row(
        "class It:\n    '''\n    >>> assert getfixture('vast_instance').run('true').ok\n    '''\n",
        options=("--doctest-modules", "--ignore=server.py"),
        passed=1,
    ),
    "a filter of offers that the workers alone see": Row(
        plugins=("xdist",),
        options=("-n2",),
        passed=0,
        rents=0,
        files={"sub/conftest.py": MODIFIES, "sub/test_sub.py": "def test_it(vast_instance): pass\n"},
        count=False,
        says=("*sub/conftest.py implements pytest_vastgpu_modify_offers, which would never be called*",),
    ),
    "a long TMPDIR": Row(env={"TMPDIR": "/tmp/" + "x" * 100}),
    "a host cache that cannot be written": Row(
        env={"VAST_HOST_CACHE": "/proc/nowhere/hosts.yaml"},
        passed=0,
        rents=0,
        count=False,
        says=("ERROR: *host cache*/proc/nowhere*",),
    ),
}
