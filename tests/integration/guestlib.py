"""Host side of the guest channel for tests: frames, attach, calls, executions, files."""

import atexit
import os
import pathlib
import select
import socket
import struct
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
WINDOW = 256 << 10
PAYLOAD_MAX = 32760
RESYNC = 32768 + 8
TYPES = "NONE HELLO OPEN DATA FIN RST CREDIT EVENT EVENT_MORE RESULT CALL REPLY PING PONG".split()
HELLO, OPEN, DATA, FIN, RST, CREDIT, EVENT, EVENT_MORE, RESULT, CALL, REPLY, PING, PONG = range(1, 14)
ERR = {"NOMEM": -1001, "FULL": -1002, "BADMSG": -1003, "IO": -1004, "INVAL": -1005, "TOOBIG": -1006,
       "NOTFOUND": -1009, "EXISTS": -1010, "DENIED": -1011, "STATE": -1014}
PYTHON, NODE, SHELL = 1, 2, 3
STDOUT, STDERR, DISPLAY, VALUE, ERROR, DONE = range(1, 7)
OK, FAILED, TIMEOUT, INTERRUPTED, DIED, OOM = range(1, 7)


def load_messages():
    """The generated classes of proto/guest.proto."""
    folder = tempfile.mkdtemp(prefix="warren-pb-")
    try:
        subprocess.run(["protoc", "--proto_path", str(ROOT), "--python_out", folder,
                        "proto/guest.proto"], check=True)
        sys.path.insert(0, folder)
        import proto.guest_pb2 as pb
        return pb
    finally:
        subprocess.run(["rm", "-rf", folder], check=True)


pb = load_messages()


class Refused(Exception):
    def __init__(self, code, text):
        super().__init__(f"{code}: {text}")
        self.code = code


class Closed(Exception):
    pass


def frame(kind, stream, payload=b""):
    return struct.pack("<BBHI", 0xA5, kind, len(payload), stream) + payload


class Port:
    """One connection to one port."""

    def __init__(self, path, timeout=120):
        self.path, self.timeout = path, timeout
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(path)
        self.buffer = bytearray()
        self.queues = {}
        self.next_stream = 0
        self.next_call = 0

    def close(self):
        self.sock.close()

    def send(self, data):
        self.sock.settimeout(self.timeout)
        self.sock.sendall(data)

    def read_frame(self, timeout=None):
        """The next (type, stream, payload)."""
        end = time.monotonic() + (self.timeout if timeout is None else timeout)
        while True:
            got = self.parse()
            if got:
                return got
            left = end - time.monotonic()
            if left <= 0 or not select.select([self.sock], [], [], left)[0]:
                raise TimeoutError("no frame from the agent")
            more = self.sock.recv(1 << 18)
            if not more:
                raise Closed("the agent closed the port")
            self.buffer += more

    def parse(self):
        b = self.buffer
        start = b.find(0xA5)
        del b[: len(b) if start < 0 else start]
        if len(b) < 8:
            return None
        _, kind, size, stream = struct.unpack_from("<BBHI", b)
        if not 0 < kind < 14 or size > PAYLOAD_MAX:
            del b[:1]
            return self.parse()
        if len(b) < 8 + size:
            return None
        payload = bytes(b[8 : 8 + size])
        del b[: 8 + size]
        return kind, stream, payload

    def attach(self, timeout=None, junk=b""):
        nonce = os.urandom(8)
        self.send(junk + bytes(RESYNC) + frame(HELLO, 0, nonce))
        self.next_stream = 0
        self.queues.clear()
        while True:
            kind, _, payload = self.read_frame(timeout)
            if kind == HELLO and payload[:8] == nonce:
                return pb.GuestHello.FromString(payload[8:])

    def wait(self, key, timeout=None):
        """The next frame of a stream (or ("call", n), "pong"); others are kept for who asks."""
        while not self.queues.get(key):
            kind, stream, payload = self.read_frame(timeout)
            to = ("call", stream) if kind == REPLY else "pong" if kind == PONG else stream
            self.queues.setdefault(to, []).append((kind, payload))
        return self.queues[key].pop(0)

    def open(self, what, more=b""):
        """Starts a stream; more are frames that go out in the same write."""
        self.next_stream += 1
        n = self.next_stream
        self.send(frame(OPEN, n, what.SerializeToString()) + (more(n) if more else b""))
        return n

    def call(self, reply=True, **what):
        self.next_call += 1
        n = self.next_call
        self.send(frame(CALL, n, pb.GuestCall(**what).SerializeToString()))
        if reply:
            return pb.GuestReply.FromString(self.wait(("call", n))[1])
        return n

    def ping(self, payload=b"x" * 16):
        self.send(frame(PING, 0, payload))
        assert self.wait("pong")[1] == payload


