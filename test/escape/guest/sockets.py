"""Runs as root in the guest. Reads a JSON list of expressions on stdin and prints, as a JSON list, what became of each."""

import glob
import json
import os
import re
import socket
import struct
import subprocess
import sys

SECONDS = 5
AF_VSOCK, HOST_CID = 40, 2


def tcp(host, port):
    socket.create_connection((host, port), SECONDS).close()
    return "connected"


def udp(host, port, data=b"ping"):
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
    with socket.socket(family, kind, protocol) as sock:
        sock.settimeout(SECONDS)
        # Connected, so that a port where nobody listens is an error and not a silence.
        sock.connect(address)
        sock.send(data)
        sock.recv(512)
    return "answered"


def dns(server, name="example.com"):
    labels = b"".join(bytes([len(part)]) + part.encode() for part in name.split("."))
    return udp(server, 53, struct.pack(">6H", 1, 0x100, 1, 0, 0, 0) + labels + b"\0\0\1\0\1")


def lookup(name):
    return "resolved to " + socket.getaddrinfo(name, 80)[0][4][0]


def raw(host, protocol):
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, protocol) as sock:
        sock.sendto(bytes(20), (host, 0))
    return "sent"


def packet(interface):
    """An Ethernet frame to everybody on a network."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sock:
        sock.bind((interface, 0))
        sock.send(b"\xff" * 6 + bytes(6) + b"\x08\x06" + bytes(46))
    return "sent"


def vsock(port):
    with socket.socket(AF_VSOCK, socket.SOCK_STREAM) as sock:
        sock.settimeout(SECONDS)
        sock.connect((HOST_CID, port))
    return "connected"


def run(command):
    """A command that works prints `done`; its error is its outcome otherwise."""
    done = subprocess.run(command, shell=True, capture_output=True, text=True, timeout=60)
    if done.returncode != 0:
        raise OSError(done.returncode, (done.stderr or done.stdout).strip()[-300:])
    return "done"


def names(pattern):
    return " ".join(sorted(os.path.basename(path) for path in glob.glob(pattern)))


def matching(folder, pattern):
    """Everything below a folder whose name says that it is of a kind."""
    found = [name for _, folders, files in os.walk(folder) for name in folders + files]
    return " ".join(sorted(name for name in found if re.search(pattern, name)))


def contents(pattern):
    return " ".join(sorted({open(path).read().strip() for path in glob.glob(pattern)}))


def outcome(expression):
    try:
        return eval(expression)
    except OSError as error:
        return f"OSError: {error}"


socket.setdefaulttimeout(SECONDS)
print(json.dumps([outcome(expression) for expression in json.load(sys.stdin)]))
