#!/usr/bin/python3
"""`warren up` as a supervisor: start, failure, restart, stop, detach, locks.

Two small programs stand where the daemons would, so that they can be told to fail and to die; what
is tested is the command line tool. Needs neither root nor microVMs."""
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from warren_cluster import BIN, leaks, wait_for  # noqa: E402

DAEMON = """#!/usr/bin/python3
import json, os, signal, sys
name = os.path.basename(sys.argv[0])
here = os.path.dirname(os.path.abspath(sys.argv[0]))
assert sys.argv[1] == "--config" and sys.argv[3] == "--ready-fd"
ready = os.fdopen(int(sys.argv[4]), "w")
config = open(sys.argv[2]).read()

def note(text):
    fd = os.open(here + "/journal", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(fd, f"{name} {text}\\n".encode())
    os.close(fd)

def say(**event):
    ready.write(json.dumps(event) + "\\n")
    ready.flush()

print("log line of", name, file=sys.stderr, flush=True)
note(f"start {os.getpid()}")
if os.path.exists(f"{here}/{name}.fails"):
    say(event="failed", text="the sky fell down")
    sys.exit(3)
stubborn = os.path.exists(f"{here}/{name}.stubborn")
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
say(event="progress", text="warming up")
say(event="ready")
signal.sigwait([signal.SIGTERM])
note("stop")
while stubborn:
    signal.pause()
"""