def cut(data, size=PAYLOAD_MAX):
    return [data[i : i + size] for i in range(0, len(data), size)]


class Outcome:
    """The events of an execution, sorted out."""

    def __init__(self, events):
        self.events = events
        self.stdout = b"".join(e.data for e in events if e.kind == STDOUT)
        self.stderr = b"".join(e.data for e in events if e.kind == STDERR)
        self.displays = [{m.type: m.data for m in e.mime} for e in events if e.kind == DISPLAY]
        values = [{m.type: m.data for m in e.mime} for e in events if e.kind == VALUE]
        self.has_value = bool(values)
        self.value = values[0] if values else None
        self.text = values[0].get("text/plain", b"").decode() if values else None
        errors = [e for e in events if e.kind == ERROR]
        self.error = errors[0].error_name if errors else None
        self.error_value = errors[0].error_value if errors else None
        self.traceback = errors[0].data.decode() if errors else None
        self.done = events[-1].done if events and events[-1].kind == DONE else None
        self.status = self.done.status if self.done else None
        seqs = [e.seq for e in events]
        assert seqs == list(range(seqs[0], seqs[0] + len(seqs))), seqs


class Guest:
    """Both ports, attached."""

    def __init__(self, ctl, bulk, timeout=120, seed=True):
        self.paths = ctl, bulk
        self.timeout = timeout
        self.connect()
        if seed:
            self.seed()

    def connect(self):
        self.ctl, self.bulk = (Port(p, self.timeout) for p in self.paths)
        self.hello = self.ctl.attach()
        self.bulk.attach()

    def reconnect(self):
        self.close()
        self.connect()

    def close(self):
        self.ctl.close()
        self.bulk.close()

    def seed(self, stage=1, kernels=(), **more):
        more.setdefault("real_ns", time.time_ns())
        seed = pb.GuestSeed(stage=stage, seed=os.urandom(64), hostname="session", isolation="tcg",
                            machine_id=os.urandom(16), kernels=kernels, **more)
        reply = self.ctl.call(seed=seed)
        assert reply.code == 0, reply
        return reply

    # executions

    def start(self, code, kernel=PYTHON, id=None, timeout_ms=60000, **more):
        code = code.encode() if isinstance(code, str) else code
        more.setdefault("stdout_max", 1 << 20)
        more.setdefault("stderr_max", 1 << 20)
        id = id or os.urandom(16)
        e = pb.GuestExec(id=id, kernel=kernel, timeout_ms=timeout_ms, **more)
        if len(code) < 200000:
            tail = lambda n: b"".join(frame(DATA, n, c) for c in cut(code)) + frame(FIN, n)
            stream = self.ctl.open(pb.GuestOpen(exec=e), tail)
        else:
            stream = self.ctl.open(pb.GuestOpen(exec=e))
            self.send_data(self.ctl, stream, [code])
        return id, stream

    def send_data(self, port, stream, chunks):
        """DATA under credit, then FIN."""
        left = WINDOW
        for chunk in chunks:
            for piece in cut(chunk):
                while left < len(piece):
                    left += self.credit(port, stream)
                port.send(frame(DATA, stream, piece))
                left -= len(piece)
        port.send(frame(FIN, stream))

    def credit(self, port, stream):
        kind, payload = port.wait(stream)
        if kind == RST:
            raise Refused(struct.unpack("<i", payload[:4])[0], payload[4:].decode())
        assert kind == CREDIT, TYPES[kind]
        return struct.unpack("<I", payload)[0]

    def event(self, stream, timeout=None):
        """The next event, or None at the end of the stream."""
        data = b""
        while True:
            kind, payload = self.ctl.wait(stream, timeout)
            if kind == FIN:
                return None
            if kind == RST:
                raise Refused(struct.unpack("<i", payload[:4])[0], payload[4:].decode())
            if kind == CREDIT:
                continue
            assert kind in (EVENT, EVENT_MORE), TYPES[kind]
            data += payload
            if kind == EVENT:
                return pb.GuestEvent.FromString(data)

    def events(self, id, stream, ack=True, timeout=None):
        while True:
            e = self.event(stream, timeout)
            if e is None:
                return
            if ack:
                self.ack(id, e.seq)
            yield e

    def ack(self, id, seq):
        self.ctl.call(reply=False, event_ack=pb.GuestEventAck(id=id, seq=seq))

    def forget(self, id):
        self.ctl.call(reply=False, forget=pb.GuestForget(id=id))

    def interrupt(self, id):
        return self.ctl.call(interrupt=pb.GuestInterrupt(id=id)).code

    def run(self, code, kernel=PYTHON, **more):
        id, stream = self.start(code, kernel, **more)
        outcome = Outcome(list(self.events(id, stream)))
        self.forget(id)
        return outcome

    def resume(self, id, after=0):
        return self.ctl.open(pb.GuestOpen(resume=pb.GuestResume(id=id, after_seq=after)))

    # files

    def put(self, path, chunks, size_max=1 << 30, absolute=False):
        chunks = [chunks] if isinstance(chunks, bytes) else chunks
        what = pb.GuestOpen(put=pb.GuestPut(path=path, size_max=size_max, absolute=absolute))
        stream = self.bulk.open(what)
        self.send_data(self.bulk, stream, chunks)
        return self.result(stream)

    def result(self, stream):
        while True:
            kind, payload = self.bulk.wait(stream)
            if kind == RST:
                raise Refused(struct.unpack("<i", payload[:4])[0], payload[4:].decode())
            if kind == RESULT:
                r = pb.GuestResult.FromString(payload)
                if r.code != 0:
                    assert self.bulk.wait(stream)[0] == FIN
                    raise Refused(r.code, r.text)
                return r

    def get(self, path, **more):
        stream = self.bulk.open(pb.GuestOpen(get=pb.GuestGet(path=path, **more)))
        self.info = self.result(stream).file
        return b"".join(self.data(stream))

    def data(self, stream):
        while True:
            kind, payload = self.bulk.wait(stream)
            if kind == FIN:
                return
            if kind == RST:
                raise Refused(struct.unpack("<i", payload[:4])[0], payload[4:].decode())
            assert kind == DATA, TYPES[kind]
            yield payload
            self.bulk.send(frame(CREDIT, stream, struct.pack("<I", len(payload))))

    def list(self, path="", recursive=False, entries_max=0, absolute=False):
        what = pb.GuestList(path=path, recursive=recursive, entries_max=entries_max,
                            absolute=absolute)
        stream = self.bulk.open(pb.GuestOpen(list=what))
        entries, self.truncated = [], False
        while True:
            kind, payload = self.bulk.wait(stream)
            if kind == FIN:
                return entries
            r = pb.GuestResult.FromString(payload)
            if r.code != 0:
                assert self.bulk.wait(stream)[0] == FIN
                raise Refused(r.code, r.text)
            entries += r.entries
            self.truncated = self.truncated or r.truncated

    def stat(self, path, absolute=False):
        stream = self.bulk.open(pb.GuestOpen(stat=pb.GuestStat(path=path, absolute=absolute)))
        r = self.result(stream)
        assert self.bulk.wait(stream)[0] == FIN
        return r.file

    def delete(self, path, absolute=False):
        stream = self.bulk.open(pb.GuestOpen(delete=pb.GuestDelete(path=path, absolute=absolute)))
        self.result(stream)
        assert self.bulk.wait(stream)[0] == FIN


