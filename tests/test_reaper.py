import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from comfydeploy_jupyter.util.child import Child
from comfydeploy_jupyter.util.reaper import reaped_command
from tests.helpers.processes import alive
from tests.helpers.waiting import until

pytestmark = pytest.mark.slow

# A child with a grandchild and a grandchild that left its session; none heeds SIGTERM.
STUBBORN_FAMILY = """
import os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)", "FAMILY"])
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)", "FAMILY"],
                 start_new_session=True)
print("ready", flush=True)
time.sleep(1000)
"""
OWNER = """
import subprocess, sys, time
from comfydeploy_jupyter.util.reaper import reaped_command
command = reaped_command([sys.executable, "-c", sys.argv[1], sys.argv[2]], log=sys.argv[3],
                          grace=0.2)
reaper = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
print(reaper.pid, int(reaper.stdout.readline()), flush=True)
time.sleep(1000)
"""


def family(mark, *, but=0):
    """All processes whose command line has ``mark``, except those of the process group ``but``."""
    marked = [
        each.pid
        for each in psutil.process_iter(["cmdline", "status"])
        if mark in " ".join(each.info["cmdline"] or ()) and each.info["status"] != "zombie"
    ]
    return [pid for pid in marked if alive(pid) and os.getpgid(pid) != but]


def until_ready(log):
    """Wait until the child, which has set itself up, printed ``ready``."""
    until(lambda: log.exists() and "ready" in log.read_text())


