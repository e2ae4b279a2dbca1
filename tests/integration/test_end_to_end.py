#!/usr/bin/python3
"""The whole path, real from end to end: client, gateway, worker, QEMU, guest.

Starts `warren up` with folders of its own on free ports and talks to it like a client would. Needs
root, a guest image and the built programs; skips (77) with the reason otherwise."""
import base64
import concurrent.futures
import hashlib
import http.client
import json
import mmap
import os
import pathlib
import signal
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import threading
import time
import unittest
import uuid

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from warren_cluster import (LEGACY, Cluster, leaks, multipart, pool, wait_for,  # noqa: E402
                            why_not)

TEMPLATES = os.environ.get("WARREN_TEST_TEMPLATES")
CLONES = 100
# Starting Node costs seconds of CPU under emulation: every so many clones do it.
NODE_EVERY = int(os.environ.get("WARREN_TEST_NODE_EVERY", 4))
cluster = None


def setUpModule():
    global cluster
    cluster = Cluster([pool("python", maximum=60, ready=5),
                       pool("small", maximum=2, ready=1, quota={"maxConcurrentExecutionsPerTenant": 1})],
                      templates=TEMPLATES)
    try:
        cluster.start()
    except BaseException:
        cluster.kill_everything()
        raise


def tearDownModule():
    """The last test: an orderly stop leaves nothing."""
    code = cluster.stop()
    left = cluster.left_behind()
    if code != 0 or left:
        logs = cluster.logs()
        cluster.kill_everything()
        raise AssertionError(f"exit code {code}, left behind: {left}\n{logs}")
    cluster.remove()


def new_id(prefix="test"):
    return f"{prefix}-{uuid.uuid4()}"


def machines_cpu():
    """Clock ticks that each QEMU process has used, by pid."""
    out = {}
    for pid in cluster.machines().values():
        fields = leaks.stat_fields(pid)
        out[pid] = int(fields[11]) + int(fields[12]) if fields else 0
    return out


class Base(unittest.TestCase):
    def setUp(self):
        self.client = cluster.client()
        self.ids = []

    def tearDown(self):
        for identifier in self.ids:
            self.client.delete_session(identifier)
        self.client.close()

    def session(self, prefix="test"):
        identifier = new_id(prefix)
        self.ids.append(identifier)
        return identifier

    def run_ok(self, identifier, code, client=None, **how):
        """Executes code that must succeed; returns the result object."""
        a = (client or self.client).execute(identifier, code, **how)
        self.assertIn(a.status, (200, 202), a)
        self.assertEqual(a.json["status"], "Succeeded", a)
        return a.json["result"]

    def assert_works(self):
        """A fresh session does its work: nobody else's trouble reaches it."""
        self.assertEqual(self.run_ok(self.session(), "6 * 7")["executionResult"], 42)


class Executions(Base):
    def test_emulated_code_may_lie_in_huge_pages(self):
        """There are more pages of it than a processor's TLB has entries."""
        for pid in cluster.machines().values():
            emulated = b"\0tcg\0" in leaks.read(f"/proc/{pid}/cmdline")
            self.assertEqual(b"THP_enabled:\t1" in leaks.read(f"/proc/{pid}/status"), emulated)

    def test_flat_answer_has_the_documented_shape(self):
        a = self.client.execute(self.session(), "print('out'); 1 + 1")
        self.assertIn(a.status, (200, 202), a)
        doc = a.json
        self.assertEqual(doc["status"], "Succeeded")
        self.assertEqual(doc["identifier"], self.ids[-1])
        self.assertTrue(doc["id"])
        self.assertEqual(doc["result"]["stdout"], "out\n")
        self.assertEqual(doc["result"]["stderr"], "")
        self.assertEqual(doc["result"]["executionResult"], 2)
        self.assertGreaterEqual(doc["result"]["executionTimeInMilliseconds"], 0)
        self.assertTrue(a.headers["operation-id"])

    def test_state_lives_on_between_executions(self):
        s = self.session()
        self.run_ok(s, "import pandas as pd\nx = pd.Series([1, 2, 3])")
        self.assertEqual(self.run_ok(s, "int(x.sum())")["executionResult"], 6)

    def test_values_are_rendered_as_documented(self):
        s = self.session()
        for code, want in (("None", None), ("x = 1", ""), ("float('nan')", "nan"),
                           ("'nan'", "'nan'"), ("[1, 'a']", None), ("{'a': 1}", None)):
            got = self.run_ok(s, code)["executionResult"]
            if code in ("[1, 'a']", "{'a': 1}"):
                self.assertIn("a", json.dumps(got))
            else:
                self.assertEqual(got, want, code)

    def test_code_that_raises_is_failed_with_its_traceback(self):
        s = self.session()
        a = self.client.execute(s, "print('before')\n1 / 0")
        self.assertIn(a.status, (200, 202), a)
        self.assertEqual(a.json["status"], "Failed")
        self.assertIn("ZeroDivisionError", a.json["result"]["stderr"])
        self.assertEqual(a.json["result"]["stdout"], "before\n")
        self.assertEqual(self.run_ok(s, "2")["executionResult"], 2)

    def test_a_figure_comes_back_as_png(self):
        s = self.session()
        code = "import matplotlib.pyplot as plt\nplt.plot([1, 3, 2])\nplt.show()"
        image = self.run_ok(s, code)["executionResult"]
        self.assertEqual((image["type"], image["format"]), ("image", "png"))
        self.assertTrue(base64.b64decode(image["base64_data"]).startswith(b"\x89PNG\r\n\x1a\n"))

    def test_wrapped_body_and_base64_code_are_accepted(self):
        s = self.session()
        code = base64.b64encode(b"40 + 2").decode()
        a = self.client.call("POST", "/executions", {"properties": {
            "code": code, "codeInputType": "InlineBase64", "executionType": "Synchronous"}},
            identifier=s)
        self.assertIn(a.status, (200, 202), a)
        self.assertEqual(a.json["result"]["executionResult"], 42)

    def test_legacy_answer_has_the_documented_shape(self):
        s = self.session()
        a = self.client.call("POST", "/code/execute", {"properties": {
            "codeInputType": "inline", "executionType": "synchronous",
            "code": "print('out'); 1 + 1"}}, api=LEGACY, identifier=s)
        self.assertIn(a.status, (200, 202), a)
        p = a.json["properties"]
        self.assertEqual(p["status"], "Success")
        self.assertEqual((p["stdout"], p["stderr"]), ("out\n", ""))
        self.assertEqual((p["result"], p["executionResult"]), (2, 2))
        a = self.client.call("POST", "/code/execute", {"properties": {
            "codeInputType": "inline", "executionType": "synchronous", "code": "1 / 0"}},
            api=LEGACY, identifier=s)
        self.assertEqual(a.json["properties"]["status"], "Failure")
        self.assertIn("ZeroDivisionError", a.json["properties"]["stderr"])

    def test_an_operation_id_runs_once(self):
        s, operation = self.session(), str(uuid.uuid4())
        code = "n = globals().get('n', 0) + 1\nn"
        first = self.client.execute(s, code, operation=operation)
        again = self.client.execute(s, code, operation=operation)
        self.assertEqual(first.json["result"]["executionResult"], 1)
        self.assertEqual(again.json["result"]["executionResult"], 1)
        self.assertEqual(self.run_ok(s, "n")["executionResult"], 1)

    def test_a_key_with_other_code_is_refused_and_runs_nothing(self):
        s, key = self.session(), str(uuid.uuid4())
        code = "n = globals().get('n', 0) + 1\nn"
        first = self.client.execute(s, code, operation=key)
        self.assertEqual(first.json["result"]["executionResult"], 1)
        for body in ({"code": "n = 100"}, {"code": code, "timeoutInSeconds": 60}, {"code": code, "useEmptyKernel": True},
                     {"code": "n = 100", "executionType": "Asynchronous"}, {"shellCommand": "echo"}):
            for path, api in (("/executions", None), ("/code/execute", LEGACY)):
                a = self.client.call("POST", path, {"properties": body}, {"Idempotency-Key": f'"{key}"'},
                                     **({"api": api} if api else {}), identifier=s)
                self.assertEqual((a.status, a.code()), (422, "IdempotencyKeyReused"), a)
        again = self.client.call("GET", f"/executions/{key}", identifier=s)
        self.assertEqual(again.json["result"]["executionResult"], 1)
        self.assertEqual(self.run_ok(s, "n")["executionResult"], 1)

    def test_the_isolation_class_is_told(self):
        a = self.client.execute(self.session(), "1")
        self.assertIn(a.headers["x-warren-isolation"], ("kvm", "tcg"))
        self.assertTrue(a.headers["x-warren-generation"])


