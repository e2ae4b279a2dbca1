#!/usr/bin/env python3
"""AzureDynamicSessionTool of npm's @llamaindex/azure, unmodified, before an echo worker (test_clients.py --real has it
before microVMs). Its tokens come from Azure's managed identity, which is a web server's job here.

usage: llamaindex_tool.py BIN_DIR    77 when the packages cannot be installed"""
import os
import pathlib
import subprocess
import sys
import time
import urllib.parse

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from gateway_system import System, eq  # noqa: E402
from json_server import json_server  # noqa: E402
from npm_packages import NPM, Packages  # noqa: E402


def run(packages, endpoint, ca_file, token, plot="png", fault="raise ValueError: no"):
    """The tool's whole work in the pool at endpoint."""
    asked = []

    def identity(request, _):
        """The managed identity of an app service, version 2019-08-01."""
        query = urllib.parse.parse_qs(urllib.parse.urlsplit(request.path).query)
        asked.append((query["resource"][0], query["api-version"][0], request.headers["X-IDENTITY-HEADER"]))
        return {"access_token": token, "expires_on": str(int(time.time()) + 3600), "resource": query["resource"][0],
                "token_type": "Bearer"}

    env = {k: v for k, v in os.environ.items() if not k.upper().startswith("AZURE_") and k.lower() != "http_proxy"}
    with json_server(identity) as url, packages.scripts(NPM / "llamaindex_tool.mjs") as folder:
        env |= {"IDENTITY_ENDPOINT": f"{url}/msi/token", "IDENTITY_HEADER": "secret", "AZURE_TOKEN_CREDENTIALS": "prod",
                "NODE_EXTRA_CA_CERTS": str(ca_file)}
        done = subprocess.run([packages.node, "llamaindex_tool.mjs", endpoint, plot, fault], cwd=folder, env=env,
                              timeout=300, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "ok\n"), (done.stdout, done.stderr)
    assert asked and set(asked) == {("https://dynamicsessions.io", "2019-08-01", "secret")}, asked


def main():
    packages = Packages.needed()
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
