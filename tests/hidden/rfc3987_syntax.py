"""Takes the place of rfc3987-syntax in processes of the tests that check no format with it.

jsonschema imports that package, which then compiles 38 grammars: three quarters of the processor
time in which a Jupyter server starts. jsonschema works without it, if it cannot be imported.
"""

raise ImportError("the tests do without rfc3987-syntax")
