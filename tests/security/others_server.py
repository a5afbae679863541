"""Changes to another user and listens like a ComfyUI; run as a script.

It prints its port, then a line of JSON for all received data. With ``wait`` it accepts no
connection until it reads a line from its standard input; with ``leave`` it then stops listening,
and keeps the accepted connections.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import threading

uid, port, host, argv, mode = (json.loads(argument) for argument in sys.argv[1:])
if uid != os.getuid():
    os.setgroups([])
    os.setgid(uid)
    os.setuid(uid)


def answer(connection: socket.socket) -> None:
    while request := connection.recv(65536):
        print(json.dumps(request.decode(errors="replace")), flush=True)
        stats = {"system": {"comfyui_version": "0.3.75", "argv": argv}, "devices": []}
        stats["hostname"] = "others.example"  # as cloudflared names its tunnel
        body = json.dumps({**stats, "exec_info": {"queue_remaining": 0}}).encode()
        head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
        connection.sendall(f"{head}\r\n\r\n".encode() + body)


family = socket.AF_INET6 if ":" in host else socket.AF_INET
listener = socket.socket(family)
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
listener.bind((host, port))
listener.listen()
print(listener.getsockname()[1], flush=True)
if mode == "wait":
    input()
if mode == "leave":
    kept, _ = listener.accept()
    listener.close()
    print(json.dumps("left"), flush=True)
    answer(kept)
while mode != "leave":
    connection, _ = listener.accept()
    threading.Thread(target=answer, args=(connection,), daemon=True).start()
