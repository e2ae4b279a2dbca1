#!/usr/bin/env python3
"""MCP: /mcp of a pool in both eras, its keys, progress and cancellation, before workers without microVMs."""
import concurrent.futures
import json
import pathlib
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from gateway_system import CLUSTER_KEY, System, conclude, eq, form, run_tests  # noqa: E402

LONG = "/subscriptions/s-1/resourceGroups/rg/providers/Microsoft.App/sessionPools"
V = "api-version=2025-10-02-preview"
PY, SH = "runPythonCodeInRemoteEnvironment", "runShellCommandInRemoteEnvironment"
META = {"io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientCapabilities": {}}


def new_id():
    return "id-" + uuid.uuid4().hex


def ask(s, method, params=None, ident="1", headers=None, pool="python", path=None):
    body = {"jsonrpc": "2.0", "method": method}
    if ident is not None:
        body["id"] = ident
    if params is not None:
        body["params"] = params
    return s.request("POST", path or f"/pools/{pool}/mcp", body, headers)


def call(s, tool, args, **more):
    a = ask(s, "tools/call", {"name": tool, "arguments": args}, **more)
    eq(a.status, 200)
    return a.json["result"]


def test_a_call_that_is_sent_twice_runs_once(s):
    code = {"environmentId": new_id(), "pythonCode": "runs"}
    once = call(s, PY, code, headers={"Idempotency-Key": "call-1"})
    eq(call(s, PY, code, headers={"Idempotency-Key": '"call-1"'}), once)
    assert call(s, PY, code, headers={"Idempotency-Key": "call-2"}) != once
    other = {**code, "pythonCode": "print('x')\nruns"}  # a client may send one key with every call
    assert call(s, PY, other, headers={"Idempotency-Key": "call-1"}) != once
    assert call(s, PY, code) != once


def modern(s, method, params=None, headers=None, **more):
    params = {**(params or {}), "_meta": META}
    h = {"MCP-Protocol-Version": "2026-07-28", "Mcp-Method": method}
    if "name" in params:
        h["Mcp-Name"] = params["name"]
    return ask(s, method, params, headers={**h, **(headers or {})}, **more)


# ---- legacy ----

def test_bare_requests_without_handshake(s):
    a = ask(s, "initialize")
    eq((a.status, a.headers["content-type"]), (200, "application/json; charset=utf-8"))
    r = a.json["result"]
    eq((a.json["id"], r["protocolVersion"], r["serverInfo"]["name"]),
       ("1", "2025-03-26", "Microsoft Container Apps MCP Server"))
    eq((r["capabilities"]["tools"]["call"], r["capabilities"]["tools"]["list"]), (True, True))
    tools = ask(s, "tools/list").json["result"]["tools"]
    eq([t["name"] for t in tools], ["launchShell", SH, PY])
    assert all("outputSchema" in t and t["inputSchema"]["type"] == "object" for t in tools)
    eq(ask(s, "ping", ident=0).json, {"jsonrpc": "2.0", "id": 0, "result": {}})
    eq(ask(s, "nope").json["error"]["code"], -32601)
    eq(ask(s, "tools/list", path=f"{LONG}/python/mcp?{V}").status, 200)


def test_transport(s):
    for method in ("GET", "DELETE", "PUT"):
        a = s.request(method, "/pools/python/mcp")
        eq((a.status, a.headers["allow"]), (405, "POST"))
    a = ask(s, "notifications/initialized", ident=None)
    eq((a.status, a.body), (202, b""))
    eq(s.request("POST", "/pools/python/mcp", "{").json["error"]["code"], -32700)
    eq(s.request("POST", "/pools/python/mcp", "[]").status, 400)
    eq(ask(s, "ping", headers={"Origin": "http://evil.example.com"}).status, 403)
    eq(ask(s, "ping", headers={"Host": "evil.example.com"}).status, 403)
    eq(ask(s, "ping", headers={"Origin": "http://localhost:3000"}).status, 200)
    eq(ask(s, "ping", headers={"MCP-Protocol-Version": "1999-01-01"}).status, 400)
    eq(ask(s, "ping", pool="nope").status, 404)
    a = ask(s, "ping", pool="node")  # its switch is off
    eq((a.status, a.code), (404, "SessionMCPServerNotEnabled"))
    eq(s.request("GET", "/.well-known/oauth-protected-resource/pools/python/mcp").status, 404)


