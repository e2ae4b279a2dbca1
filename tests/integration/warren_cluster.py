"""A real `warren up` for tests and benchmarks: start, talk to it, look at its processes, stop it.

Only the standard library. Nothing here waits a fixed time: every wait is for a condition, with a
deadline after which it fails with what was last seen."""
import ctypes
import http.client
import json
import os
import pathlib
import shutil
import signal
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
BIN = pathlib.Path(os.environ.get("WARREN_BIN_DIR", ROOT / "build" / "dev" / "bin"))
API = "2025-10-02-preview"
LEGACY = "2024-02-02-preview"

sys.path.insert(0, str(ROOT / "tests" / "lib"))
import leaks  # noqa: E402


def find_image():
    """Folder of the guest image, or None."""
    if os.environ.get("WARREN_IMAGE"):
        return os.environ["WARREN_IMAGE"]
    out = subprocess.run([ROOT / "deploy" / "image" / "build", "--print-path"],
                         capture_output=True, text=True)
    return out.stdout.strip() if out.returncode == 0 else None


def why_not():
    """Why no cluster can run here; None when it can."""
    if os.geteuid() != 0:
        return "microVMs need root"
    for name in ("warren", "warren-worker", "warren-gateway"):
        if not (BIN / name).exists():
            return f"{BIN / name} is not built"
    if find_image() is None:
        return "there is no guest image (deploy/image/build makes one)"
    return None


def die_with_parent():
    """In a child before exec: SIGTERM when the parent ends, however it ends."""
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG


class Expired(AssertionError):
    pass


def wait_for(what, condition, timeout_s=30.0, pause_s=0.02):
    """Polls until condition() is true and returns its value."""
    deadline = time.monotonic() + timeout_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise Expired(f"{what}: not within {timeout_s} s (last: {value!r})")
        time.sleep(pause_s)


def pool(name, maximum=60, ready=5, cooldown_s=300, memory=None, quota=None):
    """A pool file's content."""
    properties = {
        "containerType": "PythonLTS",
        "poolManagementType": "Dynamic",
        "scaleConfiguration": {"maxConcurrentSessions": maximum, "readySessionInstances": ready},
        "dynamicPoolConfiguration": {"lifecycleConfiguration": {
            "lifecycleType": "Timed", "cooldownPeriodInSeconds": cooldown_s}},
        "sessionNetworkConfiguration": {"status": "EgressDisabled"},
    }
    if quota:
        properties["quotaConfiguration"] = quota
    if memory:
        properties["resources"] = {"cpu": 1, "memory": memory}
    return {"name": name, "properties": properties}


class Answer:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    @property
    def json(self):
        return json.loads(self.body)

    def code(self):
        """Code of an error answer, also when the body is something else."""
        try:
            return self.json["error"]["code"]
        except (ValueError, KeyError, TypeError):
            return None

    def __repr__(self):
        return f"<{self.status} {self.body[:300]!r}>"


class Client:
    """One keep-alive connection to a gateway. Not for several threads at once."""

    def __init__(self, url, ca_file=None, token=None, pool_name="python", timeout_s=300):
        self.url = urllib.parse.urlsplit(url)
        self.ca_file, self.token, self.pool, self.timeout_s = ca_file, token, pool_name, timeout_s
        self.connection = None

    def connect(self):
        if self.url.scheme == "https":
            context = ssl.create_default_context(cafile=self.ca_file)
            self.connection = http.client.HTTPSConnection(
                self.url.hostname, self.url.port, timeout=self.timeout_s, context=context)
        else:
            self.connection = http.client.HTTPConnection(
                self.url.hostname, self.url.port, timeout=self.timeout_s)
        self.connection.connect()

    def close(self):
        if self.connection is not None:
            self.connection.close()
            self.connection = None

    def target(self, where, api=API, **query):
        query = {"api-version": api, **query}
        return f"/pools/{self.pool}{where}?" + urllib.parse.urlencode(
            {k: v for k, v in query.items() if v is not None}, quote_via=urllib.parse.quote)

    def send(self, method, target, body=None, headers=None):
        """One request; the connection is made when there is none and closed on any error."""
        headers = dict(headers or {})
        if self.token and "Authorization" not in headers:
            headers["Authorization"] = f"Bearer {self.token}"
        try:
            if self.connection is None:
                self.connect()
            self.connection.request(method, target, body=body, headers=headers)
            r = self.connection.getresponse()
            answer = Answer(r.status, r.headers, r.read())
            if r.will_close:
                self.close()
            return answer
        except BaseException:
            self.close()
            raise

    def call(self, method, where, body=None, headers=None, api=API, **query):
        if isinstance(body, (dict, list)):
            body = json.dumps(body).encode()
            headers = {"Content-Type": "application/json", **(headers or {})}
        return self.send(method, self.target(where, api, **query), body, headers)

    def execute(self, identifier, code, timeout_s=None, operation=None, generation=None, **fields):
        """Flat API, synchronous."""
        body = {"code": code, "codeInputType": "inline", "executionType": "synchronous", **fields}
        if timeout_s is not None:
            body["timeoutInSeconds"] = timeout_s
        headers = {"operation-id": operation} if operation else {}
        if generation:
            headers["x-warren-if-generation"] = str(generation)
        return self.call("POST", "/executions", body, headers, identifier=identifier)

    def upload(self, identifier, name, data, api=API, path=None):
        body, kind = multipart(name, data)
        where = "/files/upload" if api == LEGACY else "/files"
        return self.call("POST", where, body, {"Content-Type": kind}, api=api,
                         identifier=identifier, path=path)

    def delete_session(self, identifier):
        return self.call("DELETE", "/session", identifier=identifier)