class Files(Base):
    def test_a_file_goes_in_and_comes_out_again(self):
        s, data = self.session(), os.urandom(3 << 20)
        a = self.client.upload(s, "blob.bin", data)
        self.assertEqual(a.status, 200, a)
        self.assertEqual(a.json["name"], "blob.bin")
        self.assertEqual(a.json["type"], "file")
        self.assertEqual(a.json["sizeInBytes"], len(data))
        a = self.client.call("GET", "/files/blob.bin/content", identifier=s)
        self.assertEqual(a.status, 200)
        self.assertEqual(a.body, data)
        a = self.client.call("GET", "/files/blob.bin", identifier=s)
        self.assertEqual(a.json["sizeInBytes"], len(data))
        code = "import hashlib; hashlib.sha256(open('/mnt/data/blob.bin','rb').read()).hexdigest()"
        self.assertEqual(self.run_ok(s, code)["executionResult"].strip("'"),
                         hashlib.sha256(data).hexdigest())

    def test_128_mb_go_in_and_out_while_no_process_grows(self):
        """The bounds are those that the READMEs of gateway and worker state."""
        s, data = self.session(), os.urandom(1 << 20) * 128
        agent = "next(x for x in open('/proc/1/status') if x.startswith('VmHWM')).split()[1]"
        before_agent = int(self.run_ok(s, agent)["executionResult"].strip("'"))
        pids = {name: cluster.daemon(name) for name in ("gateway", "worker")}
        for pid in pids.values():
            pathlib.Path(f"/proc/{pid}/clear_refs").write_text("5")  # the peak starts anew
        before = {name: leaks.kib(pid, "VmRSS") for name, pid in pids.items()}
        self.assertEqual(self.client.upload(s, "big.bin", data).status, 200)
        code = "import hashlib; hashlib.file_digest(open('/mnt/data/big.bin','rb'), 'md5').hexdigest()"
        self.assertEqual(self.run_ok(s, code)["executionResult"].strip("'"),
                         hashlib.md5(data).hexdigest())
        a = self.client.call("GET", "/files/big.bin/content", identifier=s)
        self.assertEqual((a.status, a.body == data), (200, True), a.status)
        grown = {name: leaks.kib(pid, "VmHWM") - before[name] for name, pid in pids.items()}
        grown["agent"] = int(self.run_ok(s, agent)["executionResult"].strip("'")) - before_agent
        print(f"  128 MB in and out: grown by {grown} KiB", file=sys.stderr)
        for name, kib in grown.items():
            self.assertLess(kib, 8 << 10, name)

    def test_listing_of_an_unknown_session_is_empty(self):
        a = self.client.call("GET", "/files", identifier=self.session())
        self.assertEqual((a.status, a.json["value"]), (200, []))

    def test_files_are_listed_and_deleted(self):
        s = self.session()
        self.client.upload(s, "one.txt", b"1")
        self.run_ok(s, "open('/mnt/data/two.txt', 'w').write('22')")
        names = {f["name"]: f["sizeInBytes"]
                 for f in self.client.call("GET", "/files", identifier=s).json["value"]}
        self.assertEqual(names, {"one.txt": 1, "two.txt": 2})
        self.assertEqual(self.client.call("DELETE", "/files/one.txt", identifier=s).status, 204)
        self.assertEqual(self.client.call("GET", "/files/one.txt", identifier=s).status, 404)
        a = self.client.call("GET", "/files/none.txt/content", identifier=s)
        self.assertEqual(a.status, 404)

    def test_legacy_shapes(self):
        s = self.session()
        a = self.client.upload(s, "data.csv", b"a,b\n1,2\n", api=LEGACY)
        self.assertEqual(a.status, 200, a)
        self.assertEqual(a.json["value"][0]["properties"]["filename"], "data.csv")
        self.assertEqual(a.json["value"][0]["properties"]["size"], 8)
        a = self.client.call("GET", "/files", api=LEGACY, identifier=s)
        self.assertEqual([f["properties"]["filename"] for f in a.json["value"]], ["data.csv"])
        a = self.client.call("GET", "/files/content/data.csv", api=LEGACY, identifier=s)
        self.assertEqual(a.body, b"a,b\n1,2\n")

    def test_the_command_line_copies_and_runs(self):
        s = self.session()
        with tempfile.TemporaryDirectory() as d:
            source, target = pathlib.Path(d, "in.bin"), pathlib.Path(d, "out.bin")
            source.write_bytes(os.urandom(5 << 20))
            up = cluster.cli("cp", str(source), f"{s}:/in.bin")
            self.assertEqual(up.returncode, 0, up)
            down = cluster.cli("cp", f"{s}:/in.bin", str(target))
            self.assertEqual(down.returncode, 0, down)
            self.assertEqual(source.read_bytes(), target.read_bytes())
            piped = cluster.cli("cp", "-", f"{s}:/p.txt", input=b"from a pipe")
            self.assertEqual(piped.returncode, 0, piped)
            back = cluster.cli("cp", f"{s}:/p.txt", "-")
            self.assertEqual(back.stdout, b"from a pipe")
            code = ("import matplotlib.pyplot as plt\nprint('hello')\nplt.plot([1, 2])\nplt.show()")
            run = cluster.cli("exec", "--id", s, "--save-images", d, code)
            self.assertEqual((run.returncode, run.stdout), (0, b"hello\n"), run)
            self.assertTrue(pathlib.Path(d, "figure-1.png").read_bytes().startswith(b"\x89PNG"))
            failed = cluster.cli("exec", "--id", s, "raise ValueError('no')")
            self.assertEqual(failed.returncode, 1)
            self.assertIn(b"ValueError: no", failed.stderr)
            missing = cluster.cli("cp", f"{s}:/none.txt", str(target))
            self.assertEqual(missing.returncode, 5, missing)
            self.assertEqual(cluster.cli("sessions", "get", s).returncode, 0)
            self.assertEqual(cluster.cli("sessions", "stop", s).returncode, 0)


