"""Recognises secrets by their names or formats, in variables, addresses, arguments and files."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

MASK = "***"
MAX_KEY_LENGTH = 16 * 1024  # characters of a key or token

_WORDS = frozenset(
    {
        *("apikey", "auth", "authorization", "credential", "credentials", "jwt", "key", "keyfile"),
        *("pass", "passphrase", "passwd", "password", "pat", "pwd", "secret", "secrets"),
        *("sig", "signature", "token", "tokens", "username"),
    }
)
_ENDINGS = ("token", "secret", "password", "passwd", "apikey")  # of words like MYTOKEN
# The formats of the keys of well-known services.
_KEYS = re.compile(
    rb"\bhf_[A-Za-z0-9]{30,}|\bsk-(?:proj-|ant-\w+-|or-v1-)?\w{32,}|\bgh[oprsu]_[A-Za-z0-9]{36,}|"
    rb"\bgithub_pat_\w{40,}|\bglpat-[\w-]{20,}|\bAKIA[0-9A-Z]{16}\b|\bAIza[\w-]{35}|"
    rb"\bxox[abprs]-[\w-]{20,}|-----BEGIN [A-Z ]*PRIVATE KEY-----"
)
_USER_OF_ADDRESS = re.compile(r"://([^\s/?#]*)@")
_WEB = ("http", "https", "HTTP", "HTTPS")
_SECRET_FILES = re.compile(
    r"\.env(\..+)?|.+\.(key|p12|pfx|keystore)|id_(rsa|dsa|ecdsa|ed25519)|\.netrc|\.npmrc|"
    r"\.pypirc|\.git-credentials|(.*[_-])?(credentials?|secrets?|token|api[_-]?keys?)"
    r"(\.(json|ya?ml|toml|ini|cfg|txt))?",
    re.IGNORECASE,
)


def is_key(value: object) -> bool:
    """Return whether a value can be a key or a token, which is sent in a header."""
    return (
        isinstance(value, str)
        and 0 < len(value) <= MAX_KEY_LENGTH
        and value.isascii()
        and value.isprintable()
        and " " not in value
    )


def is_secret_name(name: str) -> bool:
    """Return whether a name is the name of a secret, e.g. ``HF_TOKEN`` or ``--tls-keyfile``."""
    spaced = re.sub(r"([a-z0-9])([A-Z])", r"\1 \2", name)
    words = re.split(r"[^a-z0-9]+", spaced.lower())
    return not _WORDS.isdisjoint(words) or any(word.endswith(_ENDINGS) for word in words)


def is_secret_file(name: str) -> bool:
    return _SECRET_FILES.fullmatch(name) is not None


def holds_secret(content: bytes) -> bool:
    return _KEYS.search(content) is not None


def hide(value: Any, secrets: Collection[str]) -> Any:
    """Return a JSON value in which all occurrences of some secrets are replaced by asterisks."""
    if isinstance(value, str):
        for secret in secrets:
            value = value.replace(secret, MASK)
        return value
    if isinstance(value, dict):
        return {hide(key, secrets): hide(found, secrets) for key, found in value.items()}
    if isinstance(value, list):
        return [hide(found, secrets) for found in value]
    return value


def is_secret_value(value: str) -> bool:
    """Return whether a text contains a key of a known service, or an address with a password.

    The user name in a web address counts as a password, because it is often a token.
    """
    if holds_secret(value.encode(errors="replace")):
        return True
    found = _USER_OF_ADDRESS.finditer(value)
    return any(":" in match[1] or value.endswith(_WEB, 0, match.start()) for match in found)


def is_secret_variable(name: str, value: str) -> bool:
    return is_secret_name(name) or is_secret_value(value)


def masked_environment(env: Mapping[str, str]) -> dict[str, str]:
    return {k: MASK if is_secret_variable(k, v) else v for k, v in env.items()}


def masked_arguments(arguments: Iterable[str]) -> list[str]:
    """Return the arguments of a program with secrets replaced by `MASK`, in the same number."""
    shown: list[str] = []
    hiding = False
    for argument in arguments:
        option, equals, value = argument.partition("=")
        if argument.startswith("-"):
            hiding = is_secret_name(option)
            if equals and (hiding or _is_secret_text(value)):
                argument = f"{option}={MASK}"
        elif hiding or _is_secret_text(argument):
            argument = MASK
        shown.append(argument)
    return shown


def unmasked_arguments(given: Sequence[str], known: Sequence[str]) -> list[str]:
    """Return arguments with each `MASK` replaced by the secret that `masked_arguments` replaced."""
    shown = masked_arguments(known)
    hidden = {
        (before if masked == MASK else "", masked): real
        for before, masked, real in zip(["", *shown], shown, known, strict=False)
        if masked != real
    }
    found = []
    for before, argument in zip(["", *given], given, strict=False):
        if argument == MASK or argument.endswith(f"={MASK}"):
            key = (before if argument == MASK else "", argument)
            if key not in hidden:
                raise KeyError(argument)
            argument = hidden[key]
        found.append(argument)
    return found


def clean_url(url: str) -> str:
    """Return an address without user, password, and parameters that contain a secret."""
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
    """Return launch arguments without options that contain a secret; addresses are cleaned."""
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


def _is_secret_text(value: str) -> bool:
    return is_secret_value(value) or ("://" in value and clean_url(value) != value)


def _is_secret_parameter(name: str) -> bool:
    return is_secret_name(name) or name.lower().startswith("x-amz-")


def _cleaned(value: str) -> str:
    return clean_url(value) if "://" in value else value
