"""What is behind ``vastgpu ls`` and ``vastgpu destroy``: looking after instances when no run does."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from pytest_vastgpu.errors import ConfigurationError
from pytest_vastgpu.lifecycle.destroy import destroy
from pytest_vastgpu.lifecycle.home import open_client
from pytest_vastgpu.lifecycle.ledger import Label
from pytest_vastgpu.market.client import MarketClient
from pytest_vastgpu.model import InstanceStatus
from pytest_vastgpu.options import DEFAULT_URL


@contextmanager
def _client() -> Iterator[MarketClient]:
    key = os.environ.get("VAST_API_KEY")
    if not key:
        raise ConfigurationError("VAST_API_KEY is not set: set it to the key of the account to look at")
    with open_client(os.environ.get("VAST_URL") or DEFAULT_URL, key) as client:
        yield client


def list_ours(_arguments: argparse.Namespace) -> int:
    """Print every instance that carries one of our labels: whose it is, since when, and what it costs."""
    with _client() as client:
        ours = [(label, status) for status in client.list_instances() if (label := Label.parse(status.label))]
    if not ours:
        sys.stdout.write("no instance of pytest-vastgpu is alive\n")
    for label, status in ours:
        sys.stdout.write(_line(label, status, time.time()) + "\n")
    return 0


def _line(label: Label, status: InstanceStatus, now: float) -> str:
    age = f"{(now - status.start_date) / 60:.0f} min" if status.start_date else "age unknown"
    left = (label.ends_at - now) / 60
    end = f"must be gone in {left:.0f} min" if left > 0 else f"OVERDUE by {-left:.0f} min"
    return (
        f"{status.id}  {status.actual_status or 'null'}  machine {status.machine_id}  {status.gpu_name or 'no GPU'}  "
        f"{status.price_usd_h:.3f} USD/h  {age}  run {label.run_id}  {end}"
    )


def destroy_one(arguments: argparse.Namespace) -> int:
    """Destroy an instance, by id or by its label, and see that it is gone."""
    with _client() as client:
        if arguments.instance.isdecimal():
            ids = [int(arguments.instance)]
        elif Label.parse(arguments.instance):
            ids = [status.id for status in client.list_instances(arguments.instance)]
        else:
            raise ConfigurationError(
                f"{arguments.instance!r} is neither an instance's id nor a label of pytest-vastgpu"
            )
        for instance_id in ids:
            destroy(client, instance_id, time.sleep)
            sys.stdout.write(f"instance {instance_id} is gone\n")
        if not ids:
            sys.stdout.write(f"no instance carries the label {arguments.instance}\n")
    return 0
