"""Recognises secrets by their names or formats, in variables, addresses, arguments and files."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

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
    rb"\bhf_[A-Za-z0-9]{30,}|\bsk-(?:(?:proj|ant-\w+|svcacct|admin)-[\w-]{32,}|(?:or-v1-)?\w{32,})|"
    rb"\bgh[oprsu]_[A-Za-z0-9]{36,}|\bgithub_pat_\w{40,}|\bglpat-[\w-]{20,}|\bAKIA[0-9A-Z]{16}\b|"
    rb"\bAIza[\w-]{35}|\bya29\.[\w-]{20,}|\bxox[abprs]-[\w-]{20,}|\bcomfyui-[0-9a-f]{40,}|"
    rb"\b(?:gsk|npm|r8|[rs]k_live)_[A-Za-z0-9]{24,}|\b(?:pplx|xai)-[A-Za-z0-9]{40,}|"
    rb"\b(?:nvapi|pypi)-[\w-]{40,}|\bdckr_pat_[\w-]{20,}|\bSG\.[\w-]{20,}\.[\w-]{20,}|"
    rb"\b(?:bot)?[0-9]{8,10}:AA[\w-]{30,}|\b[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}:[0-9a-f]{32}\b|"
    rb"\bhooks\.slack\.com/services/[\w/]+|\bdiscord(?:app)?\.com/api/webhooks/[\w/-]+|"
    rb"\beyJ[\w-]{8,200}\.eyJ[\w-]{8,4000}\.[\w-]{10,}|-----BEGIN [A-Z ]*PRIVATE KEY-----"
    rb"(?:[\s\S]*?-----END [A-Z ]*PRIVATE KEY-----|[\s\S]*)"
)
_TEXT_KEYS = re.compile(_KEYS.pattern.decode(), re.ASCII)
_ADDRESS = re.compile(r"""[a-zA-Z][a-zA-Z0-9+.-]*://[^\s"'<>`\\]+""")
_NAMES = (
    r"(?<![A-Za-z0-9])(?:(?:api|(?:shared[_-]?)?access|account|secret)[_-]?key"
    r"|(?:access|auth|hf|refresh)[_-]?token|client[_-]?secret|passwd|password)"
)
# In texts: headers, and names in quotes, which are no prose.
_CERTAIN_TEXT = re.compile(
    rf"""(\bauthorization[\\"']*\s*[:=][\s\\"']*(?:[A-Za-z]+\s+)?|\bBasic\s+(?=[\w+/]+=)"""
    rf"""|{_NAMES}\\?["']\s*[:=]\s*\\?["'])((?<=["'])[^"'\\\n]+|[^\s"'\\,;]{{6,}})""",
    re.IGNORECASE,
)
# The same, variables, options of programs and settings, if what follows looks like a secret.
_LIKELY_TEXT = re.compile(
    rf"""(\bBearer\s+|{_NAMES}\s*[:=]\s*["']?"""
    r"""|(?-i:\b[A-Z][A-Z0-9_]*_(?:TOKEN|SECRET|PASSWORD|KEY))\s*=\s*["']?"""
    r"""|--[\w-]*(?:token|secret|password|api-key)[\s=]+["']?|(?<!\w)token["']?\s*=\s*["']"""
    r"""|\s-u\s+[^\s:]+:)([^\s"'<>,;&{}()\[\]\\]{6,})""",
    re.IGNORECASE,
)
# Last words of the names of inputs whose values are secrets, whatever they look like.
_CERTAIN = frozenset(
    {
        *("apikey", "authorization", "cookie", "cookies", "credential", "credentials", "jwt"),
        *("passphrase", "passwd", "password", "pwd", "secret", "secrets"),
    }
)
_CERTAIN_PAIRS = [
    [first, last]
    for last in ("key", "token")
    for first in ("access", "api", "auth", "bearer", "hf", "private", "refresh", "secret")
]
LEAST_SECRET = 8  # characters of a value that only a vague name makes a secret
LEAST_PASSWORD = 6  # the same of a name that means a password
MANY_CHARACTERS = 20  # of one that has no digit
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


