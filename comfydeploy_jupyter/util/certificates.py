"""Reads the certificates for connections to a ComfyUI behind a reverse proxy."""

from __future__ import annotations

import ssl
from pathlib import Path

from ..errors import InvalidRequestError


def client_context(*, client_cert: str, client_key: str, ca: str) -> ssl.SSLContext | None:
    """Return the TLS context of connections; None without any file. Call it in a thread.

    Parameters
    ----------
    client_cert, client_key, ca : str
        PEM files: the certificate and the key of this client, and the authorities that are trusted
        instead of those of the system. The key may be in the file of the certificate.

    Raises
    ------
    InvalidRequestError
        If a file cannot be read or is not a certificate, or certificate and key do not match; it
        names the setting.
    """
    if not (client_cert or client_key or ca):
        return None
    if client_key and not client_cert:
        raise InvalidRequestError.of_field(
            "comfyui_client_cert", "is needed beside comfyui_client_key"
        )
    try:
        context = ssl.create_default_context(cafile=_file("comfyui_ca", ca))
    except (ssl.SSLError, OSError) as error:
        raise _unreadable("comfyui_ca", ca, error) from None
    certificate = _file("comfyui_client_cert", client_cert)
    key = _file("comfyui_client_key", client_key)
    if certificate is not None:
        try:
            context.load_cert_chain(certificate, key, password=_no_password)
        except (ssl.SSLError, OSError, ValueError) as error:
            raise _unreadable("comfyui_client_cert", client_cert, error) from None
    return context


def _file(name: str, given: str) -> str | None:
    if not given:
        return None
    if "\0" in given:
        raise InvalidRequestError.of_field(name, "contains a NUL")
    return str(Path(given).expanduser())


def _no_password() -> str:
    raise ValueError("its key has a password, which cannot be given")


def _unreadable(name: str, given: str, error: Exception) -> InvalidRequestError:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return InvalidRequestError.of_field(name, f"{given} cannot be used: {reason}")
