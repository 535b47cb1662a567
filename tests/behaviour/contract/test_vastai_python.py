"""The Python interfaces of Vast's own client: the one behind its commands, the synchronous and the asynchronous one."""

from __future__ import annotations

from tests.behaviour.contract.conftest import Vastai

UNTIL_RUNNING = """
def until_running(look):
    for _ in range(300):
        row = look()
        if row["actual_status"] == "running":
            return row
        time.sleep(0.1)
    raise SystemExit("it does not run")
"""


def test_the_sdk(vastai: Vastai) -> None:
    made = vastai.script(
        UNTIL_RUNNING
        + """
import json, time
from vastai import VastAI

v = VastAI()
offer = v.search_offers("reliability>0.99 num_gpus=1")[0]
made = v.create_instance(
    id=offer["id"], image="x", disk=20, label="lab", env="-e FOO=bar -p 8000:8000", onstart_cmd="echo hi"
)
i = made["new_contract"]
row = until_running(lambda: v.show_instance(id=i))
v.label_instance(id=i, label="other")
while not (log := v.logs(instance_id=i).strip()):
    pass  # the start script runs beside what is asked
seen = [v.show_instance(id=i)["label"], v.show_user()["credit"] > 0, row["extra_env"], log]
v.stop_instance(id=i)
listed = v.execute(id=i, command="ls")
v.destroy_instance(id=i)
print(json.dumps([*seen, "onstart.sh" in str(listed), v.show_instances()]))
"""
    )
    assert made == ["other", True, {"FOO": "bar", "-p 8000:8000": "1"}, "hi", True, []]


def test_the_synchronous_client(vastai: Vastai) -> None:
    """With every keyword of its search."""
    seen = vastai.script(
        """
import json, os
from vastai import SyncClient
from vastai.data.instance import InstanceConfig
from vastai.data.query import Query

client = SyncClient(os.environ["VAST_API_KEY"], vast_server=os.environ["VAST_URL"])
offers = client.search(
    Query.search_defaults(), type_="on-demand", order=[["dph_total", "asc"]], limit=5, allocated_storage=20.0,
    target_reliability=0.9, external=False, extra_ids=[1], has_avx=1, gpu_option="any", show_incompatible=False,
    sort_option="price", template_id=None,
)
instance = offers[0].create_instance(
    InstanceConfig(image="x", disk=20, label="made by sync", env={"A": "b", "-p 8000:8000": "1"}, runtype="ssh_direct")
)
listed = [[each.id, each.label] for each in client.show_instances()]
instance.destroy()
print(json.dumps([[each.machine_id for each in offers], listed == [[instance.id, "made by sync"]],
                  len(client.show_instances())]))
"""
    )
    assert seen == [[100], True, 0]


def test_the_asynchronous_client(vastai: Vastai) -> None:
    """Before its first call it fetches a root certificate from a fixed address, which is told where the market is."""
    seen = vastai.script(
        """
import asyncio, json, os
from vastai import AsyncClient
from vastai.data.instance import InstanceConfig
from vastai.data.query import Query

url = os.environ["VAST_URL"]
AsyncClient.SSL_CERT_URL = f"{url}/static/jvastai_root.cer"

async def main():
    async with AsyncClient(os.environ["VAST_API_KEY"], vast_server=url) as client:
        offers = await client.search(Query({"gpu_name": {"eq": "RTX 4090"}}), limit=3, allocated_storage=30.0)
        config = InstanceConfig(image="x", label="made by async", target_state="stopped")
        made = await asyncio.gather(*(offers[0].create_instance(config) for _ in range(30)))
        listed = await client.show_instances()
        await asyncio.gather(*(each.destroy() for each in made))
        return [len(offers), {each.id for each in listed} == {each.id for each in made}, len(listed),
                {each.label for each in listed} == {"made by async"}, len(await client.show_instances())]

print(json.dumps(asyncio.run(main())))
"""
    )
    assert seen == [1, True, 30, True, 0]