class Sessions(Base):
    def test_get_and_delete(self):
        s = self.session()
        self.run_ok(s, "x = 1")
        a = self.client.call("GET", "/session", identifier=s)
        self.assertEqual(a.status, 200, a)
        self.assertEqual(a.json["identifier"], s)
        for field in ("createdAt", "lastAccessedAt", "expireAt", "etag"):
            self.assertTrue(a.json[field], field)
        self.assertEqual(self.client.delete_session(s).status, 204)
        a = self.client.execute(s, "x")
        self.assertEqual(a.json["status"], "Failed")
        self.assertIn("NameError", a.json["result"]["stderr"])

    def test_asking_does_not_allocate(self):
        s = new_id()
        a = self.client.call("GET", "/session", identifier=s)
        self.assertIn(a.status, (400, 404), a)
        self.assertTrue(a.code(), a)

    def one_execution_each(self, small, ids):
        """The small pool's quotaConfiguration: a second one at a time is refused, to that tenant."""
        other = cluster.client("small", token=cluster.token("--tenant", "other"))
        operation = new_id("run")
        a = small.execute(ids[0], "import time; time.sleep(100)", operation=operation,
                          executionType="asynchronous")
        self.assertEqual(a.status, 202, a)
        a = small.execute(ids[1], "1")
        self.assertEqual((a.status, a.code()), (429, "QuotaExceeded"), a)
        self.assertGreater(int(a.headers["Retry-After"]), 0)
        self.run_ok(ids[1], "1", client=other)
        a = small.call("POST", f"/executions/{operation}/cancel", identifier=ids[0])
        self.assertEqual(a.status, 202, a)
        wait_for("the end of the canceled one", lambda: small.execute(ids[1], "1").status == 200)
        other.close()

    def test_a_full_pool_says_when_to_come_again(self):
        small = cluster.client("small")
        ids = [new_id("small") for _ in range(3)]
        try:
            for s in ids[:2]:
                self.run_ok(s, "1", client=small)
            a = small.execute(ids[2], "1")
            self.assertEqual(a.status, 429, a)
            self.assertGreater(int(a.headers["Retry-After"]), 0)
            self.assertTrue(a.code())
            self.one_execution_each(small, ids)
            self.assertEqual(small.delete_session(ids[0]).status, 204)
            wait_for("room in the small pool",
                     lambda: small.execute(ids[2], "1").status in (200, 202))
        finally:
            for s in ids:
                small.delete_session(s)
            small.close()