def test_code_runs_in_the_session_that_rest_sees(s):
    env = call(s, "launchShell", {})["structuredContent"]["environmentId"]
    r = call(s, PY, {"environmentId": env, "pythonCode": "print('a')\nerr b\n1+2"})
    out = r["structuredContent"]
    eq((out["stdout"], out["stderr"], out["executionResult"], out["status"], r["isError"]),
       ("a\n", "b", 3, "Succeeded", False))
    eq(json.loads(r["content"][0]["text"]), out)
    a = s.request("POST", f"/pools/python/executions?{V}&identifier={env}", {"code": "1+1"})
    eq(a.headers["x-ms-new-allocation"], "false")  # the same session
    eq(call(s, "launchPythonEnvironment", {})["content"][0]["type"], "text")


def test_shell(s):
    i = new_id()
    r = call(s, SH, {"environmentId": i, "shellCommand": "echo hi"}, pool="shell")
    eq((r["structuredContent"]["stdout"], r["structuredContent"]["exitCode"]), ("hi\n", 0))
    r = call(s, SH, {"environmentId": i, "execCommandAndArgs": ["echo", "a", "b"]}, pool="shell")
    eq(r["structuredContent"]["stdout"], "a b\n")
    for argv in ([], ["a"] * 257, ["a", 1], "a"):
        r = call(s, SH, {"environmentId": i, "execCommandAndArgs": argv}, pool="shell")
        assert r["isError"] and "array of 1 to 256 strings" in r["content"][0]["text"], r
    r = call(s, SH, {"environmentId": i, "shellCommand": "exit 3"}, pool="shell")
    eq((r["structuredContent"]["exitCode"], r["isError"]), (3, True))
    r = call(s, PY, {"environmentId": i, "pythonCode": "1"}, pool="shell")
    assert r["isError"] and "SessionPropertiesMissing" in r["content"][0]["text"], r


def test_failures_are_results(s):
    r = call(s, PY, {"environmentId": new_id(), "pythonCode": "raise ValueError: no"})
    eq((r["isError"], r["structuredContent"]["status"]), (True, "Failed"))
    assert "Traceback" in r["structuredContent"]["stderr"] and "ValueError: no" in r["content"][0]["text"]
    for code, word in (("timeout", "timed out"), ("oom", "aborted"), ("die", "aborted")):
        r = call(s, PY, {"environmentId": new_id(), "pythonCode": code})
        assert r["isError"] and word in r["structuredContent"]["stderr"], r
        eq(r["structuredContent"].get("kernelRestarted", False), code == "die")
    assert call(s, PY, {"environmentId": "1", "pythonCode": "1"})["isError"]
    assert call(s, PY, {"environmentId": new_id()})["isError"]
    eq(ask(s, "tools/call", {"name": "x"}).json["error"]["code"], -32602)


def test_a_pool_that_is_full_is_an_error_of_the_tool(bin_dir):
    s = System(bin_dir, pools=("tiny:PythonLTS:1:mcp",))
    try:
        assert not call(s, PY, {"environmentId": new_id(), "pythonCode": "1+1"}, pool="tiny")["isError"]
        r = call(s, PY, {"environmentId": new_id(), "pythonCode": "1+1"}, pool="tiny")
        assert r["isError"] and "PoolFull" in r["content"][0]["text"], r
    finally:
        eq(s.stop(), [0, 0])


def test_images_are_blocks(s):
    r = call(s, PY, {"environmentId": new_id(), "pythonCode": "png"})
    eq([c["type"] for c in r["content"]], ["text", "image"])
    eq((r["content"][1]["mimeType"], r["content"][1]["data"][:6]), ("image/png", "iVBORw"))
    assert "iVBORw" not in r["content"][0]["text"]  # not twice


# ---- modern ----

