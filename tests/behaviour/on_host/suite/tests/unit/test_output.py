import logging
import os
import subprocess
import sys

import pytest


def test_capsys(capsys):
    print("out")
    print("err", file=sys.stderr)
    assert capsys.readouterr() == ("out\n", "err\n")


def test_capfd(capfd):
    subprocess.run(["echo", "from a child"], check=True)
    os.write(2, "ünï\n".encode())
    assert capfd.readouterr() == ("from a child\n", "ünï\n")


def test_caplog(caplog):
    with caplog.at_level(logging.INFO):
        logging.getLogger("own").info("at level %d", 3)
    assert caplog.messages == ["at level 3"]


def test_shows_what_it_prints():
    print("stdout: äöü → 漢字 🙂")
    print("stderr", file=sys.stderr)
    os.write(1, b"written past Python: \xff\n")
    logging.getLogger("own").warning("logged")
    raise AssertionError("look above")


def test_prints_much():
    for number in range(5000):
        print(f"line {number} of many")
    assert not number


def test_prints_and_passes(capsys):
    print("seen in the report of a test that passes")
    with capsys.disabled():
        pass


def test_escapes():
    print("\x1b[31mred\x1b[0m \x00 \x07")
    raise AssertionError("\x1b[31mred\x1b[0m")


def test_closed_stdin():
    with pytest.raises(OSError, match="reading from stdin"):
        input()


def test_utf_8():
    import locale

    assert locale.getpreferredencoding(False).upper().replace("-", "") == "UTF8"
    assert sys.getfilesystemencoding() == "utf-8"
