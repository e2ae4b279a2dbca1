#!/usr/bin/env python3
"""deploy/examples: each configuration and program with a client from npm, against /mcp before an echo worker.

usage: mcp_examples.py BIN_DIR    77 when the packages cannot be installed"""
import contextlib
import http.client
import json
import pathlib
import re
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
from gateway_system import conclude, eq, run_tests  # noqa: E402
from json_server import json_server  # noqa: E402
from mcp_system import KeyedSystem  # noqa: E402
from npm_packages import NPM, Packages  # noqa: E402

EXAMPLES = HERE.parent.parent / "deploy/examples"
PY, SH = "runPythonCodeInRemoteEnvironment", "runShellCommandInRemoteEnvironment"
RUN = {"name": PY, "arguments": {"environmentId": "example", "pythonCode": "print('a')\n1+2"}}


class Tools:
    """What the tests share."""

    def __init__(self, s, packages):
        self.s, self.packages = s, packages
        self.ca, self.url = str(s.dir / "cert.pem"), f"{s.url}/pools/python/mcp"

    def env(self, home, **more):
        return {**self.packages.environment(home), "NODE_EXTRA_CA_CERTS": self.ca, **more}

    def client(self, server, *calls):
        """The official client before a server of a configuration."""
        with self.packages.scripts(NPM / "mcp_config.mjs") as folder:
            done = subprocess.run([self.packages.node, "mcp_config.mjs", *map(json.dumps, (server, *calls))], cwd=folder,
                                  env=self.env(folder), capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout)


def filled(text, **values):
    """As the programs do that read it: ${NAME} is a variable or an input."""
    return re.sub(r"\$\{(?:input:)?([\w-]+)\}", lambda m: values[m[1].replace("-", "_")], text)


def check(got):
    eq(got["tools"], ["launchShell", SH, PY])
    eq(got["results"][0]["structuredContent"]["stdout"], "a\n")


