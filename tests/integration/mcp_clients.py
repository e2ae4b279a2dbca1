#!/usr/bin/env python3
"""Clients from npm, unmodified, against /mcp with a key, before an echo worker: agent frameworks (npm/mcp_clients.mjs) and
the command line of MCP Inspector in its three eras.

usage: mcp_clients.py BIN_DIR    77 when the packages cannot be installed"""
import json
import pathlib
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from gateway_system import conclude, eq, run_tests  # noqa: E402
from mcp_system import KeyedSystem  # noqa: E402
from npm_packages import NPM, Packages  # noqa: E402

PY, SH = "runPythonCodeInRemoteEnvironment", "runShellCommandInRemoteEnvironment"


def test_agent_frameworks(s, packages):
    with packages.scripts(NPM / "mcp_clients.mjs") as folder:
        done = subprocess.run([packages.node, "mcp_clients.mjs", f"{s.url}/pools/python/mcp", s.key], cwd=folder, timeout=120,
                              env={**packages.environment(folder), "NODE_EXTRA_CA_CERTS": str(s.dir / "cert.pem")},
                              capture_output=True, text=True)
    assert (done.returncode, done.stdout.count("ok ")) == (0, 4), done.stdout + done.stderr


def inspector(s, packages, *args, pool="python", key=None):
    """Exit code, and what it printed as JSON or text."""
    with tempfile.TemporaryDirectory(prefix="warren-test-") as home:
        done = subprocess.run(
            [packages.node, packages.folder / "node_modules/@modelcontextprotocol/inspector/clients/launcher/build/index.js", "--cli",
             f"{s.url}/pools/{pool}/mcp", "--transport", "http", "--header", f"x-ms-apikey: {key or s.key_of(pool)}",
             "--format", "json", *args], cwd=home, timeout=120, capture_output=True, text=True,
            env={**packages.environment(home), "NODE_EXTRA_CA_CERTS": str(s.dir / "cert.pem")})
    try:
        return done.returncode, json.loads(done.stdout)
    except ValueError:
        return done.returncode, done.stdout + done.stderr


def test_inspector_in_every_era(s, packages):
    code = json.dumps({"environmentId": "inspector", "pythonCode": "print('a')\n1+2"})
    for era in ("legacy", "modern", "auto"):
        call = lambda *args: inspector(s, packages, "--protocol-era", era, "--method", *args)
        exit_code, r = call("tools/list")
        eq((exit_code, [t["name"] for t in r["result"]["tools"]]), (0, ["launchShell", SH, PY]))
        exit_code, r = call("tools/call", "--tool-name", PY, "--tool-args-json", code)
        eq((exit_code, r["result"]["structuredContent"]["stdout"], r["result"]["structuredContent"]["executionResult"]), (0, "a\n", 3))


def test_inspector_finds_the_schemas_portable(s, packages):
    for pool, tools in (("python", 3), ("more", 8)):
        exit_code, r = inspector(s, packages, "--method", "tools/list", "--strict", pool=pool)
        eq((exit_code, len(r["result"]["tools"])), (0, tools))


def test_inspector_reads_a_resource(s, packages):
    args = json.dumps({"environmentId": "inspector", "path": "a b.txt", "text": "hi"})
    exit_code, r = inspector(s, packages, "--method", "tools/call", "--tool-name", "uploadFile", "--tool-args-json", args, pool="more")
    eq(exit_code, 0)
    uri = r["result"]["structuredContent"]["uri"]
    exit_code, r = inspector(s, packages, "--method", "resources/read", "--uri", uri, pool="more")
    eq((exit_code, r["result"]["contents"][0]["text"]), (0, "hi"))


def test_inspector_under_load(s, packages):
    code = json.dumps({"environmentId": "inspector", "pythonCode": "1+2"})
    exit_code, r = inspector(s, packages, "--method", "tools/call", "--tool-name", PY, "--tool-args-json", code,
                             "--load", "--load-concurrency", "20", "--load-requests", "500")
    eq((exit_code, r["result"]["ok"], r["result"]["errors"], r["result"]["toolErrors"]), (0, 500, 0, 0))


def test_inspector_is_told_what_is_wrong(s, packages):
    exit_code, r = inspector(s, packages, "--method", "tools/list", key="wrong")
    eq((exit_code, "auth_required" in r), (3, True))
    exit_code, r = inspector(s, packages, "--method", "tools/call", "--tool-name", "nope")
    eq((exit_code, "tool_not_found" in r), (5, True))


def main():
    packages = Packages.needed()
    s = KeyedSystem(sys.argv[1])
    return conclude(run_tests(globals(), s=s, packages=packages), s)


if __name__ == "__main__":
    sys.exit(main())