class Waiting(Base):
    """Requests whose microVM is not there yet. The QEMU processes that wait without a guest stand still
    meanwhile, so the pool's next instance takes as long as the test likes."""

    def setUp(self):
        super().setUp()
        self.small = cluster.client("small")
        self.addCleanup(self.small.close)
        self.first, self.waits = new_id("small"), new_id("small")
        wait_for("QEMU processes started ahead", lambda: len(cluster.spares()) >= 2)
        self.stopped = list(cluster.spares().values())
        for pid in self.stopped:
            os.kill(pid, signal.SIGSTOP)
        self.addCleanup(self.go_on)
        self.run_ok(self.first, "1", client=self.small)  # takes the ready one

    def go_on(self):
        for pid in self.stopped:
            os.kill(pid, signal.SIGCONT)
        self.stopped = []

    def tearDown(self):
        self.go_on()
        for s in (self.first, self.waits):
            self.small.delete_session(s)
        super().tearDown()

    def state(self, operation):
        """(HTTP status, the execution's status or the error)."""
        a = self.small.call("GET", f"/executions/{operation}", identifier=self.waits)
        return a.status, a.json.get("status", a.json)

    def test_what_was_canceled_before_it_had_a_microvm_never_runs(self):
        operation = new_id("run")
        code = "open('/mnt/data/ran', 'a').write('x')"
        with concurrent.futures.ThreadPoolExecutor(1) as threads:
            other = cluster.client("small", token=self.small.token)
            answer = threads.submit(other.execute, self.waits, code, operation=operation,
                                    executionType="asynchronous")
            wait_for("it is known", lambda: self.state(operation)[0] != 404)
            self.assertEqual(self.state(operation), (200, "NotStarted"))
            a = self.small.call("POST", f"/executions/{operation}/cancel", identifier=self.waits)
            self.assertEqual(a.status, 202, a)
            self.assertEqual(self.state(operation), (200, "Canceled"))
            self.go_on()
            a = answer.result()
            other.close()
        self.assertEqual(a.json["status"], "Canceled", a)
        for how in ("synchronous", "asynchronous"):  # sent again it does not run either
            a = self.small.execute(self.waits, code, operation=operation, executionType=how)
            self.assertEqual(a.json["status"], "Canceled", a)
            self.assertEqual(a.json["error"]["error"],
                             {"code": "ExecutionCanceled", "message": "Execution canceled"})
        self.assertEqual(self.state(operation), (200, "Canceled"))
        here = "import os\nos.path.exists('/mnt/data/ran')"
        self.assertEqual(self.run_ok(self.waits, here, client=self.small)["executionResult"], "False")


class BadRequests(Base):
    def refused(self, a, status, *codes):
        self.assertEqual(a.status, status, a)
        self.assertTrue(a.json["error"]["message"], a)
        if codes:
            self.assertIn(a.code(), codes, a)

    def test_identifier_of_wrong_length(self):
        for s in ("abc", "a" * 129):
            self.refused(self.client.execute(s, "1"), 400, "InvalidLengthOfSessionIdentifier",
                         "SessionRequestValidationFailed")

    def test_identifier_missing_or_with_wrong_characters(self):
        body = {"code": "1", "codeInputType": "inline", "executionType": "synchronous"}
        self.refused(self.client.call("POST", "/executions", body), 400)
        self.refused(self.client.execute("with space", "1"), 400)

    def test_invalid_json(self):
        for body in (b"{", b"", b"[]", b"\xff\xfe", b'{"code":', b'{"code":1}', b'{"nothing":1}',
                     b"[" * 100000):
            a = self.client.call("POST", "/executions", body,
                                 {"Content-Type": "application/json"}, identifier=new_id())
            self.refused(a, 400)

    def test_oversized_body(self):
        a = self.raw_post(f"Content-Length: {200 << 20}", b'{"code":"' + b"#" * 65536)
        self.assertIn(b" 413 ", a.split(b"\r\n")[0], a[:200])

    def raw_post(self, headers, body, path="/executions", kind="application/json", shut=False):
        """A request that no HTTP library would send; returns what comes back."""
        context = ssl.create_default_context(cafile=cluster.ca_file)
        host, port = self.client.url.hostname, self.client.url.port
        target = self.client.target(path, identifier=new_id())
        head = (f"POST {target} HTTP/1.1\r\nHost: {host}\r\nContent-Type: {kind}\r\n"
                f"Authorization: Bearer {self.client.token}\r\n{headers}\r\n\r\n").encode()
        with socket.create_connection((host, port), timeout=60) as plain:
            with context.wrap_socket(plain, server_hostname=host) as s:
                s.sendall(head + body)
                if shut:
                    return self.read_after_shutdown(s)
                return self.read_all(s)

    @staticmethod
    def read_all(s):
        out = b""
        try:
            while b"\r\n\r\n" not in out:
                more = s.recv(65536)
                if not more:
                    break
                out += more
        except (ConnectionError, ssl.SSLError):
            pass
        return out

    def read_after_shutdown(self, s):
        try:
            plain = s.unwrap()  # close_notify: no more bytes will come
        except (OSError, ssl.SSLError):
            return b""
        return plain.recv(65536) if plain else b""

    def test_truncated_multipart_leaves_no_file(self):
        s = self.session()
        self.run_ok(s, "1")
        body, kind = multipart("half.bin", b"x" * 100000)
        short = body[:50000]
        a = self.client.call("POST", "/files", short, {"Content-Type": kind}, identifier=s)
        self.refused(a, 400)
        self.client.close()
        # The body promises more than comes, then the client is gone.
        context = ssl.create_default_context(cafile=cluster.ca_file)
        host, port = self.client.url.hostname, self.client.url.port
        with socket.create_connection((host, port), timeout=60) as plain:
            with context.wrap_socket(plain, server_hostname=host) as c:
                c.sendall((f"POST {self.client.target('/files', identifier=s)} HTTP/1.1\r\n"
                           f"Host: {host}\r\nContent-Type: {kind}\r\n"
                           f"Authorization: Bearer {self.client.token}\r\n"
                           f"Content-Length: {len(body)}\r\n\r\n").encode() + short)
        wait_for("no half file", lambda: self.client.call(
            "GET", "/files", identifier=s).json["value"] == [])

    def test_paths_cannot_climb(self):
        s = self.session()
        a = self.client.call("GET", "/files/passwd/content", identifier=s, path="../../etc")
        self.assertIn(a.status, (400, 404), a)
        self.assertNotIn(b"root:", a.body)

    def test_unknown_pool_and_path(self):
        other = cluster.client("nowhere")
        self.refused(other.execute(new_id(), "1"), 404)
        other.close()
        self.assertIn(self.client.call("GET", "/nonsense", identifier=new_id()).status, (400, 404))

    def test_tokens(self):
        none = {"Authorization": ""}
        self.refused(self.client.call("GET", "/files", headers=none, identifier=new_id()), 401)
        token = self.client.token
        head, payload, signature = token.split(".")
        for bad in ("garbage", token[:-8] + "AAAAAAAA", token + "x", token[:-1], "e30.e30.",
                    f"{head}.{payload}.", f"{head}.{payload}", f"{head}.e30.{signature}",
                    token + "." + signature):
            a = self.client.call("GET", "/files", headers={"Authorization": f"Bearer {bad}"},
                                 identifier=new_id())
            self.assertEqual(a.status, 401, bad)
        other = cluster.client(token=cluster.token("--pool", "small"))
        self.assertIn(other.execute(new_id(), "1").status, (401, 403))
        other.close()
        audience = cluster.client(token=cluster.token("--audience", "https://elsewhere.example"))
        self.assertIn(audience.execute(new_id(), "1").status, (401, 403))
        audience.close()

    def test_a_token_of_another_key(self):
        with tempfile.TemporaryDirectory() as d:
            cli = cluster.cli
            made = subprocess.run([cli("version").args[0], "keys", "init", "--state-dir", d],
                                  capture_output=True)
            self.assertEqual(made.returncode, 0, made)
            token = subprocess.run([cli("version").args[0], "token", "--state-dir", d],
                                   capture_output=True, text=True).stdout.strip()
        foreign = cluster.client(token=token)
        self.refused(foreign.execute(new_id(), "1"), 401)
        foreign.close()

    def test_the_error_shape(self):
        a = self.client.execute("abc", "1")
        self.assertEqual(a.headers["x-ms-error-code"], a.code())
        self.assertIn("application/json", a.headers["Content-Type"])