def test_claude_code(t):
    """Its file is Inspector's, too."""
    with tempfile.TemporaryDirectory(prefix="warren-test-") as home:
        config = pathlib.Path(home) / "mcp.json"
        config.write_text(filled((EXAMPLES / "claude/mcp.json").read_text(), WARREN_MCP_URL=t.url, WARREN_MCP_KEY=t.s.key))
        done = subprocess.run(
            [t.packages.node, t.packages.folder / "node_modules/@modelcontextprotocol/inspector/clients/launcher/build/index.js",
             "--cli", "--config", config, "--server", "warren", "--format", "json", "--method", "tools/call", "--tool-name", PY,
             "--tool-args-json", json.dumps(RUN["arguments"])], cwd=home, env=t.env(home), capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    eq(json.loads(done.stdout)["result"]["structuredContent"]["stdout"], "a\n")


def test_claude_desktop(t):
    """The line as it is there: npx finds the very version that it names, so it fetches nothing."""
    server = json.loads((EXAMPLES / "claude/claude_desktop_config.json").read_text())["mcpServers"]["warren"]
    address = server["args"].index("https://127.0.0.1:8443/pools/python/mcp")
    eq((server["command"], list(server["env"])), ("npx", ["WARREN_MCP_KEY", "NODE_EXTRA_CA_CERTS"]))
    with t.packages.scripts(NPM / "package.json") as home:
        server["args"][address] = t.url  # and what the user puts in
        server["env"] = {**t.env(home), "WARREN_MCP_KEY": t.s.key, "npm_config_offline": "true", "npm_config_cache": f"{home}/cache"}
        check(t.client({**server, "cwd": str(home)}, RUN))


def test_vs_code(t):
    config = json.loads(filled((EXAMPLES / "vscode/mcp.json").read_text(), warren_key=t.s.key))
    eq([i["id"] for i in config["inputs"]], ["warren-key"])
    server = config["servers"]["warren"]
    eq((server["type"], server["url"].endswith("/pools/python/mcp")), ("http", True))
    check(t.client({**server, "url": t.url}, RUN))


@contextlib.contextmanager
def model(answers):
    """The models' API: hands out these answers in turn and keeps what it was asked."""
    asked = []

    def respond(_, body):
        asked.append(json.loads(body))
        return {"id": f"resp_{len(asked)}", "object": "response", "created_at": 0, "model": "m", "status": "completed",
                "output": [answers[len(asked) - 1]],
                "usage": {"input_tokens": 1, "output_tokens": 1, "total_tokens": 2,
                          "input_tokens_details": {"cached_tokens": 0}, "output_tokens_details": {"reasoning_tokens": 0}}}

    with json_server(respond) as url:
        yield f"{url}/v1", asked


def test_openai_agents(t):
    answers = [{"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": PY, "arguments": json.dumps(RUN["arguments"]),
                "status": "completed"},
               {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed",
                "content": [{"type": "output_text", "text": "It is 3.", "annotations": []}]}]
    with model(answers) as (url, asked), t.packages.scripts(EXAMPLES / "openai/agent.mjs") as folder:
        done = subprocess.run([t.packages.node, "agent.mjs", "1+2?"], cwd=folder, capture_output=True, text=True, timeout=120,
                              env=t.env(folder, OPENAI_API_KEY="none", OPENAI_BASE_URL=url, OPENAI_AGENTS_DISABLE_TRACING="1",
                                        WARREN_MCP_URL=t.url, WARREN_MCP_KEY=t.s.key))
    assert (done.returncode, done.stdout) == (0, "It is 3.\n"), done.stdout + done.stderr[-2000:]
    eq([x["name"] for x in asked[0]["tools"]], ["launchShell", SH, PY])
    output = next(i for i in asked[1]["input"] if i.get("type") == "function_call_output")
    assert "Succeeded" in json.dumps(output) and '3' in json.dumps(output), output


def test_standalone_server(t):
    with t.packages.scripts(EXAMPLES / "mcp-standalone/server.mjs") as folder:
        (folder / "sets").mkdir()
        (folder / "sets/t.csv").write_text("a,b\n1,2\n")
        process = subprocess.Popen([t.packages.node, "server.mjs"], cwd=folder, stdout=subprocess.PIPE, text=True, env=t.env(
            folder, WARREN_MCP_URL=f"{t.s.url}/pools/more/mcp", WARREN_MCP_KEY=t.s.key_of("more"), SERVER_TOKEN="secret",
            DATASETS=str(folder / "sets"), LISTEN="[::1]:0"))
        try:
            server = {"url": process.stdout.readline().strip(), "headers": {"authorization": "Bearer secret"}}
            call = lambda tool, **args: {"name": tool, "arguments": args}
            got = t.client(server, call("list_datasets"), call("load_dataset", environment="standalone", name="t.csv"),
                           call("execute_code", environment="standalone", code="print('a')\npng"),
                           call("execute_code", environment="standalone", code="raise ValueError: no"))
            eq(got["tools"], ["list_datasets", "load_dataset", "execute_code"])
            names, loaded, ran, failed = got["results"]
            eq(json.loads(names["content"][0]["text"]), ["t.csv"])
            eq(loaded["structuredContent"]["path"], "/mnt/data/t.csv")
            eq((ran["structuredContent"]["stdout"], ran["content"][1]["type"]), ("a\n", "image"))
            assert failed["isError"] and "Traceback" in failed["content"][0]["text"], failed
            again = t.client({"url": f"{t.s.url}/pools/more/mcp", "headers": {"x-ms-apikey": t.s.key_of("more")}}, call(
                "downloadFile", environmentId="standalone", path="t.csv"))  # it is the pool's environment
            eq(again["results"][0]["content"][1]["resource"]["text"], "a,b\n1,2\n")
            c = http.client.HTTPConnection("::1", int(server["url"].split(":")[-1].split("/")[0]), timeout=30)
            for _ in range(2):  # what the SDK cannot read does not end the program
                c.request("POST", "/mcp", "{}", {**server["headers"], "Host": "a b", "Content-Type": "application/json"})
                answer = c.getresponse()
                eq((answer.status, answer.read()), (400, b""))
            c.close()
            try:
                t.client({**server, "headers": {"authorization": "Bearer wrong"}})
            except AssertionError as e:
                assert "401" in str(e), e
            else:
                raise AssertionError("a wrong token was taken")
        finally:
            process.terminate()
            process.wait(20)
            process.stdout.close()


def test_the_packages_are_those_that_were_tried(packages):
    lock = json.loads((NPM / "package.json").read_text())["dependencies"]
    for example in ("mcp-standalone", "openai"):
        wanted = json.loads((EXAMPLES / example / "package.json").read_text())["dependencies"]
        eq(wanted, {name: lock[name] for name in wanted})
    desktop = json.loads((EXAMPLES / "claude/claude_desktop_config.json").read_text())["mcpServers"]["warren"]["args"]
    eq(desktop[:2], ["-y", "mcp-remote@" + lock["mcp-remote"]])


def main():
    packages = Packages.needed()
    s = KeyedSystem(sys.argv[1])
    return conclude(run_tests(globals(), t=Tools(s, packages), packages=packages), s)


if __name__ == "__main__":
    sys.exit(main())
