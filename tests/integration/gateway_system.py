"""A gateway in front of echo workers, for tests. Only the standard library and the built programs."""
import http.client
import json
import os
import pathlib
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile

POOLS = ("python:PythonLTS:1000:mcp", "shell:Shell:100:mcp", "node:NodeLTS:5", "tiny:PythonLTS:1", "custom:CustomContainer:1",
         "more:PythonLTS:100:extended")
CLUSTER_KEY = "00112233445566778899aabbccddeeff"


class Answer:
    def __init__(self, response):
        self.status, self.headers, self.body = response.status, dict(response.getheaders()), response.read()
        self.headers = {k.lower(): v for k, v in self.headers.items()}

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def code(self):
        return self.json["error"]["code"]

    def __repr__(self):
        return f"<{self.status} {self.headers.get('content-type')} {self.body[:400]!r}>"


class Worker:
    def __init__(self, system, name):
        self.system, self.name, self.endpoints, self.process = system, name, None, None

    def start(self):
        args = [self.system.bin / "echo_worker", *self.system.worker_args]
        for pool in self.system.pools:
            args += ["--pool", pool]
        if self.system.secure:
            args += ["--key", self.system.dir / f"{self.name}.curve", "--clients", self.system.dir / "clients"]
        if self.endpoints:  # the same ports after a restart
            args += ["--ctl", self.endpoints[0], "--bulk", self.endpoints[1]]
        self.process = subprocess.Popen(args, stdout=subprocess.PIPE, text=True)
        self.endpoints = self.process.stdout.readline().split()
        assert len(self.endpoints) == 2, "the worker did not start"

    def kill(self):
        self.process.kill()
        self.process.wait(10)
        self.process.stdout.close()

    def stop(self):
        if self.process.poll() is None:
            self.process.terminate()
        code = self.process.wait(20)
        self.process.stdout.close()
        return code


class System:
    """secure: TLS, CURVE and tokens, with keys made by `warren keys` and `warren token`."""

    def __init__(self, bin_dir, workers=1, secure=False, more=(), pools=POOLS, worker_args=()):
        self.worker_args = worker_args
        self.bin, self.secure, self.more, self.pools = pathlib.Path(bin_dir), secure, more, pools
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="warren-test-gw-"))
        if secure:
            self.make_keys(workers)
        self.workers = [Worker(self, f"w{i + 1}") for i in range(workers)]
        for w in self.workers:
            w.start()
        self.port = 0  # any that is free; a gateway that is started again takes the same
        self.gateway = None
        self.write_config()
        try:
            self.start_gateway()
        except BaseException:  # a configuration that is refused
            self.stop()
            raise

    # ---- files ----

    def make_keys(self, workers):
        run = lambda *a: subprocess.run(a, check=True, capture_output=True, text=True).stdout
        run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout",
            self.dir / "key.pem", "-out", self.dir / "cert.pem", "-subj", "/CN=localhost", "-days", "2",
            "-addext", "subjectAltName=IP:127.0.0.1")
        state = self.dir / "state"
        state.mkdir(mode=0o700)
        names = ["gateway-g1"] + [f"worker-w{i + 1}" for i in range(workers)]
        keys = {n: json.loads(run(self.bin / "gateway_keytool", self.dir / f"{n.split('-')[1]}.curve")) for n in names}
        (self.dir / "clients").write_text(f"gateway g1 {keys['gateway-g1']['public']}\n")
        self.public = {n.split("-")[1]: k["public"] for n, k in keys.items()}

    def write_config(self):
        (self.dir / "cluster.key").write_text(CLUSTER_KEY + "\n")
        lines = ["name: g1", f"listen: 127.0.0.1:{self.port}", f"cluster_key: {self.dir}/cluster.key", "drain_s: 20"]
        if self.secure:
            lines += [f"tls_cert: {self.dir}/cert.pem", f"tls_key: {self.dir}/key.pem", "issuer: warren",
                      f"curve_secret: {self.dir}/g1.curve", f"jwks: {self.dir}/token.jwks"]
            (self.dir / "token.jwks").write_text(json.dumps({"keys": [self.jwk()]}))
        else:
            lines += ["insecure: true"]
        lines += [*(m.replace("DIR", str(self.dir)) for m in self.more), "workers:"]
        for i, w in enumerate(self.workers):
            lines += [f"  - {{id: {i + 1}, name: {w.name}, ctl: \"{w.endpoints[0]}\", bulk: \"{w.endpoints[1]}\", "
                      + (f"public_key: \"{self.public[w.name]}\", " if self.secure else "") + "weight: 1, zone: 0}"]
        (self.dir / "gateway.yaml").write_text("\n".join(lines) + "\n")

    # ---- tokens: ES256 by the openssl program ----

    def jwk(self):
        pem = self.dir / "token.pem"
        subprocess.run(["openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", pem], check=True)
        der = subprocess.run(["openssl", "ec", "-in", pem, "-pubout", "-outform", "DER"], check=True,
                             capture_output=True).stdout
        x, y = der[-64:-32], der[-32:]
        return {"kty": "EC", "crv": "P-256", "kid": "t1", "use": "sig", "alg": "ES256", "x": b64(x), "y": b64(y)}

    def token(self, **claims):
        import time
        now = int(time.time())
        body = {"iss": "warren", "aud": "https://dynamicsessions.io", "sub": "tester", "iat": now, "exp": now + 600,
                "roles": ["Session Executor"], **claims}
        body = {k: v for k, v in body.items() if v is not None}
        text = b64(json.dumps({"alg": "ES256", "kid": "t1"}).encode()) + "." + b64(json.dumps(body).encode())
        der = subprocess.run(["openssl", "dgst", "-sha256", "-sign", self.dir / "token.pem"], input=text.encode(),
                             check=True, capture_output=True).stdout
        return text + "." + b64(der_to_raw(der))

    # ---- processes ----

    def start_gateway(self):
        r, w = os.pipe()
        log = open(self.dir / "gateway.log", "ab")
        self.gateway = subprocess.Popen([self.bin / "warren-gateway", "--config", self.dir / "gateway.yaml",
                                         "--ready-fd", str(w)], pass_fds=[w], stderr=log)
        log.close()
        os.close(w)
        with os.fdopen(r) as f:
            event = json.loads(f.readline() or '{"event":"failed","text":"no word"}')
        assert event["event"] == "ready", event
        if self.port == 0:
            self.port = int(event["text"].rpartition(":")[2])
            self.write_config()

    def log(self):
        return (self.dir / "gateway.log").read_text()

    def log_with(self, text):
        """The log, when this is in it: a line is written behind its answer. The test's time limit ends a wait in vain."""
        while text not in (log := self.log()):
            pass
        return log

    def stop(self):
        """Exit codes of all; the folder is removed."""
        codes = []
        if self.gateway.poll() is None:
            self.gateway.send_signal(signal.SIGTERM)
        codes.append(self.gateway.wait(40))
        codes += [w.stop() for w in self.workers]
        shutil.rmtree(self.dir)
        return codes

    # ---- requests ----

    @property
    def url(self):
        return f"{'https' if self.secure else 'http'}://127.0.0.1:{self.port}"

    def connect(self, timeout=30):
        if self.secure:
            return http.client.HTTPSConnection("127.0.0.1", self.port, timeout=timeout,
                                               context=ssl.create_default_context(cafile=self.dir / "cert.pem"))
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)

    def request(self, method, path, body=None, headers=None, timeout=30):
        c = self.connect(timeout)
        try:
            if isinstance(body, (dict, list)):
                body = json.dumps(body)
            c.request(method, path, body=body, headers=headers or {})
            return Answer(c.getresponse())
        finally:
            c.close()


