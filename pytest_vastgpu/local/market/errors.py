"""The errors of the API."""

from __future__ import annotations


class ApiError(Exception):
    """An error of the API, in Vast's usual form.

    :param status: The HTTP status; some errors of Vast's have 200.
    :param code: The ``error`` of the body, such as ``invalid_args``.
    :param text: The ``msg`` of the body, for people.
    :param more: Further fields of the body.
    """

    def __init__(self, status: int, code: str, text: str, **more: object) -> None:
        super().__init__(f"{status} {code}: {text}")
        self.status = status
        self.code = code
        self.body: dict[str, object] = {"success": False, "error": code, "msg": text, **more}


def no_such_instance(instance_id: object) -> ApiError:
    """No instance has this id."""
    return ApiError(404, "no_such_instance", f"Instance {instance_id} not found.")


def invalid(text: str) -> ApiError:
    """A value in the request is not valid."""
    return ApiError(400, "invalid_args", text)


def not_authorized() -> ApiError:
    """The key may not make this call."""
    return ApiError(403, "not_authorized", "Not authorized")
