"""What excludes ``--vast-hosts`` is one line, before anything is rented."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError

import pytest

from pytest_vastgpu.plugin.on_host import conflicts
from pytest_vastgpu.plugin.on_host.conflicts import on_command_line
from pytest_vastgpu.plugin.on_host.conflicts import too_old
from pytest_vastgpu.plugin.options import resolve
from pytest_vastgpu.plugin.options import resolve_hosts
from tests.support.quick import only

HERE = "(--vast-hosts=0 runs the tests here)"
REFUSED = [
    (["--vast-hosts=1", "-n2"], "-n and --vast-hosts=1 exclude each other: tests run in workers on the hosts"),
    (["--vast-hosts=1", "--numprocesses", "auto"], "-n and --vast-hosts=1 exclude each other"),
    (["--vast-hosts=1", "--tx", "popen"], "--tx and --vast-hosts=1 exclude each other"),
    (["--vast-hosts=1", "--px", "popen"], "--px and --vast-hosts=1 exclude each other"),
    (
        ["--vast-hosts=1", "--pdb"],
        f"--pdb and --vast-hosts=1 exclude each other: there is no terminal on a host; {HERE}",
    ),
    (["--vast-hosts=1", "--trace"], "--trace and --vast-hosts=1 exclude each other: there is no terminal on a host"),
    (
        ["--vast-hosts=1", "--dist=each"],
        "--dist each and --vast-hosts exclude each other: hosts come and go, so nobody can say on which of them a test "
        "has yet to run; leave it out, or say --dist worksteal, load, loadscope, loadfile or loadgroup",
    ),
    (
        ["--vast-hosts=3", "--vast-max-instances=2"],
        "--vast-hosts=3 is more than --vast-max-instances 2 (command line) allows: raise that, or ask for at most 2",
    ),
    (["--vast-hosts=1", "-p", "no:xdist"], "--vast-hosts needs pytest-xdist, which is installed and not active: "),
    (["--vast-hosts=two"], "--vast-hosts: 'two' is not a whole number of at least 0"),
    (["--vast-hosts=-1"], "--vast-hosts: '-1' is not a whole number of at least 0"),
    (
        ["--vast-hosts=1", "--vast-workers-per-host=0"],
        "--vast-workers-per-host: '0' is not a whole number of at least 1",
    ),
    (["--vast-gpus=1"], "--vast-gpus is for tests that run on rented hosts: say how many, such as --vast-hosts=1, or "),
    (["--vast-fetch-tmp"], "--vast-fetch-tmp is for tests that run on rented hosts: "),
]


def refused(pytester: pytest.Pytester, *args: str) -> str:
    """The one line with which pytest ends."""
    pytester.makepyfile("def test_it(): pass")
    result = pytester.runpytest_inprocess("-p", "no:cacheprovider", *args)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    [line] = [line for line in result.stderr.lines if line]
    return line.removeprefix("ERROR: ")


@pytest.mark.parametrize(("args", "line"), REFUSED, ids=[" ".join(args) for args, _ in REFUSED])
def test_what_excludes_hosts_is_one_line(pytester: pytest.Pytester, args: list[str], line: str) -> None:
    told = refused(pytester, *args)
    assert told.startswith(line.removesuffix(HERE))
    assert HERE not in line or told.endswith(HERE)


def test_hosts_of_an_ini_file_are_named_with_their_source(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytester.makeini("[pytest]\nvast_hosts = 2")
    # "No workers" may mean: here.
    assert refused(pytester, "-n0").startswith("-n and --vast-hosts=2 (ini) exclude each other: ")
    monkeypatch.setenv("VAST_HOSTS", "3")
    assert refused(pytester, "-n", "2").startswith("-n and --vast-hosts=3 (VAST_HOSTS) exclude each other: ")


@pytest.mark.parametrize("workers", ["-n2", "--tx=popen --dist=load"])
def test_a_debugger_of_addopts_is_refused_before_xdist_names_another_way_out(
    pytester: pytest.Pytester, workers: str
) -> None:
    pytester.makeini(f"[pytest]\naddopts = {workers} --pdb")
    assert refused(pytester, "--vast-hosts=1").startswith("--pdb and --vast-hosts=1 exclude each other: ")


@pytest.mark.slow
@pytest.mark.parametrize("hosts", only({"0"}, ["0", "none of them"]))
def test_a_run_without_hosts_is_one_as_ever(pytester: pytest.Pytester, hosts: str) -> None:
    """Also with xdist's workers, and although an ini file has other options for hosts."""
    pytester.makeini("[pytest]\nvast_gpus = 2\nvast_gpu_name = RTX 4090" + ("\nvast_hosts = 2" if hosts == "0" else ""))
    pytester.makepyfile("def test_it(): pass")
    args = ["--vast-hosts=0", "--vast-disk=50"] if hosts == "0" else []
    pytester.runpytest_inprocess("-p", "no:cacheprovider", "-n1", *args).assert_outcomes(passed=1)