def b64(data):
    import base64
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def der_to_raw(der):
    """ECDSA signature: ASN.1 to r and s of 32 bytes."""
    at, out = 2, b""
    for _ in range(2):
        n = der[at + 1]
        out += der[at + 2:at + 2 + n].lstrip(b"\0").rjust(32, b"\0")
        at += 2 + n
    return out


def memory_counts(program):
    """False for a program with a sanitizer, which has much memory of its own."""
    data = pathlib.Path(program).read_bytes()
    return b"__asan_init" not in data and b"__tsan_init" not in data


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def form(name, filename, data, boundary="xyz"):
    """A multipart body and its content type."""
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"; filename="{filename}"\r\n' \
           "Content-Type: application/octet-stream\r\n\r\n"
    return head.encode() + data + f"\r\n--{boundary}--\r\n".encode(), f"multipart/form-data; boundary={boundary}"


def eq(got, want):
    assert got == want, f"{got!r} is not {want!r}"


def run_tests(scope, **known):
    """Runs the test_ functions of a module with what their parameters name; 0 when all passed."""
    import time
    import traceback
    bad = 0
    for name, test in list(scope.items()):
        if not name.startswith("test_"):
            continue
        start = time.monotonic()
        try:
            test(*[known[a] for a in test.__code__.co_varnames[:test.__code__.co_argcount]])
            print(f"ok {name} {time.monotonic() - start:.1f} s", flush=True)
        except Exception:  # noqa: BLE001
            traceback.print_exc()
            print("FAILED", name, flush=True)
            bad += 1
    return bad


def conclude(bad, *systems):
    """Stops the systems, tells what they logged when tests were bad; the program's exit code."""
    for s in systems:
        if bad:
            print(s.log()[-3000:])
        codes = s.stop()
        if any(codes):
            print("FAILED: exit codes", codes)
            bad += 1
    return bad != 0
