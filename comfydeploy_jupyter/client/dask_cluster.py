"""Dask cluster objects of a kernel, as the machines of a server."""

from __future__ import annotations

from typing import Any

from ..dask_clusters import pem
from ..errors import InvalidRequestError

CERTIFICATES = ("tls_ca_file", "tls_client_cert", "tls_client_key")


def fields_of(cluster: Any) -> dict[str, Any]:
    """Return the fields of a request that name a Dask cluster.

    Parameters
    ----------
    cluster : object or str
        A Dask cluster object, the address of a scheduler, or a name that the server knows.

    Raises
    ------
    InvalidRequestError
        If it is an object without the address of a scheduler, or one that no other process can
        reach, or that cannot start workers as they are needed, or if its certificates cannot be
        read.
    """
    if isinstance(cluster, str):
        return {"scheduler" if "://" in cluster else "cluster": cluster}
    address = getattr(cluster, "scheduler_address", None)
    if not isinstance(address, str) or not address:
        raise InvalidRequestError.of_field(
            "cluster", f"{type(cluster).__name__} has no scheduler_address: is it a Dask cluster?"
        )
    if address.startswith("inproc:"):
        raise InvalidRequestError.of_field(
            "cluster", "is only in this process, where Jupyter cannot reach it: use processes=True"
        )
    if not hasattr(cluster, "adapt"):
        raise InvalidRequestError.of_field(
            "cluster",
            f"{type(cluster).__name__} cannot start workers as they are needed (adapt); give the"
            " address of its scheduler instead",
        )
    found: dict[str, Any] = {"scheduler": address}
    security = getattr(cluster, "security", None)
    if address.startswith("tls:") and security is not None:
        found["security"] = certificates_of(security, field="cluster")
    return found


def certificates_of(security: Any, *, field: str) -> dict[str, str]:
    """Return the certificates of a ``distributed.Security`` for a request, as PEM texts.

    Raises
    ------
    InvalidRequestError
        If one of its files cannot be read.
    """
    try:
        return {name: pem(getattr(security, name) or "", name) for name in CERTIFICATES}
    except ValueError as error:
        raise InvalidRequestError.of_field(field, f"its certificates: {error}") from None
