"""Write the tables of docs/routes.md: all routes, and the fields of the larger requests.

The texts are those of the routes (`comfydeploy_jupyter/handlers`) and of the models of their
requests. ``--check`` writes nothing, and fails if a table is not up to date.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from comfydeploy_jupyter.handlers import operations
from comfydeploy_jupyter.request_models import Model

if TYPE_CHECKING:
    from collections.abc import Collection

    from comfydeploy_jupyter.handlers.route import Route

PAGE = Path(__file__).parent.parent / "docs" / "routes.md"
TABLE = re.compile(r"(<!-- (routes|fields of (\w+)) -->\n).*?(<!-- end of table -->\n)", re.DOTALL)


def filled(page: str) -> str:
    """Return the page with the present tables."""
    described = set(re.findall(r"<!-- fields of (\w+) -->", page))

    def table(found: re.Match[str]) -> str:
        rows = routes(described) if found[3] is None else fields(found[3])
        return "\n".join([found[1].rstrip(), *rows, found[4]])

    return TABLE.sub(table, page)


def routes(described: set[str]) -> list[str]:
    """Return the table of all routes; it does not repeat fields of another table of the page."""
    rows = ["| route | what it does |", "|---|---|"]
    for operation in operations():
        path = operation.path.removeprefix("/").replace("{tail}", "…")
        if operation.tag != "ComfyUI" and path != "comfydeploy":
            takes = "; ".join(taken(operation, described))
            summary = operation.texts[0]
            text = f"{summary} ({takes})" if takes else summary
            rows.append(f"| `{operation.method} {path}` | {text} |")
    return [*rows, "| `comfyui/` | ComfyUI's own page with all its routes and its WebSocket |"]


def taken(operation: Route, described: set[str]) -> list[str]:
    """Return the names of an operation's fields: those of its query and of each body."""
    found = {}
    if operation.query is not None:
        found["query"] = own_fields(operation.query, described)
    for body in operation.bodies:
        if isinstance(body.schema, dict):
            found["multipart"] = [*body.schema.get("properties", ())]
        else:
            found["JSON"] = own_fields(body.schema, described)
    return [
        f"{kind}: {', '.join(f'`{name}`' for name in names)}"
        for kind, names in found.items()
        if names
    ]


def own_fields(model: type[Model], described: Collection[str] = ()) -> dict[str, str]:
    """Return the fields of a model with their descriptions, except those described elsewhere.

    One section of the page explains the fields that send a request to ComfyDeploy.
    """
    elsewhere = {
        name
        for base in model.__mro__
        if base.__name__ in {*described, "Keyed", "CloudTarget"} and issubclass(base, Model)
        for name in base.model_fields
    }
    return {
        info.alias or name: str(info.description)
        for name, info in model.model_fields.items()
        if name not in elsewhere
    }


def fields(model: str) -> list[str]:
    """Return the table of the fields of a request."""
    found = own_fields(_models()[model])
    rows = [f"| `{name}` | {description} |" for name, description in found.items()]
    return ["| field | meaning |", "|---|---|", *rows]


def _models() -> dict[str, type[Model]]:
    declared = [route.declared for route in operations()]
    models = [one for each in declared for one in (each.query, *(b.schema for b in each.bodies))]
    found = {base for model in models for base in getattr(model, "__mro__", ())}
    return {base.__name__: base for base in found if issubclass(base, Model)}


def main() -> int:
    """Write or check the page; return the exit code."""
    page = PAGE.read_text(encoding="utf-8")
    new = filled(page)
    if "--check" in sys.argv[1:]:
        if new != page:
            print("docs/routes.md is not up to date: run python scripts/route_tables.py")
        return int(new != page)
    PAGE.write_text(new, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