def test_the_stateless_revision(s):
    r = modern(s, "server/discover").json["result"]
    eq((r["supportedVersions"], r["resultType"]), (["2026-07-28"], "complete"))
    r = modern(s, "tools/list", ident="a").json["result"]
    assert r["ttlMs"] >= 0 and r["cacheScope"] in ("public", "private") and len(r["tools"]) == 3
    args = {"name": PY, "arguments": {"environmentId": new_id(), "pythonCode": "1+1"}}
    r = modern(s, "tools/call", args).json["result"]
    eq((r["resultType"], r["structuredContent"]["executionResult"]), ("complete", 2))
    for method in ("initialize", "ping", "logging/setLevel"):
        a = modern(s, method)
        eq((a.status, a.json["error"]["code"]), (404, -32601))
    for headers in ({"Mcp-Method": "x"}, {"Mcp-Name": "x"}, {"MCP-Protocol-Version": "2025-11-25"}):
        a = modern(s, "tools/call", args, headers=headers)
        eq((a.status, a.json["error"]["code"]), (400, -32020))
    eq(s.request("DELETE", "/pools/python/mcp", headers={"Mcp-Session-Id": "x"}).status, 405)


# ---- pools with all tools ----

def more(s, tool, environment, **args):
    return call(s, tool, {"environmentId": environment, **args}, pool="more", headers={"MCP-Protocol-Version": "2025-11-25"})


def test_all_tools(s):
    tools = ask(s, "tools/list", pool="more").json["result"]["tools"]
    eq([t["name"] for t in tools][3:],
       ["runNodeCodeInRemoteEnvironment", "uploadFile", "downloadFile", "listFiles", "stopEnvironment"])
    assert all("outputSchema" in t and t["inputSchema"]["type"] == "object" for t in tools)
    eq(ask(s, "tools/call", {"name": "listFiles", "arguments": {"environmentId": "abcd"}}).json["error"]["code"], -32602)
    r = more(s, "runNodeCodeInRemoteEnvironment", new_id(), nodeCode="1+2")
    eq((r["structuredContent"]["executionResult"], r["isError"]), (3, False))


def test_files(s):
    i = new_id()
    r = more(s, "uploadFile", i, path="/mnt/data/in/a.txt", text="h\u00e4 \U0001f600")
    eq(r["structuredContent"], {"path": "/mnt/data/in/a.txt", "sizeInBytes": 8, "mimeType": "text/plain",
                                "uri": f"environment:///{i}/in/a.txt"})
    more(s, "uploadFile", i, path="p.png", blob="iVBORw0KGgoAAAAN")
    more(s, "uploadFile", i, path="empty", text="")
    a = s.request("GET", f"/pools/more/files/a.txt/content?{V}&identifier={i}&path=in")  # the REST API sees it
    eq((a.status, a.body.decode()), (200, "h\u00e4 \U0001f600"))
    r = more(s, "listFiles", i, recursive=True)
    files = r["structuredContent"]["files"]
    eq(sorted((f["path"], f["sizeInBytes"]) for f in files if f["type"] == "file"),
       [("/mnt/data/empty", 0), ("/mnt/data/in/a.txt", 8), ("/mnt/data/p.png", 12)])
    eq(json.loads(r["content"][0]["text"]), r["structuredContent"])
    eq(sorted(c["uri"] for c in r["content"][1:]), sorted(f["uri"] for f in files if f["type"] == "file"))
    r = more(s, "downloadFile", i, path="in/a.txt")
    eq(r["content"][1]["resource"], {"uri": f"environment:///{i}/in/a.txt", "mimeType": "text/plain", "text": "h\u00e4 \U0001f600"})
    eq(more(s, "downloadFile", i, path="p.png")["content"][1], {"type": "image", "mimeType": "image/png", "data": "iVBORw0KGgoAAAAN"})
    eq(more(s, "downloadFile", i, path="empty")["content"][1]["resource"]["text"], "")
    for path in ("nope", "in"):
        r = more(s, "downloadFile", i, path=path)
        assert r["isError"] and "FileNotFound" in r["content"][0]["text"], r
    assert more(s, "listFiles", i, path="nope")["isError"]
    assert more(s, "uploadFile", i, path="x", blob="?")["isError"]
    for wrong in ("yes", 1, [], {}):
        r = more(s, "listFiles", i, recursive=wrong)
        assert r["isError"] and "Input validation error: 'recursive'" in r["content"][0]["text"], r
    assert not more(s, "listFiles", i, recursive=None).get("isError", False)
    more(s, "uploadFile", i, path="broken", text="x")  # the worker will not send it
    r = more(s, "downloadFile", i, path="broken")
    assert r["isError"] and "FileIncomplete" in r["content"][0]["text"], r


