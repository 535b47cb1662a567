"""The commands around the program that runs tests on an instance. Pure: values in, text out.

Whatever that program starts has its mark in the environment. So it is found wherever it is: in a session of its own, or
as the orphan of a process that is gone.
"""

from __future__ import annotations

from pytest_vastgpu.supervisor.rental.server import job

MARK = "VASTGPU_WORKERS"
"""The variable with the mark: the instance's key, and the process id of the program."""
END_LIMIT_S = 15.0
"""Time limit of the command that ends what is left."""
_LOOKS = 100
_LOOK_S = 0.05

# Only kill -9: what is still there has had its time. A zombie has no environment any more, and so is not found.
_FUNCTIONS = f"""\
. ~/{job.HOME}/env.sh
vastgpu_left() {{
  printf '%s' "{MARK}=${job.API_KEY}-$1" | grep -slFf - /proc/[0-9]*/environ | tr -cd '0-9\\n'
}}
vastgpu_end() {{
  vastgpu_n=0
  while vastgpu_pids=$(vastgpu_left "$1") && [ -n "$vastgpu_pids" ] && [ "$vastgpu_n" -lt {_LOOKS} ]; do
    kill -9 $vastgpu_pids
    vastgpu_n=$((vastgpu_n + 1))
    sleep {_LOOK_S} || sleep 1
  done 2> /dev/null
}}
"""


def start(command: str) -> str:
    """The command that runs a program which runs tests, once everything that an earlier one has left is ended."""
    mark = f'export {MARK}="${job.API_KEY}-$$."'
    return f"{job.IN_IMAGE_ENV}{_FUNCTIONS}vastgpu_end ''\n{mark}\n{command}"


def end(pid: int) -> str:
    """The command that ends everything that the program with this process id has left."""
    return f"{_FUNCTIONS}vastgpu_end {pid}.\n"
