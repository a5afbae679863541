import ast
import json

import nbformat
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from IPython.core.inputtransformer2 import TransformerManager

from comfydeploy_jupyter.errors import InvalidRequestError
from comfydeploy_jupyter.graphs.export import (
    MAX_VARIABLES,
    literal,
    notebook,
    python_script,
    script_parts,
    variable_names,
)
from comfydeploy_jupyter.graphs.form import FormField, workflow_form
from tests.helpers.graphs import declared, node
from tests.helpers.selection import examples

PAINT = {"seed": 2**63, "steps": 20, "positive": ["6", 0], "negative": ["7", 0]}
GRAPH = {
    "4": node("CheckpointLoaderSimple", ckpt_name="a.safetensors"),
    "6": node("CLIPTextEncode", text="a cat", clip=["4", 1]),
    "7": node("CLIPTextEncode", text="blur", clip=["4", 1]),
    "3": node("KSampler", "Paint", **PAINT, model=["4", 0]),
    "9": node("SaveImage", "Keep", images=["3", 0], filename_prefix="cat"),
}
DEFINITIONS = {
    "KSampler": declared(
        seed=["INT", {"min": 0, "max": 2**64 - 1}],
        steps=["INT", {"min": 1, "max": 10000, "tooltip": "More is slower."}],
    ),
    "CheckpointLoaderSimple": declared(
        ckpt_name=[[f"{n}.safetensors" for n in "abcdefghijklmno"], {}]
    ),
}

HOSTILE = st.one_of(
    st.text(max_size=30),
    st.text("\"'\\\n\r\t{}#%!?\0\x0c\x1b\u2028\u202e\x85 abc", max_size=30),
    st.sampled_from(
        [
            *('"""\nraise SystemExit\n"""', "'''", "\\", '\\"""', "%%bash\nexit", "!ls", "a?"),
            *("# x\ny=1", "{0}", "%s", "\ud800", "# -*- coding: utf-7 -*-", "\\N{DIGIT ONE}"),
        ]
    ),
)
JSON_VALUES = st.recursive(
    st.one_of(
        HOSTILE,
        st.integers(),
        st.floats(allow_nan=False, allow_infinity=False),
        st.booleans(),
        st.none(),
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(HOSTILE, inner, max_size=3),
    max_leaves=8,
)
FIELDS = st.builds(
    FormField,
    key=HOSTILE,
    label=HOSTILE,
    kind=st.sampled_from(["text", "int", "color", "seed", "combo"]),
    node_id=HOSTILE,
    input_name=st.one_of(
        HOSTILE,
        st.sampled_from(["class", "print", "comfy", "match", "result", "1", "é", "", "inputs"]),
    ),
    value=st.one_of(HOSTILE, st.integers(), st.floats(allow_nan=False), st.booleans()),
    min=st.none() | st.floats(),
    max=st.none() | st.floats(),
    options=st.none() | st.lists(JSON_VALUES, max_size=3),
    tooltip=HOSTILE,
    advanced=st.booleans(),
)


class Recorder:
    """Replaces the client, and records the calls of the code."""

    def load(self, graph):
        self.graph = graph
        return "the workflow"

    def run(self, workflow, inputs=None):
        assert workflow == "the workflow"
        self.inputs = inputs or {}
        return "the result"


@settings(max_examples=examples(60))
@given(
    st.dictionaries(HOSTILE, st.fixed_dictionaries({"class_type": HOSTILE, "x": JSON_VALUES})),
    st.lists(FIELDS, max_size=6, unique_by=lambda field: field.key),
    HOSTILE,
)
def test_texts_of_the_workflow_never_become_code(graph, fields, title):
    cells = {cell["id"]: cell for cell in notebook(graph, fields, title=title)["cells"]}
    comfy = Recorder()
    scope = {"comfy": comfy}
    for name in ("inputs", "workflow", "run"):
        if name in cells:
            code = cells[name]["source"]
            seen = TransformerManager().transform_cell(code)
            assert ast.dump(ast.parse(seen)) == ast.dump(ast.parse(code)), "IPython sees magic"
            exec(seen, scope)
    assert comfy.graph == graph
    assert comfy.inputs == {field.key: field.value for field in fields}
    assert [type(v) for v in comfy.inputs.values()] == [type(f.value) for f in fields]
    assert {"workflow", "result"} <= scope.keys()
    for name, field in zip(variable_names(fields), fields, strict=True):
        assert scope[name] == field.value

    script = python_script(graph, fields, title=title)
    names = [type(statement).__name__ for statement in ast.parse(script.encode()).body]
    assert names == [
        *("Expr", "Import"),
        *["Assign"] * len(fields),
        *("Assign", "Assign", "Assign", "Expr", "For", "For"),
    ]


@given(JSON_VALUES)
def test_literals_are_read_back_as_they_were(value):
    for indent in (0, 70):
        assert ast.literal_eval(literal(value, indent)) == value


def test_numbers_that_json_lacks():
    values = eval(literal([float("inf"), float("-inf"), float("nan")]))
    assert values[:2] == [float("inf"), float("-inf")]
    assert values[2] != values[2]


def test_a_graph_too_deep_for_python_source_is_refused():
    deep = "x"
    for _ in range(300):
        deep = [deep]
    with pytest.raises(InvalidRequestError, match="workflow_api: is nested more than"):
        python_script({"1": node("A", x=deep)})
    for _ in range(224):
        deep = deep[0]
    compile(python_script({"1": node("A", x=deep)}), "script", "exec")


def test_variables_have_descriptive_names_and_comments():
    fields = workflow_form(GRAPH, DEFINITIONS).fields
    assert dict(zip(variable_names(fields), (f.key for f in fields), strict=True)) == {
        "positive_prompt": "6.text",
        "negative_prompt": "7.text",
        "steps": "3.steps",
        "seed": "3.seed",
        "ckpt_name": "4.ckpt_name",
        "filename_prefix": "9.filename_prefix",
    }
    code = script_parts(GRAPH, fields).variables
    assert "# Paint: steps; 1 to 10000; More is slower.\nsteps = 20" in code
    assert "# Paint: seed; at least 0\nseed = 9223372036854775808" in code
    assert "one of 'a.safetensors', 'b.safetensors'" in code
    assert " and 3 more\nckpt_name = 'a.safetensors'" in code
    assert all(len(line) <= 88 for line in code.splitlines())


def test_a_large_form_becomes_a_limited_number_of_variables_and_a_note():
    graph = {str(n): node("PrimitiveInt", value=n) for n in range(40)}
    code = script_parts(graph).variables
    assert code.count(" = ") == MAX_VARIABLES
    assert "16 more inputs" in code
    assert "'24.value'" in code


def test_names_of_fields_that_share_everything_differ():
    field = FormField("a", "Value", "int", "1", "value", 1)
    names = variable_names([field] * 5)
    assert len(set(names)) == 5
    assert all(name.isidentifier() for name in names)


@pytest.mark.parametrize("graph", [GRAPH, {}, json.loads('{"1": {"class_type": "A"}}')])
def test_the_notebook_is_valid(graph):
    made = notebook(graph, title="Cats & <b>*dogs*</b>\n# x")
    nbformat.validate(made)
    heading = nbformat.from_dict(made).cells[0].source.splitlines()[0]
    assert heading == r"# Cats &amp; &lt;b&gt;\*dogs\*&lt;/b&gt; \# x"