def test_reading_makes_no_environment(s):
    i = new_id()
    for tool, args in (("listFiles", {}), ("downloadFile", {"path": "a"}), ("stopEnvironment", {})):
        r = more(s, tool, i, **args)
        assert r["isError"] and f"Environment not found: {i}." in r["content"][0]["text"], r
    e = ask(s, "resources/read", {"uri": f"environment:///{i}/a"}, pool="more").json["error"]
    eq((e["code"], "Environment not found" in e["message"], e["data"]), (-32602, True, {"uri": f"environment:///{i}/a"}))
    eq(s.request("GET", f"/pools/more/session?{V}&identifier={i}").status, 404)


def test_a_lost_upload_is_not_said_to_run_code(bin_dir):
    s = System(bin_dir, worker_args=("--hold",))
    try:
        assert not call(s, "launchShell", {}).get("isError", False)
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            upload = pool.submit(more, s, "uploadFile", new_id(), path="a", text="x")
            eq(s.workers[0].process.stdout.readline(), "holding\n")
            s.workers[0].process.kill()
            r = upload.result()
        assert r["isError"] and "was lost" in r["content"][0]["text"] and "code" not in r["content"][0]["text"], r
        e = ask(s, "resources/read", {"uri": "environment:///abcd/a"}, pool="more").json["error"]
        eq((e["code"], "data" in e), (-32603, False))  # nothing is known of the resource
    finally:
        eq(s.stop(), [0, -signal.SIGKILL])


def test_files_of_many_chunks(s):
    i, data = new_id(), "".join(f"{n:07x}\n" for n in range(1 << 19))  # 4 MiB
    eq(more(s, "uploadFile", i, path="big", text=data)["structuredContent"]["sizeInBytes"], len(data))
    eq(more(s, "downloadFile", i, path="big")["content"][1]["resource"]["text"], data)
    body, kind = form("file", "huge", bytes((8 << 20) + 1))
    eq(s.request("POST", f"/pools/more/files?{V}&identifier={i}", body, {"content-type": kind}).status, 200)
    r = more(s, "downloadFile", i, path="huge")
    assert r["isError"] and "FileTooLarge" in r["content"][0]["text"], r
    e = ask(s, "resources/read", {"uri": f"environment:///{i}/huge"}, pool="more").json["error"]
    eq((e["code"], "data" in e), (-32603, False))  # it is there
    r = more(s, "downloadFile", i, path="big")  # all is well after it
    eq(len(r["content"][1]["resource"]["text"]), len(data))


def test_files_are_resources(s):
    i = new_id()
    uri = more(s, "uploadFile", i, path="a b.txt", text="x")["structuredContent"]["uri"]
    read = lambda uri, **kw: ask(s, "resources/read", {"uri": uri}, pool="more", **kw).json
    eq(read(uri)["result"]["contents"], [{"uri": uri, "mimeType": "text/plain", "text": "x"}])
    missing = f"environment:///{i}/nope"
    eq((read(missing)["error"]["code"], read(missing)["error"]["data"]), (-32602, {"uri": missing}))
    eq(ask(s, "resources/list", pool="more").json["result"], {"resources": []})
    r = modern(s, "resources/read", {"uri": uri}, headers={"Mcp-Name": uri}, pool="more").json["result"]
    eq((r["resultType"], r["contents"][0]["text"], r["cacheScope"]), ("complete", "x", "private"))
    eq(modern(s, "resources/read", {"uri": uri}, pool="more").json["error"]["code"], -32020)
    assert "resources" in modern(s, "server/discover", pool="more").json["result"]["capabilities"]
    eq(modern(s, "resources/list", pool="python").status, 404)


def test_an_environment_is_stopped(s):
    i = new_id()
    more(s, "uploadFile", i, path="a", text="x")
    r = more(s, "stopEnvironment", i)
    eq((r["structuredContent"], r.get("isError", False)), ({"environmentId": i, "stopped": True}, False))
    eq(s.request("GET", f"/pools/more/session?{V}&identifier={i}").status, 404)
    r = more(s, "stopEnvironment", i)
    assert r["isError"] and "Environment not found" in r["content"][0]["text"], r
    r = more(s, "uploadFile", i, path="b", text="x")  # a new one
    eq(r["structuredContent"]["environmentRestarted"], True)
    assert "started anew" in r["content"][1]["text"], r
    eq([f["path"] for f in more(s, "listFiles", i)["structuredContent"]["files"]], ["/mnt/data/b"])


