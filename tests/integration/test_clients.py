#!/usr/bin/env python3
"""Shipped clients of the public service, replayed byte by byte: request lines, fields, bodies and what each
reads from the answers, as their sources have it.

usage: test_clients.py BIN_DIR [--real [llamaindex|openapi]]    with --real against `warren up` and its microVMs
(needs root and a guest image; 77 when there are none), else before an echo worker. llamaindex: npm's package itself;
openapi: the descriptions; 77 when what they need is not there."""
import json
import pathlib
import socket
import ssl
import sys
import time
import urllib.parse
import uuid

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import gateway_openapi  # noqa: E402
import llamaindex_tool  # noqa: E402
from gateway_system import System, conclude, eq, run_tests  # noqa: E402
from npm_packages import Packages  # noqa: E402

UA = {
    "langchain": "langchain-azure-dynamic-sessions/1.0.3 (Language=Python)",
    "langchain-js": "langchainjs-azure-dynamic-sessions (Language=JavaScript; node.js/v20.17.0; linux; x64)",
    "sk-python": "semantic-kernel-python/1.36.0 (Language=Python)",
    "sk-net": "Semantic-Kernel/1.61.0 (Language=dotnet)",
    "llamaindex": "llamaindex-azure-code-interpreter/0.3.0 (Language=Python)",
    "az": "python/3.12.7 AZURECLI/2.70.0 azure-cli-containerapp/1.2.0b5",
}
LONG = "/subscriptions/9f8e/resourceGroups/my-rg/sessionPools"


