"""Receipts: one file that says with what a run was made, for people and programs elsewhere.

A receipt is a ZIP in the form of an RO-Crate (https://w3id.org/ro/crate): ``manifest.json`` has
the SHA-256 of each other file, and ``signature.json``, if there is one, signs that file. There is
exactly one way to pack it, so a change of any byte is found: nothing was changed since it was made.
A signature proves that the owner of a key made it. That its owner told the truth, only a repetition
can show.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
import zipfile
import zlib
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from .errors import InvalidRequestError
from .util.secrets import (
    LEAST_SECRET,
    holds_secret,
    is_secret_input,
    secrets_in,
    without_secrets,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

FORMAT = "comfydeploy-jupyter/receipt/1"
RECORD_FORMAT = "comfydeploy-jupyter/record/1"
MANIFEST, SIGNATURE, RECORD = "manifest.json", "signature.json", "record.json"
CRATE = "ro-crate-metadata.json"
MAX_FILES = 10_000
MAX_SIZE = 1 << 30  # bytes of a receipt
MAX_JSON = 64 * 1024 * 1024  # bytes of a file with JSON
HIDDEN = "[redacted]"
PNG = b"\x89PNG\r\n\x1a\n"
NO_CRYPTOGRAPHY = "signatures need the package cryptography (pip install cryptography)"
_TIME = (1980, 1, 1, 0, 0, 0)
_DEFLATED = re.compile(rb"\x78[\x01\x5e\x9c\xda]")
_VALUES = re.compile(r"/(inputs|widgets_values|extra)/")
# Slashes and backslashes, escaped as in JSON or addresses, too.
_SEPARATOR = r"(?:\\{0,4}[\\/]|%2[Ff]|%5[Cc])"
_HOME = (
    rf"(?:(?:[A-Za-z]:)?{_SEPARATOR}(?:homes?|Users|(?<=\\)(?i:users)|(?<=[A-Za-z]:/)(?i:users))|"
    rf"(?<![\w.]){_SEPARATOR}(?:run{_SEPARATOR})?media){_SEPARATOR}"
)
_NAME = r"(?:(?!%2[Ff]|%5[Cc])[^\s\"'/\\])+"
# A name with spaces ends at the next separator.
_HOMES = re.compile(
    rf"{_HOME}(?:{_NAME}(?: {_NAME}){{1,3}}(?={_SEPARATOR})|{_NAME})|/root(?![\w.-])"
)
_HOME_BYTES = re.compile(rf"{_HOME}[^\s\"'/\\]|/root/".encode())
_FOLDER = r"[^\s\"'/\\]+(?: [^\s\"'/\\]+){0,3}[\\/]+"
_PATH = re.compile(
    rf"(?:(?<![\w.:/-])/|(?<![\w\\])(?:[A-Za-z]:[\\/]+|\\\\+))(?:{_FOLDER})+[^\s\"']*"
)


class ReceiptError(InvalidRequestError):
    """A file is no receipt, or it was changed."""

    def __init__(self, problem: str, field: str = "receipt") -> None:
        super().__init__(problem, details={"field": field})


class UnknownReceiptError(ReceiptError):
    """It cannot be said here whether a receipt is whole."""


@dataclass(frozen=True)
class Receipt:
    """The content of a receipt that is whole.

    Attributes
    ----------
    record : dict
        The record of the run, without paths and secrets.
    files : dict of str to bytes
        All files in it, by path.
    public_key : str or None
        The key with which it was signed (Ed25519, base64); None without a signature.
    """

    record: dict[str, Any]
    files: dict[str, bytes] = field(repr=False)
    public_key: str | None = None


# -- making ---------------------------------------------------------------------------------------


def make(
    record: Mapping[str, Any],
    outputs: Mapping[str, bytes],
    inputs: Mapping[str, bytes],
    private_key: bytes | None = None,
    environment: Callable[[dict[str, Any]], Mapping[str, bytes]] | None = None,
) -> bytes:
    """Return a receipt as bytes.

    ``outputs`` and ``inputs`` are contents by name, and ``environment`` returns those that describe
    it from the record that the receipt has. A file that contains the path of a home folder or a
    secret, or that the record does not have, is left out, and the record says so. The private key,
    with which it is signed, is one of Ed25519, 32 bytes; it needs ``cryptography``.
    """
    shown, hidden = redacted(dict(record), paths=True)
    secrets = [each.encode() for each in _spellings(named_secrets(record))]
    files: dict[str, bytes] = {}
    left_out = []
    forms = {} if environment is None else environment(shown)
    folders = {"outputs": outputs, "inputs": inputs, "environment": forms}
    for folder, contents in folders.items():
        for name, content in contents.items():
            files[f"{folder}/{name}"] = content
            if any(_tells(text, secrets) for text in _texts(content)):
                left_out.append(f"{folder}/{name}")
    left_out += [path for path in _foreign(shown, files) if path not in left_out]
    for path in left_out:
        del files[path]
    there = {hashlib.sha256(content).hexdigest() for content in files.values()}
    for output in shown.get("outputs") or ():
        name = f"outputs/{output.get('filename')}"
        if "filename" in output and output.get("sha256") not in there and name not in left_out:
            left_out.append(name)  # it was deleted
    shown["receipt"] = {"format": FORMAT, "redacted": hidden, "left_out": left_out}
    for name in ("prompt", "workflow"):
        if shown.get(name) is not None:
            files[f"{name}.json"] = _json(shown[name])
    files[RECORD] = _json(shown)
    files[CRATE] = _json(_crate(shown, files))
    files[MANIFEST] = _manifest(files)
    if private_key is not None:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        key = Ed25519PrivateKey.from_private_bytes(private_key)
        public_key = key.public_key().public_bytes_raw()
        files[SIGNATURE] = _json(_signature(public_key, key.sign(files[MANIFEST])))
    return _packed(files)


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n").encode(
        errors="surrogatepass"
    )


def _manifest(files: Mapping[str, bytes]) -> bytes:
    listed = [
        {"path": path, "sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}
        for path, content in sorted(files.items())
        if path not in (MANIFEST, SIGNATURE)
    ]
    return _json({"files": listed, "format": FORMAT})


def _foreign(record: Mapping[str, Any], files: Mapping[str, bytes]) -> Iterator[str]:
    """Yield the paths of outputs and inputs whose content is not one of the record."""
    for folder in ("outputs", "inputs"):
        listed = record.get(folder)
        entries = listed if isinstance(listed, list) else []
        known = {each.get("sha256") for each in entries if isinstance(each, dict)}
        for path, content in files.items():
            if path.startswith(f"{folder}/") and hashlib.sha256(content).hexdigest() not in known:
                yield path


def _signature(public_key: bytes, signature: bytes) -> dict[str, str]:
    encoded = [base64.b64encode(each).decode() for each in (public_key, signature)]
    return {"algorithm": "Ed25519", "public_key": encoded[0], "signature": encoded[1]}


def _packed(files: Mapping[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as archive:
        for path, content in sorted(files.items()):
            entry = zipfile.ZipInfo(path, _TIME)
            entry.create_system = 3  # Unix, wherever it is made
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, content)
    return packed.getvalue()


def redacted(record: dict[str, Any], *, paths: bool) -> tuple[dict[str, Any], list[str]]:
    """Return a record without secrets, and the JSON pointers of what was hidden.

    ``paths``: also without the names of home folders, and without paths of the environment.
    """
    hidden: list[str] = []
    secrets = named_secrets(record)
    parts = re.split(r"[\\/]+", str(Path.home()))
    spelled = _SEPARATOR.join(map(re.escape, parts)) if parts[-1] else "(?!)"  # it may be "/"
    home = re.compile(rf"{spelled}(?![\w.-])")

    def text(value: str, pointer: str) -> str:
        shown = without_secrets(value, HIDDEN)
        for secret in secrets:
            if len(secret) >= LEAST_SECRET or (value == secret and _VALUES.search(pointer)):
                shown = shown.replace(secret, HIDDEN)
        if paths:
            shown = _HOMES.sub(HIDDEN, home.sub(HIDDEN, shown))
            if pointer.startswith(("/environment/", "/notes/")):
                shown = _PATH.sub(HIDDEN, shown)
        if shown != value:
            hidden.append(pointer)
        return shown

    def visit(value: Any, pointer: str) -> Any:
        if isinstance(value, dict):
            return {
                text(key, pointer): visit(
                    inner, f"{pointer}/{key.replace('~', '~0').replace('/', '~1')}"
                )
                for key, inner in value.items()
            }
        if isinstance(value, list):
            return [visit(inner, f"{pointer}/{n}") for n, inner in enumerate(value)]
        return text(value, pointer) if isinstance(value, str) else value

    return visit(record, ""), hidden


def named_secrets(record: Mapping[str, Any]) -> list[str]:
    """Return what is secret in the graphs of a record by its name or place, longest first.

    They are looked for everywhere: a widget of the editor's graph has only a place, no name.
    """
    found = set[str]()

    def visit(value: Any, name: str) -> None:
        if isinstance(value, dict):
            for key, inner in value.items():
                visit(inner, name if key == "__value__" else key)
            visit([value.get("name") or value.get("key"), value.get("value")], "")
        elif isinstance(value, list):
            named = str(value[0]) if len(value) == 2 else ""  # such as a header and its value
            for inner in value:  # such as a link to another node
                visit(inner, "" if inner is value[0] else named)
        elif isinstance(value, str):
            found.update(secrets_in(value))
            if is_secret_input(name, value):
                found.add(value)

    visit([record.get("prompt"), record.get("workflow")], "")
    return sorted(found, key=len, reverse=True)


def _spellings(secrets: Sequence[str]) -> Iterator[str]:
    """Yield how secrets are written in the graph that a file has; short ones with their quotes."""
    for secret in secrets:
        spelled = json.dumps(secret)
        yield from (secret, spelled[1:-1]) if len(secret) >= LEAST_SECRET else (spelled,)


def _tells(content: bytes, secrets: Sequence[bytes]) -> bool:
    """Return whether a file contains a secret, or the name of a home folder."""
    home = str(Path.home()).encode()
    return (
        (len(home) > 1 and home in content)
        or _HOME_BYTES.search(content) is not None
        or holds_secret(content)
        or any(secret in content for secret in secrets)
    )


def _texts(content: bytes) -> Iterator[bytes]:
    """Yield a file, and what of its metadata is written in another way: UTF-16, or compressed."""
    yield content
    yield content.replace(b"\0", b"")
    place = len(PNG)
    while content.startswith(PNG) and place + 8 <= len(content):
        size = int.from_bytes(content[place : place + 4], "big")
        if content[place + 4 : place + 8] in (b"zTXt", b"iTXt"):
            chunk = content[place + 8 : place + 8 + size]
            for start in (found.start() for found in _DEFLATED.finditer(chunk)):
                with suppress(zlib.error):
                    yield zlib.decompressobj().decompress(chunk[start:], MAX_JSON)
        place += 12 + size


def _crate(record: Mapping[str, Any], files: Mapping[str, bytes]) -> dict[str, Any]:
    """Return the description of the files and of the run as RO-Crate, a form of JSON-LD."""
    profile = {"@id": "https://w3id.org/ro/wfrun/process/0.5"}
    outputs, inputs, forms = (
        [{"@id": quote(path)} for path in files if path.startswith(f"{folder}/")]
        for folder in ("outputs", "inputs", "environment")
    )
    comfyui = (record.get("environment") or {}).get("comfyui") or {}
    return {
        "@context": "https://w3id.org/ro/crate/1.1/context",
        "@graph": [
            {
                "@id": CRATE,
                "@type": "CreativeWork",
                "about": {"@id": "./"},
                "conformsTo": {"@id": "https://w3id.org/ro/crate/1.1"},
            },
            {
                "@id": "./",
                "@type": "Dataset",
                "name": f"Run {record['prompt_id']}",
                "description": "What a run of ComfyUI made, and with what.",
                "datePublished": record.get("finished_at"),
                "conformsTo": profile,
                "hasPart": [{"@id": quote(path)} for path in sorted(files)],
                "mentions": {"@id": "#run"},
            },
            {
                "@id": "#run",
                "@type": "CreateAction",
                "name": f"Run {record['prompt_id']}",
                "instrument": {"@id": "#comfyui"},
                "startTime": record.get("started_at"),
                "endTime": record.get("finished_at"),
                "object": [{"@id": "prompt.json"}, *inputs],
                "result": outputs,
            },
            {
                "@id": "#comfyui",
                "@type": "SoftwareApplication",
                "name": "ComfyUI",
                "softwareVersion": comfyui.get("commit") or comfyui.get("version"),
                "url": comfyui.get("repository"),
                "softwareRequirements": forms,
            },
            *(
                {
                    "@id": quote(path),
                    "@type": "File",
                    "contentSize": len(content),
                    "sha256": hashlib.sha256(content).hexdigest(),
                }
                for path, content in sorted(files.items())
            ),
        ],
    }


# -- checking -------------------------------------------------------------------------------------


def read(content: bytes) -> Receipt:
    """Check a receipt and return what it contains; `ReceiptError` if any byte was changed."""
    if len(content) > MAX_SIZE:
        raise ReceiptError(f"the receipt is larger than {MAX_SIZE >> 20} MiB")
    files = _unpacked(content)
    if _packed(files) != content:
        raise ReceiptError("the file was changed: it is not packed as receipts are")
    manifest = _parsed(files, MANIFEST)
    if manifest.get("format") != FORMAT:
        found = manifest.get("format")
        raise UnknownReceiptError(f"its format {found!r} is not known here: {FORMAT}")
    if files[MANIFEST] != _manifest(files):
        raise ReceiptError("the file was changed: its files are not those of its manifest")
    record = checked_record(_parsed(files, RECORD))
    graphs = (name for name in ("prompt", "workflow") if f"{name}.json" in files)
    wrong = [f"{name}.json" for name in graphs if _json(record.get(name)) != files[f"{name}.json"]]
    for path in [*wrong, *_foreign(record, files)]:
        raise ReceiptError(f"the file was changed: {path} is not what its record says")
    return Receipt(record, files, _checked_key(files))


_TEXT = (str, None)
_VERSION = (re.compile(r"[A-Za-z0-9][A-Za-z0-9._+~-]{0,254}"), None)
_FILE = {"name": str, "folder": _TEXT, "sha256?": str, "reason?": str, "file?": str, "url?": _TEXT}
_COMFYUI = {"version?": _TEXT, "commit?": _TEXT, "launch_args?": [str], "repository?": _TEXT}
_SHAPE: Any = {
    "prompt_id": str,
    "started_at": _TEXT,
    "finished_at?": _TEXT,
    "machine?": str,
    "prompt": {"*": {}},
    "workflow?": ({}, None),
    "unknown_classes?": [str],
    "notes?": [str],
    "environment?": (
        {
            "comfyui?": (_COMFYUI, None),
            "packages?": ({"*": str}, None),
            "devices?": [{"name?": _TEXT}],
        },
        None,
    ),
    "node_packs?": [
        {
            "name": str,
            "classes": [str],
            "id?": _TEXT,
            "repository?": _TEXT,
            "sha256?": _TEXT,
            "version?": _VERSION,
            "commit?": _VERSION,
        }
    ],
    "models?": [_FILE],
    "inputs?": [_FILE],
    "outputs?": [{"node_id": str, "key?": str, "content?": ({"sha256": str}, None)}],
    "receipt?": ({"redacted?": [str], "left_out?": [str]}, None),
}
"""What is read of a record: a tuple has alternatives, ``?`` may be missing, ``*`` is each key."""
_LISTS = ("node_packs", "models", "inputs", "outputs", "unknown_classes", "notes")


def checked_record(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return a record of another computer, whose values have the proper types."""
    if record.get("format") != RECORD_FORMAT:
        found = record.get("format")
        text = f"record: its format {found!r} is not known here: {RECORD_FORMAT}"
        raise UnknownReceiptError(text, "record")
    if (place := _misfit(record, _SHAPE, "")) is not None:
        raise ReceiptError(f"record: is not the record of a run: {place[1:]}", "record")
    empty: dict[str, Any] = {name: [] for name in _LISTS}
    return {**empty, "workflow": None, "environment": None, "complete": True, **record}


