"""The clusters in the configuration of the server."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Any

from ..errors import ComfyUIUnavailableError, InvalidRequestError, NotFoundError
from .target import Target, certificates_of, check_address, of_cluster

if TYPE_CHECKING:
    from collections.abc import Mapping

log = logging.getLogger(__name__)

FIELD = "cluster"


class ConfiguredClusters:
    """The setting ``clusters``: the names of clusters with their addresses."""

    def __init__(self, clusters: Mapping[str, Any], *, allow_plain_tcp: bool) -> None:
        self._clusters = dict(clusters)
        self._allow_plain_tcp = allow_plain_tcp
        self._made: dict[str, Any] = {}
        self._lock = threading.Lock()

    def check_name(self, name: str) -> None:
        """Raise an error if there is no such cluster."""
        if name not in self._clusters:
            known = sorted(self._clusters)
            raise NotFoundError(
                f"{FIELD}: the setting clusters has no {name!r}"
                + (f"; it has {', '.join(known)}" if known else ""),
                details={"field": FIELD, "known": known},
            )

    def target(self, name: str) -> Target:
        """Return the target of a cluster. This may start the cluster, so call it in a thread."""
        self.check_name(name)
        given = self._clusters[name]
        if isinstance(given, str):
            given = {"scheduler": given}
        if isinstance(given, dict):
            return self._of_dict(name, given)
        if callable(given):
            given = self._make(name, given)
        found = of_cluster(given, field=FIELD)
        self._check(found.address)
        return found

    def close(self) -> None:
        """Close the clusters that callables have created; this blocks."""
        with self._lock:
            made, self._made = self._made, {}
        for name, cluster in made.items():
            try:
                cluster.close()
            except Exception:
                log.exception("The cluster %r could not be closed", name)

    def _of_dict(self, name: str, given: dict[str, Any]) -> Target:
        address = given.get("scheduler")
        if not isinstance(address, str):
            raise InvalidRequestError.of_field(
                FIELD, f"'scheduler' of {name!r} in the setting clusters must be text"
            )
        return Target(self._check(address), certificates_of(given, field=FIELD))

    def _check(self, address: str) -> str:
        return check_address(address, allow_plain_tcp=self._allow_plain_tcp, field=FIELD)

    def _make(self, name: str, make: Any) -> Any:
        with self._lock:
            if name not in self._made:
                try:
                    self._made[name] = make()
                except Exception as error:
                    log.exception("The cluster %r could not be created", name)
                    raise ComfyUIUnavailableError(
                        f"The cluster {name!r} could not be created: {error}",
                        details={"field": FIELD},
                    ) from error
            return self._made[name]
