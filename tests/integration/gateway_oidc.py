"""Tokens of a real OpenID provider (npm oidc-provider) at the gateway: algorithms, audience, roles and grants, a
rotation of keys, a provider that cannot be reached. Skipped when npm cannot install the provider."""
import base64
import json
import pathlib
import shutil
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
import urllib.request

from gateway_system import System, free_port
from npm_packages import Packages

HERE = pathlib.Path(__file__).parent / "oidc"
ASK_EVERY_S, ASK_BURST = 10, 5  # gateway/io/auth.c


class Provider:
    def __init__(self, modules, directory):
        self.modules, self.dir, self.port = modules, directory, free_port()
        self.url, self.generation, self.asked, self.process = f"https://127.0.0.1:{self.port}", 0, 0, None
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                        "-keyout", directory / "idp.key", "-out", directory / "idp.pem", "-subj", "/CN=idp", "-days",
                        "2", "-addext", "subjectAltName=IP:127.0.0.1"], check=True, capture_output=True)
        self.tls = ssl.create_default_context(cafile=directory / "idp.pem")

    def start(self):
        """With new keys."""
        self.generation += 1
        with open(self.dir / "idp.log", "ab") as log:
            self.process = subprocess.Popen(
                ["node", HERE / "provider.mjs", self.modules, str(self.port), self.dir / "idp.key", self.dir / "idp.pem",
                 str(self.generation)], stdout=subprocess.PIPE, stderr=log, text=True)
        line = self.process.stdout.readline()
        assert line == "ready\n", (line, (self.dir / "idp.log").read_text())
        self.reader = threading.Thread(target=self.count, args=(self.process.stdout,))
        self.reader.start()

    def count(self, out):
        for line in out:
            self.asked += line == "jwks\n"

    def stop(self):
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            self.process.wait(10)
            self.reader.join(10)
            self.process.stdout.close()

    def token(self, client, resource="https://dynamicsessions.io"):
        body = urllib.parse.urlencode({"grant_type": "client_credentials", "resource": resource, "scope": "run"})
        basic = base64.b64encode(f"{urllib.parse.quote_plus(client)}:secret".encode()).decode()
        request = urllib.request.Request(f"{self.url}/token", body.encode(), {"authorization": f"Basic {basic}"})
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}),
                                             urllib.request.HTTPSHandler(context=self.tls))
        with opener.open(request, timeout=20) as answer:
            return json.load(answer)["access_token"]


def head_of(token):
    part = token.split(".")[0]
    return json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))


def execute(system, token, pool="python"):
    return system.request("POST", f"/pools/{pool}/executions?api-version=2025-02-02-preview&identifier=oidc-test",
                          json.dumps({"codeInputType": "Inline", "executionType": "Synchronous", "code": "1+1"}),
                          {"authorization": f"Bearer {token}", "content-type": "application/json"})


def expect(answer, status):
    assert answer.status == status, (status, answer)
    return answer


def test_algorithms_and_audience(system, idp):
    for alg in ("RS256", "ES256"):
        token = idp.token(f"{alg}.Session Executor")
        assert head_of(token)["alg"] == alg, head_of(token)
        expect(execute(system, token), 200)
    expect(execute(system, idp.token("PS256.Session Executor")), 401)
    expect(execute(system, idp.token("ES256.Session Executor", "urn:other")), 401)
    expect(execute(system, system.token()), 200)  # the built-in issuer beside it


def test_roles_and_grants(system, idp):
    expect(execute(system, idp.token("ES256.none")), 403)
    scientist = idp.token("ES256.Data Scientist")
    expect(execute(system, scientist), 200)
    expect(execute(system, scientist, "node"), 403)
    granted = idp.token("ES256.granted")
    expect(execute(system, granted, "node"), 200)
    expect(execute(system, granted), 403)


def test_rotation(system, idp):
    """The first key id that is not known: it is asked for at once."""
    before = idp.token("ES256.Session Executor")
    expect(execute(system, before), 200)
    idp.stop()
    expect(execute(system, before), 200)  # keys that are known need no provider
    idp.start()
    after = idp.token("ES256.Session Executor")
    expect(execute(system, after), 200)  # waited for the new keys
    expect(execute(system, before), 401)  # of a key that is gone


def test_misses_do_not_bother_the_provider(system, idp):
    begin, asked = time.monotonic(), idp.asked
    head, body, signature = idp.token("ES256.Session Executor").split(".")
    for i in range(40):
        strange = base64.urlsafe_b64encode(json.dumps({"alg": "ES256", "kid": f"k{i}"}).encode()).decode().rstrip("=")
        expect(execute(system, f"{strange}.{body}.{signature}"), 401)
    expect(execute(system, system.token(iss=idp.url)), 401)  # its key does not speak for the other
    expect(execute(system, idp.token("ES256.Session Executor")), 200)
    allowed = ASK_BURST + int((time.monotonic() - begin) / ASK_EVERY_S) + 1
    assert idp.asked - asked <= allowed, (idp.asked, asked, allowed)


def test_unreachable(system, gone):
    for _ in range(2):  # the first waits for the fetch, the second is not worth one
        answer = expect(execute(system, system.token(iss=gone)), 503)
        assert int(answer.headers["retry-after"]) > 0, answer
    expect(execute(system, system.token()), 200)


def main():
    packages = Packages.needed(HERE)
    directory = pathlib.Path(tempfile.mkdtemp(prefix="warren-test-oidc-"))
    idp = system = None
    try:
        idp = Provider(packages.folder, directory)
        idp.start()
        gone = f"http://127.0.0.1:{free_port()}"
        system = System(sys.argv[1], secure=True, more=(
            f"jwks_ca: {directory}/idp.pem", "issuers:", f"  - {{issuer: '{idp.url}', jwks: '{idp.url}/jwks'}}",
            f"  - {{issuer: '{gone}', jwks: '{gone}/jwks'}}", "grants:",
            f"  - {{issuer: '{idp.url}', principal: ES256.granted, pool: node, role: Session Executor}}",
            f"  - {{issuer: '{idp.url}', app_role: Data Scientist, pool: python, role: Contributor}}"))
        test_algorithms_and_audience(system, idp)
        test_roles_and_grants(system, idp)
        test_rotation(system, idp)
        test_misses_do_not_bother_the_provider(system, idp)
        test_unreachable(system, gone)
        codes, system = system.stop(), None
        assert not any(codes), codes
    except BaseException:
        if system is not None:
            print((system.dir / "gateway.log").read_text()[-3000:])
        raise
    finally:
        if system is not None:
            system.stop()
        if idp is not None:
            idp.stop()
        shutil.rmtree(directory, ignore_errors=True)
    print("ok")
    return 0


if __name__ == "__main__":
    sys.exit(main())
