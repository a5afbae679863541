"""The hardware of a machine, from its drivers, control groups and disks."""

import json
import os
import shutil
import subprocess
import sys

import psutil
import pytest

from comfydeploy_jupyter.comfyui.find import has_gpu
from comfydeploy_jupyter.errors import InvalidRequestError
from comfydeploy_jupyter.machines import hardware, settings
from tests.machines.conftest import GPUS

MIB = 1024 * 1024


def test_gpus_of_nvidia_smi(nvidia_smi):
    nvidia_smi(GPUS)
    first, second = hardware.gpus()
    assert first == {
        "index": 0,
        "uuid": GPUS[0]["uuid"],
        "name": "NVIDIA GeForce RTX 4090",
        "memory": {"total": 24564 * MIB, "used": 1024 * MIB, "free": 23540 * MIB},
        "percent": 37.0,
        "temperature": 61.0,
        "driver": "550.54.14",
        "source": "nvidia-smi",
    }
    assert (second["name"], second["percent"]) == ("NVIDIA A100, 80GB", None)
    assert second["memory"]["total"] == 81920 * MIB


def test_a_driver_that_is_not_there(nvidia_smi):
    nvidia_smi(None)
    assert hardware.gpus() == []
    device = {
        "name": "cuda:0 AMD Radeon RX 7900 XTX : native",
        "type": "cuda",
        "index": 0,
        "vram_total": 24 * MIB,
        "vram_free": 20 * MIB,
    }
    (gpu,) = hardware.gpus([device, {"name": "cpu", "type": "cpu", "index": None}])
    assert (gpu["name"], gpu["source"]) == ("AMD Radeon RX 7900 XTX", "comfyui")
    assert gpu["memory"] == {"total": 24 * MIB, "used": 4 * MIB, "free": 20 * MIB}


def test_a_gpu_can_be_chosen_if_it_is_there(nvidia_smi):
    nvidia_smi(GPUS)
    assert has_gpu({**os.environ, "CUDA_VISIBLE_DEVICES": "1"})
    assert settings.check_gpu(1) == "1"
    assert settings.check_gpu("0, 1") == "0,1"
    assert settings.check_gpu(GPUS[1]["uuid"]) == GPUS[1]["uuid"]
    assert settings.check_gpu("") == ""
    for wrong in (2, "0,7", "GPU-33333333", "0; ls", "H100", -1):
        with pytest.raises(InvalidRequestError, match="gpu: "):
            settings.check_gpu(wrong)


NVML = r"""
#include <string.h>
typedef struct { unsigned long long total, free, used; } memory_t;
typedef struct { unsigned int gpu, memory; } utilization_t;
int nvmlInitWithFlags(unsigned int flags) { return 0; }
int nvmlInit_v2(void) { return 0; }
int nvmlShutdown(void) { return 0; }
int nvmlSystemGetDriverVersion(char *text, unsigned int n) { strncpy(text, "560.1", n); return 0; }
int nvmlDeviceGetCount_v2(unsigned int *count) { *count = 1; return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned int i, void **device) { *device = (void *)1; return 0; }
int nvmlDeviceGetMemoryInfo(void *d, memory_t *m) {
  m->total = 1000; m->free = 400; m->used = 600; return 0; }
int nvmlDeviceGetUtilizationRates(void *d, utilization_t *u) { u->gpu = 12; return 0; }
int nvmlDeviceGetTemperature(void *d, int sensor, unsigned int *t) { return 3; /* not supported */ }
int nvmlDeviceGetUUID(void *d, char *text, unsigned int n) { strncpy(text, "GPU-1", n); return 0; }
int nvmlDeviceGetName(void *d, char *text, unsigned int n) { strncpy(text, "L4", n); return 0; }
"""


def test_nvml_is_preferred_to_nvidia_smi(tmp_path, nvidia_smi):
    """With a small replacement for NVML: its calls, and one that a GPU does not support."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("there is no C compiler")
    nvidia_smi(GPUS)
    (tmp_path / "nvml.c").write_text(NVML)
    library = tmp_path / "libnvidia-ml.so.1"
    command = [compiler, "-shared", "-fPIC", "-o", str(library), str(tmp_path / "nvml.c")]
    subprocess.run(command, check=True)
    script = "import json; from comfydeploy_jupyter.machines import hardware as h\n"
    script += "print(json.dumps(h.gpus()))"
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "LD_LIBRARY_PATH": str(tmp_path)},
        capture_output=True,
        check=True,
    )
    (gpu,) = json.loads(done.stdout)
    assert gpu == {
        "index": 0,
        "uuid": "GPU-1",
        "name": "L4",
        "memory": {"total": 1000, "used": 600, "free": 400},
        "percent": 12.0,
        "temperature": None,
        "driver": "560.1",
        "source": "nvml",
    }


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (
            {
                "memory.max": "8000",
                "memory.current": "5000",
                "memory.stat": "anon 1\ninactive_file 2000\n",
            },
            (8000, 3000),
        ),
        ({"memory.max": "max", "memory.current": "5", "memory.stat": "anon 1\n"}, None),
        (
            {
                "memory/memory.limit_in_bytes": "9000",
                "memory/memory.usage_in_bytes": "100",
                "memory/memory.stat": "total_inactive_file 200\n",
            },
            (9000, 0),
        ),
        ({}, None),
    ],
)
def test_the_limit_of_a_container(tmp_path, files, expected):
    (tmp_path / "memory").mkdir()
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    assert hardware.memory_limit(tmp_path) == expected


def test_the_hardware_of_this_machine(tmp_path):
    models = tmp_path / "models" / "checkpoints"
    facts = hardware.hardware([models, tmp_path])
    assert facts["cpu"]["cores"] == len(os.sched_getaffinity(0))
    assert 0 <= facts["cpu"]["percent"] <= 100
    memory = facts["memory"]
    assert 0 < memory["total"] <= psutil.virtual_memory().total
    assert memory["used"] + memory["available"] == memory["total"]
    (disk,) = facts["disks"]
    assert (disk["path"], disk["folders"]) == (str(models), [str(models), str(tmp_path)])
    assert disk["total"] == shutil.disk_usage(tmp_path).total


def test_processes(tmp_path):
    facts = hardware.process_facts(os.getpid())
    assert facts["memory"] > MIB
    assert hardware.process_facts(2**22 + 1) == {"memory": None, "started_at": None}