def test_several_images(s):
    r = call(s, PY, {"environmentId": new_id(), "pythonCode": "png\npng"})
    eq([c["type"] for c in r["content"]], ["text", "image", "image"])


def test_images_that_have_no_room_are_counted(s):
    r = call(s, PY, {"environmentId": new_id(), "pythonCode": "png\n" * 20})
    eq([c["type"] for c in r["content"]], ["text", "text"] + ["image"] * 16)
    eq((r["structuredContent"]["imagesDropped"], "imagesDropped" in r["content"][1]["text"]), (4, True))


def test_output_that_is_cut_is_told(s):
    run = lambda n: call(s, PY, {"environmentId": new_id(), "pythonCode": f"big {n}"})
    rest = lambda n: s.request("POST", f"/pools/python/executions?{V}&identifier={new_id()}",
                               {"code": f"big {n}", "outputStreamsMaxLength": 1 << 20}).headers.get("x-warren-truncated")
    r = run(2_000_000)
    eq((len(r["structuredContent"]["stdout"]), r["structuredContent"]["truncated"], r["isError"]), (1 << 20, True, False))
    assert "longer than what is kept" in r["content"][1]["text"], r["content"][1]
    r = run(1 << 20)
    eq((len(r["structuredContent"]["stdout"]), "truncated" in r["structuredContent"], len(r["content"])), (1 << 20, False, 1))
    eq((rest(2_000_000), rest(1 << 20)), ("true", None))


def test_a_new_environment_in_place_of_one_that_is_gone_is_told(s):
    for stream in (False, True):
        i = new_id()
        run = lambda: list(messages(open_stream(s, "1+1", i)[1]))[-1]["result"] if stream else call(
            s, PY, {"environmentId": i, "pythonCode": "1+1"})
        assert "environmentRestarted" not in run()["structuredContent"]
        eq(s.request("DELETE", f"/pools/python/session?{V}&identifier={i}").status, 204)
        r = run()
        eq((r["structuredContent"]["environmentRestarted"], r["isError"]), (True, False))
        assert "started anew" in r["content"][1]["text"], r
        assert "environmentRestarted" not in run()["structuredContent"]  # told once


# ---- progress, cancellation ----

def open_stream(s, code, env, ident=7, token="tok", headers=None):
    c = s.connect()
    body = {"jsonrpc": "2.0", "id": ident, "method": "tools/call", "params": {
        "name": PY, "arguments": {"environmentId": env, "pythonCode": code}, "_meta": {"progressToken": token}}}
    c.request("POST", "/pools/python/mcp", json.dumps(body),
              {"Accept": "application/json, text/event-stream", **(headers or {})})
    r = c.getresponse()
    eq((r.status, r.headers["content-type"]), (200, "text/event-stream"))
    return c, r


def messages(r):
    for line in r:
        if line.startswith(b"data: "):
            yield json.loads(line[6:])


def test_output_comes_as_progress(s):
    c, r = open_stream(s, "print('one')\nsleep 50\nprint('two')\n1+1", new_id())
    got = list(messages(r))
    c.close()
    progress, last = got[:-1], got[-1]
    assert all(m["method"] == "notifications/progress" and m["params"]["progressToken"] == "tok" for m in progress)
    eq("".join(m["params"]["message"] for m in progress), "one\ntwo\n")
    numbers = [m["params"]["progress"] for m in progress]
    eq(numbers, sorted(set(numbers)))
    eq((last["id"], last["result"]["structuredContent"]["stdout"]), (7, "one\ntwo\n"))


def test_much_output_does_not_stall(s):
    c, r = open_stream(s, "big 1000000", new_id(), token=3)
    got = list(messages(r))
    c.close()
    eq(sum(len(m["params"]["message"]) for m in got[:-1]), 1000000)
    eq(len(got[-1]["result"]["structuredContent"]["stdout"]), 1000000)


