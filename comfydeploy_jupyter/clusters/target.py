"""The address of a Dask scheduler, and the connection to it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ..dask_clusters import adapt, pem, release
from ..errors import InvalidRequestError
from .tls import Certificates

if TYPE_CHECKING:
    import ssl
    from collections.abc import Mapping

_ADDRESS = re.compile(r"(tls|tcp)://[^/?#@\s]+:\d{1,5}/?")
LONGEST = 300  # characters of an address
FILES = ("tls_ca_file", "tls_client_cert", "tls_client_key")


@dataclass(frozen=True)
class Target:
    """A Dask scheduler, and the certificates for it."""

    address: str  # for example `tls://10.0.0.1:8786`
    certificates: Certificates | None = None  # the certificates of a client; None for `tcp`
    cluster: Any = None  # the Dask cluster object that starts workers, if it is in this process

    def connect(self, timeout: float) -> Any:
        """Return a `distributed.Client` for the current event loop; the caller must await it."""
        from distributed.security import Security

        security = None
        if self.certificates is not None:
            security = Security(
                require_encryption=True,
                tls_ca_file=self.certificates.ca,
                tls_client_cert=self.certificates.cert,
                tls_client_key=self.certificates.key or self.certificates.cert,
            )
        return _client_class()(
            self.address,
            security=security,
            asynchronous=True,
            set_as_default=False,
            timeout=timeout,
            name="comfydeploy",
        )

    def client_context(self) -> ssl.SSLContext | None:
        """Return the TLS context for connections to the proxies of leases; None: no TLS."""
        return None if self.certificates is None else self.certificates.client_context()

    def adapt(self, pool: str, least: int, most: int) -> None:
        """Make the cluster object start and end workers as the leases of a pool need them.

        Without a cluster object, the owner of the cluster has to start the workers. This blocks.
        """
        if self.cluster is not None:
            adapt(self.cluster, pool, least, most)

    def release(self, pool: str) -> None:
        """Make the cluster object end the workers of a deleted pool. This blocks, too."""
        if self.cluster is not None:
            release(self.cluster, pool)


@cache
def _client_class() -> Any:
    """Return the class of clients that do not close themselves when they are deleted.

    They could not: without a running event loop nothing awaits the end of the connection, and
    Python warns of that in whatever code is running at that moment.
    """
    from distributed import Client

    class ClosedByItsOwner(Client):
        def __del__(self) -> None:
            """Do nothing."""

    return ClosedByItsOwner


def check_address(address: str, *, allow_plain_tcp: bool, field: str = "scheduler") -> str:
    """Return the validated address of a scheduler."""
    if len(address) > LONGEST or not _ADDRESS.fullmatch(address) or not _port(address):
        raise InvalidRequestError.of_field(
            field,
            f"{address[:80]!r} is not the address of a Dask scheduler, such as tls://host:8786",
        )
    if address.startswith("tcp:") and not allow_plain_tcp:
        raise InvalidRequestError.of_field(
            field,
            "must begin with tls://: without TLS, everyone who reaches the scheduler can run"
            " programs as its user, and a program that answers in its place can run programs as"
            " the user of Jupyter. Create the cluster with security=Security.temporary() (from"
            " distributed.security), or set cluster_allow_plain_tcp",
        )
    return address.rstrip("/")


def certificates_of(given: Mapping[str, str], *, field: str) -> Certificates | None:
    """Return the certificates in a request or a setting; None if there are none."""
    values = {name: given[name] for name in FILES if given.get(name)}
    if not values:
        return None
    if FILES[0] not in values or FILES[1] not in values:
        raise InvalidRequestError.of_field(field, f"{FILES[0]} and {FILES[1]} are both needed")
    try:
        found = Certificates(*(pem(values.get(name, ""), name) for name in FILES))
        found.client_context()
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        raise InvalidRequestError.of_field(field, f"cannot be used: {error}") from None
    return found


def of_cluster(cluster: Any, *, field: str) -> Target:
    """Return the target of a Dask cluster object: its address and its security."""
    address = getattr(cluster, "scheduler_address", None)
    if not isinstance(address, str) or not address:
        raise InvalidRequestError.of_field(
            field, f"{type(cluster).__name__} has no scheduler_address: is it a Dask cluster?"
        )
    try:
        certificates = Certificates.of_security(getattr(cluster, "security", None), "client")
    except ValueError as error:
        raise InvalidRequestError.of_field(field, f"its certificates: {error}") from None
    if not address.startswith("tls:"):
        certificates = None
    return Target(address, certificates, cluster)


def _port(address: str) -> int | None:
    """Return the port of an address, None if there is no such port."""
    try:
        return urlsplit(address).port
    except ValueError:
        return None
