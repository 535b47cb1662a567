from __future__ import annotations

import pytest

from pytest_vastgpu import command
from pytest_vastgpu.core.image_login import ImageLogin
from pytest_vastgpu.core.text.redaction import Redactor
from pytest_vastgpu.errors import WorkloadInvalid
from pytest_vastgpu.plugin import marks
from pytest_vastgpu.plugin.options import resolve

PASSWORD = "9d8df!fd89ufZ"


@pytest.mark.parametrize(
    ("text", "sent"),
    [
        (f"-u bob -p {PASSWORD} ghcr.io", f"-u bob -p {PASSWORD} ghcr.io"),
        (f"-p {PASSWORD} -u bob", f"-u bob -p {PASSWORD} docker.io"),
        (f"--username=bob --password={PASSWORD} https://index.docker.io/v1/", f"-u bob -p {PASSWORD} docker.io"),
        (f"-u '$oauthtoken' -p {PASSWORD} NVCR.io", f"-u $oauthtoken -p {PASSWORD} nvcr.io"),
        ("-u bob -p 'two words' ghcr.io", "-u bob -p 'two words' ghcr.io"),
    ],
)
def test_a_login_is_read_and_sent_in_the_market_s_form(text: str, sent: str) -> None:
    login = ImageLogin.parse(text)
    assert login.text().reveal() == sent
    assert ImageLogin.parse(sent).text().reveal() == sent
    assert PASSWORD not in f"{login!r} {login} {login.text()!r}"


WRONG = {
    "": "it has no user",
    f"bob:{PASSWORD}@ghcr.io": "it has no user",
    f"-u bob {PASSWORD} ghcr.io": "it has no password",
    f"-u bob {PASSWORD} -p": "it has nothing after -p",
    f"-u bob -p {PASSWORD} ghcr.io more": "it has more words than user, password and registry",
    f"-u bob -p {PASSWORD} --quiet": "it has more words than user, password and registry",
    f"-u bob -u eve -p {PASSWORD} ghcr.io": "it has a second user",
    f"-u bob -p '{PASSWORD} ghcr.io": "a quote in it is not closed",
}


@pytest.mark.parametrize(("text", "problem"), WRONG.items())
def test_a_malformed_login_is_a_usage_error_that_does_not_show_it(text: str, problem: str) -> None:
    if text:
        with pytest.raises(WorkloadInvalid, match=f"^image_login of the workload: {problem}.*; write it as") as field:
            command("serve", image_login=text)
        with pytest.raises(pytest.UsageError, match=f"^VAST_IMAGE_LOGIN: {problem}.*; write it as") as variable:
            resolve(lambda _: None, lambda _: None, {"VAST_IMAGE_LOGIN": text})
        assert PASSWORD not in f"{field.value} {variable.value}"
        assert "\n" not in f"{field.value} {variable.value}"
    with pytest.raises(ValueError, match=problem):
        ImageLogin.parse(text)


def test_a_login_of_another_type_is_not_shown_either() -> None:
    with pytest.raises(WorkloadInvalid, match=r"^image_login \(a tuple\) of the workload is not text$"):
        command("serve", image_login=("bob", PASSWORD))  # type: ignore[arg-type] # such a type
    with pytest.raises(TypeError, match=r"^image_login \(a tuple\) is not text$"):
        marks.vast(image_login=("bob", PASSWORD))  # type: ignore[arg-type] # such a type


@pytest.mark.parametrize(
    ("registry", "image", "fits"),
    [
        ("docker.io", "vllm/vllm-openai:latest", True),
        ("docker.io", "ubuntu", True),
        ("docker.io", "registry-1.docker.io/library/ubuntu:22.04", True),
        ("docker.io", "ghcr.io/me/it:1", False),
        ("ghcr.io", "ghcr.io/me/it@sha256:00", True),
        ("ghcr.io", "me/it", False),
        ("localhost:5000", "localhost:5000/it", True),
    ],
)
def test_a_login_is_for_the_images_of_its_registry(registry: str, image: str, fits: bool) -> None:
    assert ImageLogin.parse(f"-u bob -p x {registry}").is_for(image) is fits


def test_a_login_is_hidden_whole_and_in_its_part_that_is_secret() -> None:
    redactor = Redactor()
    redactor.add_workload(command("serve", image_login=f"-u bob -p {PASSWORD} ghcr.io"))
    assert redactor(f"a -u bob -p {PASSWORD} ghcr.io b") == "a <image_login> b"
    assert redactor(f"docker login --password={PASSWORD}") == "docker login --password=<image_login>"
    assert PASSWORD not in repr(command("serve", image_login=f"-u bob -p {PASSWORD} ghcr.io"))
