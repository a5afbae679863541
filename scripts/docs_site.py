"""Hooks of MkDocs: make pages of the site from other files, and change their links.

``mkdocs.yml`` names this file. The pages are the stored notebooks, some texts outside ``docs/``,
the settings (from the help of the traits of `ComfyDeploy`) and the routes (from the OpenAPI
document). Links between files of the repository become links between the pages.
"""

from __future__ import annotations

import os
import re
import textwrap
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from comfydeploy_jupyter.extension import ENV_PREFIX, ComfyDeploy
from comfydeploy_jupyter.handlers.document import specification

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

REPOSITORY = Path(__file__).resolve().parent.parent
LINK = re.compile(r"(?<=\]\()(?P<path>[^)#\s:]+)(?=(?:#[^)\s]*)?\))")
FENCE = re.compile(r"(^```.*?^```$)", re.MULTILINE | re.DOTALL)
MARKER = re.compile(r"^<!-- made from the code: (\w+) -->$", re.MULTILINE)
TEXTS = {
    "benchmarks/README.md": "benchmarks.md",
    "CHANGELOG.md": "changelog.md",
    "CODE_OF_CONDUCT.md": "code-of-conduct.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security-policy.md",
}
NOTEBOOKS = {
    f"notebooks/{path.name}": f"notebooks/{path.stem}.md"
    for path in sorted((REPOSITORY / "notebooks").glob("*.ipynb"))
}
MERMAID = REPOSITORY / "js" / "node_modules" / "@mermaid-js" / "tiny"
"""Draws diagrams. Without it in a page, the theme loads mermaid from unpkg.com."""
MERMAID_FILES = {
    "assets/mermaid.js": "dist/mermaid.tiny.js",
    "assets/mermaid-LICENSE.txt": "LICENSE",
}
"""Files of the site, and the files of the npm package that they are copies of."""
PAGES = {**TEXTS, **NOTEBOOKS}
"""Files of the repository outside ``docs/``, and the pages that are made from them."""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made from files outside ``docs/``."""
    from mkdocs.structure.files import File

    for source, page in TEXTS.items():
        text = (REPOSITORY / source).read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=text))
    for source, page in NOTEBOOKS.items():
        for name, content in notebook_page(REPOSITORY / source, page).items():
            files.append(File.generated(config, name, content=content))
    for name, source in MERMAID_FILES.items():
        files.append(File.generated(config, name, content=(MERMAID / source).read_bytes()))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Replace the markers by texts from the code, and links to files by links to pages.

    A search lists guides before lists of everything.
    """
    if page.file.src_uri.startswith(("reference/", "routes.md", "changelog.md", "benchmarks.md")):
        page.meta["search"] = {"boost": 0.3}
    made = {"settings": settings, "openapi": openapi}
    markdown = MARKER.sub(lambda found: made[found[1]](), markdown)
    sources = {target: source for source, target in PAGES.items()}
    source = sources.get(page.file.src_uri, f"docs/{page.file.src_uri}")
    repository = f"{config.extra['repository']}/blob/main"
    parts = FENCE.split(markdown)
    parts[::2] = [linked(part, source, page.file.src_uri, repository) for part in parts[::2]]
    return "".join(parts)


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Add the script that draws diagrams to the pages that have some: it is large."""
    if 'class="mermaid"' not in html:
        return html
    from mkdocs.utils import get_relative_url

    address = get_relative_url("assets/mermaid.js", page.url)
    return f'{html}\n<script src="{address}"></script>'


def linked(text: str, source: str, page: str, repository: str) -> str:
    """Return a text in which each link to a file of the repository is correct for a page.

    Parameters
    ----------
    text : str
        Markdown.
    source : str
        The file that contains the text, from the root of the repository.
    page : str
        The page that is made from it, from the root of the site's sources.
    repository : str
        The address of the repository's files, for links to files without a page.
    """

    def replaced(found: re.Match[str]) -> str:
        path = os.path.normpath(Path(source).parent / found["path"])
        if not (REPOSITORY / path).exists():
            return found[0]
        inside = path.removeprefix("docs/") if path.startswith("docs/") else PAGES.get(path)
        if inside is None:
            return f"{repository}/{path}"
        return os.path.relpath(inside, Path(page).parent)

    return LINK.sub(replaced, text)


def notebook_page(path: Path, page: str) -> dict[str, str | bytes]:
    """Return the page of a stored notebook and the pictures in it, by their names in the site."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecations by nbconvert's dependencies
        from nbconvert import MarkdownExporter

        folder = f"{path.stem}_files"
        body, resources = MarkdownExporter().from_filename(
            str(path), resources={"output_files_dir": folder}
        )
    title, _, rest = body.lstrip().partition("\n")
    origin = f"[Open this notebook: `{path.name}`]({path.name}){{ .md-button }}"
    made: dict[str, str | bytes] = {page: f"{title}\n\n{origin}\n{rest}"}
    for name, content in resources["outputs"].items():
        made[f"notebooks/{name}"] = content
    return made


