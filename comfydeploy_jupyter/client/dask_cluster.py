"""Dask cluster objects of a kernel, as the machines of a server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

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
        If it is an object without the address of a scheduler, or its certificates cannot be read.
    """
    if isinstance(cluster, str):
        return {"scheduler" if "://" in cluster else "cluster": cluster}
    address = getattr(cluster, "scheduler_address", None)
    if not isinstance(address, str) or not address:
        raise InvalidRequestError.of_field(
            "cluster", f"{type(cluster).__name__} has no scheduler_address: is it a Dask cluster?"
        )
    found: dict[str, Any] = {"scheduler": address}
    security = getattr(cluster, "security", None)
    if address.startswith("tls:") and security is not None:
        found["security"] = {name: _pem(getattr(security, name), name) for name in CERTIFICATES}
    return found


def adapt(cluster: Any, least: int, most: int) -> None:
    """Make a cluster object start and end workers as the leases need them.

    The target duration is short, because Dask expects that an unknown task takes half a second.
    With a longer one it would start fewer workers than there are leases, and each lease needs one.
    Dask's cluster on Kubernetes takes only the two numbers: its scheduler has the duration.
    """
    try:
        cluster.adapt(minimum=least, maximum=most, target_duration="10ms", interval="1s")
    except TypeError:
        cluster.adapt(minimum=least, maximum=most)


def _pem(given: str | None, name: str) -> str:
    """Return a PEM text. ``given`` is the text itself or the name of a file with it.

    Errors never contain ``given``, which may be a private key.
    """
    if not given or "\n" in given:
        return given or ""
    if "-----BEGIN" in given:
        raise InvalidRequestError.of_field("cluster", f"its {name} has no line breaks")
    try:
        return Path(given).expanduser().read_text()
    except OSError as error:
        raise InvalidRequestError.of_field(
            "cluster", f"the file of its {name} cannot be read: {error.strerror}"
        ) from None
