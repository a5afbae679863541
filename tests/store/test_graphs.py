"""How graphs are packed."""

import random
import zlib

import pytest

from comfydeploy_jupyter.store.graphs import compress, read_graph


@pytest.mark.parametrize(
    "size", [0, 1, 255, 256, 257, 511, 512, 513, 4095, 4096, 32767, 32768, 32769, 200_000]
)
def test_graphs_of_every_size_are_read_as_they_were_written(size):
    rng = random.Random(size)
    mixed = bytes(rng.choices(b'{"inputs": 0}', k=size))
    for body in (mixed, rng.randbytes(size), b"a" * size):
        assert read_graph(compress(body)) == body


def test_graphs_are_compressed():
    body = b'{"class_type": "EmptyImage", "inputs": {"width": 512}}' * 2000
    assert len(compress(body)) < len(body) / 50
    assert len(compress(body)) <= len(zlib.compress(body, 1)) * 1.1
