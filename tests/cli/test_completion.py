"""The scripts of ``vastgpu completion``, in the shells themselves."""

from __future__ import annotations

import os
import pty
import select
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pytest_vastgpu.cli.completion import SHELLS
from pytest_vastgpu.cli.exit_codes import ExitCode
from pytest_vastgpu.cli.main import main
from tests.support.looks import LOOK_S
from tests.support.looks import PATIENCE_S

pytest.importorskip("shtab", reason="pip install 'pytest-vastgpu[completion]'")


def script(shell: str, directory: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    if shutil.which(shell) is None:
        pytest.skip(f"no {shell} on this machine (apt-get install {shell})")
    assert main(["completion", shell]) == ExitCode.OK
    path = directory / "completion"
    path.write_text(capsys.readouterr().out)
    return path


def output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("shell", SHELLS)
def test_the_shell_takes_the_script(shell: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert output(shell, "-n", str(script(shell, tmp_path, capsys))) == ""


COMPLETES = [
    (["log"], {"logs"}),
    (["logs", "--fol"], {"--follow"}),
    (["hosts", "me"], {"merge"}),
    (["ls", "--"], {"--help", "--json", "--check"}),
    (["classify", "--channel", "ss"], {"ssh"}),
    (["classify", "--server", "tr"], {"triton", "trtllm", "transformers"}),
    (["completion", ""], {"bash", "zsh", "fish"}),
    (["report", "--schema", ""], {"cost", "events", "tests"}),
    (["report", "--m"], {"--markdown"}),
]


@pytest.mark.parametrize(("words", "offered"), COMPLETES)
def test_bash_completes_commands_options_and_their_values(
    words: list[str], offered: set[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = script("bash", tmp_path, capsys)
    ask = (
        'source "$0"; function=$(complete -p vastgpu | sed "s/.*-F \\([^ ]*\\).*/\\1/"); COMP_WORDS=(vastgpu "$@"); '
        'COMP_CWORD=$#; $function; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    assert set(output("bash", "-c", ask, str(path), *words).split()) - {"-h"} == offered


@pytest.mark.parametrize(("words", "offered"), COMPLETES)
def test_fish_does_so_too(
    words: list[str], offered: set[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = script("fish", tmp_path, capsys)
    line = " ".join(["vastgpu", *words])
    told = output("fish", "--no-config", "-c", f"source {path}; complete -C '{line}'")
    assert {each.split("\t")[0] for each in told.splitlines()} == offered


def test_zsh_does_so_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = script("zsh", tmp_path, capsys)
    terminal, theirs = pty.openpty()
    with subprocess.Popen(
        ["zsh", "-f", "-i"],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**os.environ, "TERM": "dumb"},
        start_new_session=True,
    ) as process:
        os.close(theirs)
        try:
            load = f'autoload -Uz compinit && compinit -u -D && eval "$(<{path})"; echo rea""dy\n'
            os.write(terminal, load.encode())
            read_until(terminal, "ready")
            os.write(terminal, b"vastgpu log\t")
            read_until(terminal, "vastgpu logs ")
            os.write(terminal, b"--fol\t")
            read_until(terminal, "--follow")
        finally:
            process.kill()
            os.close(terminal)


def read_until(terminal: int, text: str) -> None:
    seen = ""
    for _ in range(int(PATIENCE_S / LOOK_S)):  # no deadline: the clock goes on while this machine is suspended
        if text in seen:
            return
        if select.select([terminal], [], [], LOOK_S)[0]:
            seen += os.read(terminal, 65536).decode(errors="replace")
    pytest.fail(f"no {text!r} in {seen!r}")


def test_without_the_package_that_writes_the_script_it_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "shtab", None)
    assert main(["completion", "bash"]) == ExitCode.FAILED
    assert capsys.readouterr().err == (
        "vastgpu: the script is written by the package shtab: install it with pip install "
        "'pytest-vastgpu[completion]'\n"
    )
