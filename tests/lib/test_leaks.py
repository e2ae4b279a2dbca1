#!/usr/bin/python3
"""The leak check must find what it looks for: each kind is made once and must be reported."""
import os
import pathlib
import socket
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import leaks  # noqa: E402


class Leaks(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp()
        self.mark = f"leak-test-{os.getpid()}-{os.urandom(4).hex()}"
        self.addCleanup(lambda: os.path.isdir(self.folder) and os.rmdir(self.folder))

    def sleeper(self, **how):
        """A process that waits for the end of its stdin."""
        p = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, **how)
        self.addCleanup(lambda: (p.stdin.close(), p.wait()))
        return p

    def found(self, what):
        return [line for line in leaks.findings(self.mark, self.folder) if line.startswith(what)]

    def test_nothing_is_found_where_nothing_is(self):
        self.assertEqual(leaks.findings(self.mark, self.folder), [])

    def test_a_process_with_the_mark_is_found(self):
        p = self.sleeper(env={**os.environ, "X": self.mark})
        self.assertEqual(len(self.found(f"process {p.pid} (mark")), 1)

    def test_a_process_that_works_in_the_folder_is_found(self):
        p = self.sleeper(cwd=self.folder)
        self.assertEqual(len(self.found(f"process {p.pid} (its cwd")), 1)

    def test_a_process_that_names_the_folder_is_found(self):
        p = subprocess.Popen(["cat", "-", self.folder], stdin=subprocess.PIPE,
                             stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            self.assertEqual(len(self.found(f"process {p.pid} (folder")), 1)
        finally:
            p.stdin.close()
            p.wait()

    def test_an_open_file_of_the_folder_is_found(self):
        path = os.path.join(self.folder, "f")
        with open(path, "w") as f:
            p = self.sleeper(pass_fds=[f.fileno()])
            self.assertEqual(len(self.found(f"process {p.pid} (has a file")), 1)
        self.assertEqual(len(self.found("file ")), 1)
        os.unlink(path)

    def test_a_socket_in_the_folder_is_found(self):
        path = os.path.join(self.folder, "s")
        with socket.socket(socket.AF_UNIX) as s:
            s.bind(path)
            self.assertEqual(len(self.found("socket ")), 1)
        os.unlink(path)

    @unittest.skipIf(os.geteuid() != 0, "needs root")
    def test_a_mount_in_the_folder_is_found(self):
        subprocess.run(["mount", "-t", "tmpfs", "none", self.folder], check=True)
        try:
            self.assertEqual(len(self.found("mount ")), 1)
        finally:
            subprocess.run(["umount", self.folder], check=True)


if __name__ == "__main__":
    unittest.main()