def settings() -> str:
    """Return the settings of the server extension: each with its type, default and help."""
    own = ComfyDeploy.class_own_traits(config=True)
    parts = []
    for name in (name for name in vars(ComfyDeploy) if name in own):
        trait = own[name]
        kind = re.sub(r"^an? |unicode ", "", trait.info())
        default = trait.default()
        shown = f"`{default}`" if default not in ("", []) else "empty"
        parts += [
            f"## `{name}`",
            trait.help,
            f"- Type: {kind}\n- Default: {shown}\n- Environment: `{ENV_PREFIX}{name.upper()}`",
        ]
    return "\n\n".join(parts)


def openapi() -> str:
    """Return the request and the replies of each method of each route."""
    document = specification()
    by_tag: dict[str, list[str]] = {tag["name"]: [] for tag in document["tags"]}
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            parts = _operation(method, path, operation, document["components"]["schemas"])
            by_tag[operation["tags"][0]] += parts
    return "\n\n".join(
        part
        for tag, parts in by_tag.items()
        for part in (f"## {tag} {{ #tag-{tag.lower()} }}", *parts)
    )


def _operation(
    method: str, path: str, operation: dict[str, Any], schemas: dict[str, Any]
) -> Iterator[str]:
    yield f"### `{method.upper()} {path.lstrip('/')}` {{ #{method}-{_slug(path)} }}"
    yield f"{operation['summary']}."
    if "description" in operation:
        yield operation["description"]
    parameters = [
        (f"`{p['name']}`", p["in"], _type(p.get("schema", {})), p.get("description", ""))
        for p in operation.get("parameters", [])
    ]
    yield from _table(("parameter", "in", "type", "meaning"), parameters)
    for content in operation.get("requestBody", {}).get("content", {}).values():
        yield from _objects(content.get("schema", {}), schemas)
    replies = [
        (status, reply.get("description", ""))
        for status, reply in sorted(operation["responses"].items())
    ]
    yield from _table(("status", "meaning"), replies)
    answer = operation["responses"].get("200", {}).get("content", {}).get("application/json", {})
    tables = "\n\n".join(_objects(answer.get("schema", {}), schemas))
    if tables:
        yield '??? note "Fields of the reply"\n\n' + textwrap.indent(tables, "    ")


def _slug(path: str) -> str:
    return re.sub(r"\W+", "-", path).strip("-")


def _objects(schema: dict[str, Any], schemas: dict[str, Any]) -> Iterator[str]:
    """Yield a table of the fields of each object in a body or a reply, including nested ones."""
    name = schema.get("$ref", "").rpartition("/")[2]
    schema = schemas.get(name, schema)
    required = schema.get("required", [])
    rows = [
        (
            f"`{field}`",
            _type(value) + (", required" if field in required else ""),
            value.get("description", ""),
        )
        for field, value in schema.get("properties", {}).items()
    ]
    yield from _table((f"field of `{name}`" if name else "field", "type", "meaning"), rows)
    for part in (*schema.get("allOf", ()), *schema.get("anyOf", ()), schema.get("items")):
        if part:
            yield from _objects(part, schemas)


def _type(schema: dict[str, Any]) -> str:
    """Return the type of a value in one or two words."""
    if "$ref" in schema:
        return f"`{schema['$ref'].rpartition('/')[2]}`"
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    for key in ("anyOf", "oneOf", "allOf"):
        if key in schema:
            return " or ".join(dict.fromkeys(_type(one) for one in schema[key]))
    kind = schema.get("type", "any")
    if kind == "array":
        return f"array of {_type(schema.get('items', {}))}"
    return " or ".join(kind) if isinstance(kind, list) else str(kind)


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> Iterator[str]:
    if rows:
        lines = [head, ("---",) * len(head), *rows]
        yield "\n".join(
            "| " + " | ".join(re.sub(r"\s+", " ", cell.replace("|", "\\|")) for cell in line) + " |"
            for line in lines
        )