def multipart(name, data, boundary="warren-test-boundary"):
    head = (f"--{boundary}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"{name}\"\r\n"
            "Content-Type: application/octet-stream\r\n\r\n").encode()
    return (head + data + f"\r\n--{boundary}--\r\n".encode(),
            f"multipart/form-data; boundary={boundary}")


class Cluster:
    """`warren up` with folders of its own on free loopback ports."""

    def __init__(self, pools, options=(), templates=None):
        self.base = pathlib.Path(tempfile.mkdtemp(prefix="w."))  # short: socket paths are below it
        self.state, self.run = self.base / "state", self.base / "run"
        self.mark = os.environ.get("WARREN_TEST_MARK") or f"warren-test-{os.getpid()}"
        self.pools, self.options = pools, list(options)
        self.events, self.changed = [], threading.Condition()
        self.process = self.url = self.ca_file = None
        if templates is not None:  # booting a template is slow without KVM: keep them
            self.state.mkdir(mode=0o700)
            pathlib.Path(templates).mkdir(parents=True, exist_ok=True, mode=0o700)
            (self.state / "templates").symlink_to(templates)

    # --- start and stop

    def start(self, timeout_s=900):
        files = []
        for p in self.pools:
            path = self.base / f"{p['name']}.json"
            path.write_text(json.dumps(p))
            files += ["--pool", str(path)]
        command = [str(BIN / "warren"), "up", "--json", "--state-dir", str(self.state),
                   "--run-dir", str(self.run), "--image", find_image(),
                   "--listen", "127.0.0.1:0", "--worker-port", "0", *files, *self.options]
        with open(self.base / "up.log", "ab") as log:
            self.process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=log, text=True, preexec_fn=die_with_parent,
                env={**os.environ, "WARREN_TEST_MARK": self.mark})
        self.reader = threading.Thread(target=self._read_events, daemon=True)
        self.reader.start()
        ready = self.wait_event("ready", timeout_s)
        self.url, self.ca_file = ready["url"], ready.get("caFile")
        return self

    def _read_events(self):
        for line in self.process.stdout:
            event = json.loads(line)
            if event["event"] == "progress" and sys.stderr.isatty():
                print(f"  up: {event.get('from')}: {event.get('text')}", file=sys.stderr)
            with self.changed:
                self.events.append(event)
                self.changed.notify_all()
        with self.changed:
            self.events.append({"event": "end"})
            self.changed.notify_all()

    def wait_event(self, name, timeout_s=60, since=0, sender=None):
        """The first event of this name at or after index `since`."""
        def found():
            return next((e for e in self.events[since:] if e["event"] == name
                         and (sender is None or e.get("from") == sender)), None)
        deadline = time.monotonic() + timeout_s
        with self.changed:
            while found() is None:
                left = deadline - time.monotonic()
                if self.events[-1:] == [{"event": "end"}] or left <= 0:
                    raise Expired(f"no event {name!r}; events: {self.events[-8:]}\n{self.logs()}")
                self.changed.wait(left)
            return found()

    def wait_ready_again(self, sender, since, timeout_s=120):
        """A daemon that died is up again."""
        deadline = time.monotonic() + timeout_s
        with self.changed:
            while not any(e.get("from") == sender and e.get("text") == "ready"
                          for e in self.events[since:]):
                left = deadline - time.monotonic()
                if left <= 0:
                    raise Expired(f"{sender} did not come back: {self.events[since:]}\n{self.logs()}")
                self.changed.wait(left)

    def stop(self, timeout_s=120):
        """SIGTERM, as a user's Ctrl-C; returns the exit code."""
        if self.process is None:
            return None
        self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.kill_everything()
            raise
        self.reader.join()
        self.process.stdout.close()
        self.process = None
        return code

    def kill_everything(self):
        """Last resort of a failed test: nothing may stay on the machine."""
        for pid, _, _ in leaks.processes(None, str(self.base)):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass

    def left_behind(self):
        """What is left of this cluster beside its state folder, as lines."""
        out = [line for line in leaks.findings(None, str(self.base))
               if not line.startswith("file ")]
        run = [str(p) for p in self.run.rglob("*") if p.name != "up.lock" and not p.is_dir()]
        vms = [str(p) for p in self.run.glob("*/vm/*")]
        return out + [f"run folder: {p}" for p in run + vms]

    def remove(self):
        shutil.rmtree(self.base)

    # --- requests

    def cli(self, *args, **how):
        how = {"capture_output": True, **how}
        return subprocess.run([str(BIN / "warren"), *args, "--state-dir", str(self.state)], **how)

    def token(self, *args):
        return self.cli("token", *args, text=True, check=True).stdout.strip()

    def client(self, pool_name=None, token=None):
        return Client(self.url, self.ca_file, token if token is not None else self.token(),
                      pool_name or self.pools[0]["name"])

    # --- what runs

    def daemon(self, name):
        """Pid of the worker or gateway that `warren up` runs now, None when there is none."""
        children = leaks.read(f"/proc/{self.process.pid}/task/{self.process.pid}/children").split()
        for pid in children:
            try:
                if pathlib.Path(os.readlink(f"/proc/{int(pid)}/exe")).name == f"warren-{name}":
                    return int(pid)
            except OSError:
                continue
        return None

    def supervisors(self):
        """{pid: folder} of the supervisors of this cluster's QEMU processes."""
        found = {}
        for name in os.listdir("/proc"):
            if name.isdigit():
                words = leaks.read(f"/proc/{name}/cmdline").split(b"\0")
                if words[0].endswith(b"warren-supervisor") and b"--dir" in words:
                    folder = words[words.index(b"--dir") + 1].decode()
                    if folder.startswith(str(self.run)):
                        found[int(name)] = folder
        return found

    def qemus(self, record):
        """{supervisor pid: QEMU pid} where the folder's record begins with this."""
        out = {}
        for s, folder in self.supervisors().items():
            if not leaks.read(f"{folder}/record").startswith(record):
                continue
            for tid in list(os.listdir(f"/proc/{s}/task")) if os.path.isdir(f"/proc/{s}") else []:
                for pid in leaks.read(f"/proc/{s}/task/{tid}/children").split():
                    if b"qemu" in leaks.read(f"/proc/{int(pid)}/comm"):
                        out[s] = int(pid)
        return out

    def machines(self):
        """{supervisor pid: QEMU pid} of the microVMs that run."""
        return self.qemus(b"vm ")

    def spares(self):
        """{supervisor pid: QEMU pid} of the processes started ahead, without a guest."""
        return self.qemus(b"spare")

    def memory(self):
        """[(rss KiB, pss KiB)] of the QEMU processes."""
        out = []
        for pid in self.machines().values():
            fields = dict(line.split(":", 1) for line in
                          leaks.read(f"/proc/{pid}/smaps_rollup").decode().splitlines()[1:])
            if "Rss" in fields:
                out.append((int(fields["Rss"].split()[0]), int(fields["Pss"].split()[0])))
        return out

    def logs(self, size=3000):
        out = []
        for path in [self.base / "up.log", *sorted((self.state / "log").glob("*.log"))]:
            text = leaks.read(path).decode(errors="replace")
            if text:
                out.append(f"--- {path.name}\n{text[-size:]}")
        return "\n".join(out)
