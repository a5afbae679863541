"""Run ComfyUI's ``main.py``, and exit when its prompt worker has ended.

    python run_main.py main.py [arguments of main.py]

ComfyUI executes all prompts in one thread, ``prompt_worker`` in ``main.py``. That thread ends if an
exception leaves it: ``SystemExit`` of a node, or RecursionError in a long chain of nodes. ComfyUI
answers requests as before then, but executes no prompt any more. Other processes cannot see which
threads ComfyUI still has. Therefore this script ends the whole process.

The interpreter of ComfyUI executes this script, without this package.
"""

import os
import runpy
import sys
import threading
import time
import traceback

PROMPT_WORKER_ENDED = 119
"""The exit code after the prompt worker has ended."""

SEND_TIMEOUT = 0.25
"""Seconds in which ComfyUI's event loop sends the last events, which name the node, before the
process exits."""


def main() -> None:
    del sys.argv[0]
    script = os.path.abspath(sys.argv[0])
    sys.path[0] = os.path.dirname(script)  # as if Python itself had started the script
    _exit_with_prompt_worker()
    runpy.run_path(script, run_name="__main__")


def _exit_with_prompt_worker() -> None:
    run = threading.Thread.run

    def run_thread(self: threading.Thread) -> None:
        target = getattr(self, "_target", None)  # which the thread deletes when it has ended
        if getattr(target, "__name__", "") != "prompt_worker":
            run(self)
            return
        try:
            run(self)
        except BaseException:
            traceback.print_exc()
        finally:
            try:
                sys.stdout.flush()
                sys.stderr.flush()
                time.sleep(SEND_TIMEOUT)
            finally:
                os._exit(PROMPT_WORKER_ENDED)

    threading.Thread.run = run_thread  # type: ignore[method-assign]  # for all threads


if __name__ == "__main__":
    main()
