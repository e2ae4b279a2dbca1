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
        return self.send("tools/call", {"name": tool, "arguments": args, **({"_meta": meta} if meta else {})})

    def send(self, method, params):
        c = http.client.HTTPSConnection(self.url.hostname, self.url.port, timeout=300,
                                        context=ssl.create_default_context(cafile=self.cluster.ca_file))
        c.request("POST", "/pools/python/mcp", json.dumps({"jsonrpc": "2.0", "id": "1", "method": method, "params": params}),
                  {"x-ms-apikey": self.key})
        return c, c.getresponse()

    def call(self, tool, args):
        return self.ask("tools/call", {"name": tool, "arguments": args})

    def ask(self, method, params):
        c, r = self.send(method, params)
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


def test_an_interpreter_that_ends_is_told(mcp):
    env = "mcp-real-ends"
    r = mcp.call(PY, {"environmentId": env, "pythonCode": "x = 1\nopen('/mnt/data/f', 'w').close()\nimport os\nos._exit(3)"})
    eq((r["isError"], r["structuredContent"]["kernelRestarted"]), (True, True))
    r = mcp.call(PY, {"environmentId": env, "pythonCode": "os.path.exists('/mnt/data/f') if 'x' in dir() else 'gone'"})
    eq((r["structuredContent"]["executionResult"], "kernelRestarted" in r["structuredContent"]), ("'gone'", False))


def test_a_plot_is_an_image(mcp):
    code = "import matplotlib.pyplot as plt\nplt.plot([1, 2, 3])\nplt.show()"
    r = mcp.call(PY, {"environmentId": ENV, "pythonCode": code})
    eq([c["type"] for c in r["content"]], ["text", "image"])
    eq(r["content"][1]["mimeType"], "image/png")


def test_two_plots_are_two_images(mcp):
    code = "import matplotlib.pyplot as plt\nfor n in (1, 2):\n    plt.figure()\n    plt.plot([n])\n    plt.show()"
    r = mcp.call(PY, {"environmentId": ENV, "pythonCode": code})
    eq([c["type"] for c in r["content"]], ["text", "image", "image"])
    assert r["content"][1]["data"] != r["content"][2]["data"]


def test_javascript_and_python_share_the_files(mcp):
    r = mcp.call("runNodeCodeInRemoteEnvironment", {
        "environmentId": ENV, "nodeCode": "require('fs').writeFileSync('/mnt/data/js.txt', 'from js'); [1, 2].map(x => x * 2)"})
    eq((r["isError"], r["structuredContent"]["executionResult"]), (False, [2, 4]))
    r = mcp.call(PY, {"environmentId": ENV, "pythonCode": "open('/mnt/data/js.txt').read()"})
    assert "from js" in r["structuredContent"]["executionResult"], r


def test_files_go_up_and_down(mcp, client):
    up = mcp.call("uploadFile", {"environmentId": ENV, "path": "in/t.csv", "text": "a,b\n1,2\n"})["structuredContent"]
    r = mcp.call(PY, {"environmentId": ENV, "pythonCode":
                      "import pandas as pd\nd = pd.read_csv('/mnt/data/in/t.csv')\nd.to_csv('/mnt/data/out.csv')\n"
                      "import matplotlib.pyplot as plt\nplt.plot(d.a)\nplt.savefig('/mnt/data/p.png')\nplt.close()\nint(d.b[0])"})
    eq(r["structuredContent"]["executionResult"], 2)
    files = mcp.call("listFiles", {"environmentId": ENV, "recursive": True})["structuredContent"]["files"]
    assert {"/mnt/data/in/t.csv", "/mnt/data/out.csv", "/mnt/data/p.png"} <= {f["path"] for f in files}, files
    r = mcp.call("downloadFile", {"environmentId": ENV, "path": "out.csv"})
    eq(r["content"][1]["resource"]["text"], ",a,b\n0,1,2\n")
    r = mcp.call("downloadFile", {"environmentId": ENV, "path": "/mnt/data/p.png"})
    eq((r["content"][1]["mimeType"], r["content"][1]["data"][:6]), ("image/png", "iVBORw"))
    r = mcp.ask("resources/read", {"uri": up["uri"]})
    eq(r["contents"][0]["text"], "a,b\n1,2\n")
    eq(client.call("GET", "/files/out.csv/content", identifier=ENV).body, b",a,b\n0,1,2\n")


def test_an_environment_is_stopped(mcp, client):
    env = "mcp-real-stop"
    eq(mcp.call(PY, {"environmentId": env, "pythonCode": "x = 1"})["isError"], False)
    eq(mcp.call("stopEnvironment", {"environmentId": env})["structuredContent"]["stopped"], True)
    eq(client.call("GET", "/session", identifier=env).status, 404)
    r = mcp.call("listFiles", {"environmentId": env})
    assert r["isError"] and "Environment not found" in r["content"][0]["text"], r
    r = mcp.call(PY, {"environmentId": env, "pythonCode": "x"})
    assert r["isError"] and "NameError" in r["structuredContent"]["stderr"], r
    eq(r["structuredContent"]["environmentRestarted"], True)
    assert "environmentRestarted" not in mcp.call(PY, {"environmentId": env, "pythonCode": "1"})["structuredContent"]


def test_output_that_is_cut_is_told(mcp, client):
    run = lambda n: mcp.call(PY, {"environmentId": ENV, "pythonCode": f"print('\u00e4' * {n})"})["structuredContent"]
    out = run(1_000_000)
    eq((len(out["stdout"].encode()), out["truncated"], out["status"]), (1 << 20, True, "Succeeded"))
    out = run(500_000)
    eq((len(out["stdout"]), "truncated" in out), (500_001, False))


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
    pool["properties"]["mcpServerSettings"] = {"isMCPServerEnabled": True, "tools": "extended"}
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