@pytest.mark.parametrize(
    ("option", "variable", "ini", "dist"),
    [
        ("", "", "", "no"),
        ("0", "", "", "no"),
        ("", "0", "", "no"),
        ("0", "1", "2", "no"),
        ("", "0", "2", "no"),
        ("", "", "0", "no"),
        ("1", "0", "0", "load"),
        ("", "1", "0", "load"),
        ("", "", "2", "load"),
    ],
)
def test_other_plugins_see_early_whether_tests_run_in_workers(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, option: str, variable: str, ini: str, dist: str
) -> None:
    """As pytest-cov does, which makes another report with workers than without."""
    monkeypatch.setenv("VAST_HOSTS", variable)
    pytester.syspathinsert()
    pytester.makeini("[pytest]" + (f"\nvast_hosts = {ini}" if ini else ""))
    pytester.makepyfile(
        early="""
        def pytest_load_initial_conftests(early_config):
            with open("early.txt", "w") as file:  # it is too early to print
                file.write(early_config.known_args_namespace.dist)
        """
    )
    args = [f"--vast-hosts={option}"] if option else []
    pytester.runpytest_inprocess("-p", "no:cacheprovider", "-p", "early", "--collect-only", *args)
    assert (pytester.path / "early.txt").read_text() == dist


@pytest.mark.parametrize(
    "option", only({"--collect-only"}, ["--collect-only", "--setup-plan", "--fixtures", "--markers"])
)
def test_what_runs_no_test_is_shown_at_home(pytester: pytest.Pytester, option: str) -> None:
    pytester.makepyfile("def test_it(): pass")
    result = pytester.runpytest_inprocess("-p", "no:cacheprovider", "--vast-hosts=2", option)
    assert result.ret == pytest.ExitCode.OK
    assert "renting" not in result.stdout.str()


def test_workers_of_addopts_give_way_and_that_is_told(pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]\naddopts = -n auto --dist loadfile")
    result = pytester.runpytest_inprocess("-p", "no:cacheprovider", "--vast-hosts=1", "--collect-only")
    assert result.ret == pytest.ExitCode.NO_TESTS_COLLECTED
    config = pytester.parseconfig("--vast-hosts=1")
    config.option.tx = ["popen"] * 2  # as xdist has it by then
    hosts = resolve_hosts(config.getoption, config.getini, {})
    told = conflicts.refuse(config, hosts, resolve(config.getoption, config.getini, {}))
    assert told == ["-n (or --tx, --px) of addopts does not apply: tests run in workers on the hosts"]
    assert (config.option.tx, config.option.numprocesses, config.option.dist) == ([], None, "loadfile")


@pytest.mark.parametrize(
    ("args", "found"),
    [
        (["-n", "2", "tests"], "-n"),
        (["-n2"], "-n"),
        (["tests", "--numprocesses=auto"], "-n"),
        (["--tx=popen"], "--tx"),
        (["--px", "popen"], "--px"),
        (["-k", "-n"], "-n"),
        (["-k", "n", "tests", "-x", "--dist=load", "--maxprocesses=3"], ""),
        ([], ""),
    ],
)
def test_options_for_workers_on_a_command_line(args: list[str], found: str) -> None:
    assert on_command_line(args) == found


@pytest.mark.parametrize(
    ("version", "old"), [("3.7.9", True), ("3.8.0", False), ("3.8.0rc1", False), ("4.0", False), ("2.99", True)]
)
def test_an_old_xdist_is_known_by_its_version(version: str, old: bool) -> None:
    assert too_old(version) is old


def test_an_old_xdist_and_none_are_told_with_the_command_that_helps(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    help_ = "pip install 'pytest-vastgpu[hosts]'"
    monkeypatch.setattr(conflicts, "version", lambda _: "3.6.1")
    assert refused(pytester, "--vast-hosts=1") == f"--vast-hosts needs pytest-xdist 3.8 or newer, not 3.6.1: {help_}"

    def missing(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(conflicts, "version", missing)
    told = refused(pytester, "--vast-hosts=1")
    assert told == f"--vast-hosts needs pytest-xdist, which is not installed: {help_}"