class HostileCode(Base):
    """Whatever the code does, the answer is honest, in time, and the next session is unaffected."""

    def test_a_gigabyte_of_output_is_capped(self):
        s = self.session()
        code = "import sys\nline = 'x' * 65536\nfor i in range(16384): sys.stdout.write(line)"
        a = self.client.execute(s, code, timeout_s=200, outputStreamsMaxLength=10000)
        self.assertIn(a.status, (200, 202), a)
        self.assertLessEqual(len(a.json["result"]["stdout"]), 11000)
        self.assertIn(a.json["status"], ("Succeeded", "Failed"))
        self.assertEqual(self.run_ok(s, "3")["executionResult"], 3)
        self.assert_works()

    def test_sleeping_past_the_timeout(self):
        s = self.session()
        self.run_ok(s, "kept = 5")
        a = self.client.execute(s, "import time\ntime.sleep(600)", timeout_s=2)
        self.assertIn(a.status, (200, 202), a)
        self.assertEqual(a.json["status"], "Failed")
        self.assertIn("timed out", a.json["result"]["stderr"])
        self.assertEqual(self.run_ok(s, "1 + 1")["executionResult"], 2)
        self.assert_works()

    def test_a_busy_loop_that_ignores_interrupts(self):
        s = self.session()
        code = "while True:\n    try:\n        while True: pass\n    except BaseException: pass"
        a = self.client.execute(s, code, timeout_s=2)
        self.assertIn(a.status, (200, 202), a)
        self.assertEqual(a.json["status"], "Failed")
        self.assert_works()
        wait_for("the session answers again", lambda: self.client.execute(
            s, "1 + 1").json.get("status") == "Succeeded", timeout_s=60)

    def test_forks_without_end(self):
        s = self.session()
        code = ("import os\n"
                "while True:\n"
                "    try: os.fork()\n"
                "    except OSError: pass\n")
        a = self.client.execute(s, code, timeout_s=5)
        self.assertTrue(a.status in (200, 202) and a.json["status"] == "Failed"
                        or a.status >= 500, a)
        self.assert_works()

    def test_eats_all_memory(self):
        s = self.session()
        code = "x = []\nwhile True: x.append(bytearray(b'x') * (16 << 20))"
        a = self.client.execute(s, code, timeout_s=120)
        self.assertTrue(a.status in (200, 202) and a.json["status"] == "Failed"
                        or a.status >= 500, a)
        self.assert_works()

    def test_ends_its_own_interpreter(self):
        s = self.session()
        a = self.client.execute(s, "import os\nos._exit(3)")
        self.assertIn(a.status, (200, 202), a)
        self.assertEqual(a.json["status"], "Failed")
        self.assertEqual(self.run_ok(s, "4")["executionResult"], 4)
        self.assert_works()


FIRST_VALUES = """
import os, random, ssl, uuid, subprocess, json
import numpy as np
values = {
    'os.urandom': os.urandom(16).hex(),
    'random.random': random.random(),
    'uuid4': str(uuid.uuid4()),
    'default_rng': float(np.random.default_rng().random()),
    'numpy global': float(np.random.random()),
    'ssl.RAND_bytes': ssl.RAND_bytes(16).hex(),
    'random.gauss': random.gauss(0, 1),
    'machine id': open('/etc/machine-id').read().strip(),
    'boot id': open('/proc/sys/kernel/random/uuid').read().strip(),
}
if node:
    values['node randomUUID'] = subprocess.run(
        ['node', '-e', 'console.log(require("crypto").randomUUID())'],
        capture_output=True, text=True).stdout.strip()
print(json.dumps(values))
"""


class Uniqueness(Base):
    def test_clones_share_no_first_random_value(self):
        seen = {}

        def one(i):
            client, s = cluster.client(token=self.client.token), new_id("unique")
            try:
                code = f"node = {i % NODE_EVERY == 0}\n" + FIRST_VALUES
                result = self.run_ok(s, code, client=client)
                return json.loads(result["stdout"])
            finally:
                client.delete_session(s)
                client.close()

        with concurrent.futures.ThreadPoolExecutor(2) as threads:
            for values in threads.map(one, range(CLONES)):
                for source, value in values.items():
                    self.assertTrue(value, source)
                    seen.setdefault(source, []).append(value)
        for source, values in seen.items():
            want = len(range(0, CLONES, NODE_EVERY)) if "node" in source else CLONES
            self.assertEqual(len(values), want, source)
            self.assertEqual(len(set(values)), want, f"{source} repeats itself")
        print(f"\n  {CLONES} clones, {len(seen)} sources, no value twice", file=sys.stderr)


