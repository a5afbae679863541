"""How errors of nodes and the end of ComfyUI show that memory ran out."""

import pytest

from comfydeploy_jupyter.comfyui.memory import count_oom_kills, is_out_of_memory, why_killed
from comfydeploy_jupyter.runs.history import node_error

OUT_OF_MEMORY = [
    ("torch.OutOfMemoryError", "Allocation on device 0 would exceed allowed memory."),
    ("torch.cuda.OutOfMemoryError", "CUDA out of memory. Tried to allocate 2.00 GiB."),
    ("RuntimeError", "CUDA error: out of memory"),
    ("RuntimeError", "HIP out of memory. Tried to allocate 20.00 MiB"),
    ("RuntimeError", "MPS backend out of memory (MPS allocated: 8 GB)"),
    ("RuntimeError", "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"),
    ("RuntimeError", "DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes."),
    ("MemoryError", ""),
    ("numpy._core._exceptions._ArrayMemoryError", "Unable to allocate 7 TiB: MemoryError"),
]


@pytest.mark.parametrize(("kind", "message"), OUT_OF_MEMORY)
def test_the_error_of_a_node_has_a_hint(kind, message):
    error = node_error({"exception_type": kind, "exception_message": message, "node_id": "3"})
    assert error["type"] == kind
    assert error["message"].startswith(message or "ComfyUI gave no reason")
    assert "ComfyUI ran out of memory." in error["message"]
    assert all(each in error["message"] for each in ("smaller", "--lowvram", "comfy.free()"))


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("ValueError", "mat1 and mat2 shapes cannot be multiplied"),
        ("FileNotFoundError", "memory.png"),
        ("RuntimeError", "x" * 100_000),
    ],
)
def test_other_errors_stay_as_they_are(kind, message):
    assert not is_out_of_memory(kind, message)
    assert node_error({"exception_type": kind, "exception_message": message})["message"] == message


def test_kills_are_counted_in_our_control_group(tmp_path):
    assert count_oom_kills(tmp_path) == 0
    (tmp_path / "proc/self").mkdir(parents=True)
    group = tmp_path / "sys/fs/cgroup/user/session"
    group.mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text("0::/user/session\n")
    (group / "memory.events").write_text("low 0\noom 4\noom_kill 3\noom_group_kill 0\n")
    assert count_oom_kills(tmp_path) == 3
    # In a container the group is the root of what is seen.
    (tmp_path / "sys/fs/cgroup/memory.events").write_text("oom 9\noom_kill 7\n")
    assert count_oom_kills(tmp_path) == 7


def test_kernel_with_the_first_version_of_control_groups(tmp_path):
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text("5:cpu:/a\n4:memory:/docker/1\nbroken\n")
    group = tmp_path / "sys/fs/cgroup/memory/docker/1"
    group.mkdir(parents=True)
    (group / "memory.oom_control").write_text("oom_kill_disable 0\nunder_oom 0\noom_kill 2\n")
    assert count_oom_kills(tmp_path) == 2


def test_the_reason_of_the_end():
    assert why_killed(0, 0) is None
    assert why_killed(139, 0) is None
    assert "it was killed" in (why_killed(137, 0) or "")
    assert "because memory ran out" in (why_killed(137, 1) or "")
    assert "because memory ran out" in (why_killed(None, 1) or "")
