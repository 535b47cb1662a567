"""Lists with pages, the other search endpoints, templates."""

from __future__ import annotations

import json

from tests.support.local.api import Api


def test_the_list_in_pages(api: Api) -> None:
    offer_id = api.offer_of(100)
    made = [api.create(offer_id, target_state="stopped", label=f"l{n % 2}").json()["new_contract"] for n in range(30)]
    first = api.listed(select_filters="{}", order_by='[{"col": "id", "dir": "asc"}]', limit="100")
    assert (first["total_instances"], first["instances_found"]) == (30, 25)
    assert first["label_counts"] == {"l0": 15, "l1": 15}
    api.destroy(made[24])
    second = api.listed(after_token=first["next_token"])
    assert [row["id"] for row in first["instances"] + second["instances"]] == made
    assert second["next_token"] is None
    assert len(api.listed(limit="0")["instances"]) == 5
    down = api.listed(order_by='[{"col": "id", "dir": "desc"}]', limit="3")
    assert [row["id"] for row in down["instances"]] == made[:-4:-1]
    below = api.listed(order_by='[{"col": "id", "dir": "desc"}]', limit="3", after_token=down["next_token"])
    assert [row["id"] for row in below["instances"]] == [made[26], made[25], made[23]]
    some = api.listed(select_filters='{"label": {"in": ["l1"]}}', select_cols='["id", "nothing"]')
    assert some["total_instances"] == 15
    assert some["instances"][0] == {"id": made[1], "nothing": None}
    bulk = api.http.request("DELETE", "/api/v0/instances/", json={"instance_ids": made})
    assert bulk.json()["success"]
    assert api.listed()["total_instances"] == 0


def test_other_ways_to_search(api: Api) -> None:
    query = {"gpu_name": {"eq": "H100 SXM"}}
    found = api.http.put("/api/v0/search/asks/", json={"select_cols": ["id", "machine_id"], "q": query}).json()
    assert found["offers"] == [{"id": api.offer_of(200), "machine_id": 200}]
    got = api.http.get("/api/v0/bundles", params={"q": json.dumps(query)}).json()
    assert [row["machine_id"] for row in got["offers"]] == [200]
    names = api.http.get("/api/v0/gpu_names/unique/").json()["gpu_names"]
    assert {"RTX 4090", "H100 SXM"} <= set(names)


def test_templates(api: Api) -> None:
    body = {"name": "t", "image": "me/t", "env": "-e A=1 -e B=2 -p 8000:8000", "onstart": "echo t", "ssh_direct": True}
    template = api.http.post("/api/v0/template/", json=body).json()["template"]
    again = api.http.post("/api/v0/template/", json=body).json()
    assert (again["success"], again["msg"]) == (False, "Existing Template Found")
    listed = api.http.get("/api/v0/template/", params={"select_filters": '{"name": {"eq": "t"}}'}).json()
    assert listed["templates"] == [template]
    instance_id = api.rent_stopped(image=None, template_hash_id=template["hash_id"], env={"B": "3"})
    row = api.becomes(instance_id)
    assert (row["image_uuid"], row["onstart"], row["image_runtype"]) == ("me/t", "echo t", "ssh_direc ssh_proxy")
    assert row["extra_env"] == [["A", "1"], ["B", "3"], ["-p 8000:8000", "1"]]
    changed = api.http.put("/api/v0/template/", json={"hash_id": template["hash_id"], "image": "me/u"}).json()[
        "template"
    ]
    assert changed["hash_id"] != template["hash_id"]
    assert api.http.request("DELETE", "/api/v0/template/", json={"hash_id": changed["hash_id"]}).json()["success"]