class HostAgent:
    """warren-guest as an ordinary process with two listening sockets in place of QEMU's."""

    def __init__(self, program, boot="python,shell", user=None, kernels=None):
        self.dir = tempfile.mkdtemp(prefix="warren-guest-")
        self.data = os.path.join(self.dir, "data")
        self.state = os.path.join(self.dir, "state")
        for d in (self.data, self.state):
            os.mkdir(d)
        os.chmod(self.dir, 0o755)
        if user is not None:
            os.chown(self.data, user, user)
            os.chown(self.state, user, user)
        self.paths, fds = [], []
        self.sockets = []
        for name in ("ctl", "bulk"):
            s = socket.socket(socket.AF_UNIX)
            path = os.path.join(self.dir, name)
            s.bind(path)
            s.listen(4)
            s.setblocking(False)
            self.paths.append(path)
            self.sockets.append(s)
            fds.append(s.fileno())
        argv = [program, "--test-ctl", str(fds[0]), "--test-bulk", str(fds[1]), "--root", self.data,
                "--state", self.state, "--kernels", kernels or str(ROOT / "worker/guest/kernels"),
                "--boot", boot]
        if user is not None:
            argv += ["--user", str(user)]
        env = {k: v for k, v in os.environ.items() if k.startswith(("ASAN", "UBSAN", "PATH"))}
        self.log = open(os.path.join(self.dir, "log"), "w+")
        self.closed = False
        atexit.register(self.close)
        self.process = subprocess.Popen(argv, pass_fds=fds, stderr=self.log, env=env)
        for s in self.sockets:
            s.close()

    def guest(self, **more):
        return Guest(*self.paths, **more)

    def close(self):
        """Ends the agent; true when it ended well."""
        if self.closed:
            return True
        self.closed = True
        self.process.terminate()
        try:
            code = self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = self.process.wait()
        self.log.seek(0)
        text = self.log.read()
        self.log.close()
        subprocess.run(["rm", "-rf", self.dir], check=True)
        if code != 0:
            print(f"the agent ended with {code}\n{text}", file=sys.stderr)
        return code == 0
