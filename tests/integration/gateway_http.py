#!/usr/bin/env python3
"""The HTTP server under clients that are slow, rude or many: memory stays bounded, answers stay whole."""
import json
import os
import select
import signal
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import time

from gateway_system import memory_counts

BIN = sys.argv[1]
MEASURED = memory_counts(BIN + "/http_probe")


class Probe:
    def __init__(self, *args):
        self.p = subprocess.Popen([BIN + "/http_probe", *args], stdout=subprocess.PIPE, text=True)
        self.secure = bool(args)
        self.port = int(self.p.stdout.readline())

    def stop(self):
        self.p.send_signal(signal.SIGTERM)
        return self.p.wait(40)


def connect(port):
    return socket.create_connection(("127.0.0.1", port), timeout=30)


def read_all(s):
    got = b""
    while part := s.recv(65536):
        got += part
    return got


def stats(probe):
    scheme = "https" if probe.secure else "http"
    return json.loads(curl("--http1.1", f"{scheme}://127.0.0.1:{probe.port}/stats").stdout)


def curl(*args, **kw):
    return subprocess.run(["curl", "-sS", "-k", "--max-time", "60", *args], capture_output=True, check=True, **kw)


def check(cond, text):
    if not cond:
        raise AssertionError(text)


def test_upload_back_pressure(plain, tls, big):
    """A sink of 30 MB/s and a client that could do far more: 256 KiB per upload, no more."""
    for url, how in ((f"http://127.0.0.1:{plain.port}", "--http1.1"), (f"https://127.0.0.1:{tls.port}", "--http1.1"),
                     (f"https://127.0.0.1:{tls.port}", "--http2")):
        for extra in ([], ["-H", "Transfer-Encoding: chunked"] if how == "--http1.1" else []):
            got = curl(how, "-T", big, "-X", "POST", *extra, url + "/sink")
            check(json.loads(got.stdout) == {"bytes": os.path.getsize(big)}, f"{how} {extra}: {got.stdout}")
    for probe in (plain, tls):
        s = stats(probe)
        check(s["unconsumed_max"] <= 256 << 10, f"unconsumed {s}")
        check(s["rss_kib"] < 40000 or not MEASURED, f"memory {s}")


def test_download_to_a_slow_reader(plain, tls):
    for url, how in ((f"http://127.0.0.1:{plain.port}", "--http1.1"), (f"https://127.0.0.1:{tls.port}", "--http2")):
        got = curl(how, "--limit-rate", "20M", "-o", "/dev/null", "-w", "%{size_download}", url + "/big?n=40000000")
        check(got.stdout == b"40000000", f"{how}: {got.stdout}")
    s = connect(plain.port)
    s.sendall(b"GET /big?n=2000000000 HTTP/1.1\r\nHost: a\r\n\r\n")
    check(s.recv(100).startswith(b"HTTP/1.1 200"), "no answer")
    for probe in (plain, tls):
        check(stats(probe)["rss_kib"] < 40000 or not MEASURED, "memory")
    s.close()


def test_events_come_as_they_are_written(plain, tls):
    for url, how in ((f"http://127.0.0.1:{plain.port}", "--http1.1"), (f"https://127.0.0.1:{tls.port}", "--http2")):
        got = curl(how, "-N", url + "/events").stdout
        check(got.count(b"data: tick\n\n") == 5, f"{how}: {got}")
    got = curl("--http1.0", f"http://127.0.0.1:{plain.port}/events").stdout
    check(got.count(b"data: tick\n\n") == 5, "1.0: no chunks, the end of the connection ends it")


def test_an_early_answer_is_readable(plain, tls, big):
    for url, how in ((f"http://127.0.0.1:{plain.port}", "--http1.1"), (f"https://127.0.0.1:{tls.port}", "--http1.1"),
                     (f"https://127.0.0.1:{tls.port}", "--http2")):
        got = subprocess.run(["curl", "-sS", "-k", how, "--max-time", "30", "-T", big, "-H", "Expect:", "-o",
                              "/dev/null", "-w", "%{http_code}", url + "/nothing"], capture_output=True)
        check(got.stdout == b"404", f"{how}: {got}")


