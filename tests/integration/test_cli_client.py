#!/usr/bin/python3
"""The client commands of `warren` against a small HTTP server that answers what a test tells it to:
what is sent, what is shown, the exit codes, and what happens when the connection breaks."""
import base64
import hashlib
import http.server
import json
import os
import pathlib
import resource
import shutil
import ssl
import subprocess
import sys
import tempfile
import threading
import unittest
import urllib.parse

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from warren_cluster import BIN  # noqa: E402

PNG = b"\x89PNG\r\n\x1a\n" + b"not really"


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def body(self):
        """Size and hash of the request's body, and the body itself when it is small."""
        digest, size, kept = hashlib.sha256(), 0, b""
        for chunk in self.chunks():
            digest.update(chunk)
            size += len(chunk)
            kept = kept + chunk if size < 1 << 20 else kept
        return size, digest.hexdigest(), kept

    def chunks(self):
        if self.headers.get("Transfer-Encoding") == "chunked":
            while True:
                n = int(self.rfile.readline().strip(), 16)
                yield self.rfile.read(n)
                self.rfile.readline()
                if n == 0:
                    return
        left = int(self.headers.get("Content-Length", 0))
        while left > 0:
            chunk = self.rfile.read(min(left, 1 << 16))
            left -= len(chunk)
            yield chunk

    def handle_any(self):
        url = urllib.parse.urlsplit(self.path)
        request = {"method": self.command, "path": url.path, "headers": self.headers,
                   "query": dict(urllib.parse.parse_qsl(url.query, keep_blank_values=True))}
        request["size"], request["hash"], request["body"] = self.body()
        self.server.requests.append(request)
        self.server.answer(self, request)

    do_GET = do_POST = do_DELETE = handle_any

    def reply(self, status, body, **headers):
        data = json.dumps(body).encode() if isinstance(body, (dict, list)) else body
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def execution(status="Succeeded", stdout="", stderr="", result=""):
    return {"id": "1", "identifier": "x", "status": status, "result": {
        "stdout": stdout, "stderr": stderr, "executionResult": result,
        "executionTimeInMilliseconds": 1}}