def test_cancellation_stops_the_code(s):
    session = ask(s, "initialize").headers["mcp-session-id"]
    other = ask(s, "initialize").headers["mcp-session-id"]
    env = new_id()
    c, r = open_stream(s, "print('up')\nsleep 600000\nprint('late')", env, headers={"Mcp-Session-Id": session})
    stream = messages(r)
    eq(next(stream)["params"]["message"], "up")
    cancel = lambda session, ident: ask(s, "notifications/cancelled", {"requestId": ident}, ident=None,
                                        headers={"Mcp-Session-Id": session}).status
    eq((cancel(other, 7), cancel(session, 8), cancel(session, "7")), (202, 202, 202))  # none of these is it
    eq(s.request("GET", f"/pools/python/session?{V}&identifier={env}").status, 200)  # the worker has read what came before
    told = s.workers[0].process.stdout  # a line for each execution that it was to stop
    eq(select.select([told], [], [], 0)[0], [])
    eq(cancel(session, 7), 202)
    last = [m for m in stream if "id" in m][0]["result"]
    eq((last["isError"], last["structuredContent"]["status"]), (True, "Canceled"))
    eq(told.readline(), "cancelled running\n")
    c.close()
    eq(ask(s, "ping", headers={"Mcp-Session-Id": "0" * 48}).status, 404)
    eq(ask(s, "ping", headers={"Mcp-Session-Id": session}).status, 200)


def held_call(bin_dir, withdraw):
    """A call whose microVM is not there yet is withdrawn; then it comes, and none but the next code runs in it."""
    s, env = System(bin_dir, worker_args=("--hold",)), new_id()
    worker = s.workers[0].process
    try:
        session = {"Mcp-Session-Id": ask(s, "initialize").headers["mcp-session-id"]}
        c, r = open_stream(s, "print('late')", env, headers=session)
        eq(worker.stdout.readline(), "holding\n")
        withdraw(s, c, r, session)
        eq(s.request("GET", f"/pools/python/session?{V}&identifier={env}").status, 404)  # the worker has heard of it
        worker.send_signal(signal.SIGUSR1)
        eq(call(s, PY, {"environmentId": env, "pythonCode": "runs"})["structuredContent"]["executionResult"], 1)
    finally:
        eq(s.stop(), [0, 0])


def test_cancellation_while_there_is_no_microvm_yet(bin_dir):
    def cancel(s, c, r, session):
        eq(ask(s, "notifications/cancelled", {"requestId": 7}, ident=None, headers=session).status, 202)
        last = list(messages(r))[-1]["result"]
        eq((last["isError"], last["structuredContent"]["status"]), (True, "Canceled"))
        c.close()

    held_call(bin_dir, cancel)


def test_a_connection_closed_while_there_is_no_microvm_yet(bin_dir):
    def close(s, c, r, session):
        r.close()
        c.close()
        while not re.search("op=mcp pool=python session=[0-9a-f]{16}", s.log()):  # of the one call so far
            ask(s, "ping", headers=session)

    held_call(bin_dir, close)


def test_a_closed_connection_stops_the_code(bin_dir):
    s = System(bin_dir)
    try:
        c, r = open_stream(s, "print('up')\nsleep 600000", new_id())
        eq(next(messages(r))["params"]["message"], "up")
        r.close()
        c.close()
        line = s.workers[0].process.stdout.readline()  # comes when the worker was told to stop it
        eq(line, "cancelled running\n")
    finally:
        eq(s.stop(), [0, 0])


def test_many_clients_at_once(bin_dir):
    """20 clients, 500 calls each over a connection that stays, every answer the one that was asked for."""
    s = System(bin_dir, workers=2)

    def work(n):
        c, env = s.connect(), new_id()
        modern_head = {"MCP-Protocol-Version": "2026-07-28", "Mcp-Method": "tools/call", "Mcp-Name": PY}
        try:
            for i in range(500):
                params = {"name": PY, "arguments": {"environmentId": env, "pythonCode": f"{n}+{i}"}}
                params |= {"_meta": META} if i % 2 else {}
                c.request("POST", "/pools/python/mcp", json.dumps({"jsonrpc": "2.0", "id": i, "method": "tools/call", "params": params}),
                          modern_head if i % 2 else {})
                r = c.getresponse()
                answer = json.loads(r.read())
                eq((r.status, answer["id"], answer["result"]["structuredContent"]["executionResult"]), (200, i, n + i))
        finally:
            c.close()
        return 500

    try:
        with concurrent.futures.ThreadPoolExecutor(20) as pool:
            eq(sum(pool.map(work, range(20))), 10000)
    finally:
        eq(s.stop(), [0, 0, 0])