class Up(unittest.TestCase):
    def setUp(self):
        self.base = pathlib.Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.base)
        self.bin, self.image = self.base / "bin", self.base / "image"
        self.bin.mkdir()
        self.image.mkdir()
        (self.image / "manifest.json").write_text("{}")
        shutil.copy(BIN / "warren", self.bin / "warren")
        for name in ("warren-worker", "warren-gateway"):
            (self.bin / name).write_text(DAEMON)
            (self.bin / name).chmod(0o755)
        self.state, self.run_dir = self.base / "state", self.base / "run"
        self.process = None
        self.addCleanup(self.end)

    def end(self):
        if self.process is not None:
            self.process.kill()
            self.process.communicate()
        wait_for("no process is left", lambda: not leaks.processes(None, str(self.base)))

    def command(self, *options):
        return [str(self.bin / "warren"), "up", "--state-dir", str(self.state), "--run-dir",
                str(self.run_dir), "--image", str(self.image), "--listen", "127.0.0.1:0",
                "--worker-port", "0", *options]

    def start(self, *options):
        self.process = subprocess.Popen(self.command("--json", *options), text=True,
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def next(self, event, sender=None):
        """Reads events until this one."""
        for line in self.process.stdout:
            doc = json.loads(line)
            if doc["event"] == event and (sender is None or doc.get("from") == sender):
                return doc
        self.fail(f"no event {event}: {self.process.stderr.read()}")

    def journal(self):
        path = self.bin / "journal"
        return path.read_text().splitlines() if path.exists() else []

    def pids(self, name):
        return [int(line.split()[2]) for line in self.journal()
                if line.startswith(f"{name} start")]

    def warren(self, *args):
        return subprocess.run([str(self.bin / "warren"), *args, "--state-dir", str(self.state)],
                              capture_output=True, text=True)

    def test_it_starts_both_says_where_and_stops_the_gateway_first(self):
        self.start()
        ready = self.next("ready")
        self.assertRegex(ready["url"], r"^https://127\.0\.0\.1:[1-9]\d+$")
        self.assertEqual(ready["pools"], ["python"])
        self.assertEqual(json.loads((self.state / "client.json").read_text())["url"], ready["url"])
        self.assertIn("pools/python.json", (self.state / "worker.yaml").read_text())
        self.assertIn(ready["url"].removeprefix("https://"),
                      (self.state / "gateway.yaml").read_text())
        self.process.send_signal(signal.SIGINT)
        self.next("stopped")
        self.assertEqual(self.process.wait(), 0)
        stops = [line for line in self.journal() if line.endswith("stop")]
        self.assertEqual(stops, ["warren-gateway stop", "warren-worker stop"])
        self.assertIn("log line", (self.state / "log" / "worker.log").read_text())

    def test_secrets_are_private(self):
        self.start()
        self.next("ready")
        for path in self.state.rglob("*"):
            if path.is_file() and path.name not in ("token.jwks", "cert.pem"):
                self.assertEqual(path.stat().st_mode & 0o077, 0, path)
        self.assertEqual(self.state.stat().st_mode & 0o777, 0o700)

    def test_a_failed_start_ends_with_the_reason(self):
        (self.bin / "warren-worker.fails").touch()
        done = subprocess.run(self.command(), capture_output=True, text=True)
        self.assertEqual(done.returncode, 1, done)
        self.assertIn("the sky fell down", done.stderr)
        self.assertIn("exit code 3", done.stderr)
        self.assertIn("log line of warren-worker", done.stderr)

    def test_a_daemon_that_is_killed_is_started_again(self):
        self.start()
        self.next("ready")
        for name in ("warren-gateway", "warren-worker"):
            os.kill(self.pids(name)[-1], signal.SIGKILL)
            died = self.next("died", name.removeprefix("warren-"))
            self.assertIn("signal 9", died["text"])
            wait_for("a second start", lambda: len(self.pids(name)) == 2)
        self.process.terminate()
        self.assertEqual(self.process.wait(), 0)

    def test_one_that_does_not_stop_is_killed_at_the_second_interrupt(self):
        (self.bin / "warren-worker.stubborn").touch()
        self.start()
        self.next("ready")
        self.process.terminate()
        wait_for("the worker was asked", lambda: "warren-worker stop" in self.journal())
        self.process.terminate()  # said before: changes nothing
        self.process.send_signal(signal.SIGINT)
        self.assertEqual(self.process.wait(), 0)

    def test_killing_it_ends_the_daemons(self):
        self.start()
        self.next("ready")
        self.process.kill()
        self.process.communicate()
        self.process = None
        wait_for("both were asked to stop",
                 lambda: sum(line.endswith("stop") for line in self.journal()) == 2)

    def test_a_second_one_is_refused(self):
        self.start()
        ready = self.next("ready")
        before = (self.state / "gateway.yaml").read_text()
        second = subprocess.run(self.command(), capture_output=True, text=True)
        self.assertEqual(second.returncode, 1)
        self.assertIn(f"pid {ready['pid']}", second.stderr)
        self.assertEqual((self.state / "gateway.yaml").read_text(), before)

    def test_detach_returns_when_ready_and_down_stops_it(self):
        done = subprocess.run(self.command("--detach"), capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, done)
        self.assertIn("Warren is ready", done.stdout)
        again = subprocess.run(self.command("--detach"), capture_output=True, text=True)
        self.assertEqual(again.returncode, 1)
        down = self.warren("down")
        self.assertEqual(down.returncode, 0, down)
        self.assertIn("stopped", down.stderr)
        self.assertEqual(leaks.processes(None, str(self.base)), [])
        self.assertEqual(self.warren("down").returncode, 0)

    def test_detach_tells_of_a_failed_start(self):
        (self.bin / "warren-gateway.fails").touch()
        done = subprocess.run(self.command("--detach"), capture_output=True, text=True)
        self.assertEqual(done.returncode, 1)
        self.assertIn("the sky fell down", done.stderr)

    def test_insecure_is_for_loopback_only(self):
        done = subprocess.run(self.command("--insecure", "--listen", "0.0.0.0:0"),
                              capture_output=True, text=True)
        self.assertEqual(done.returncode, 2)
        self.assertIn("loopback", done.stderr)
        self.start("--insecure")
        self.assertTrue(self.next("ready")["url"].startswith("http://127.0.0.1:"))
        self.assertNotIn("tls_cert", (self.state / "gateway.yaml").read_text())

    def test_missing_things_are_named(self):
        (self.image / "manifest.json").unlink()
        done = subprocess.run(self.command(), capture_output=True, text=True)
        self.assertEqual(done.returncode, 1)
        self.assertIn("no guest image", done.stderr)
        (self.image / "manifest.json").write_text("{}")
        (self.bin / "warren-worker").unlink()
        done = subprocess.run(self.command(), capture_output=True, text=True,
                              env={**os.environ, "PATH": "/usr/bin:/bin"})
        self.assertEqual(done.returncode, 1)
        self.assertIn("warren-worker", done.stderr)

    def test_pool_files_are_checked_by_name(self):
        bad = self.base / "bad.json"
        bad.write_text('{"name": "Not A Name"}')
        done = subprocess.run(self.command("--pool", str(bad)), capture_output=True, text=True)
        self.assertEqual(done.returncode, 2)
        self.assertIn("bad.json", done.stderr)


if __name__ == "__main__":
    unittest.main(verbosity=2)
