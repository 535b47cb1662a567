"""How the market says no."""

from __future__ import annotations


class ApiError(Exception):
    """An answer in Vast's usual form of an error.

    :param status: HTTP status; Vast has refusals with 200 too.
    :param code: The API's word for it.
    :param text: For people.
    """

    def __init__(self, status: int, code: str, text: str, **more: object) -> None:
        super().__init__(f"{status} {code}: {text}")
        self.status = status
        self.code = code
        self.body: dict[str, object] = {"success": False, "error": code, "msg": text, **more}


def no_such_instance(instance_id: object) -> ApiError:
    """Nothing has this id, or not any more."""
    return ApiError(404, "no_such_instance", f"Instance {instance_id} not found.")


def invalid(text: str) -> ApiError:
    """The request makes no sense."""
    return ApiError(400, "invalid_args", text)


def not_authorized() -> ApiError:
    """The key may not do that."""
    return ApiError(403, "not_authorized", "Not authorized")
