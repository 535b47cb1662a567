"""What every step of bring-up needs."""

from __future__ import annotations

from dataclasses import dataclass

from pytest_vastgpu.core.clock import CancelToken
from pytest_vastgpu.core.image_login import ImageLogin
from pytest_vastgpu.model import FailureClass
from pytest_vastgpu.model import Verdict
from pytest_vastgpu.model import Workload
from pytest_vastgpu.servers.base import Adapter
from pytest_vastgpu.supervisor.rental.rental import Rental
from pytest_vastgpu.supervisor.rental.services import AttemptFailed
from pytest_vastgpu.supervisor.rental.services import RentalServices


def login_for(workload: Workload, image: str, users: ImageLogin | None) -> ImageLogin | None:
    """The login with which an image is pulled for a workload; None: none.

    :param users: The user's login at a registry, for the images of that registry.
    """
    if workload.image_login:
        return ImageLogin.parse(workload.image_login)
    return users if users is not None and users.is_for(image) else None


@dataclass(frozen=True)
class BringUpContext:
    """One rental on its way to *ready*."""

    services: RentalServices
    rental: Rental
    adapter: Adapter
    cancel: CancelToken
    """Ends all waiting when the bring-up is cancelled."""

    @property
    def image(self) -> str:
        """The image to rent with."""
        return self.rental.workload.image or self.adapter.default_image

    @property
    def image_login(self) -> ImageLogin | None:
        """The login with which it is pulled: the workload's own, or the user's where it is for the image's registry."""
        return login_for(self.rental.workload, self.image, self.services.image_login)

    def go_on(self) -> None:
        """Check that bring-up should go on.

        :raises Cancelled: the run is ending.
        :raises AttemptFailed: the instance has reached its hard end of life, or its price is above the limits.
        """
        self.cancel.check()
        if self.rental.cost.too_dear is not None:
            raise AttemptFailed(self.rental.cost.too_dear)
        limit = self.services.settings.max_lifetime
        if self.rental.age_s > limit:
            raise AttemptFailed(
                Verdict(
                    FailureClass.OWN_FAULT,
                    "lifetime_over",
                    f"not ready {self.rental.age_s:.0f} s after create; --vast-max-lifetime is {limit:g} s",
                    "raise --vast-max-lifetime",
                )
            )