def test_answers_have_a_bound_in_memory(bin_dir):
    s = System(bin_dir, more=("memory_mib: 4",))
    code = "big 1048576\nprint('up')\nsleep 600000"  # output is kept until the code has ended
    try:
        running = [open_stream(s, code, new_id()) for _ in range(3)]
        for _, r in running:
            next(m for m in messages(r) if "up" in m["params"]["message"])
        more_of_it = lambda: call(s, PY, {"environmentId": new_id(), "pythonCode": "big 1048576"})
        r = more_of_it()
        assert r["isError"] and "ServiceUnavailable" in r["content"][0]["text"], r
        a = s.request("POST", f"/pools/python/executions?{V}&identifier={new_id()}", {"code": "big 1048576", "outputStreamsMaxLength": 1 << 20})
        eq((a.status, a.code), (503, "ServiceUnavailable"))
        eq(call(s, PY, {"environmentId": new_id(), "pythonCode": "1+2"})["structuredContent"]["executionResult"], 3)
        for c, r in running:
            r.close()
            c.close()
        deadline = time.monotonic() + 30
        while more_of_it()["isError"]:  # the gateway has yet to see that they are gone
            assert time.monotonic() < deadline, "the memory did not come back"
        for _ in range(5):
            assert not more_of_it()["isError"]
    finally:
        eq(s.stop(), [0, 0])


def test_answers_that_nobody_reads_have_a_bound(bin_dir):
    """What waits for a client to read it is counted until it has: here six bytes of JSON for each of the file."""
    s, i, size = System(bin_dir, more=("memory_mib: 64",)), new_id(), 7 << 20
    try:
        body, kind = form("file", "ones", bytes([1]) * size)
        eq(s.request("POST", f"/pools/more/files?{V}&identifier={i}", body, {"content-type": kind}).status, 200)
        lazy = s.connect()
        lazy.request("POST", "/pools/more/mcp", json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {
            "name": "downloadFile", "arguments": {"environmentId": i, "path": "ones"}}}))
        answer = lazy.getresponse()
        r = more(s, "downloadFile", i, path="ones")
        assert r["isError"] and "ServiceUnavailable" in r["content"][0]["text"], r
        eq(ask(s, "resources/read", {"uri": f"environment:///{i}/ones"}, pool="more").json["error"]["code"], -32603)
        eq(call(s, PY, {"environmentId": new_id(), "pythonCode": "1+2"})["structuredContent"]["executionResult"], 3)
        for n in range(3):
            text = (json.loads(answer.read())["result"] if n == 0 else more(s, "downloadFile", i, path="ones"))["content"][1]["resource"]["text"]
            eq(len(text), size)
        lazy.close()
    finally:
        eq(s.stop(), [0, 0])


# ---- browsers ----

def test_pages_and_names_that_are_allowed(bin_dir):
    page, s = "https://chat.example.org", System(bin_dir, more=(
        "mcp_origins: [\"https://chat.example.org\"]", "mcp_hosts: [\"warren.example.org\"]"))
    try:
        a = ask(s, "ping", headers={"Origin": page, "Host": "warren.example.org"})
        eq((a.status, a.headers["access-control-allow-origin"], a.headers["vary"]), (200, page, "origin"))
        for headers in ({"Origin": page + ".evil.example"}, {"Origin": "null"}, {"Host": "evil.example.com"}):
            a = ask(s, "ping", headers=headers)
            eq((a.status, a.code, "access-control-allow-origin" in a.headers), (403, "Forbidden", False))
        a = s.request("OPTIONS", "/pools/python/mcp", headers={"Origin": page, "Access-Control-Request-Method": "POST"})
        eq((a.status, a.headers["access-control-allow-origin"]), (204, page))
        assert "idempotency-key" in a.headers["access-control-allow-headers"], a.headers
        assert "x-ms-apikey" in a.headers["access-control-allow-headers"], a.headers
        a = s.request("OPTIONS", "/pools/python/mcp", headers={"Origin": "https://evil.example.com"})
        eq((a.status, "access-control-allow-origin" in a.headers), (204, False))
        a = s.request("GET", f"/pools/python/session?{V}&identifier=abcd", headers={"Origin": page})
        assert "access-control-allow-origin" not in a.headers, a.headers  # MCP only
    finally:
        eq(s.stop(), [0, 0])
    for line in ("mcp_origins: [\"*\"]", "mcp_hosts: [\"a:80\"]"):
        try:
            System(bin_dir, more=(line,))
        except AssertionError as e:
            assert line.split(":")[0] in str(e), e
        else:
            raise AssertionError(f"'{line}' was taken")