def _misfit(value: object, shape: Any, place: str) -> str | None:
    """Return the place of the first part of a value that has not the proper type."""
    match shape, value:
        case tuple(), _:
            found = [_misfit(value, each, place) for each in shape]
            return None if None in found else found[0]
        case [inner], list():
            parts = [(each, inner, f"{place}.{n}") for n, each in enumerate(value)]
        case {"*": inner}, dict():
            parts = [(each, inner, f"{place}.{key}") for key, each in value.items()]
        case dict(), dict():
            missing = [key for key in shape if key[-1] != "?" and key not in value]
            if missing:
                return f"{place}.{missing[0]}"
            known = ((key.rstrip("?"), inner) for key, inner in shape.items())
            parts = [(value[key], inner, f"{place}.{key}") for key, inner in known if key in value]
        case re.Pattern(), str():
            return None if shape.fullmatch(value) else place
        case _:
            fits = (
                value is None if shape is None else isinstance(shape, type) and type(value) is shape
            )
            return None if fits else place
    return next(filter(None, (_misfit(*part) for part in parts)), None)


def _unpacked(content: bytes) -> dict[str, bytes]:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            entries = archive.infolist()
            if len(entries) > MAX_FILES:
                raise ReceiptError(f"the receipt has more than {MAX_FILES} files")
            if sum(each.file_size for each in entries) > len(content):  # they share their bytes
                raise ReceiptError("the file was changed: it is not packed as receipts are")
            for entry in entries:
                path, name = PurePosixPath(entry.filename), entry.filename
                is_plain = str(path) == name and name.isprintable() and "\\" not in name
                if path.is_absolute() or ".." in path.parts or not is_plain:
                    raise ReceiptError(f"{entry.filename!r} is not the path of a file in a receipt")
                if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1:
                    raise ReceiptError("the file was changed: it is not packed as receipts are")
            return {entry.filename: archive.read(entry) for entry in entries}
    except ReceiptError:
        raise
    except Exception as error:  # zipfile raises exceptions of many types for a damaged file
        raise ReceiptError(f"the file is not a receipt, or it was changed: {error}") from None


def _parsed(files: Mapping[str, bytes], path: str) -> dict[str, Any]:
    body = files.get(path, b"")
    try:
        found = json.loads(body) if len(body) <= MAX_JSON else None
        if isinstance(found, dict) and _json(found) == body:
            return found
    except (ValueError, RecursionError):
        pass
    raise ReceiptError(f"the file is not a receipt: it has no proper {path}")


def _checked_key(files: Mapping[str, bytes]) -> str | None:
    if SIGNATURE not in files:
        return None
    found = _parsed(files, SIGNATURE)
    try:
        key, signature = (
            base64.b64decode(found[name], validate=True) for name in ("public_key", "signature")
        )
    except (KeyError, TypeError, ValueError):
        raise ReceiptError("its signature cannot be read") from None
    if found != _signature(key, signature):
        raise ReceiptError("its signature cannot be read")
    if find_spec("cryptography") is None:
        raise UnknownReceiptError(f"its signature cannot be checked here: {NO_CRYPTOGRAPHY}")
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, files[MANIFEST])
    except (InvalidSignature, ValueError):
        raise ReceiptError("its signature is not that of its content") from None
    return str(found["public_key"])
