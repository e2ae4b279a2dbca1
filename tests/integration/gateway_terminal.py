#!/usr/bin/env python3
"""Terminals of the gateway over WebSockets, before workers without microVMs (tests/lib/echo_terminal.c)."""
import json
import os
import pathlib
import signal
import socket
import ssl
import struct
import subprocess
import sys
import time
import uuid

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from gateway_system import System, conclude, eq, run_tests  # noqa: E402

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
V = "api-version=2025-10-02-preview"
PINGS = ("terminal_ping_s: 1",)


def new_id():
    return "id-" + uuid.uuid4().hex


class Terminal:
    """A client with frames of its own: it shows each ping, and answers it unless told not to."""

    def __init__(self, s, ident, query="", **headers):
        self.pings, self.screen, self.answers = 0, bytearray(), True
        self.sock = socket.create_connection(("127.0.0.1", s.port), timeout=60)
        if s.secure:
            self.sock = ssl.create_default_context(cafile=s.dir / "cert.pem").wrap_socket(
                self.sock, server_hostname="127.0.0.1")
        head = {"Host": f"127.0.0.1:{s.port}", "Connection": "Upgrade", "Upgrade": "websocket",
                "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==", **headers}
        lines = [f"GET /pools/shell/terminal?identifier={ident}{query} HTTP/1.1", *(f"{k}: {v}" for k, v in head.items())]
        self.sock.sendall("\r\n".join(lines).encode() + b"\r\n\r\n")
        self.file = self.sock.makefile("rb")
        self.status = int(self.file.readline().split()[1])
        self.head = {}
        while line := self.file.readline().strip().decode():
            name, value = line.split(": ", 1)
            self.head[name] = value
        if self.status != 101:
            self.body = json.loads(self.file.read(int(self.head["content-length"])))
            self.leave()

    def send(self, opcode, payload=b""):
        n = len(payload)
        size = bytes([0x80 | n]) if n < 126 else b"\xfe" + struct.pack(">H", n) if n < 65536 else \
            b"\xff" + struct.pack(">Q", n)
        self.sock.sendall(bytes([0x80 | opcode]) + size + bytes(4) + payload)

    def type(self, text):
        self.send(BINARY, text.encode())

    def frame(self):
        first, n = self.file.read(2)
        n = struct.unpack(">H", self.file.read(2))[0] if n == 126 else \
            struct.unpack(">Q", self.file.read(8))[0] if n == 127 else n
        payload = self.file.read(n)
        if first & 15 == PING:
            self.pings += 1
            if self.answers:
                self.send(PONG, payload)
        elif first & 15 == BINARY:
            self.screen += payload
        return first & 15, payload

    def says(self, text, want):
        self.type(text)
        self.until(want)

    def until(self, want):
        while want not in self.screen:
            kind, payload = self.frame()
            assert kind in (BINARY, PING), (kind, payload)
        self.screen = self.screen.split(want, 1)[1]

    def wait_pings(self, n):
        while self.pings < n:
            kind, payload = self.frame()
            assert kind in (BINARY, PING), (kind, payload)

    def end(self):
        """Texts, code and reason up to the close, after which the connection ends."""
        texts = []
        while True:
            kind, payload = self.frame()
            if kind == CLOSE:
                eq(self.file.read(), b"")
                self.leave()
                return texts, struct.unpack(">H", payload[:2])[0], payload[2:].decode()
            if kind == TEXT:
                texts.append(json.loads(payload))

    def leave(self):
        self.file.close()
        self.sock.close()


def refused(t, status, code):
    eq((t.status, t.body["error"]["code"]), (status, code))
    eq(t.head["x-ms-error-code"], code)