class Many(Base):
    def test_fifty_sessions_at_once_keep_their_own_state(self):
        ids = [self.session("many") for _ in range(50)]
        token = self.client.token

        def set_state(i):
            client = cluster.client(token=token)
            self.run_ok(ids[i], f"mine = {i * 1000 + 7}\nopen('/mnt/data/f', 'w').write('{i}')",
                        client=client)
            client.close()

        def get_state(i):
            client = cluster.client(token=token)
            r = self.run_ok(ids[i], "print(mine, open('/mnt/data/f').read())", client=client)
            client.close()
            return r["stdout"]

        with concurrent.futures.ThreadPoolExecutor(8) as threads:
            list(threads.map(set_state, range(50)))
            states = list(threads.map(get_state, range(50)))
        self.assertEqual(states, [f"{i * 1000 + 7} {i}\n" for i in range(50)])
        self.assertGreaterEqual(len(cluster.machines()), 50)
        memory = sorted(cluster.memory())
        rss, pss = ([m[k] / 1024 for m in memory] for k in (0, 1))
        print(f"\n  {len(memory)} microVMs: RSS {sum(rss) / len(rss):.1f} MiB, "
              f"PSS {sum(pss) / len(pss):.1f} MiB each (means)", file=sys.stderr)


COUNTED = """
import time
with open('/mnt/data/count', 'a') as f: f.write('x')
end = time.monotonic() + {seconds}
while time.monotonic() < end: pass
print('done')
"""


class Voters:
    """Stands where the voters of a cluster would: grants the lease of this machine's worker by
    writing its page (worker/jail/lease.h), again and again."""
    MAGIC, VERSION, LEASE, WORDS = 0x57524C31, 2, 2, 6
    GRANT_S = 8  # long enough for a loaded machine to renew it

    def __init__(self, path):
        with open(path, "r+b") as f:
            self.page = mmap.mmap(f.fileno(), 0)
        self.epoch, self.grants, self.word = 1, True, None
        self.lock, self.stop = threading.Condition(), False
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    @staticmethod
    def _mix(x):
        mask = (1 << 64) - 1
        x = (x + 0x9E3779B97F4A7C15) & mask
        x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & mask
        x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & mask
        return x ^ (x >> 31)

    def write(self, freeze_s, kill_s):
        """Deadlines from now on; 0: long ago."""
        now = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        at = [int(now + s * 1e9) if s else 0 for s in (freeze_s, kill_s)]
        self.put(at)
        return at

    def put(self, at):
        magic, version, turn = struct.unpack_from("<IIQ", self.page)
        assert (magic, version) == (self.MAGIC, self.VERSION)
        words, check = [self.LEASE, *at, self.epoch, int(70e9), turn + 1], self.MAGIC
        for w in words:
            check = self._mix(check ^ w)
        struct.pack_into("<7Q", self.page, 16 + (turn + 1) % 2 * 56, *words, check)
        struct.pack_into("<Q", self.page, 8, turn + 1)

    def deadlines(self):
        (turn,) = struct.unpack_from("<Q", self.page, 8)
        return list(struct.unpack_from("<2Q", self.page, 16 + turn % 2 * 56 + 8))

    def _run(self):
        with self.lock:
            while not self.stop:
                if self.grants:
                    self.write(self.GRANT_S, 600)
                elif self.word and self.deadlines() != self.word:
                    self.put(self.word)  # the worker wrote at the same time what it knew before
                self.lock.wait(0.2)

    def set(self, grants, write=None):
        with self.lock:
            self.grants, self.word = grants, None
            if write:
                self.word = self.write(*write)
            self.lock.notify_all()

    def close(self):
        with self.lock:
            self.stop = True
            self.lock.notify_all()
        self.thread.join()
        self.page.close()