class Client(unittest.TestCase):
    def setUp(self):
        self.dir = pathlib.Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.dir)
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.server.requests = []
        self.server.answer = lambda h, r: h.reply(200, execution())
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.addCleanup(self.server.server_close)
        self.addCleanup(self.server.shutdown)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def warren(self, *args, input=None, **env):
        command = [str(BIN / "warren"), *args, "--state-dir", str(self.dir / "state")]
        return subprocess.run(command, input=input, capture_output=True, timeout=120,
                              env={**os.environ, "WARREN_URL": self.url, **env})

    def answer(self, status, body, **headers):
        self.server.answer = lambda h, r: h.reply(status, body, **headers)

    # --- exec

    def test_exec_sends_the_documented_request(self):
        done = self.warren("exec", "--id", "a/b:c&d", "--timeout", "1m", "--pool",
                           "my-pool", "print('ä')", WARREN_TOKEN="t0k3n")
        self.assertEqual(done.returncode, 0, done)
        r = self.server.requests[0]
        self.assertEqual((r["method"], r["path"]), ("POST", "/pools/my-pool/executions"))
        self.assertEqual(r["query"], {"api-version": "2025-10-02-preview",
                                      "identifier": "a/b:c&d"})
        self.assertEqual(r["headers"]["Authorization"], "Bearer t0k3n")
        body = json.loads(r["body"])
        self.assertEqual((body["code"], body["timeoutInSeconds"]), ("print('ä')", 60))

    def test_exec_shows_streams_and_the_value(self):
        self.answer(200, execution(stdout="out\n", stderr="err\n", result={"a": [1, 2]}))
        done = self.warren("exec", "--id", "abcd", "x")
        self.assertEqual((done.returncode, done.stdout), (0, b'out\n{"a": [1, 2]}\n'))
        self.assertEqual(done.stderr, b"err\n")
        for value, shown in ((None, b""), ("", b""), ("text", b"text\n"), (2, b"2\n"),
                             (1.5, b"1.5\n"), (False, b"false\n")):
            self.answer(200, execution(result=value))
            self.assertEqual(self.warren("exec", "--id", "abcd", "x").stdout, shown)

    def test_exec_tells_a_failure_by_its_exit_code(self):
        self.answer(200, execution("Failed", stderr="ValueError: no"))
        done = self.warren("exec", "--id", "abcd", "x")
        self.assertEqual((done.returncode, done.stderr), (1, b"ValueError: no"))
        raw = self.warren("exec", "--json", "--id", "abcd", "x")
        self.assertEqual(raw.returncode, 1)
        self.assertEqual(json.loads(raw.stdout)["status"], "Failed")

    def test_exec_saves_images_and_replaces_none(self):
        image = {"type": "image", "format": "png", "base64_data": base64.b64encode(PNG).decode()}
        self.answer(200, execution(result=image))
        for _ in range(2):
            done = self.warren("exec", "--id", "abcd", "--save-images", str(self.dir / "i"), "x")
            self.assertEqual(done.returncode, 0, done)
        for n in (1, 2):
            self.assertEqual((self.dir / "i" / f"figure-{n}.png").read_bytes(), PNG)
        image["format"] = "../../x"
        self.answer(200, execution(result=image))
        self.warren("exec", "--id", "abcd", "--save-images", str(self.dir / "i"), "x")
        self.assertTrue((self.dir / "i" / "figure-3.png").exists())

    def test_exec_reads_code_from_a_file_and_from_stdin(self):
        (self.dir / "c.py").write_text("from a file")
        self.warren("exec", "--id", "abcd", "--file", str(self.dir / "c.py"))
        self.warren("exec", "--id", "abcd", "-", input=b"from stdin")
        codes = [json.loads(r["body"])["code"] for r in self.server.requests]
        self.assertEqual(codes, ["from a file", "from stdin"])
        self.assertEqual(self.warren("exec", "--id", "abcd", "-", input=b"\xff").returncode, 2)

    def test_exec_asks_again_for_the_same_execution(self):
        def break_twice(h, r):
            if len(self.server.requests) <= 2:
                h.close_connection = True  # no answer at all
            else:
                h.reply(200, execution(stdout="once\n"))
        self.server.answer = break_twice
        done = self.warren("exec", "--id", "abcd", "x")
        self.assertEqual((done.returncode, done.stdout), (0, b"once\n"), done)
        ids = {r["headers"]["operation-id"] for r in self.server.requests}
        self.assertEqual((len(self.server.requests), len(ids)), (3, 1))

    def test_exec_asks_again_when_the_gateway_is_not_ready(self):
        def later(h, r):
            if len(self.server.requests) == 1:
                h.reply(503, {"error": {"code": "ServiceUnavailable", "message": "starting"}})
            else:
                h.reply(200, execution())
        self.server.answer = later
        self.assertEqual(self.warren("exec", "--id", "abcd", "x").returncode, 0)
        ids = [r["headers"]["operation-id"] for r in self.server.requests]
        self.assertEqual((len(ids), len(set(ids))), (2, 1))

    def test_exec_gives_up_in_time(self):
        self.server.answer = lambda h, r: setattr(h, "close_connection", True)
        done = self.warren("exec", "--retry", "0", "--id", "abcd", "x")
        self.assertEqual((done.returncode, len(self.server.requests)), (3, 1))

    # --- errors

    def test_exit_codes_follow_the_status(self):
        for status, code in ((400, 5), (401, 4), (403, 4), (404, 5), (413, 5), (429, 6), (500, 7),
                             (502, 7)):
            self.answer(status, {"error": {"code": "TheCode", "message": "the reason"}},
                        Retry_After="7")
            done = self.warren("sessions", "get", "abcd")
            self.assertEqual(done.returncode, code, done)
            self.assertIn(b"the reason", done.stderr)
            self.assertIn(b"TheCode", done.stderr)
            self.assertEqual(b"7 s" in done.stderr, status == 429)
        self.answer(500, b"<html>no JSON</html>")
        self.assertEqual(self.warren("sessions", "get", "abcd").returncode, 7)

    def test_json_errors_are_json(self):
        self.answer(404, {"error": {"code": "TheCode", "message": "the reason"}})
        done = self.warren("--json", "sessions", "get", "abcd")
        self.assertEqual(json.loads(done.stderr)["error"]["exit"], done.returncode)

    def test_nobody_there(self):
        self.assertEqual(self.warren("exec", "--id", "abcd", "x",
                                     WARREN_URL="http://127.0.0.1:1").returncode, 3)

    def test_an_answer_that_is_nonsense(self):
        for body in (b"", b"[]", b"{}", b"\xff", b'{"status":7}', b'{"status":"Succeeded"}',
                     b'{"status":"Succeeded","result":[]}', b"[" * 10000):
            self.answer(200, body)
            self.assertIn(self.warren("exec", "--id", "abcd", "x").returncode, (0, 7), body)

    def test_redirects_are_not_followed(self):
        self.answer(302, b"", Location=f"{self.url}/elsewhere")
        self.assertEqual(self.warren("exec", "--id", "abcd", "x").returncode, 7)
        self.assertEqual(len(self.server.requests), 1)

    # --- cp

    def test_cp_uploads_a_file_as_it_is(self):
        (self.dir / "my data.csv").write_bytes(b"a,b\n1,2\n")
        self.answer(200, {"name": "my data.csv"})
        done = self.warren("cp", str(self.dir / "my data.csv"), "abcd:/sub/dir/")
        self.assertEqual(done.returncode, 0, done)
        r = self.server.requests[0]
        self.assertEqual((r["method"], r["path"]), ("POST", "/pools/python/files"))
        self.assertEqual(r["query"]["path"], "sub/dir")
        self.assertIn(b'name="file"; filename="my data.csv"', r["body"])
        self.assertIn(b"\r\n\r\na,b\n1,2\n\r\n--", r["body"])

    def test_cp_streams_in_little_memory(self):
        """300 MB each way; the largest resident size of any child so far stays far below that."""
        size = 300 << 20
        with open(self.dir / "big", "wb") as f:
            f.truncate(size)
        want = hashlib.sha256()
        for _ in range(size >> 20):
            want.update(bytes(1 << 20))

        def answer(h, r):
            if r["method"] == "POST":
                h.reply(200, {"name": "big"})
                return
            h.send_response(200)
            h.send_header("Content-Length", str(size))
            h.end_headers()
            for _ in range(size >> 20):
                h.wfile.write(bytes(1 << 20))
        self.server.answer = answer
        self.assertEqual(self.warren("cp", str(self.dir / "big"), "abcd:/big").returncode, 0)
        self.assertGreater(self.server.requests[0]["size"], size)
        got = self.warren("cp", "abcd:/big", str(self.dir / "back"))
        self.assertEqual(got.returncode, 0, got)
        have = hashlib.sha256()
        with open(self.dir / "back", "rb") as f:
            while chunk := f.read(1 << 20):
                have.update(chunk)
        self.assertEqual(have.hexdigest(), want.hexdigest())
        peak_kib = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
        self.assertLess(peak_kib, 100 << 10)

    def test_cp_keeps_the_old_file_when_the_transfer_breaks(self):
        def short(h, r):
            h.send_response(200)
            h.send_header("Content-Length", "1000")
            h.end_headers()
            h.wfile.write(b"x" * 10)
            h.close_connection = True
        self.server.answer = short
        (self.dir / "f").write_text("old")
        self.assertNotEqual(self.warren("cp", "abcd:/f", str(self.dir / "f")).returncode, 0)
        self.assertEqual((self.dir / "f").read_text(), "old")
        self.assertEqual([p.name for p in self.dir.iterdir()], ["f"])

    def test_cp_into_a_folder_and_to_stdout(self):
        self.answer(200, b"content")
        (self.dir / "d").mkdir()
        self.assertEqual(self.warren("cp", "abcd:/a/b.txt", str(self.dir / "d")).returncode, 0)
        self.assertEqual((self.dir / "d" / "b.txt").read_bytes(), b"content")
        self.assertEqual(self.warren("cp", "abcd:/a/b.txt", "-").stdout, b"content")
        self.assertEqual(self.server.requests[0]["path"], "/pools/python/files/b.txt/content")

    def test_cp_takes_stdin_of_unknown_length(self):
        self.answer(200, {"name": "p"})
        done = self.warren("cp", "-", "abcd:/p", input=b"piped" * 1000)
        self.assertEqual(done.returncode, 0, done)
        self.assertIn(b"piped" * 1000, self.server.requests[0]["body"])

    def test_cp_refuses_what_it_cannot_do(self):
        for args in (("a", "b"), ("abcd:/a", "efgh:/b"), ("-", "-"), ("abcd:/", "x"),
                     ("-", "abcd:/"), (str(self.dir), "abcd:/x"), ("abcd:/../x", "x")):
            self.assertEqual(self.warren("cp", *args).returncode, 2, args)
        self.assertEqual(self.warren("cp", "/no/such/file", "abcd:/x").returncode, 8)
        self.assertEqual(self.server.requests, [])

    # --- trust

    def test_a_gateway_with_another_certificate_gets_no_token(self):
        for name in ("one", "two"):
            subprocess.run([str(BIN / "warren"), "keys", "init", "--state-dir",
                            str(self.dir / name)], check=True, capture_output=True)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls = self.dir / "one" / "tls"
        context.load_cert_chain(tls / "cert.pem", tls / "key.pem")
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        url = self.url.replace("http:", "https:")
        how = {"WARREN_URL": url, "WARREN_TOKEN": "secret"}
        other = str(self.dir / "two" / "tls" / "cert.pem")
        self.assertEqual(self.warren("exec", "--retry", "0", "--id", "abcd", "--ca-file", other, "x",
                                     **how).returncode, 3)
        self.assertEqual(self.server.requests, [])
        right = self.warren("exec", "--id", "abcd", "--ca-file", str(tls / "cert.pem"), "x", **how)
        self.assertEqual(right.returncode, 0, right)

    # --- sessions

    def test_sessions_list_turns_the_pages(self):
        def page(h, r):
            skip = int(r["query"]["skip"])
            h.reply(200, {"sessions": [{"identifier": f"s{skip + i:03}"} for i in range(2)],
                          "nextLink": "more" if skip < 4 else None})
        self.server.answer = page
        done = self.warren("--json", "sessions", "list")
        self.assertEqual([s["identifier"] for s in json.loads(done.stdout)],
                         [f"s{i:03}" for i in range(6)])

    def test_sessions_stop(self):
        self.answer(204, b"")
        self.assertEqual(self.warren("sessions", "stop", "abcd").returncode, 0)
        r = self.server.requests[0]
        self.assertEqual((r["method"], r["path"]), ("DELETE", "/pools/python/session"))


if __name__ == "__main__":
    unittest.main(verbosity=2)