def test_bytes_sizes_and_the_end(s):
    t = Terminal(s, new_id(), "&columns=100&rows=30")
    eq((t.status, t.head["sec-websocket-accept"]), (101, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="))
    t.until(b"100x30\n")
    t.says("hello", b"hello")
    t.send(TEXT, b'{"columns":120,"rows":50}')
    t.until(b"120x50\n")
    t.type("\nexit 3\n")
    eq(t.end(), ([{"exitCode": 3}], 1000, "the shell has ended"))


def test_messages_that_are_too_long_or_no_size(s):
    for opcode, payload, code in ((BINARY, bytes((1 << 20) + 1), 1009), (TEXT, b"x" * 513, 1009),
                                  (TEXT, b'{"columns":0,"rows":1}', 1007), (TEXT, b"\xff", 1007)):
        t = Terminal(s, new_id())
        try:
            t.send(opcode, payload)
        except OSError:  # it is told before it has sent all
            pass
        eq(t.end()[1], code)
    t = Terminal(s, new_id())
    t.send(BINARY, b"x" * (1 << 20))
    t.until(b"x" * (1 << 20))
    t.leave()


def test_a_quiet_client_that_answers_pings_stays(s):
    t = Terminal(s, new_id())
    t.wait_pings(5)
    t.says("still here", b"still here")
    t.leave()


def test_a_client_that_answers_no_pings_is_closed(s):
    t = Terminal(s, new_id())
    t.answers = False
    eq(t.end(), ([], 1001, "pings were not answered"))
    eq(t.pings, 2)


def test_input_that_the_program_does_not_read_is_no_silence(s):
    t = Terminal(s, new_id())
    t.says("hold\n", b"hold\n")
    t.send(BINARY, b"p" * 550_000)
    t.answers = False  # an answer would wait behind the paste
    t.wait_pings(6)
    t.leave()


def test_a_client_that_does_not_read_gets_all_later(s):
    t = Terminal(s, new_id())
    t.says("flood 9000000\n", b"flood 9000000\n")
    other = Terminal(s, new_id())
    other.wait_pings(4)  # meanwhile much waits for the first
    while len(t.screen) < 9_000_000:
        t.frame()
    eq(t.screen, b"x" * 9_000_000)
    t.says("\nhi\n", b"hi\n")
    t.leave()
    other.leave()


def test_the_ninth_terminal_of_a_session(s):
    i = new_id()
    open_ones = [Terminal(s, i) for _ in range(8)]
    eq([t.status for t in open_ones], [101] * 8)
    t = Terminal(s, i)
    refused(t, 429, "TerminalsFull")
    assert "terminals" in t.body["error"]["message"] and t.head["retry-after"], t.body
    for t in open_ones:
        t.leave()


def test_what_is_no_websocket(s):
    refused(Terminal(s, new_id(), **{"Sec-WebSocket-Version": "12"}), 426, "UpgradeRequired")
    refused(Terminal(s, new_id(), Upgrade="h2c"), 426, "UpgradeRequired")
    eq(s.request("GET", f"/pools/shell/terminal?identifier={new_id()}").code, "UpgradeRequired")


def test_pages_of_others_reach_nothing_in_insecure_mode(s):
    local = {"Host": f"127.0.0.1:{s.port}"}
    evil = {"Origin": "https://evil.example"}
    renamed = {"Host": "evil.example:80"}
    refused(Terminal(s, new_id(), **evil), 403, "Forbidden")
    refused(Terminal(s, new_id(), **renamed), 403, "Forbidden")
    t = Terminal(s, new_id(), Origin="http://localhost:3000", **local)
    eq(t.status, 101)
    t.leave()
    for path in ("/pools/python/executions", "/pools/python/fetchMcpServerCredentials",
                 "/pools/python/rotateMcpServerCredentials"):
        for headers in (evil, renamed):
            a = s.request("POST", f"{path}?{V}&identifier={new_id()}", {"code": "1"}, headers)
            eq((a.status, a.code), (403, "Forbidden"))


def test_a_worker_that_dies_ends_its_terminals(bin_dir):
    s = System(bin_dir)
    t = Terminal(s, new_id())
    t.says("a", b"a")
    s.workers[0].kill()
    eq(t.end(), ([], 1011, "the connection to the worker was lost"))
    s.workers[0].start()
    eq(conclude(0, s), 0)


def test_a_gateway_that_stops_says_so(bin_dir):
    s = System(bin_dir)
    t = Terminal(s, new_id())
    t.says("a", b"a")
    s.gateway.send_signal(signal.SIGTERM)
    eq(t.end(), ([], 1001, "the gateway is being stopped"))
    eq(conclude(0, s), 0)


def test_tokens(secure):
    ok, reader = ({"Authorization": f"Bearer {secure.token(roles=[r])}"} for r in ("Session Executor", "Reader"))
    refused(Terminal(secure, new_id()), 401, "Unauthorized")
    refused(Terminal(secure, new_id(), **reader), 403, "Forbidden")
    t = Terminal(secure, new_id(), Origin="https://app.example", **ok)
    t.says("a", b"a")
    t.leave()
    curl = subprocess.run(["curl", "-sSk", "--http2", "-H", f"Authorization: {ok['Authorization']}", "-w",
                           "\n%{http_version} %{http_code}",
                           f"{secure.url}/pools/shell/terminal?identifier={new_id()}"], capture_output=True, check=True)
    body, last = curl.stdout.decode().rsplit("\n", 1)
    eq((last, json.loads(body)["error"]["code"]), ("2 426", "UpgradeRequired"))


def test_a_terminal_ends_with_its_token(secure):
    now = int(time.time())  # a minute of skew: six seconds are left
    t = Terminal(secure, new_id(), Authorization=f"Bearer {secure.token(iat=now - 100, exp=now - 54)}")
    t.says("a", b"a")
    eq(t.end(), ([], 1008, "the token has expired"))


def main():
    bin_dir = sys.argv[1] if len(sys.argv) > 1 else os.environ["WARREN_BIN_DIR"]
    s, secure = System(bin_dir, more=PINGS), System(bin_dir, secure=True, more=PINGS)
    bad = run_tests(globals(), s=s, secure=secure, bin_dir=bin_dir)
    return conclude(bad, s, secure)


if __name__ == "__main__":
    sys.exit(main())