class Lease(Base):
    """What a machine does whose lease comes, goes and comes back. Its worker was started again with
    `lease: cluster`; the microVMs of the one before it live on."""
    TICKS = ("import threading, time\nticks, gap, stop = 0, 0.0, False\n"
             "def run():\n    global ticks, gap\n    last = time.monotonic()\n"
             "    while not stop:\n        time.sleep(0.01)\n        now = time.monotonic()\n"
             "        gap = max(gap, now - last)\n        last = now\n        ticks += 1\n"
             "threading.Thread(target=run, daemon=True).start()")

    @staticmethod
    def restart_worker(lease):
        path = cluster.state / "worker.yaml"
        lines = [x for x in path.read_text().splitlines() if not x.startswith("lease:")]
        path.write_text("\n".join([*lines, f"lease: {lease}", ""]))
        since = len(cluster.events)
        os.kill(cluster.daemon("worker"), signal.SIGKILL)
        return since

    @classmethod
    def setUpClass(cls):
        (page,) = cluster.run.glob("*/lease")
        since = cls.restart_worker("cluster")
        cls.addClassCleanup(cls.restart_without)  # whatever fails from here on
        wait_for("the page of a machine with voters", lambda: page.read_bytes()[
            16 + page.read_bytes()[8] % 2 * 56] == Voters.LEASE)
        cls.voters = Voters(page)
        cls.addClassCleanup(cls.voters.close)
        cluster.wait_ready_again("worker", since)

    @classmethod
    def restart_without(cls):
        since = cls.restart_worker("none")
        cluster.wait_ready_again("worker", since)

    def setUp(self):
        super().setUp()
        self.addCleanup(self.voters.set, True)
        self.s = self.session()
        self.again(self.TICKS)

    @staticmethod
    def states():
        """State letters of the microVMs."""
        out = set()
        for pid in cluster.machines().values():
            fields = leaks.stat_fields(pid)
            out.add(fields[0].decode() if fields else "gone")
        return out

    def again(self, code, **how):
        """Runs code once the worker takes it."""
        return wait_for("an answer", lambda: (lambda a: a if a.status in (200, 202) else None)(
            self.client.execute(self.s, code, **how))).json["result"]["executionResult"]

    def test_microvms_stand_still_without_a_lease_and_go_on_with_it(self):
        before = self.run_ok(self.s, "ticks")["executionResult"]
        self.assertGreater(wait_for("it ticks", lambda: self.run_ok(self.s, "ticks")[
            "executionResult"] - before), 0)
        worker = cluster.daemon("worker")
        os.kill(worker, signal.SIGSTOP)  # it can neither renew nor freeze anything
        try:
            self.voters.set(False)
            wait_for("all microVMs are frozen", lambda: self.states() == {"T"})
            frozen = time.monotonic()
            cpu = machines_cpu()
            time.sleep(3)  # during which vCPUs that ran would use time
            self.assertEqual(machines_cpu(), cpu)
            self.assertEqual(self.states(), {"T"})
        finally:
            os.kill(worker, signal.SIGCONT)
        # The worker runs again, the lease is not back: it promises nothing. It was away for longer than
        # a connection without a sign of life, so the gateway may have to find it again first.
        def refused():
            a = self.client.execute(self.s, "ticks")
            self.assertEqual((a.status, a.code()), (503, "ServiceUnavailable"), a)
            self.assertGreater(int(a.headers["Retry-After"]), 0)
            return "lease" in a.json["error"]["message"]
        wait_for("the worker says why", refused)
        self.assertEqual(self.client.execute(self.session(), "1").status, 503)
        stood = time.monotonic() - frozen
        self.voters.set(True)
        # The guest's clock goes on with the host's, and so it can tell that it stood still.
        wait_for("a gap in its ticks", lambda: self.again("gap") > stood - 0.5)
        ticks = self.again("ticks")
        wait_for("it ticks on", lambda: self.again("ticks") > ticks)

    def test_frozen_time_is_not_time_of_the_execution(self):
        code = ("import time\nfor _ in range(40):\n    time.sleep(0.05)\n"
                "open('/mnt/data/half', 'a').write('x')\nlast = time.monotonic()\n"
                "while time.monotonic() - last < 5:\n    last = time.monotonic()\n    time.sleep(0.05)\n"
                "for _ in range(40):\n    time.sleep(0.05)\n'whole'")  # goes on until it has stood still
        watcher = cluster.client(token=self.client.token)
        with concurrent.futures.ThreadPoolExecutor(1) as threads:
            future = threads.submit(self.client.execute, self.s, code, timeout_s=15)
            wait_for("half of it", lambda: watcher.call(
                "GET", "/files", identifier=self.s).json["value"])
            self.voters.set(False, write=(0, 600))
            wait_for("all microVMs are frozen", lambda: self.states() == {"T"})
            time.sleep(16)  # longer than the whole time-out
            self.assertFalse(future.done(), future.done() and future.result())
            self.voters.set(True)
            a = future.result()
        watcher.close()
        self.assertEqual(a.json["status"], "Succeeded", a)
        self.assertEqual(a.json["result"]["executionResult"], "'whole'")

    def test_a_lease_that_is_given_back_ends_all_sessions(self):
        self.run_ok(self.s, "kept = 1")
        machines = cluster.machines()
        self.voters.set(False, write=(0, 0))
        wait_for("all microVMs end", lambda: not set(machines) & set(cluster.machines()))
        self.voters.epoch = 2  # the worker's next incarnation
        self.voters.set(True)
        self.assertEqual(self.again("'kept' in globals()"), "False")