# ---- keys ----

def test_keys(bin_dir):
    folder = tempfile.mkdtemp(prefix="warren-test-mcp-")
    s = System(bin_dir, secure=True, more=(f"mcp_keys: {folder}/mcp",))
    (pathlib.Path(folder) / "keys").mkdir()
    cluster_key = pathlib.Path(folder) / "keys/cluster.key"
    cluster_key.touch(0o600)  # as `warren keys` makes it; one that others can read is refused
    cluster_key.write_text(CLUSTER_KEY + "\n")
    cli = lambda *more: subprocess.run([f"{bin_dir}/warren", "pool", "mcp-key", "--state-dir", folder, "--pool", "python", *more],
                                       check=True, capture_output=True, text=True).stdout.strip()
    try:
        bearer = lambda **c: {"authorization": "Bearer " + s.token(**c)}
        admin = bearer(roles=["Contributor"])
        post = lambda action, headers: s.request("POST", f"{LONG}/python/{action}?{V}", "", headers)
        with_key = lambda key, **more: ask(s, "ping", headers={"x-ms-apikey": key}, **more)
        eq(post("fetchMcpServerCredentials", {}).status, 401)
        eq(post("fetchMcpServerCredentials", bearer()).status, 403)  # an executor's token is not enough
        key = post("fetchMCPServerCredentials", admin).json["apiKey"]
        eq(post("fetchMcpServerCredentials", admin).json, {"apiKey": key})
        eq(s.request("POST", f"{LONG}/node/fetchMcpServerCredentials?{V}", "", admin).code, "SessionMCPServerNotEnabled")
        eq((with_key(key).status, with_key(key, path=f"{LONG}/python/mcp").status), (200, 200))
        for headers in ({}, {"x-ms-apikey": "x"}, {"x-ms-apikey": key[:-1]}, {"x-ms-apikey": key[:-1] + "x"}, admin):
            a = ask(s, "ping", headers=headers)
            eq((a.status, "www-authenticate" in a.headers, a.code), (401, False, "Unauthorized"))
        eq(s.request("GET", "/pools/python/mcp").status, 401)
        eq(s.request("GET", "/pools/python/mcp", headers={"x-ms-apikey": key}).status, 405)
        eq(with_key(key, pool="shell").status, 401)  # of one pool only
        eq(s.request("GET", f"/pools/python/session?{V}&identifier=abcd", headers={"x-ms-apikey": key}).status, 401)
        second = post("rotateMcpServerCredentials", admin).json["apiKey"]
        eq((with_key(second).status, with_key(key).status), (200, 200))  # the old one lives on for a while
        third = post("regenerateCredentials", admin).json["apiKey"]
        eq((with_key(third).status, with_key(second).status, with_key(key).status), (200, 200, 401))
        eq((cli(), json.loads(cli("--json"))["apiKey"]), (third, third))
        fourth = cli("--rotate")
        eq((with_key(fourth).status, with_key(third).status, with_key(second).status), (200, 200, 401))
        for f in pathlib.Path(folder).rglob("*"):
            assert f.is_dir() or (f.stat().st_mode & 0o77 == 0 and fourth not in f.read_text()) or f.name == "cluster.key", f
        assert key not in s.log() and third not in s.log()
    finally:
        codes = s.stop()
        shutil.rmtree(folder)
    eq(codes, [0, 0])


def main():
    bin_dir = sys.argv[1]
    plain = System(bin_dir)
    return conclude(run_tests(globals(), s=plain, bin_dir=bin_dir), plain)


if __name__ == "__main__":
    sys.exit(main())
