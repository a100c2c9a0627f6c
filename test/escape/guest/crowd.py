"""
Opens many connections to the agent's proxy and keeps them all. Reads {"count", "bytes", "seconds"} as JSON on stdin; prints how many
could be opened, and how many were answered with which status before nothing came for so long.
"""

import json
import resource
import selectors
import socket
import sys
import time
from collections import Counter

order = json.load(sys.stdin)
resource.setrlimit(resource.RLIMIT_NOFILE, (order["count"] + 64, order["count"] + 64))
selector, outcomes, left = selectors.DefaultSelector(), Counter(), 0


def hear(seconds):
    global left
    for key, _ in selector.select(seconds):
        try:
            answer = key.fileobj.recv(4096)
        except ConnectionError:
            answer = b""
        # Kept open, but listened to no more.
        selector.unregister(key.fileobj)
        outcomes[answer[9:12].decode() or "closed"] += 1
        left -= 1


sockets = []
for _ in range(order["count"]):
    try:
        sock = socket.create_connection(("127.0.0.1", 3128), 30)
        sock.sendall(order["bytes"].encode())
    except OSError as error:
        outcomes[type(error).__name__] += 1
        continue
    sockets.append(sock)
    selector.register(sock, selectors.EVENT_READ)
    left += 1
    if left % 100 == 0:
        hear(0)
last, heard = time.monotonic(), left
while left > 0 and time.monotonic() - last < order["seconds"]:
    hear(1)
    if left < heard:
        last, heard = time.monotonic(), left
print(json.dumps({"opened": len(sockets), **outcomes}))