class Wire:
    """What is needed to talk to a gateway by hand."""

    def __init__(self, host, port, ca_file, token, real):
        self.host, self.port, self.ca, self.token, self.real = host, port, ca_file, token, real

    def connect(self, timeout):
        s = socket.create_connection((self.host, self.port), timeout=timeout)
        return ssl.create_default_context(cafile=self.ca).wrap_socket(s, server_hostname=self.host)

    def send(self, method, target, fields, body=b"", chunked=False, timeout=300):
        """fields in this order; {host} and {token} are filled in. Returns status, fields, body."""
        head = f"{method} {target} HTTP/1.1\r\n"
        for name, value in fields:
            head += f"{name}: {value.format(host=f'{self.host}:{self.port}', token=self.token)}\r\n"
        if chunked:
            head += "Transfer-Encoding: chunked\r\n"
            body = b"".join(b"%x\r\n%s\r\n" % (len(p), p) for p in (body[:10], body[10:]) if p) + b"0\r\n\r\n"
        elif body or method == "POST":
            head += f"Content-Length: {len(body)}\r\n"
        s = self.connect(timeout)
        s.sendall(head.encode("latin-1") + b"\r\n" + body)
        raw = b""
        while b"\r\n\r\n" not in raw:
            part = s.recv(65536)
            assert part, f"closed without an answer: {raw!r}"
            raw += part
        head, _, rest = raw.partition(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        got = {k.lower(): v for k, v in (x.split(": ", 1) for x in lines[1:])}
        want = int(got.get("content-length", 0))
        while len(rest) < want:
            part = s.recv(65536)
            assert part, "cut off"
            rest += part
        s.close()
        return int(lines[0].split()[1]), got, rest


def requests_fields(agent, *more):
    """Order and defaults of python-requests."""
    return [("Host", "{host}"), ("User-Agent", agent), ("Accept-Encoding", "gzip, deflate"), ("Accept", "*/*"),
            ("Connection", "keep-alive"), ("Authorization", "Bearer {token}"), *more]


def multipart(filename, data, boundary, part_type="application/octet-stream", quoted=True):
    q = '"' if quoted else ""
    head = f"--{boundary}\r\nContent-Disposition: form-data; name={q}file{q}; filename={q}{filename}{q}"
    if not quoted:
        head += f"; filename*=utf-8''{urllib.parse.quote(filename)}"
    head += "\r\n"
    if part_type:
        head += f"Content-Type: {part_type}\r\n"
    return head.encode() + b"\r\n" + data + f"\r\n--{boundary}--\r\n".encode()


JSON = ("Content-Type", "application/json")
WRAPPED = lambda code, **more: json.dumps(
    {"properties": {"codeInputType": "inline", "executionType": "synchronous", "code": code, **more}}).encode()


def test_row_1_langchain_python(w):
    ident = str(uuid.uuid4())
    url = lambda path: f"{LONG}/python/{path}?identifier={urllib.parse.quote(ident)}&api-version=2024-02-02-preview"
    fields = requests_fields(UA["langchain"])
    status, _, body = w.send("POST", url("code/execute"), fields + [JSON], WRAPPED("print('hello')\n1 + 1"))
    p = json.loads(body)["properties"]
    eq((status, p.get("result"), p.get("stdout"), p.get("stderr")), (200, 2, "hello\n", ""))
    data = b"a,b\n1,2\n"
    boundary = "0123456789abcdef0123456789abcdef"
    kind = ("Content-Type", f"multipart/form-data; boundary={boundary}")
    status, _, body = w.send("POST", url("files/upload"), fields + [kind], multipart("data set.csv", data, boundary))
    value = json.loads(body)["value"][0]["properties"]
    eq((status, value["filename"], value["size"]), (200, "data set.csv", len(data)))
    status, _, body = w.send("GET", url("files/content/" + urllib.parse.quote("data set.csv")), fields)
    eq((status, body), (200, data))
    status, _, body = w.send("GET", url("files"), fields)
    eq([(f["properties"]["filename"], f["properties"]["size"]) for f in json.loads(body)["value"]],
       [("data set.csv", len(data))])
    status, _, _ = w.send("DELETE", f"{LONG}/python/session?identifier={ident}&api-version=2025-10-02-preview", fields)
    assert status < 400, status


def test_row_2_langchain_bash(w):
    ident = str(uuid.uuid4())
    url = lambda path, q="": f"{LONG}/shell/{path}?identifier={ident}&api-version=2025-02-02-preview{q}"
    fields = requests_fields(UA["langchain"])
    run = lambda cmd: json.loads(w.send("POST", url("executions"), fields + [JSON], json.dumps(
        {"shellCommand": cmd}).encode())[2])
    a = run("echo hi")
    eq((int(a["status"]), a["result"]["stdout"], a["result"]["stderr"]), (0, "hi\n", ""))
    eq(int(run("exit 3")["status"]), 3)
    boundary = "b" * 32
    kind = ("Content-Type", f"multipart/form-data; boundary={boundary}")
    status, _, body = w.send("POST", url("files", "&path=/mnt/data"), fields + [kind], multipart("n.txt", b"12", boundary))
    a = json.loads(body)
    eq((status, a["name"], a["sizeInBytes"]), (200, "n.txt", 2))
    eq(w.send("GET", url("files/n.txt/content"), fields)[2], b"12")
    eq([(f["name"], f["sizeInBytes"]) for f in json.loads(w.send("GET", url("files"), fields)[2])["value"]],
       [("n.txt", 2)])
    big = "echo " + "QUJD" * 50000  # content inside the command line, as the backend writes files
    eq(len(run(big)["result"]["stdout"]), len(big) - 4)


def test_row_3_langchain_js(w):
    ident = str(uuid.uuid4())
    url = lambda path: f"{LONG}/python/{path}?identifier={ident}&api-version=2024-02-02-preview"
    fields = [("host", "{host}"), ("connection", "keep-alive"), ("Authorization", "Bearer {token}"),
              ("User-Agent", UA["langchain-js"]), ("accept", "*/*"), ("accept-language", "*"), ("sec-fetch-mode", "cors"),
              ("accept-encoding", "gzip, deflate")]
    status, _, body = w.send("POST", url("code/execute"), fields + [JSON], WRAPPED("1 + 1"))
    p = json.loads(body)["properties"]
    eq((status, p["result"], p["stdout"], p["stderr"]), (200, 2, "", ""))
    boundary = "----formdata-undici-012345678901"
    kind = ("content-type", f"multipart/form-data; boundary={boundary}")
    status, _, body = w.send("POST", url("files/upload"), fields + [kind], multipart("j.txt", b"js", boundary), chunked=True)
    eq((status, json.loads(body)["value"][0]["properties"]["filename"]), (200, "j.txt"))
    eq(w.send("GET", url("files/content/j.txt"), fields)[2], b"js")


def test_row_4_semantic_kernel_python(w):
    ident = "sk/user@example.org:1+1"  # pasted raw
    url = lambda path: f"{LONG}/python/{path}?identifier={ident}&api-version=2024-02-02-preview"
    fields = [("Host", "{host}"), ("Accept", "*/*"), ("Accept-Encoding", "gzip, deflate"), ("Connection", "keep-alive"),
              ("User-Agent", UA["sk-python"]), ("Authorization", "Bearer {token}")]
    start = time.monotonic()
    status, _, body = w.send("POST", url("code/execute"), fields + [JSON], WRAPPED(
        "print('hi')\n1 + 1", timeoutInSeconds=100), timeout=5)  # the client gives up after 5 s
    p = json.loads(body)["properties"]
    eq((status, p["status"], p["result"], p["stdout"], p["stderr"]), (200, "Success", 2, "hi\n", ""))
    print(f"  first answer after {time.monotonic() - start:.2f} s of 5")
    boundary = "f" * 32
    kind = ("Content-Type", f"multipart/form-data; boundary={boundary}")
    remote = "/mnt/data/up load.txt"
    eq(w.send("POST", url("files/upload"), fields + [kind], multipart(remote, b"sk", boundary))[0], 200)
    files = [f["properties"] for f in json.loads(w.send("GET", url("files"), fields)[2])["value"]]
    full = [f["filename"] if f["filename"].startswith("/mnt/data/") else "/mnt/data/" + f["filename"] for f in files]
    assert remote in full and "size" in files[0], files
    eq(w.send("GET", url("files/content/up%20load.txt"), fields)[2], b"sk")


def test_row_5_semantic_kernel_net(w):
    ident = str(uuid.uuid4())
    url = lambda path: f"{LONG}/python/{path}?identifier={ident}&api-version=2024-10-02-preview"
    fields = [("Host", "{host}"), ("User-Agent", UA["sk-net"]), ("Authorization", "Bearer {token}")]
    body = b'{"codeInputType":"Inline","executionType":"Synchronous","timeoutInSeconds":100,"code":"print(\'hi\')\\n1 + 1"}'
    status, _, answer = w.send("POST", url("executions"), fields + [("Content-Type", "application/json; charset=utf-8")], body)
    a = json.loads(answer)
    assert 200 <= status < 300, status
    eq((a["status"], a["result"]["stdout"], a["result"]["stderr"]), ("Succeeded", "hi\n", ""))
    assert isinstance(a["result"]["executionResult"], str), a  # a number makes the client throw
    boundary = "5b3fd2a1-0b2c-4f0e-9a3e-0123456789ab"
    kind = ("Content-Type", f'multipart/form-data; boundary="{boundary}"')
    for name in ("test_file_1.txt", "test_file_2.txt"):
        status, _, answer = w.send("POST", url("files"), fields + [kind], multipart(name, b"x", boundary, None, quoted=False))
        a = json.loads(answer)
        eq((status, a["name"], a["type"], a["sizeInBytes"], a["contentType"]),
           (200, name, "file", 1, "text/plain; charset=utf-8"))
        assert a["lastModifiedAt"].endswith("Z"), a
    eq([f["name"] for f in json.loads(w.send("GET", url("files"), fields)[2])["value"]], ["test_file_1.txt", "test_file_2.txt"])
    eq(w.send("GET", url("files/test_file_1.txt/content"), fields)[2], b"x")


def test_row_6_autogen(w):
    ident = str(uuid.uuid4())
    url = lambda path: f"{LONG}/python/{path}?api-version=2024-02-02-preview&identifier={ident}"
    fields = [("Host", "{host}"), ("Authorization", "Bearer {token}"), ("Accept", "*/*"),
              ("Accept-Encoding", "gzip, deflate"), ("User-Agent", "Python/3.12 aiohttp/3.10.10")]
    run = lambda code: json.loads(w.send("POST", url("code/execute"), fields + [JSON], WRAPPED(code))[2])["properties"]
    if w.real:
        p = run("import pkg_resources\n[d.project_name for d in pkg_resources.working_set]")
        names = [x.strip(" '\"[]") for x in str(p["result"]).split(",\n")]
        assert "Success" in p["status"] and "numpy" in [n.lower() for n in names], p
        assert "Success" in run("import os; os.chdir('/mnt/data')")["status"]
    p = run("1 + 1")
    assert "Success" in p["status"] and str(p["result"]) == "2", p
    p = run("raise ValueError('no')" if w.real else "raise ValueError: no")
    assert "Failure" in p["status"] and "ValueError" in p["stderr"], p
    boundary = "c" * 32
    kind = ("Content-Type", f"multipart/form-data; boundary={boundary}")
    status, _, _ = w.send("POST", url("files/upload"), fields + [kind], multipart("t.txt", b"ag", boundary), chunked=True)
    eq(status, 200)
    assert "t.txt" in [f["properties"]["filename"] for f in json.loads(w.send("GET", url("files"), fields)[2])["value"]]
    eq(w.send("GET", url("files/content/t.txt"), fields)[2], b"ag")
    old = b'{"properties":{"identifier":"x","codeInputType":"inline","executionType":"synchronous","pythonCode":"1 + 1"}}'
    eq(json.loads(w.send("POST", url("python/execute"), fields + [JSON], old)[2])["properties"]["result"], 2)


def test_row_7_llamaindex(w):
    ident = str(uuid.uuid4())
    url = lambda path: f"{LONG}/python/{path}?identifier={ident}&api-version=2024-02-02-preview"
    fields = requests_fields(UA["llamaindex"])
    code = "import matplotlib.pyplot as plt\nplt.plot([1, 2])\nplt.show()\n" if w.real else "png\n"
    p = json.loads(w.send("POST", url("code/execute"), fields + [JSON], WRAPPED(code))[2])["properties"]
    eq((p["result"]["type"], p["result"]["format"]), ("image", "png"))
    assert p["result"]["base64_data"].startswith("iVBOR"), p
    boundary = "d" * 32
    kind = ("Content-Type", f"multipart/form-data; boundary={boundary}")
    bare = [f for f in requests_fields("python-requests/2.32.3")]
    _, _, body = w.send("POST", url("files/upload"), bare + [kind], multipart("/mnt/data/l.txt", b"ll", boundary))
    eq([(f["properties"]["filename"], f["properties"]["size"]) for f in json.loads(body)["value"]], [("l.txt", 2)])
    eq(w.send("GET", url("files/content/l.txt"), bare)[2], b"ll")


def test_row_8_az_cli(w):
    ident = "az session".replace(" ", "-")
    ident += uuid.uuid4().hex[:8]
    q = f"identifier={ident}&api-version=2025-02-02-preview"
    fields = requests_fields(UA["az"], ("CommandName", "containerapp session code-interpreter execute"))
    flat = {"codeInputType": "inline", "executionType": "synchronous", "code": "print('Hello world')", "timeoutInSeconds": 60}
    for body in (flat, {"properties": {"identifier": ident, **flat}}):
        status, _, answer = w.send("POST", f"{LONG}/python/executions?{q}", fields + [JSON], json.dumps(body).encode())
        a = json.loads(answer)
        eq((status, a["status"], a["result"]["stdout"]), (200, "Succeeded", "Hello world\n"))
    boundary = "e" * 32
    kind = ("Content-Type", f"multipart/form-data; boundary={boundary}")
    status, _, answer = w.send("POST", f"{LONG}/python/files?path=/&{q}", fields + [kind], multipart("c.txt", b"az", boundary, None))
    eq((status, json.loads(answer)["name"]), (200, "c.txt"))
    listed = lambda: json.loads(w.send("GET", f"{LONG}/python/files?identifier={ident}&path=&api-version=2025-02-02-preview", fields)[2])["value"]
    eq(len(listed()), 1)
    eq(json.loads(w.send("GET", f"{LONG}/python/files/c.txt?path=/&{q}", fields)[2])["sizeInBytes"], 2)
    eq(w.send("GET", f"{LONG}/python/files/c.txt/content?path=/&{q}", fields)[2], b"az")
    assert w.send("DELETE", f"{LONG}/python/files/c.txt?path=/&{q}", fields)[0] in (200, 201, 202, 204)
    eq(len(listed()), 0)
    stop = lambda: w.send("POST", f"{LONG}/python/.management/stopSession?{q}", fields)
    status, _, text = stop()
    eq((status, text.decode()), (200, f"Session {ident} in session pool python stopped."))
    assert stop()[0] >= 400


def test_row_10_third_parties(w):
    ident = str(uuid.uuid4())
    q = f"identifier={ident}&api-version=2025-02-02-preview"
    fields = [("Host", "{host}"), ("Authorization", "bearer {token}"), ("User-Agent", "Go-http-client/1.1")]
    status, got, body = w.send("POST", f"{LONG}/python/.management/getSession?{q}", fields)
    eq((status, got["x-ms-error-code"]), (400, "SessionWithIdentifierNotFound"))
    op = str(uuid.uuid4())
    status, got, body = w.send("POST", f"{LONG}/python/executions?{q}", fields + [JSON, ("operation-id", op)], b'{"code":"1 + 1"}')
    eq((status, got["operation-id"], json.loads(body)["id"]), (200, op, op))
    for name in ("x-ms-session-guid", "x-ms-allocation-time", "x-ms-overall-execution-time"):
        assert name in got, got
    _, _, body = w.send("POST", f"{LONG}/python/.management/getSession?{q}", fields)
    assert "expiresAt" in json.loads(body)
    _, _, body = w.send("POST", f"{LONG}/python/.management/listSessions?skip=0&api-version=2025-02-02-preview", fields)
    a = json.loads(body)
    assert ident in [x["identifier"] for x in a["value"]] and a["count"] >= 1 and a["nextLink"] is None


def llamaindex(w):
    """The package itself; llamaindex_tool.py has it before an echo worker."""
    llamaindex_tool.run(Packages(), f"https://{w.host}:{w.port}{LONG}/python", w.ca, w.token,
                        "import matplotlib.pyplot as plt\nplt.plot([1, 2])\nplt.show()", "raise ValueError('no')")


def openapi(w):
    """gateway_openapi.py has it before an echo worker."""
    def send(method, target, fields, body):
        both = {"Host": "{host}", "Authorization": "Bearer {token}", **fields}
        return w.send(method, target, list(both.items()), body or b"")
    gateway_openapi.check_all(send)


# what is asked for: (its tests, why they cannot run)
REAL = {
    "": (globals(), lambda: None),
    "llamaindex": ({"test_llamaindex": llamaindex}, lambda: Packages().why),
    "openapi": ({"test_openapi": openapi}, lambda: gateway_openapi.jsonschema is None and
                "python3-jsonschema is not installed (deploy/install-deps test)"),
}


def real(what):
    from warren_cluster import Cluster, pool, why_not
    tests, lacking = REAL[what]
    why = why_not() or lacking()
    if why:
        print("skipped:", why)
        return 77
    shell = pool("shell", maximum=10, ready=1)
    shell["properties"]["containerType"] = "Shell"
    import os
    cluster = Cluster([pool("python", maximum=20, ready=2), shell], templates=os.environ.get("WARREN_TEST_TEMPLATES"))
    try:
        cluster.start()
        url = urllib.parse.urlsplit(cluster.url)
        bad = run_tests(tests, w=Wire(url.hostname, url.port, cluster.ca_file, cluster.token(), True))
        if bad:
            print(cluster.logs()[-4000:])
        bad += cluster.stop() != 0
        cluster.remove()
        return bad != 0
    finally:
        cluster.kill_everything()


def main():
    if "--real" in sys.argv:
        return real("".join(sys.argv[sys.argv.index("--real") + 1:]))
    s = System(sys.argv[1], secure=True)
    token = s.token(aud="https://acasessions.io")  # the older audience, which several clients ask for
    return conclude(run_tests(globals(), w=Wire("127.0.0.1", s.port, s.dir / "cert.pem", token, False)), s)


if __name__ == "__main__":
    sys.exit(main())