class Crashes(Base):
    """kill -9 in the middle of an execution: an honest error or the right result, never doubled."""

    def start_counted(self, s, seconds=3):
        """Starts the counting code in a thread; returns (future, operation id) once it has begun."""
        operation = str(uuid.uuid4())
        threads = concurrent.futures.ThreadPoolExecutor(1)
        self.addCleanup(threads.shutdown)
        future = threads.submit(self.until_answered, s, operation, seconds)
        watcher = cluster.client(token=self.client.token)
        wait_for("the code has begun", lambda: watcher.call(
            "GET", "/files", identifier=s).json["value"])
        watcher.close()
        return future, operation

    def until_answered(self, s, operation, seconds):
        """Asks with one operation id until there is an HTTP answer that is final."""
        client, last = cluster.client(token=self.client.token), None
        deadline = time.monotonic() + 120
        try:
            while time.monotonic() < deadline:
                try:
                    last = client.execute(s, COUNTED.format(seconds=seconds), operation=operation)
                    if last.status != 503:
                        return last
                except (OSError, http.client.HTTPException) as e:
                    last = e
                time.sleep(0.1)
        finally:
            client.close()
        raise AssertionError(f"no final answer: {last!r}")

    def count(self, s):
        r = self.run_ok(s, "import os\np = '/mnt/data/count'\n"
                           "len(open(p).read()) if os.path.exists(p) else 0")
        return int(r["executionResult"])

    def test_the_gateway_is_killed(self):
        s = self.session()
        self.run_ok(s, "kept = 1")
        future, _ = self.start_counted(s)
        since = len(cluster.events)
        os.kill(cluster.daemon("gateway"), signal.SIGKILL)
        a = future.result()
        cluster.wait_ready_again("gateway", since)
        self.client.close()
        if a.status in (200, 202):
            self.assertEqual(a.json["result"]["stdout"], "done\n", a)
        self.assertEqual(self.count(s), 1)
        self.assertEqual(self.run_ok(s, "kept")["executionResult"], 1)

    def test_the_worker_is_killed(self):
        s = self.session()
        self.run_ok(s, "kept = 1")
        machines = set(cluster.machines())
        future, operation = self.start_counted(s)
        since = len(cluster.events)
        os.kill(cluster.daemon("worker"), signal.SIGKILL)
        a = future.result()
        cluster.wait_ready_again("worker", since)
        if a.status in (200, 202) and a.json["status"] == "Succeeded":
            self.assertEqual(a.json["result"]["stdout"], "done\n", a)
        else:
            self.assertTrue(a.code() or a.json["result"]["stderr"], a)
        other = self.client.execute(s, "kept = 2", operation=operation)
        self.assertEqual((other.status, other.code()), (422, "IdempotencyKeyReused"), other)
        self.assertEqual(self.run_ok(s, "kept")["executionResult"], 1, "the session was lost")
        self.assertEqual(self.count(s), 1)
        self.assertTrue(machines & set(cluster.machines()), "no microVM was taken over")
        self.assert_works()

    def test_a_qemu_is_killed(self):
        s = self.session()
        self.run_ok(s, "kept = 1")
        future, _ = self.start_counted(s, seconds=100)
        etag = self.client.call("GET", "/session", identifier=s).json["etag"]
        victim = self.machine_of(s)
        os.kill(victim, signal.SIGKILL)
        a = future.result()
        # It did not finish, so no answer may claim that it did.
        if a.status in (200, 202):
            self.assertEqual(a.json["status"], "Failed", a)
        else:
            self.assertEqual(a.code(), "ExecutionOutcomeUnknown", a)
        wait_for("the microVM is gone", lambda: victim not in cluster.machines().values())
        wait_for("a new session", lambda: self.client.execute(s, "1").status in (200, 202))
        self.assertEqual(self.count(s), 0, "the code ran a second time")
        self.assertNotEqual(
            self.client.call("GET", "/session", identifier=s).json["etag"], etag)
        self.assert_works()

    def test_a_supervisor_is_killed(self):
        """Its QEMU dies with it, and the worker removes what both left behind."""
        s = self.session()
        self.run_ok(s, "kept = 1")
        before = cluster.supervisors()
        victim, folder = next((p, f) for p, f in before.items() if p in cluster.machines())
        os.kill(victim, signal.SIGKILL)
        wait_for("its folder is gone or another one's", lambda: cluster.supervisors().get(
            victim) is None and (not os.path.exists(folder) or
                                 folder in cluster.supervisors().values()))
        wait_for("answers again", lambda: self.client.execute(s, "1").status in (200, 202))
        self.assert_works()

    def test_a_spare_qemu_is_killed(self):
        _, victim = wait_for("a spare", lambda: next(iter(cluster.spares().items()), None))
        os.kill(victim, signal.SIGKILL)
        wait_for("it is gone", lambda: victim not in cluster.spares().values())
        wait_for("another one", lambda: set(cluster.spares().values()) - {victim}, timeout_s=120)

    def machine_of(self, s):
        """The QEMU process of the session: the one whose CPU time grows while its code is busy."""
        def busiest():
            before = machines_cpu()
            time.sleep(0.5)
            grown = sorted(((t - before.get(p, t), p) for p, t in machines_cpu().items()), reverse=True)
            # Twice as busy as the next: nobody else works while the pool is full.
            return grown[0][1] if grown[0][0] > 20 and grown[0][0] > 2 * grown[1][0] else None
        return wait_for("one microVM is busy", busiest, timeout_s=120)


class Withdrawal(Base):
    """The worker goes out of service and back, and at last for good: the last class."""

    def worker(self, *args, code=0):
        a = cluster.cli("worker", *args, "--run-dir", str(cluster.run), "--json", text=True)
        self.assertEqual(a.returncode, code, a)
        return [json.loads(line) for line in a.stdout.splitlines()]

    def test_1_a_drain_lets_sessions_finish_and_is_called_back(self):
        s = self.session()
        self.run_ok(s, "kept = 1")
        self.addCleanup(self.worker, "undrain")
        self.assertEqual(self.worker("drain", "--no-wait")[0]["state"], "draining")
        a = self.client.execute(self.session(), "1")
        self.assertEqual((a.status, a.code()), (503, "ServiceUnavailable"), a)
        self.assertIn("draining", a.json["error"]["message"])
        self.assertGreater(int(a.headers["Retry-After"]), 0)
        self.assertEqual(self.run_ok(s, "kept")["executionResult"], 1)
        since = len(cluster.events)
        os.kill(cluster.daemon("worker"), signal.SIGKILL)  # the next one goes on with it
        cluster.wait_ready_again("worker", since)
        self.assertEqual(self.worker("status")[0]["state"], "draining")
        # It is ready at once, with nothing to make ready: before the gateway has found it again.
        wait_for("the session answers", lambda: self.client.execute(s, "1").status in (200, 202))
        self.assertEqual(self.run_ok(s, "kept")["executionResult"], 1)
        self.assertEqual(self.worker("drain", "--now")[-1],
                         {"state": "drained", "sessions": 0, "microvms": 0})
        self.worker("undrain")
        self.assert_works()

    def test_2_a_removed_worker_is_not_started_again(self):
        self.run_ok(self.session(), "1")
        since = len(cluster.events)
        self.assertEqual(self.worker("remove", "--deadline", "1s")[-1]["state"], "drained")
        cluster.wait_event("left", since=since, sender="worker")
        self.assertIsNone(cluster.daemon("worker"))
        self.assertEqual(cluster.machines(), {})
        self.worker("status", code=3)
        self.ids = []  # nobody is there to end them


def load_tests(loader, _tests, _pattern):
    """In the order of the path, the destructive ones last."""
    suite = unittest.TestSuite()
    for case in (Executions, Files, Sessions, Waiting, BadRequests, HostileCode, Uniqueness, Many, Lease, Crashes,
                 Withdrawal):
        suite.addTests(loader.loadTestsFromTestCase(case))
    return suite


if __name__ == "__main__":
    reason = why_not()
    if reason:
        print(f"skipped: {reason}")
        sys.exit(77)
    unittest.main(verbosity=2)