def test_head_has_no_body(plain, tls):
    got = curl("-I", f"http://127.0.0.1:{plain.port}/big?n=1000").stdout
    check(b"content-length: 1000" in got, got)
    s = connect(plain.port)
    s.sendall(b"HEAD /big?n=1000 HTTP/1.1\r\nHost: a\r\n\r\nGET /big?n=3 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    got = read_all(s)
    check(got.count(b"HTTP/1.1 200") == 2 and len(got) < 1000, got)
    check(b"content-length: 1000" in curl("--http2", "-I", f"https://127.0.0.1:{tls.port}/big?n=1000").stdout, "h2")


def test_a_connection_cut_at_every_byte_harms_nobody(plain):
    data = (b"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
            b"GET /events HTTP/1.1\r\nHost: a\r\n\r\n")
    for cut in range(len(data)):
        s = connect(plain.port)
        s.sendall(data[:cut])
        if cut % 2:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # RST
        s.close()
    check(curl(f"http://127.0.0.1:{plain.port}/echo").stdout == b"", "alive")


def test_many_idle_connections_cost_little(plain):
    before = stats(plain)["rss_kib"]
    idle = []
    for _ in range(1000):
        s = connect(plain.port)
        s.sendall(b"GET /echo HTTP/1.1\r\nHost: a\r\n\r\n")
        check(s.recv(1000).startswith(b"HTTP/1.1 200"), "no answer")
        idle.append(s)
    after = stats(plain)
    print(f"  {(after['rss_kib'] - before) / 1000:.2f} KiB per idle connection")
    check(after["connections"] >= 1000 and (after["rss_kib"] - before < 8000 or not MEASURED), f"{before} {after}")
    for s in idle:
        s.close()


def h2_connect(port):
    ctx = ssl.create_default_context()
    ctx.check_hostname, ctx.verify_mode = False, ssl.CERT_NONE
    ctx.set_alpn_protocols(["h2"])
    s = ctx.wrap_socket(connect(port))
    check(s.selected_alpn_protocol() == "h2", "alpn")
    s.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0, b""))
    return s


def frame(kind, flags, stream, payload):
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


# :method GET, :scheme https, :path /events (literal), :authority a (literal)
HEADERS = b"\x82\x87\x04\x07/events\x01\x01a"


def flood(port, frames):
    """Sends until the server ends the connection; it must. One thread: a TLS connection is not for two."""
    s = h2_connect(port)
    s.setblocking(False)
    waits = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
    data, end = b"", time.monotonic() + 60
    while time.monotonic() < end:
        data = data or next(frames, b"")
        try:
            if not s.recv(65536):
                break
            continue
        except waits:
            pass
        except OSError:
            break
        try:
            if data:
                data = data[s.send(data):]
                continue
        except waits:
            pass
        except OSError:
            break
        select.select([s], [s] if data else [], [], 1)
    else:
        check(False, "the server let the flood go on")
    s.close()


def test_floods_of_http2_frames_end_the_connection(tls):
    def resets():
        for i in range(1, 100000, 2):
            yield frame(1, 5, i, HEADERS) + frame(3, 0, i, struct.pack(">I", 8))

    def settings():
        for _ in range(100000):
            yield frame(4, 0, 0, b"\x00\x03\x00\x00\x00\x64" * 20)

    def continuations():
        yield frame(1, 0, 1, HEADERS)
        for _ in range(100000):
            yield frame(9, 0, 1, b"\x00\x01x\x01y" * 100)

    for frames in (resets, settings, continuations):
        flood(tls.port, frames())
    check(stats(tls)["rss_kib"] < 60000 or not MEASURED, "memory")


def test_a_drain_lets_the_running_request_finish(cert):
    for args, url, how in (([], "http", "--http1.1"), (cert, "https", "--http2")):
        probe = Probe(*args)
        idle = connect(probe.port)
        s = subprocess.Popen(["curl", "-sS", "-k", "-N", how, f"{url}://127.0.0.1:{probe.port}/events?n=60"],
                             stdout=subprocess.PIPE)
        check(s.stdout.readline().startswith(b"id: 60"), "no event")
        code = probe.stop()
        check(s.stdout.read().count(b"data: tick") == 60 and s.wait(10) == 0, f"{how}: cut")
        check(code == 0, f"exit {code}")
        idle.close()


def main():
    with tempfile.TemporaryDirectory() as d:
        cert = [d + "/cert.pem", d + "/key.pem"]
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                        "-keyout", cert[1], "-out", cert[0], "-subj", "/CN=localhost", "-days", "2"],
                       check=True, capture_output=True)
        big = d + "/big"
        with open(big, "wb") as f:
            f.truncate(24 << 20)
        plain, tls = Probe(), Probe(*cert)
        known = {"plain": plain, "tls": tls, "big": big, "cert": cert}
        bad = 0
        for name, test in list(globals().items()):
            if name.startswith("test_"):
                start = time.monotonic()
                try:
                    test(*[known[a] for a in test.__code__.co_varnames[:test.__code__.co_argcount]])
                    print(f"ok {name} {time.monotonic() - start:.1f} s")
                except (AssertionError, OSError, subprocess.SubprocessError) as e:
                    print("FAILED", name, e)
                    bad += 1
        for probe in (plain, tls):
            if probe.stop() != 0:
                print("FAILED: the server did not end well")
                bad += 1
        return bad != 0


sys.exit(main())
