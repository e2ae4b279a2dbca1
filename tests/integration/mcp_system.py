"""For tests of MCP with programs from npm: the packages, a gateway that asks for the pool's key, a proxy that adds it."""
import contextlib
import pathlib
import shutil
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
from gateway_system import CLUSTER_KEY, System  # noqa: E402
from npm_packages import NPM  # noqa: E402


class KeyedSystem(System):
    """TLS, and /mcp of the pool python wants the key."""

    def __init__(self, bin_dir, more=(), pools=None):
        self.state = pathlib.Path(tempfile.mkdtemp(prefix="warren-test-mcp-"))
        (self.state / "keys").mkdir()
        key_file = self.state / "keys/cluster.key"
        key_file.touch(0o600)
        key_file.write_text(CLUSTER_KEY + "\n")
        super().__init__(bin_dir, secure=True, more=(f"mcp_keys: {self.state}/mcp", *more), **({"pools": pools} if pools else {}))
        self.key = self.key_of("python")

    def key_of(self, pool):
        return subprocess.run([self.bin / "warren", "pool", "mcp-key", "--state-dir", self.state, "--pool", pool],
                              check=True, capture_output=True, text=True).stdout.strip()

    def stop(self):
        codes = super().stop()
        shutil.rmtree(self.state)
        return codes


@contextlib.contextmanager
def proxy(packages, url, key, ca_file, *broken):
    """URL of a proxy that adds the key, and breaks a method of JSON-RPC."""
    process = subprocess.Popen([packages.node, NPM / "proxy.mjs", url, "x-ms-apikey", key, ca_file, *broken], stdout=subprocess.PIPE, text=True)
    try:
        yield process.stdout.readline().strip()
    finally:
        process.terminate()
        process.wait(20)
        process.stdout.close()
