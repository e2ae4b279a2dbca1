#!/usr/bin/env python3
"""AzureDynamicSessionTool of npm's @llamaindex/azure, unmodified, before an echo worker (test_clients.py --real has it
before microVMs). Its tokens come from Azure's managed identity, which is a web server's job here.

usage: llamaindex_tool.py BIN_DIR    77 when the packages cannot be installed"""
import http.server
import json
import os
import pathlib
import subprocess
import sys
import threading
import time
import urllib.parse

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from gateway_system import System, eq  # noqa: E402
from npm_packages import NPM, Packages  # noqa: E402


class Identity(http.server.BaseHTTPRequestHandler):
    """The managed identity of an app service, version 2019-08-01."""

    def do_GET(self):
        query = urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query)
        self.server.asked.append((query["resource"][0], query["api-version"][0], self.headers["X-IDENTITY-HEADER"]))
        body = json.dumps({"access_token": self.server.token, "expires_on": str(int(time.time()) + 3600),
                           "resource": query["resource"][0], "token_type": "Bearer"}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def run(packages, endpoint, ca_file, token, plot="png", fault="raise ValueError: no"):
    """The tool's whole work in the pool at endpoint."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Identity)
    server.asked, server.token = [], token
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        env = {k: v for k, v in os.environ.items() if not k.upper().startswith("AZURE_") and k.lower() != "http_proxy"}
        env |= {"IDENTITY_ENDPOINT": f"http://127.0.0.1:{server.server_address[1]}/msi/token",
                "IDENTITY_HEADER": "secret", "AZURE_TOKEN_CREDENTIALS": "prod", "NODE_EXTRA_CA_CERTS": str(ca_file)}
        with packages.scripts(NPM / "llamaindex_tool.mjs") as folder:
            done = subprocess.run([packages.node, "llamaindex_tool.mjs", endpoint, plot, fault], cwd=folder, env=env,
                                  timeout=300, capture_output=True, text=True)
        assert (done.returncode, done.stdout) == (0, "ok\n"), (done.stdout, done.stderr)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    assert server.asked and set(server.asked) == {("https://dynamicsessions.io", "2019-08-01", "secret")}, server.asked


def main():
    packages = Packages()
    if packages.why:
        print("skipped:", packages.why)
        return 77
    s = System(sys.argv[1], secure=True)
    try:
        run(packages, f"{s.url}/subscriptions/9f8e/resourceGroups/my-rg/sessionPools/python", s.dir / "cert.pem", s.token())
    except BaseException:
        print(s.log()[-3000:])
        raise
    finally:
        codes = s.stop()
    eq(codes, [0, 0])
    return 0


if __name__ == "__main__":
    sys.exit(main())
