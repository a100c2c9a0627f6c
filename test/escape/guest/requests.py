"""Sends requests as they are. Reads a JSON list of [port, bytes as base64] on stdin and prints the answers as a JSON list."""

import base64
import json
import socket
import sys
from concurrent.futures import ThreadPoolExecutor

# A server that waits for more than was sent says nothing.
SILENCE_SECONDS = 8
MAX_BYTES = 4096


def ask(port, data):
    answer = b""
    with socket.create_connection(("127.0.0.1", port), SILENCE_SECONDS) as sock:
        try:
            sock.sendall(data)
            while len(answer) < MAX_BYTES:
                part = sock.recv(MAX_BYTES)
                if not part:
                    break
                answer += part
        except (TimeoutError, ConnectionError):
            pass
    return answer.decode("latin1")


with ThreadPoolExecutor(16) as pool:
    attacks = [(port, base64.b64decode(data)) for port, data in json.load(sys.stdin)]
    print(json.dumps(list(pool.map(lambda attack: ask(*attack), attacks))))
