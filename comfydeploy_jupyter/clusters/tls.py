"""The certificates of a cluster as PEM texts, and TLS contexts with them."""

from __future__ import annotations

import json
import ssl
import tempfile
from dataclasses import asdict, dataclass, field
from typing import Any

from ..dask_clusters import pem


@dataclass(frozen=True)
class Certificates:
    """The certificates with which the processes of a cluster authenticate each other."""

    ca: str  # the certificate of the authority that signed all others, as PEM text
    cert: str  # the certificate of this process, as PEM text; it may contain the key
    key: str = field(default="", repr=False)

    @classmethod
    def of_security(cls, security: Any, role: str) -> Certificates | None:
        """Return the certificates in a ``distributed.Security``; None if it has none."""
        if security is None:
            return None
        config = security.get_tls_config_for_role(role)
        if not config["ca_file"] or not config["cert"]:
            return None
        return cls(*(pem(config[name] or "", name) for name in ("ca_file", "cert", "key")))

    def to_json(self) -> str:
        """Return the certificates as JSON text, for `read_certificates`."""
        return json.dumps(asdict(self))

    def server_context(self) -> ssl.SSLContext:
        """Return the context of a server that accepts only clients of the cluster."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cadata=self.ca)
        return self._completed(context)

    def client_context(self) -> ssl.SSLContext:
        """Return the context of a client that accepts only servers of the cluster.

        Host names are not checked: the certificates of clusters contain none, because workers start
        and end at any time.
        """
        context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cadata=self.ca)
        context.check_hostname = False
        return self._completed(context)

    def _completed(self, context: ssl.SSLContext) -> ssl.SSLContext:
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.verify_mode = ssl.CERT_REQUIRED
        # default since Python 3.13; distributed's temporary certificates lack fields it requires
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:  # mode 0600
            file.write(f"{self.cert}\n{self.key}\n")
            file.flush()
            context.load_cert_chain(file.name)
        return context


def read_certificates(text: bytes | str) -> Certificates | None:
    """Return certificates from the JSON text of `Certificates.to_json`; None for ``null``."""
    found = json.loads(text)
    return None if found is None else Certificates(**found)