@pytest.fixture
def start(tmp_path):
    """A function that starts a Python script under a reaper, logging to ``tmp_path / log``."""
    reapers = []

    def run(script, *arguments, **settings):
        settings.setdefault("log", tmp_path / "log")
        reaper = subprocess.Popen(
            reaped_command([sys.executable, "-c", script, *arguments], **settings),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        reapers.append(reaper)
        return reaper

    yield run
    for reaper in reapers:
        with reaper:
            reaper.kill()


def child_of(reaper):
    return int(reaper.stdout.readline())


def test_exit_code_is_the_childs(start):
    crash = "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)"
    assert start("raise SystemExit(7)").wait(10) == 7
    assert start(crash).wait(10) == 128 + signal.SIGSEGV


def test_program_that_cannot_be_started_is_127_and_logged(tmp_path):
    command = reaped_command(["/no/such/program"], log=tmp_path / "log")
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as reaper:
        assert reaper.wait(10) == 127
    assert "cannot start /no/such/program" in (tmp_path / "log").read_text()


def test_output_is_appended_to_the_log_and_a_large_log_is_rotated(start, tmp_path):
    log = tmp_path / "log"
    log.write_text("before\n")
    script = "import os, sys; print(os.getcwd(), flush=True); print('oops', file=sys.stderr)"
    assert start(script, cwd=tmp_path).wait(10) == 0
    text = log.read_text()
    assert text == f"before\n{tmp_path}\noops\n"
    assert start("print('new')", rotate_at=len(text) - 1).wait(10) == 0
    assert (log.read_text(), (tmp_path / "log.1").read_text()) == ("new\n", text)


def test_log_of_a_running_child_is_rotated(start, tmp_path):
    """Also if it cannot be copied, as on a full disk."""
    script = (
        "import time\n"
        "for number in range(3000):\n"
        "    print(number, 'x' * 1000, flush=True)\n"
        "    time.sleep(0.001)\n"
        "print('end', flush=True)\n"
        "time.sleep(1000)\n"
    )
    log, earlier = tmp_path / "log", tmp_path / "log.1"
    reaper = start(script, rotate_at=100_000)
    until(lambda: earlier.exists() and (earlier.read_text() + log.read_text()).endswith("end\n"))
    until(lambda: log.stat().st_size < 100_000)
    assert earlier.stat().st_mode & 0o777 == 0o600
    *lines, last = (earlier.read_text() + log.read_text()).splitlines()
    numbers = [int(line.split()[0]) for line in lines]
    assert numbers == sorted(numbers)
    assert (numbers[-1], last) == (2999, "end")
    reaper.stdin.close()
    assert reaper.wait(10) == 128 + signal.SIGTERM
    earlier.unlink()
    earlier.mkdir()
    reaper = start(script.replace("3000", "300"), rotate_at=100_000)
    until(lambda: log.stat().st_size > 100_000)
    until(lambda: log.stat().st_size < 100_000)
    reaper.stdin.close()


def test_closing_the_pipe_ends_the_child_with_sigterm(start, tmp_path):
    script = (
        "import signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(print('goodbye') or 5))\n"
        "print('ready', flush=True)\n"
        "time.sleep(1000)\n"
    )
    reaper = start(script)
    until_ready(tmp_path / "log")
    reaper.stdin.close()
    assert reaper.wait(10) == 5
    assert "goodbye" in (tmp_path / "log").read_text()


def test_sigterm_ends_processes_that_ignore_it_after_the_grace_period(start, tmp_path):
    mark = f"FAMILY-{os.getpid()}-term"
    reaper = start(STUBBORN_FAMILY.replace("FAMILY", mark), mark, grace=0.3)
    until_ready(tmp_path / "log")
    assert len(family(mark)) >= 3
    begin = time.monotonic()
    reaper.terminate()
    assert reaper.wait(10) == 128 + signal.SIGKILL
    assert time.monotonic() - begin > 0.25
    assert family(mark) == []


def test_sigint_is_not_passed_to_the_child(start, tmp_path):
    reaper = start("import time; print('ready', flush=True); time.sleep(1000)")
    child = child_of(reaper)
    until_ready(tmp_path / "log")
    reaper.send_signal(signal.SIGINT)
    reaper.send_signal(signal.SIGHUP)
    with pytest.raises(subprocess.TimeoutExpired):
        reaper.wait(0.3)
    assert alive(child)


def test_children_of_a_crashed_child_are_ended(start, tmp_path):
    mark = f"FAMILY-{os.getpid()}-crash"
    reaper = start(STUBBORN_FAMILY.replace("FAMILY", mark), mark, grace=1000)
    child = child_of(reaper)
    until_ready(tmp_path / "log")
    os.kill(child, signal.SIGKILL)
    assert reaper.wait(60) == 128 + signal.SIGKILL, "they are killed at once"
    assert family(mark) == []


@pytest.mark.parametrize("fork", [False, True], ids=["plain", "a fork holds the pipe"])
def test_a_killed_owner_ends_the_child_and_its_children(tmp_path, fork):
    mark = f"FAMILY-{os.getpid()}-{fork}"
    log = tmp_path / "log"
    script = OWNER
    if fork:
        script = OWNER.replace(
            "time.sleep(1000)", "import os; os.fork(); print('forked', flush=True); time.sleep(20)"
        )
    owner = subprocess.Popen(
        [sys.executable, "-c", script, STUBBORN_FAMILY.replace("FAMILY", mark), mark, str(log)],
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parent.parent,
        start_new_session=True,
    )
    with owner:
        reaper, child = map(int, owner.stdout.readline().split())
        until_ready(log)
        assert alive(reaper)
        assert alive(child)
        os.kill(owner.pid, signal.SIGKILL)
        until(lambda: not alive(reaper) and not family(mark, but=owner.pid), timeout=15)
        if fork:
            os.killpg(owner.pid, signal.SIGKILL)


@pytest.mark.skipif(sys.platform != "linux", reason="needs PR_SET_PDEATHSIG")
def test_a_killed_reaper_ends_the_child(start):
    reaper = start("import time; time.sleep(1000)")
    child = child_of(reaper)
    assert alive(child)
    reaper.kill()
    reaper.wait(10)
    until(lambda: not alive(child))


async def test_the_log_is_returned_without_colours(tmp_path):
    """As ComfyUI 0.33 writes it."""
    child = Child("ComfyUI", tmp_path / "comfyui.log")
    child.log_path.write_bytes(
        b"\x1b[32m[INFO]\x1b[0m ComfyUI version: 0.33.0\n"
        b"\x1b[1;31merror\x1b[K \x1b]0;title\x07 [0m stays\n" + b"\x1b[" * 1000 + b"\n"
    )
    first, second, third = await child.log_tail(10)
    assert first == "[INFO] ComfyUI version: 0.33.0"
    assert second == "error 0;title\x07 [0m stays"
    assert len(third) < 2001
