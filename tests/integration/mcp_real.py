#!/usr/bin/env python3
"""MCP before real microVMs: `warren up`, a key by `warren pool mcp-key`, code, files, a plot, cancellation by a
closed connection. Needs root and a guest image; 77 when there are none."""
import http.client
import json
import os
import pathlib
import ssl
import sys
import urllib.parse

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import warren_cluster as wc  # noqa: E402
from gateway_system import eq, run_tests  # noqa: E402

PY, SH = "runPythonCodeInRemoteEnvironment", "runShellCommandInRemoteEnvironment"
ENV = "mcp-real-0001"


class Mcp:
    def __init__(self, cluster):
        self.cluster = cluster
        self.url = urllib.parse.urlsplit(cluster.url)
        self.key = cluster.cli("pool", "mcp-key", "--pool", "python", text=True, check=True).stdout.strip()

    def post(self, tool, args, **meta):
        c = http.client.HTTPSConnection(self.url.hostname, self.url.port, timeout=300,
                                        context=ssl.create_default_context(cafile=self.cluster.ca_file))
        params = {"name": tool, "arguments": args, **({"_meta": meta} if meta else {})}
        c.request("POST", "/pools/python/mcp", json.dumps({"jsonrpc": "2.0", "id": "1", "method": "tools/call",
                                                           "params": params}), {"x-ms-apikey": self.key})
        return c, c.getresponse()

    def call(self, tool, args):
        c, r = self.post(tool, args)
        body = r.read()
        c.close()
        eq(r.status, 200)
        return json.loads(body)["result"]


def test_python_and_shell_share_the_session_with_rest(mcp, client):
    r = mcp.call(PY, {"environmentId": ENV, "pythonCode": "x = 6 * 7\nopen('/mnt/data/a.txt', 'w').write('hi')\nx"})
    eq((r["isError"], r["structuredContent"]["executionResult"]), (False, 42))
    r = mcp.call(SH, {"environmentId": ENV, "shellCommand": "cat /mnt/data/a.txt; exit 3"})
    eq((r["structuredContent"]["stdout"], r["structuredContent"]["exitCode"], r["isError"]), ("hi", 3, True))
    a = client.execute(ENV, "x + 1")
    eq((a.status, a.json["result"]["executionResult"]), (200, 43))


def test_a_failure_has_its_traceback(mcp):
    r = mcp.call(PY, {"environmentId": ENV, "pythonCode": "1 / 0"})
    assert r["isError"] and "ZeroDivisionError" in r["structuredContent"]["stderr"], r
    assert "Traceback" in r["content"][0]["text"], r


def test_a_plot_is_an_image(mcp):
    code = "import matplotlib.pyplot as plt\nplt.plot([1, 2, 3])\nplt.show()"
    r = mcp.call(PY, {"environmentId": ENV, "pythonCode": code})
    eq([c["type"] for c in r["content"]], ["text", "image"])
    eq(r["content"][1]["mimeType"], "image/png")


def test_a_closed_connection_stops_the_code(mcp):
    code = "import time\nprint('up', flush=True)\ntime.sleep(20)\nopen('/mnt/data/late', 'w').close()"
    c, r = mcp.post(PY, {"environmentId": ENV, "pythonCode": code}, progressToken="t")
    while b"up" not in (line := r.readline()):
        assert line, "no progress"
    r.close()
    c.close()
    # A session runs one code after the other: had the first not been stopped, its file would be there now.
    r = mcp.call(PY, {"environmentId": ENV, "pythonCode": "import os\nos.path.exists('/mnt/data/late')"})
    eq((r["structuredContent"]["stderr"], r["structuredContent"]["executionResult"]), ("", "False"))


def main():
    why = wc.why_not()
    if why:
        print("skipped:", why)
        return 77
    pool = wc.pool("python", maximum=4, ready=1)
    pool["properties"]["mcpServerSettings"] = {"isMCPServerEnabled": True}
    cluster = wc.Cluster([pool], templates=os.environ.get("WARREN_TEST_TEMPLATES"))
    try:
        cluster.start()
        client = cluster.client()
        bad = run_tests(globals(), mcp=Mcp(cluster), client=client)
        client.close()
        if bad:
            print(cluster.logs()[-4000:])
        eq(cluster.stop(), 0)
        eq(cluster.left_behind(), [])
        cluster.remove()
        return bad != 0
    finally:
        cluster.kill_everything()


if __name__ == "__main__":
    sys.exit(main())
