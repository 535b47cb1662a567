"""The content of ``tests.json``: the tests of a run that used an instance, or that failed for want of one.

It is in the run's directory, beside ``cost.json``. pytest's own process writes it, also where tests run in workers or
on hosts: the whole file again when such a test is over, in place of the old one, so that a killed run leaves a whole
file. Times are epoch seconds. ::

    {
      "version": 1,
      "run": "3f9c21ab",
      "command": "pytest -n 4 tests",                 secrets removed
      "started": 1790000000.0,
      "written": 1790000060.0,
      "ended": 1790000060.0,                          0.0: it goes on, or was killed
      "over": true,
      "exit_status": 1,                               pytest's; null before the end
      "tests": [
        {
          "test": "test_it.py::test_it",
          "outcome": "error",                         passed, failed, error, skipped, xfailed, xpassed; empty: not over
          "when": "setup",                            the phase that decided; empty: none has, or its worker crashed
          "started": 1790000001.0,
          "duration_s": 50.2,                         of all phases
          "tries": 1,                                 more where a plugin has tried it again
          "worker": "gw0",                            empty without workers
          "host": "",                                 with --vast-hosts: "host 1"
          "instances": [12345678],                    ids
          "message": "no instance became ready …",    why it has not passed
          "verdict": {"class": "infra_fatal", "reason": "ssh_never_up", "evidence": "…", "remedy": "…"},    or null
          "attempts": 3,                              that failed before the test got no instance
          "artifacts": "/home/me/project/vast-artifacts/3f9c21ab/3"
        }
      ]
    }
"""

from __future__ import annotations

VERSION = 1
NAME = "tests.json"
