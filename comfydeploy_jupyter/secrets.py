"""What is a secret, by its name or its looks: in variables, addresses, arguments and files."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

_WORDS = frozenset(
    {
        *("apikey", "auth", "authorization", "credential", "credentials", "jwt", "key", "keyfile"),
        *("pass", "passphrase", "passwd", "password", "pat", "pwd", "secret", "secrets"),
        *("sig", "signature", "token", "tokens", "username"),
    }
)
HIDDEN = "***"
_ENDINGS = ("token", "secret", "password", "passwd", "apikey")  # of words like MYTOKEN
# How the keys of well-known services look.
_KEYS = re.compile(
    rb"\bhf_[A-Za-z0-9]{30,}|\bsk-(?:proj-|ant-\w+-|or-v1-)?\w{32,}|\bgh[oprsu]_[A-Za-z0-9]{36,}|"
    rb"\bgithub_pat_\w{40,}|\bglpat-[\w-]{20,}|\bAKIA[0-9A-Z]{16}\b|\bAIza[\w-]{35}|"
    rb"\bxox[abprs]-[\w-]{20,}|-----BEGIN [A-Z ]*PRIVATE KEY-----"
)
_SECRET_FILES = re.compile(
    r"\.env(\..+)?|.+\.(key|p12|pfx|keystore)|id_(rsa|dsa|ecdsa|ed25519)|\.netrc|\.npmrc|"
    r"\.pypirc|\.git-credentials|(.*[_-])?(credentials?|secrets?|token|api[_-]?keys?)"
    r"(\.(json|ya?ml|toml|ini|cfg|txt))?",
    re.IGNORECASE,
)


def is_secret_name(name: str) -> bool:
    """Return whether what is called so holds a secret, e.g. ``HF_TOKEN`` or ``--tls-keyfile``."""
    spaced = re.sub(r"([a-z0-9])([A-Z])", r"\1 \2", name)
    words = re.split(r"[^a-z0-9]+", spaced.lower())
    return not _WORDS.isdisjoint(words) or any(word.endswith(_ENDINGS) for word in words)


def is_secret_file(name: str) -> bool:
    """Return whether a file of this name is there to hold secrets."""
    return _SECRET_FILES.fullmatch(name) is not None


def holds_secret(content: bytes) -> bool:
    """Return whether a text has a key of a well-known service, or a private key, in it."""
    return _KEYS.search(content) is not None


def hide(value: Any, secrets: Collection[str]) -> Any:
    """Return a JSON value in which stars stand for some secrets, wherever they are in a text."""
    if isinstance(value, str):
        for secret in secrets:
            value = value.replace(secret, HIDDEN)
        return value
    if isinstance(value, dict):
        return {hide(key, secrets): hide(found, secrets) for key, found in value.items()}
    if isinstance(value, list):
        return [hide(found, secrets) for found in value]
    return value


def clean_url(url: str) -> str:
    """Return an address without user, password, and parameters that hold a secret."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return ""
    if not parts.scheme or not parts.hostname:
        return url
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    if port is not None:
        host = f"{host}:{port}"
    if parts.scheme.endswith("ssh") and parts.username:
        host = f"{parts.username}@{host}"  # a login name; the secret is in the key
    query = parts.query
    pairs = parse_qsl(query, keep_blank_values=True)
    if any(_is_secret_parameter(name) for name, _ in pairs):
        query = urlencode([(n, v) for n, v in pairs if not _is_secret_parameter(n)])
    return urlunsplit((parts.scheme, host, parts.path, query, parts.fragment))


def clean_arguments(arguments: Sequence[str]) -> list[str]:
    """Return launch arguments without options that hold a secret; addresses are cleaned."""
    kept: list[str] = []
    hiding = False
    for argument in arguments:
        if argument.startswith("-"):
            hiding = is_secret_name(argument.partition("=")[0])
        if not hiding and not holds_secret(argument.encode(errors="replace")):
            option, equals, value = argument.partition("=")
            if argument.startswith("-") and equals:
                kept.append(f"{option}={_cleaned(value)}")
            else:
                kept.append(_cleaned(argument))
    return kept


def _is_secret_parameter(name: str) -> bool:
    return is_secret_name(name) or name.lower().startswith("x-amz-")


def _cleaned(value: str) -> str:
    return clean_url(value) if "://" in value else value