def _words_of(name: str) -> list[str]:
    spaced = re.sub(r"([a-z0-9])([A-Z])", r"\1 \2", name)
    return re.findall(r"[a-z0-9]+", spaced.lower())


def is_secret_name(name: str) -> bool:
    """Return whether a name is the name of a secret, e.g. ``HF_TOKEN`` or ``--tls-keyfile``."""
    words = _words_of(name)
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


def is_secret_input(name: str, value: str) -> bool:
    """Return whether the value of a node's input is a secret, judging by the name of the input.

    What a name like ``token_normalization`` is about is no secret, and what a word like ``key``
    names only if it looks like one.
    """
    words = _words_of(name)
    if not words or not value:
        return False
    if words[-1] in _CERTAIN or words[-2:] in _CERTAIN_PAIRS:
        return True
    if not (words[-1] in _WORDS or words[-1].endswith(_ENDINGS)):
        return False
    is_token = words[-1].endswith(("token", "tokens"))
    least = LEAST_PASSWORD if words[-1] in ("auth", "pass") else LEAST_SECRET
    return is_key(value) and len(value) >= least and (is_token or _is_likely(value))


def _is_likely(value: str) -> bool:
    return len(value) >= MANY_CHARACTERS or re.search(r"\d", value) is not None


def without_secrets(text: str, mask: str = MASK) -> str:
    """Return a text without keys of known services, and without the secrets in its addresses."""
    if "://" in text:
        text = _ADDRESS.sub(lambda found: clean_url(found[0]) or mask, text)
    text = _CERTAIN_TEXT.sub(lambda found: f"{found[1]}{mask}", text)
    text = _LIKELY_TEXT.sub(lambda f: f"{f[1]}{mask}" if _is_likely(f[2]) else f[0], text)
    if holds_secret(text.encode(errors="replace")):
        text = _TEXT_KEYS.sub(mask, text)
    return text


def secrets_in(text: str) -> list[str]:
    """Return what `without_secrets` hides but for known keys; of addresses, the whole ones."""
    addresses = _ADDRESS.findall(text) if "://" in text else []
    likely = (value for _, value in _LIKELY_TEXT.findall(text) if _is_likely(value))
    return [
        *(address for address in addresses if clean_url(address) != address),
        *(value for _, value in _CERTAIN_TEXT.findall(text)),
        *likely,
    ]


def is_secret_variable(name: str, value: str) -> bool:
    return is_secret_name(name) or is_secret_value(value)


def masked_environment(env: Mapping[str, str]) -> dict[str, str]:
    return {k: MASK if is_secret_variable(k, v) else v for k, v in env.items()}


def with_options(arguments: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Yield the arguments of a program, each with the option that it is or belongs to."""
    option = ""
    for argument in arguments:
        if argument.startswith("-"):
            option = argument.partition("=")[0]
        yield option, argument


def masked_arguments(arguments: Iterable[str]) -> list[str]:
    """Return the arguments of a program with secrets replaced by `MASK`, in the same number."""
    shown: list[str] = []
    for option, argument in with_options(arguments):
        name, equals, value = argument.partition("=")
        hiding = is_secret_name(option)
        if argument.startswith("-"):
            if equals and (hiding or _is_secret_text(value)):
                argument = f"{name}={MASK}"
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
    fragment = parts.fragment
    if any(_is_secret_parameter(name) for name, _ in parse_qsl(fragment)):
        fragment = ""
    return urlunsplit((parts.scheme, host, parts.path, query, fragment))


def clean_arguments(arguments: Sequence[str]) -> list[str]:
    """Return launch arguments without options that contain a secret; addresses are cleaned."""
    kept: list[str] = []
    for option, argument in with_options(arguments):
        if not is_secret_name(option) and not holds_secret(argument.encode(errors="replace")):
            own = f"{option}=" if argument.startswith(f"{option}=") else ""
            kept.append(own + _cleaned(argument.removeprefix(own)))
    return kept


def _is_secret_text(value: str) -> bool:
    return is_secret_value(value) or ("://" in value and clean_url(value) != value)


def _is_secret_parameter(name: str) -> bool:
    return is_secret_name(name) or name.lower().startswith("x-amz-")


def _cleaned(value: str) -> str:
    return clean_url(value) if "://" in value else value
