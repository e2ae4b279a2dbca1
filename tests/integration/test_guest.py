#!/usr/bin/python3
"""The guest agent as an ordinary process, with the real interpreters of this machine.

usage: test_guest.py PROGRAM [unittest arguments]
"""

import os
import pathlib
import random
import re
import shutil
import signal
import struct
import subprocess
import sys
import threading
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
try:
    from guestlib import *  # noqa: F403
except ImportError as error:
    print("skipped:", error)
    sys.exit(77)

PROGRAM = sys.argv[1] if len(sys.argv) > 1 else ""
USER = 65534 if os.geteuid() == 0 else None


class Case(unittest.TestCase):
    """All cases of a class share an agent; each has its own connection."""

    boot = "python,shell"

    @classmethod
    def setUpClass(cls):
        cls.agent = HostAgent(PROGRAM, boot=cls.boot, user=USER)
        cls.data = cls.agent.data

    @classmethod
    def tearDownClass(cls):
        if not cls.agent.close():
            raise AssertionError("the agent did not end well")

    def setUp(self):
        self.g = self.agent.guest()
        self.addCleanup(self.g.close)

    def refused(self, code, what, *args, **more):
        with self.assertRaises(Refused) as caught:
            what(*args, **more)
        self.assertEqual(caught.exception.code, ERR[code], caught.exception)

    def agent_kb(self, field):
        text = open(f"/proc/{self.agent.process.pid}/status").read()
        return int(re.search(field + r":\s*(\d+)", text)[1])


class Channel(Case):
    boot = "shell"

    def test_half_a_frame_is_completed_by_the_padding_of_the_next_attach(self):
        self.g.ctl.send(frame(DATA, 1, b"x" * 1000)[:50])
        self.g.ctl.attach()
        self.assertEqual(self.g.run("echo hi", SHELL).stdout, b"hi\n")

    def test_every_place_to_cut_a_frame_can_be_attached_after(self):
        whole = frame(PING, 0, b"y" * 20)
        for n in range(len(whole)):
            self.g.ctl.send(whole[:n])
            self.g.ctl.attach()
        self.g.ctl.ping()

    def test_random_bytes_do_no_harm(self):
        for i in range(20):
            self.g.ctl.attach(junk=os.urandom(3000))
        self.assertEqual(self.g.run("echo hi", SHELL).stdout, b"hi\n")

    def test_frames_before_hello_are_ignored(self):
        port = Port(self.agent.paths[0])
        self.addCleanup(port.close)
        id = os.urandom(16)
        open_ = pb.GuestOpen(exec=pb.GuestExec(id=id, kernel=SHELL, stdout_max=100))
        port.send(frame(OPEN, 1, open_.SerializeToString()) + frame(FIN, 1))
        hello = port.attach()
        self.assertNotIn(id, list(hello.executions))

    def test_only_the_newest_nonce_is_answered_last(self):
        for _ in range(3):
            self.g.ctl.send(bytes(RESYNC) + frame(HELLO, 0, os.urandom(8)))
        self.g.ctl.attach()
        self.g.ctl.ping()

    def test_a_hello_of_another_length_is_ignored(self):
        self.g.ctl.send(frame(HELLO, 0, b"short") + frame(HELLO, 0, b"much too long"))
        self.g.ctl.ping()

    def test_frames_of_unknown_streams_are_ignored(self):
        for kind in (DATA, FIN, RST, CREDIT, EVENT, RESULT, REPLY, PONG):
            for stream in (0, 77, 0xFFFFFFFF):
                self.g.ctl.send(frame(kind, stream, b"1234"))
                self.g.bulk.send(frame(kind, stream, b"1234"))
        self.g.ctl.ping()
        self.g.bulk.ping()

    def test_stream_numbers_must_grow(self):
        self.g.run("true", SHELL)
        self.g.ctl.next_stream = 0
        self.refused("BADMSG", self.g.run, "true", SHELL)

    def test_more_data_than_credit_ends_the_stream(self):
        stream = self.g.bulk.open(pb.GuestOpen(put=pb.GuestPut(path="over", size_max=1 << 30)))
        # The agent gives credit back while it reads, so it must be overrun within one step.
        stream2 = self.g.ctl.open(pb.GuestOpen(exec=pb.GuestExec(id=os.urandom(16), kernel=SHELL)))
        self.g.ctl.send(frame(CREDIT, stream2, struct.pack("<I", 1)))
        self.refused("BADMSG", lambda: list(self.g.events(b"", stream2)))
        self.g.bulk.send(frame(RST, stream, struct.pack("<i", -1)))

    def test_each_port_has_its_own_operations(self):
        stat = pb.GuestOpen(stat=pb.GuestStat(path="x"))
        self.refused("INVAL", lambda: list(self.g.events(b"", self.g.ctl.open(stat))))
        run = pb.GuestOpen(exec=pb.GuestExec(id=os.urandom(16), kernel=SHELL))
        self.refused("INVAL", self.g.result, self.g.bulk.open(run))

    def test_malformed_messages_are_refused(self):
        self.g.ctl.next_stream += 1
        self.g.ctl.send(frame(OPEN, self.g.ctl.next_stream, b"\xff\xff\xff"))
        self.refused("INVAL", lambda: list(self.g.events(b"", self.g.ctl.next_stream)))
        self.g.ctl.send(frame(CALL, 5, b"\xff\xff\xff"))
        reply = pb.GuestReply.FromString(self.g.ctl.wait(("call", 5))[1])
        self.assertEqual(reply.code, ERR["BADMSG"])
        self.assertEqual(self.g.ctl.call().code, ERR["INVAL"])

    def test_streams_are_bounded(self):
        opened = []
        for _ in range(257):
            what = pb.GuestOpen(put=pb.GuestPut(path="many", size_max=10))
            opened.append(self.g.bulk.open(what))
        self.refused("FULL", self.g.result, opened[-1])
        self.g.bulk.attach()
        self.assertEqual([e for e in self.g.list() if "many" in e.name], [])

    def test_stats(self):
        reply = self.g.ctl.call(stats=pb.GuestStats())
        self.assertEqual(reply.code, 0)
        self.assertGreater(reply.mem_total_bytes, reply.mem_available_bytes)
        self.assertGreater(reply.processes, 0)


class Seed(Case):
    boot = "python"

    def setUp(self):
        self.g = self.agent.guest(seed=False)
        self.addCleanup(self.g.close)

    def quiesce(self):
        return self.g.ctl.call(quiesce=pb.GuestQuiesce()).code

    def test_user_code_waits_for_a_seed_and_hidden_cells_do_not(self):
        self.assertEqual(self.quiesce(), 0)
        self.refused("STATE", self.g.run, "1")
        self.assertEqual(self.g.run("1", hidden=True).status, OK)
        self.g.reconnect()
        self.assertFalse(self.g.hello.seeded)
        self.g.seed()
        self.assertEqual(self.g.run("1").text, "1")
        self.g.reconnect()
        self.assertTrue(self.g.hello.seeded)

    def test_a_seed_of_another_length_is_refused(self):
        for seed in (b"", b"x" * 63, b"x" * 65):
            reply = self.g.ctl.call(seed=pb.GuestSeed(stage=1, seed=seed))
            self.assertEqual(reply.code, ERR["INVAL"])

    def test_a_seed_replaces_the_state_of_every_generator(self):
        self.g.seed()
        prepare = """
import random, numpy, uuid, tempfile, ssl, multiprocessing
random.seed(7); numpy.random.seed(7)
key = bytes(multiprocessing.current_process().authkey)
"""
        look = "(random.random(), float(numpy.random.rand()), uuid.getnode())"
        self.assertEqual(self.g.run(prepare).status, OK)
        first = self.g.run(look).text
        self.assertEqual(self.g.run(prepare).status, OK)
        self.g.seed(stage=2)
        second = self.g.run(look).text
        for a, b in zip(first.strip("()").split(",")[:2], second.strip("()").split(",")[:2]):
            self.assertNotEqual(a, b)
        self.assertEqual(
            self.g.run("bytes(multiprocessing.current_process().authkey) == key").text, "False")

    def test_a_seed_in_one_write_with_code_comes_first(self):
        self.g.seed()
        self.g.run("import random; random.seed(1); first = random.random(); random.seed(1)")
        seed = pb.GuestSeed(stage=2, seed=os.urandom(64))
        id = os.urandom(16)
        run = pb.GuestOpen(exec=pb.GuestExec(id=id, kernel=PYTHON, stdout_max=100))
        self.g.ctl.next_call += 1
        call = self.g.ctl.next_call
        self.g.ctl.next_stream += 1
        n = self.g.ctl.next_stream
        self.g.ctl.send(
            frame(CALL, call, pb.GuestCall(seed=seed).SerializeToString())
            + frame(OPEN, n, run.SerializeToString())
            + frame(DATA, n, b"random.random() == first") + frame(FIN, n))
        outcome = Outcome(list(self.g.events(id, n)))
        self.assertEqual(outcome.text, "False")
        self.assertEqual(self.g.ctl.wait(("call", call))[0], REPLY)

    def test_a_seed_can_start_kernels(self):
        self.g.seed(kernels=[SHELL])
        self.g.reconnect()
        self.assertIn(SHELL, self.g.hello.kernels)

    def test_no_quiesce_while_something_runs(self):
        self.g.seed()
        id, stream = self.g.start("import time\nprint(1)\ntime.sleep(30)")
        self.g.event(stream)
        self.assertEqual(self.quiesce(), ERR["STATE"])
        self.g.interrupt(id)
        self.assertEqual(Outcome(list(self.g.events(id, stream))).status, INTERRUPTED)


class Python(Case):
    boot = "python"

    def test_value_of_the_last_expression(self):
        self.assertEqual(self.g.run("1+1").text, "2")
        self.assertEqual(self.g.run("x = 5\nx * 2").text, "10")
        self.assertEqual(self.g.run("'text'").text, "'text'")
        self.assertFalse(self.g.run("x = 5").has_value)
        self.assertFalse(self.g.run("x;").has_value)
        self.assertFalse(self.g.run("print('x')").has_value)
        self.assertFalse(self.g.run("# nothing").has_value)
        self.assertFalse(self.g.run("").has_value)

    def test_none_is_a_value_without_forms(self):
        outcome = self.g.run("a = None;a")
        self.assertEqual((outcome.has_value, outcome.value), (True, {}))

    def test_the_short_way_to_a_last_expression_gives_what_the_tree_gives(self):
        self.g.run("async def late(x):\n    return x\ndef same(x=None):\n    return x\nd = dict(a=[None, 3])")
        lines = (
            "d['a'][1]", "d['a'][0]", "(None)", "None", "...", "-1", "1_000", "not 1", "1, 2", "*d,", "f'{1}'",
            "print('x')", "(print('x'))", "d.get(9)", "None if print('x') is None else 1", "same() or print('x')",
            "print('x') and 1", "same(print('x') or 1)", "same(1 if d else 2)", "same(*[None])", "same(same)()",
            "await late(None)", "await late(4)", "[await late(i) for i in (1, 2)]", "late(1).close()",
            "'a' # =", "'\u20ac' * 90", r"'\ud800'", "'\\d'", "7  ", "7 # ;", "7;", "d;", "d == 1", "(x := 7)",
            "x: int", "1 is 1", "__import__('warnings').warn('w')", "{1: 2}", "7\f", "print", "7\n\n  \n", "7\n# c",
            "yes", "1 +", "{'x' 1}", "1 if 0", "*d", "yield 1", "return 1", "1 / 0", "match", "nonlocal x", ")",
            "'''a\nd'''", "same(\n'a')", "same(\n'a'\n)", "same()\\\n.x", "if d:\n  print(1)\nelse:\n  print(2)",
            "if d:\n  print(1)\nprint(3)", "if 1:\nprint(4)", "@same\nprint", "\\\n7", "for i in d: pass\ni", "x = 5\nx",
            "def f():\n  return 1 / 0\n\nf()", "'''\n'''\nsame('''\n''')", "try:\n  1/0\nexcept Exception:\n  print(5)\n6")
        for code in lines:
            with self.subTest(code):
                whole = self.g.run("'__future__'\n" + code)
                for short in (self.g.run(code), self.g.run("0\n" + code), self.g.run("\n" + code)):
                    for what in ("value", "stdout", "error", "status"):
                        self.assertEqual(getattr(short, what), getattr(whole, what), what)
                    if whole.error not in ("SyntaxError", "IndentationError"):
                        self.assertEqual(short.error_value, whole.error_value)
                    self.assertEqual(short.stderr.count(b"Warning"), whole.stderr.count(b"Warning"))

    def test_the_short_way_counts_lines_as_they_are(self):
        self.assertIn('line 4, in <module>\n    1 / 0\n', self.g.run("x = 1\n\n\n1 / 0").traceback)
        self.assertIn('line 2, in <module>\n    1 / 0\n', self.g.run("x = 1\n1 / 0\n\nx").traceback)
        self.assertIn('line 2, in <module>\n    1 / 0\n', self.g.run("\n1 / 0\n").traceback)

    def test_an_expression_alone_is_remembered_as_others_are(self):
        self.assertIn("\n    1 / 0\n", self.g.run("1 / 0").traceback)
        self.assertEqual(self.g.run("_i").text, repr("1 / 0"))
        self.assertEqual(self.g.run("6 * 7").text, "42")
        self.assertEqual(self.g.run("_").text, "42")
        self.assertEqual(self.g.run("In[-3:]").text, repr(["6 * 7", "_", "In[-3:]"]))
        count = int(self.g.run("get_ipython().execution_count").text)
        self.assertEqual(self.g.run("get_ipython().execution_count").text, str(count + 1))
        self.assertEqual(self.g.run("Out[%d]" % count).text, str(count))
        self.g.run("_ = 'mine'")
        self.g.run("2 + 3")
        self.assertEqual(self.g.run("_").text, "'mine'")
        self.g.run("del _")

    def test_forms_that_the_user_registers_are_used(self):
        forms = "get_ipython().display_formatter.formatters['text/%s']"
        self.g.run(f"{forms % 'html'}.for_type(int, lambda n: f'<b>{{n}}</b>');")
        self.assertEqual(self.g.run("7").value["text/html"], b"<b>7</b>")
        self.g.run(f"{forms % 'html'}.pop(int);{forms % 'plain'}.for_type(int, lambda n, p, c: p.text('n'));")
        self.assertEqual(self.g.run("7").value, {"text/plain": b"n"})
        self.g.run(f"{forms % 'plain'}.pop(int);")
        self.assertEqual(self.g.run("7").value, {"text/plain": b"7"})

    def test_long_lists_are_pretty_printed_one_item_a_line(self):
        text = self.g.run("list(range(50))").text
        self.assertEqual(text.splitlines()[:2], ["[0,", " 1,"])

    def test_names_live_on_between_executions(self):
        self.g.run("alpha = 41")
        self.g.run("def beta():\n    return alpha + 1")
        self.assertEqual(self.g.run("beta()").text, "42")
        self.assertEqual(self.g.run("_ + 1").text, "43")
        self.assertEqual(self.g.run("Out[max(Out)]").text, "43")

    def test_modules_of_the_working_directory_can_be_imported(self):
        self.g.put("helper_mod.py", b"value = 17\n")
        self.assertEqual(self.g.run("import helper_mod; helper_mod.value").text, "17")

    def test_stdout_and_stderr_are_what_was_written(self):
        outcome = self.g.run(
            "import sys, os\nprint('one')\nprint('two', file=sys.stderr)\nos.system('echo three')\n"
            "sys.stdout.write('no newline')\nos.write(2, b'\\xff\\n');")
        self.assertEqual(outcome.stdout, b"one\nthree\nno newline")
        self.assertEqual(outcome.stderr, b"two\n\xff\n")
        self.assertEqual(outcome.done.stdout_bytes, len(outcome.stdout))

    def test_output_of_c_code_is_flushed_at_the_end(self):
        outcome = self.g.run("import ctypes\nctypes.CDLL(None).printf(b'from c');")
        self.assertEqual(outcome.stdout, b"from c")

    def test_output_arrives_while_the_code_runs(self):
        id, stream = self.g.start("print('first')\nimport time\ntime.sleep(60)")
        self.assertEqual(self.g.event(stream).data, b"first\n")
        self.assertEqual(self.g.interrupt(id), 0)
        outcome = Outcome(list(self.g.events(id, stream)))
        self.assertEqual((outcome.status, outcome.error), (INTERRUPTED, "KeyboardInterrupt"))
        self.assertFalse(outcome.done.kernel_restarted)

    def test_many_small_writes_become_few_events(self):
        outcome = self.g.run("for i in range(20000):\n    print(i)")
        self.assertEqual(outcome.stdout.split(), [b"%d" % i for i in range(20000)])
        self.assertLess(len(outcome.events), 2000)

    def test_errors_have_name_value_and_plain_traceback(self):
        outcome = self.g.run("def f(x):\n    return 1 / x\n\nf(0)")
        self.assertEqual((outcome.status, outcome.error), (FAILED, "ZeroDivisionError"))
        self.assertEqual(outcome.error_value, "division by zero")
        self.assertEqual(outcome.done.exit_code, 1)
        self.assertRegex(outcome.traceback,
                         r'^Traceback .*\n  File "<cell \d+>", line 4, in <module>\n    f\(0\)\n'
                         r'  File "<cell \d+>", line 2, in f\n    return 1 / x\n')
        self.assertNotIn("\x1b", outcome.traceback)
        self.assertNotIn("python_kernel", outcome.traceback)

    def test_syntax_errors_show_the_place(self):
        outcome = self.g.run("x = 1\ny = = 2")
        self.assertEqual(outcome.error, "SyntaxError")
        self.assertIn("y = = 2", outcome.traceback)
        self.assertFalse(outcome.has_value)

    def test_chained_and_strange_exceptions(self):
        outcome = self.g.run("try:\n    1/0\nexcept Exception as e:\n    raise KeyError('k') from e")
        self.assertIn("direct cause", outcome.traceback)
        outcome = self.g.run(
            "class Odd(Exception):\n    def __str__(self):\n        raise ValueError\nraise Odd")
        self.assertEqual(outcome.error, "Odd")
        outcome = self.g.run("raise Exception('\\ud800 \\0')")
        self.assertEqual(outcome.status, FAILED)
        outcome = self.g.run("def r():\n    r()\nr()")
        self.assertEqual(outcome.error, "RecursionError")
        outcome = self.g.run("raise ExceptionGroup('g', [ValueError(1), KeyError(2)])")
        self.assertIn("KeyError", outcome.traceback)

    def test_output_before_an_error_is_kept(self):
        outcome = self.g.run("print('before')\n1/0")
        kinds = [e.kind for e in outcome.events]
        self.assertEqual(kinds, [STDOUT, ERROR, DONE])

    def test_exit_ends_the_cell_and_not_the_session(self):
        self.g.run("stays = 1")
        for code in ("import sys; sys.exit()", "exit()", "raise SystemExit(0)", "quit"):
            self.assertEqual(self.g.run(code).status, OK, code)
        outcome = self.g.run("import sys; sys.exit(3)")
        self.assertEqual((outcome.status, outcome.done.exit_code), (FAILED, 3))
        outcome = self.g.run("sys.exit('a reason')")
        self.assertEqual((outcome.error_value, outcome.done.exit_code), ("a reason", 1))
        self.assertEqual(self.g.run("stays").text, "1")

    def test_input_is_refused_clearly(self):
        for code in ("input()", "input('name? ')", "import getpass; getpass.getpass()"):
            outcome = self.g.run(code)
            self.assertEqual(outcome.error, "StdinNotImplementedError", code)
            self.assertIn("input() cannot be used", outcome.error_value)
        self.assertEqual(self.g.run("import sys; sys.stdin.read()").text, "''")

    def test_rich_forms_of_a_value(self):
        value = self.g.run("import pandas as pd; pd.DataFrame({'a': [1, 2]})").value
        self.assertIn(b"<table", value["text/html"])
        self.assertIn(b"a", value["text/plain"])
        value = self.g.run(
            "from IPython.display import Image, JSON\nimport base64\n"
            "Image(base64.b64decode('iVBORw0KGgo='))").value
        self.assertEqual(value["image/png"], base64_png())

    def test_display_and_order(self):
        outcome = self.g.run(
            "print('a')\ndisplay('one', {'two': 2})\nprint('b')\ndisplay(3)\n'end'")
        kinds = [e.kind for e in outcome.events]
        self.assertEqual(kinds, [STDOUT, DISPLAY, DISPLAY, STDOUT, DISPLAY, VALUE, DONE])
        self.assertEqual(outcome.displays[1]["text/plain"], b"{'two': 2}")

    def test_figures_left_open_are_shown_and_closed(self):
        outcome = self.g.run(
            "import matplotlib.pyplot as plt\nplt.plot([1, 2])\nplt.figure()\nplt.bar([1], [2])\n"
            "plt.figure()\nx = 1")
        pictures = [d["image/png"] for d in outcome.displays]
        self.assertEqual(len(pictures), 2)
        self.assertTrue(all(p.startswith(b"\x89PNG") for p in pictures))
        self.assertEqual(self.g.run("plt.get_fignums()").text, "[]")

    def test_show_shows_at_once(self):
        outcome = self.g.run(
            "import matplotlib\nmatplotlib.use('Agg')\nimport matplotlib.pyplot as plt\n"
            "plt.plot([1, 2])\nprint('before')\nplt.show()\nprint('after')")
        self.assertEqual([e.kind for e in outcome.events], [STDOUT, DISPLAY, STDOUT, DONE])

    def test_a_figure_as_value_is_a_picture(self):
        outcome = self.g.run("import matplotlib.pyplot as plt\nfig, ax = plt.subplots()\nax.plot([1])\nplt.close()\nfig")
        self.assertTrue(outcome.value["image/png"].startswith(b"\x89PNG"))

    def test_magics_and_commands(self):
        self.assertEqual(self.g.run("!echo sub; echo err >&2").stdout, b"sub\n")
        self.assertEqual(self.g.run("x = !echo caught\nx[0]").text, "'caught'")
        self.assertEqual(self.g.run("%%bash\necho from bash").stdout, b"from bash\n")
        self.assertEqual(self.g.run("pwd").text, repr(self.data))
        self.assertEqual(self.g.run("pwd = 3\npwd").text, "3")
        self.g.run("del pwd")
        self.assertEqual(self.g.run("%cd /\n").status, OK)
        self.assertEqual(self.g.run(f"%cd {self.data}\nimport os\nos.getcwd()").text,
                         repr(self.data))
        self.assertIn(b"loop", self.g.run("%timeit -n1 -r1 pass").stdout)
        self.assertEqual(self.g.run("%nosuchmagic").status, FAILED)
        self.assertEqual(self.g.run("%matplotlib inline").status, OK)
        self.assertIn(b"Docstring", self.g.run("len?").stdout)
        self.assertEqual(self.g.run("%%time\n40 + 2").text, "42")

    def test_top_level_await(self):
        self.assertEqual(self.g.run("import asyncio\nawait asyncio.sleep(0, 'done')").text, "'done'")
        self.g.run("async def later():\n    await asyncio.sleep(0)\n    return 9\n"
                   "task = asyncio.ensure_future(later()) if False else None")
        self.assertEqual(self.g.run("await later()").text, "9")
        outcome = self.g.run("await asyncio.sleep(60)", timeout_ms=200)
        self.assertEqual((outcome.status, outcome.done.kernel_restarted), (TIMEOUT, False))
        self.assertEqual(self.g.run("await later()").text, "9")
        self.assertEqual(self.g.run("asyncio.run(later())").text, "9")

    def test_future_statements_live_on(self):
        self.g.run("from __future__ import annotations")
        self.assertEqual(self.g.run("def f(x: nowhere): pass").status, OK)

    def test_a_hidden_cell_leaves_no_trace(self):
        before = self.g.run("(len(In), sorted(globals()))").text
        outcome = self.g.run("hidden_name = 1\nprint('warm')\nhidden_name + 1", hidden=True)
        self.assertEqual((outcome.status, outcome.stdout, outcome.text), (OK, b"warm\n", "2"))
        after = self.g.run("(len(In) - 1, sorted(globals()))").text
        self.assertEqual(re.sub(r"'_i?\d*',\s*|'_+i*',\s*", "", before),
                         re.sub(r"'_i?\d*',\s*|'_+i*',\s*", "", after))

    def test_the_warm_up_cells_run(self):
        for name in ("template.py", "ready.py"):
            code = (ROOT / "worker/guest/warm" / name).read_text()
            outcome = self.g.run(code, hidden=True)
            self.assertEqual((outcome.status, outcome.error), (OK, None), outcome.traceback)

    def test_large_values_and_pictures_are_bounded(self):
        outcome = self.g.run("'x' * 9_000_000")
        self.assertEqual(outcome.status, OK)
        self.assertLess(len(outcome.text), 8 << 20)
        outcome = self.g.run("from IPython.display import display\n"
                             "display({'image/png': b'x' * 9_000_000}, raw=True)")
        self.assertIn(b"larger than the limit", outcome.displays[0]["text/plain"])
        outcome = self.g.run("display({'image/png': b'x' * 7_000_000}, raw=True)")
        self.assertEqual(len(outcome.displays[0]["image/png"]), 7_000_000)

    def test_code_of_any_length_up_to_the_limit(self):
        code = "s = '" + "y" * 3_000_000 + "'\nlen(s)"
        self.assertEqual(self.g.run(code).text, "3000000")
        self.refused("TOOBIG", self.g.run, "#" + "y" * (4 << 20))

    def test_a_child_that_leaves_the_cell_says_nothing(self):
        outcome = self.g.run("import os\npid = os.fork()\nprint('here')\nif pid: os.waitpid(pid, 0);")
        self.assertEqual(outcome.stdout, b"here\nhere\n")
        self.assertEqual(self.g.run("1+1").text, "2")

    def test_multiprocessing_works(self):
        outcome = self.g.run("import multiprocessing\ndef square(x):\n    return x * x\n"
                             "with multiprocessing.get_context('fork').Pool(2) as p:\n"
                             "    r = p.map(square, range(5))\nr")
        self.assertEqual(outcome.text, "[0, 1, 4, 9, 16]", outcome.traceback)

    def test_pickle_of_a_class_from_a_cell(self):
        outcome = self.g.run("import pickle\nclass Thing: pass\n"
                             "type(pickle.loads(pickle.dumps(Thing()))).__name__")
        self.assertEqual(outcome.text, "'Thing'")

    def test_threads_may_print_and_raise(self):
        outcome = self.g.run(
            "import threading\ndef f():\n    print('from thread')\n    1/0\n"
            "t = threading.Thread(target=f); t.start(); t.join()")
        self.assertEqual(outcome.stdout, b"from thread\n")
        self.assertIn(b"ZeroDivisionError", outcome.stderr)

    def test_user_code_has_no_rights(self):
        if USER is None:
            self.skipTest("needs root to give rights up")
        self.assertEqual(self.g.run("import os\nos.getuid(), os.geteuid(), os.getgroups()").text,
                         f"({USER}, {USER}, [])")
        self.assertEqual(self.g.run("os.setuid(0)").error, "PermissionError")
        self.assertEqual(self.g.run("os.kill(os.getppid(), 9)").error, "PermissionError")
        status = self.g.run("print(open('/proc/self/status').read())").stdout
        self.assertIn(b"NoNewPrivs:\t1", status)
        self.assertIn(b"CapEff:\t0000000000000000", status)


def base64_png():
    return b"\x89PNG\r\n\x1a\n"


class Hostile(Case):
    """Code that attacks its own interpreter: the agent tells what happened and goes on."""

    boot = "python"

    def died(self, code, exit_code=None, **more):
        outcome = self.g.run(code, **more)
        self.assertEqual(outcome.status, DIED, outcome.events)
        self.assertTrue(outcome.done.kernel_restarted)
        if exit_code is not None:
            self.assertEqual(outcome.done.exit_code, exit_code)
        self.assertEqual(self.g.run("1+1").text, "2")
        return outcome

    def test_exit_of_the_process(self):
        outcome = self.died("print('last words')\nimport os\nos._exit(4)", 4)
        self.assertEqual(self.g.run("os").error, "NameError")

    def test_last_output_is_kept(self):
        outcome = self.died("import os\nos.write(1, b'last words')\nos.kill(os.getpid(), 9)", 137)
        self.assertEqual(outcome.stdout, b"last words")

    def test_crash(self):
        self.died("import ctypes\nctypes.string_at(0)", 128 + signal.SIGSEGV)

    def test_closed_descriptors(self):
        self.assertEqual(self.g.run("import os\nos.close(1); os.close(2)").status, OK)
        self.assertEqual(self.g.run("print('back')").stdout, b"back\n")
        self.g.run("import sys\nsys.stdout.close()")
        self.assertEqual(self.g.run("print('again')").stdout, b"again\n")
        self.died("import os\nos.close(4)")
        self.died("import os\nos.closerange(0, 100)")

    def test_nonsense_in_the_reply_pipe(self):
        for junk in (b"x" * 200, b"done 0\n", b"done 0 ok 0\n", b"display 5000000000\n", b"ready 5\nxxxxx", b"\n"):
            outcome = self.g.run(f"import os, time\nos.write(4, {junk!r})\ntime.sleep(60)")
            self.assertEqual((outcome.status, outcome.done.kernel_restarted), (DIED, True), junk)
        self.assertEqual(self.g.run("1+1").text, "2")

    def test_a_forged_end_is_found_out(self):
        self.died("import os, time\nos.write(4, b'done 0 ok 0 0\\n')\ntime.sleep(60)")
        # Even with the right serial the kernel's own "done" gives it away.
        forge = ("import os, sys\nserial = sys._getframe()\n"
                 "while 'serial' not in serial.f_locals or serial.f_locals is globals():\n"
                 "    serial = serial.f_back\n"
                 "os.write(4, b'done 0 ok 0 %s\\n' % serial.f_locals['serial'].encode())\n'mine'")
        self.assertEqual(self.g.run(forge).status, OK)
        self.assertIn(self.g.run("1+1").status, (DIED, OK))  # whether it came in before that
        self.assertEqual(self.g.run("1+1").text, "2")

    def test_interrupts_are_survived_or_end_it(self):
        self.g.run("kept = 1")
        outcome = self.g.run("while True: pass", timeout_ms=200)
        self.assertEqual((outcome.status, outcome.error), (TIMEOUT, "KeyboardInterrupt"))
        self.assertFalse(outcome.done.kernel_restarted)
        self.assertEqual(self.g.run("kept").text, "1")
        outcome = self.g.run("import time\ntry:\n    time.sleep(60)\nexcept KeyboardInterrupt:\n"
                             "    print('cleaned up')\n5", timeout_ms=200)
        self.assertEqual((outcome.status, outcome.stdout), (TIMEOUT, b"cleaned up\n"))
        outcome = self.g.run("import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\n"
                             "while True: time.sleep(1)", timeout_ms=200)
        self.assertEqual((outcome.status, outcome.done.kernel_restarted), (TIMEOUT, True))
        self.assertEqual(self.g.run("kept").error, "NameError")

    def test_the_clock_of_a_waiting_execution_does_not_run(self):
        first, s1 = self.g.start("import time\ntime.sleep(4)\n1")
        second, s2 = self.g.start("2", timeout_ms=3000)
        third, s3 = self.g.start("3")
        self.assertEqual(self.g.interrupt(third), 0)
        self.assertEqual(Outcome(list(self.g.events(first, s1))).text, "1")
        self.assertEqual(Outcome(list(self.g.events(second, s2))).text, "2")
        outcome = Outcome(list(self.g.events(third, s3)))
        self.assertEqual((outcome.status, outcome.done.duration_us), (INTERRUPTED, 0))

    def test_interrupt_of_what_is_not_there(self):
        self.assertEqual(self.g.interrupt(os.urandom(16)), ERR["NOTFOUND"])

    def test_children_are_reaped_and_ended(self):
        outcome = self.g.run("import subprocess\np = subprocess.Popen(['sleep', '600'])\np.pid")
        pid = int(outcome.text)
        self.assertTrue(os.path.exists(f"/proc/{pid}"))
        self.g.run("import os\nfor i in range(50):\n"
                   "    if os.fork() == 0:\n        if os.fork() == 0: os._exit(0)\n        os._exit(0)")
        self.died("import os\nos._exit(1)")
        self.assertFalse(os.path.exists(f"/proc/{pid}"))
        stat = subprocess.run(["ps", "--ppid", str(self.agent.process.pid), "-o", "stat="],
                              capture_output=True, text=True).stdout
        self.assertNotIn("Z", stat)

    def test_fresh_kernel_is_new_and_leaves_the_session_alone(self):
        self.g.run("mine = 1")
        outcome = self.g.run("mine", fresh_kernel=True)
        self.assertEqual(outcome.error, "NameError")
        self.assertFalse(outcome.done.kernel_restarted)
        self.assertEqual(self.g.run("theirs = 2\ntheirs", fresh_kernel=True).text, "2")
        self.assertEqual(self.g.run("theirs", fresh_kernel=True).error, "NameError")
        self.assertEqual(self.g.run("import os; os._exit(3)", fresh_kernel=True).status, DIED)
        self.assertEqual(self.g.run("mine").text, "1")

    def test_fresh_and_old_run_side_by_side(self):
        first, s1 = self.g.start("import time\ntime.sleep(60)")
        self.assertEqual(self.g.run("6", fresh_kernel=True).text, "6")
        self.g.interrupt(first)
        self.assertEqual(Outcome(list(self.g.events(first, s1))).status, INTERRUPTED)

    def test_killing_the_own_user_ends_only_its_processes(self):
        if USER is None:
            self.skipTest("needs root to run as another user")
        self.assertEqual(self.g.run("import os\nos.kill(-1, 9)").status, OK)  # all but itself
        self.assertEqual(self.g.run("1+1").text, "2")

    def test_deleting_the_data_folders_content(self):
        self.g.put("a/b", b"x")
        self.assertEqual(self.g.run("import shutil, os\nshutil.rmtree(os.getcwd(), "
                                    "ignore_errors=True)").status, OK)
        self.assertEqual(self.g.list(), [])
        self.assertEqual(self.g.run("1+1").text, "2")


class Killed(Case):
    """Interpreters, their children and the fork server die at any moment."""

    def victims(self):
        out = subprocess.run(["ps", "--ppid", str(self.agent.process.pid), "-o", "pid="],
                             capture_output=True, text=True).stdout
        return [int(pid) for pid in out.split()]

    def kill_now_and_then(self, stop):
        dice = random.Random(1)
        while not stop.wait(dice.random() * 0.3):
            victims = self.victims()
            if victims:
                try:
                    os.kill(dice.choice(victims), dice.choice((signal.SIGKILL, signal.SIGTERM,
                                                               signal.SIGSEGV, signal.SIGINT)))
                except OSError:
                    pass  # it ended by itself

    def test_random_deaths_are_told_and_survived(self):
        stop = threading.Event()
        killer = threading.Thread(target=self.kill_now_and_then, args=(stop,))
        killer.start()
        dice = random.Random(2)
        try:
            for _ in range(150):
                kernel = dice.choice((PYTHON, SHELL))
                code = dice.choice(("display(1)", "for i in range(500): print(i)", "1/0",
                                    "import os; os.system('echo hi')") if kernel == PYTHON
                                   else ("seq 500", "sleep 0.05", "false"))
                outcome = self.g.run(code, kernel, fresh_kernel=dice.random() < 0.1,
                                     timeout_ms=dice.choice((20, 100, 60000)))
                self.assertIn(outcome.status, (OK, FAILED, TIMEOUT, DIED))
        finally:
            stop.set()
            killer.join()
        self.g.run("1", PYTHON)  # may still have been hit
        self.assertEqual(self.g.run("1+1").text, "2")
        self.assertEqual(self.g.run("echo x", SHELL).stdout, b"x\n")


class Events(Case):
    """Numbers, acknowledgements, resuming."""

    boot = "shell"

    def test_an_id_runs_once(self):
        id, stream = self.g.start("echo once", SHELL)
        self.refused("EXISTS", self.g.run, "echo twice", SHELL, id=id)
        self.assertEqual(Outcome(list(self.g.events(id, stream))).stdout, b"once\n")
        self.refused("EXISTS", self.g.run, "echo twice", SHELL, id=id)
        self.g.forget(id)
        self.refused("EXISTS", self.g.run, "echo twice", SHELL, id=id)
        self.g.reconnect()
        self.refused("EXISTS", self.g.run, "echo twice", SHELL, id=id)

    def test_code_that_did_not_arrive_completely_never_ran(self):
        id = os.urandom(16)
        run = pb.GuestOpen(exec=pb.GuestExec(id=id, kernel=SHELL, stdout_max=100))
        n = self.g.ctl.open(run)
        self.g.ctl.send(frame(DATA, n, b"echo half"))
        self.g.reconnect()
        self.assertNotIn(id, list(self.g.hello.executions))
        self.assertEqual(self.g.run("echo whole", SHELL, id=id).stdout, b"whole\n")

    def test_a_second_open_while_the_first_is_arriving_is_refused(self):
        id = os.urandom(16)
        run = pb.GuestOpen(exec=pb.GuestExec(id=id, kernel=SHELL, stdout_max=100))
        first = self.g.ctl.open(run)
        self.refused("EXISTS", self.g.run, "echo", SHELL, id=id)
        self.g.ctl.send(frame(DATA, first, b"echo first") + frame(FIN, first))
        self.assertEqual(Outcome(list(self.g.events(id, first))).stdout, b"first\n")

    def test_bad_executions_are_refused(self):
        for more in ({"id": b"short"}, {"kernel": 0}, {"kernel": 9}, {"kernel": PYTHON, "argv": ["x"]},
                     {"argv": ["x"] * 257}):
            e = {"id": os.urandom(16), "kernel": SHELL, **more}
            stream = self.g.ctl.open(pb.GuestOpen(exec=pb.GuestExec(**e)))
            self.refused("INVAL", lambda: list(self.g.events(b"", stream)))

    def test_resume_continues_behind_a_number(self):
        id, stream = self.g.start("for i in 1 2 3 4 5; do echo $i; sleep 0.05; done", SHELL)
        seen = [self.g.event(stream), self.g.event(stream)]
        self.g.reconnect()
        self.assertIn(id, list(self.g.hello.executions))
        for after in (seen[-1].seq, 0, seen[0].seq):
            outcome = Outcome([self.g.event(s) for s in [self.g.resume(id, after)] for _ in [0]])
            self.assertEqual(outcome.events[0].seq, after + 1)
            self.g.reconnect()
        outcome = Outcome(list(self.g.events(id, self.g.resume(id))))
        self.assertEqual(outcome.stdout, b"1\n2\n3\n4\n5\n")
        self.assertEqual(outcome.events[0].seq, 1)
        stream = self.g.resume(id, outcome.events[-1].seq)
        self.assertIsNone(self.g.event(stream))

    def test_resume_on_the_same_connection_takes_the_events_over(self):
        id, stream = self.g.start("echo a; sleep 0.3; echo b", SHELL)
        self.assertEqual(self.g.event(stream).data, b"a\n")
        second = self.g.resume(id)
        self.refused("STATE", lambda: list(self.g.events(id, stream)))
        self.assertEqual(Outcome(list(self.g.events(id, second))).stdout, b"a\nb\n")

    def test_a_quick_reconnect_that_the_agent_cannot_see(self):
        id, stream = self.g.start("echo a; sleep 0.3; echo b", SHELL)
        hello = self.g.ctl.attach()
        self.assertIn(id, list(hello.executions))
        outcome = Outcome(list(self.g.events(id, self.g.resume(id))))
        self.assertEqual(outcome.stdout, b"a\nb\n")

    def test_what_was_acknowledged_is_gone_and_said_so(self):
        id, stream = self.g.start("echo a", SHELL)
        events = list(self.g.events(id, stream))
        self.refused("NOTFOUND", lambda: list(self.g.events(id, self.g.resume(id, 0))))
        self.refused("NOTFOUND", lambda: list(self.g.events(id, self.g.resume(id, 99))))
        self.refused("NOTFOUND", lambda: list(self.g.events(id, self.g.resume(os.urandom(16), 0))))
        self.g.forget(id)
        self.refused("NOTFOUND", lambda: list(self.g.events(id, self.g.resume(id, events[-1].seq))))

    def test_unacknowledged_output_stops_the_program(self):
        id, stream = self.g.start("seq 1 200000", SHELL, stdout_max=10 << 20)
        got, last = b"", 0
        while len(got) < WINDOW - (32 << 10):
            e = self.g.event(stream)
            got, last = got + e.data, e.seq
        self.g.ctl.ping()
        more = []
        with self.assertRaises(TimeoutError):
            while True:
                e = self.g.event(stream, timeout=0.5)
                more.append(e)
        got += b"".join(e.data for e in more)
        self.assertLess(len(got), WINDOW + (33 << 10))
        self.g.ack(id, more[-1].seq if more else last)
        rest = Outcome(list(self.g.events(id, stream)))
        got += rest.stdout
        self.assertEqual(got, b"".join(b"%d\n" % i for i in range(1, 200001)))
        self.assertEqual(rest.status, OK)

    def test_a_window_that_stays_closed_does_not_stop_a_time_out(self):
        id, stream = self.g.start("yes", SHELL, stdout_max=10 << 20, timeout_ms=300)
        last = 0
        while True:
            try:
                last = self.g.event(stream, timeout=3).seq
            except TimeoutError:
                break
        self.g.ack(id, last)
        outcome = Outcome(list(self.g.events(id, stream)))
        self.assertEqual(outcome.status, TIMEOUT)
        self.assertEqual(self.g.run("echo next", SHELL).stdout, b"next\n")

    def test_limits_cut_at_characters_and_count_all(self):
        outcome = self.g.run("printf 'aé€😀%.0s' 1 2 3", SHELL, stdout_max=14)
        self.assertEqual(outcome.stdout.decode(), "aé€😀aé")
        self.assertEqual(outcome.done.stdout_bytes, 30)
        outcome = self.g.run("echo out; echo err >&2", SHELL, stdout_max=0, stderr_max=2)
        self.assertEqual((outcome.stdout, outcome.stderr), (b"", b"er"))
        self.assertEqual((outcome.done.stdout_bytes, outcome.done.stderr_bytes), (4, 4))

    def test_characters_are_not_cut_between_events(self):
        outcome = self.g.run("for i in $(seq 1 3000); do printf '€😀é'; done; printf '\\xe2\\x82'",
                             SHELL)
        for e in outcome.events[:-2]:
            e.data.decode()
        self.assertEqual(outcome.stdout, "€😀é".encode() * 3000 + b"\xe2\x82")

    def test_output_beyond_the_limit_costs_no_memory(self):
        outcome = self.g.run("head -c 300000000 /dev/zero", SHELL, stdout_max=1000)
        self.assertEqual((len(outcome.stdout), outcome.done.stdout_bytes), (1000, 300000000))
        self.assertLess(self.agent_kb("VmHWM"), 48 << 10)

    def test_many_executions_are_held_only_so_far(self):
        for _ in range(300):
            id, stream = self.g.start(":", SHELL)
            self.assertEqual(Outcome(list(self.g.events(id, stream))).status, OK)
        self.g.reconnect()
        self.assertLessEqual(len(self.g.hello.executions), 256)

    def test_waiting_executions_are_bounded(self):
        first, s1 = self.g.start("sleep 60", SHELL)
        streams = [self.g.start(":", SHELL) for _ in range(70)]
        refused = 0
        self.g.interrupt(first)
        for id, stream in [(first, s1)] + streams:
            try:
                list(self.g.events(id, stream))
                self.g.forget(id)
            except Refused as e:
                self.assertEqual(e.code, ERR["FULL"])
                refused += 1
        self.assertGreater(refused, 0)


class Shell(Case):
    boot = "shell"

    def run_sh(self, code, **more):
        return self.g.run(code, SHELL, **more)

    def test_directory_and_environment_live_on(self):
        self.run_sh("mkdir -p sub dir; export COLOR='light blue'; cd sub; plain=1; f() { echo \"f $1\"; }")
        outcome = self.run_sh('echo "$COLOR"; pwd; f x; echo "[$plain]"')
        self.assertEqual(outcome.stdout.decode(), f"light blue\n{self.data}/sub\nf x\n[]\n")
        self.run_sh("unset COLOR; cd ..")
        self.assertEqual(self.run_sh('echo "[${COLOR-}]"').stdout, b"[]\n")

    def test_exit_codes(self):
        for code, want in (("true", 0), ("false", 1), ("exit 7", 7), ("no-such-program", 127),
                           ("kill -9 $BASHPID", 137), ("set -e; false; echo not", 1)):
            outcome = self.run_sh(code)
            self.assertEqual(outcome.done.exit_code, want, code)
            self.assertEqual(outcome.status, OK if want == 0 else FAILED)
        self.assertEqual(self.run_sh("echo still here").stdout, b"still here\n")

    def test_state_survives_exit_and_failure(self):
        self.run_sh("export KEPT=1; cd /; exit 3")
        self.assertEqual(self.run_sh("echo $KEPT; pwd").stdout, b"1\n/\n")
        self.run_sh(f"cd {self.data}")

    def test_argv_is_not_a_command_line(self):
        self.run_sh("export SEEN=yes")
        outcome = self.run_sh("", argv=["printf", "%s|", "a b", "it's", "$HOME", "*", "", "\n"])
        self.assertEqual(outcome.stdout, b"a b|it's|$HOME|*||\n|")
        self.assertEqual(self.run_sh("", argv=["printenv", "SEEN"]).stdout, b"yes\n")
        self.assertEqual(self.run_sh("", argv=["/no/such"]).done.exit_code, 127)

    def test_standard_input_is_empty(self):
        self.assertEqual(self.run_sh("cat; read x; echo \"[$x]\"").stdout, b"[]\n")

    def test_syntax_error(self):
        outcome = self.run_sh("if then")
        self.assertEqual(outcome.status, FAILED)
        self.assertIn(b"syntax error", outcome.stderr)

    def test_background_processes_live_on_and_are_not_heard_later(self):
        self.run_sh("(while sleep 0.1; do echo tick; done) & echo $! > bg.pid")
        outcome = self.run_sh("echo mine")
        self.assertIn(b"mine\n", outcome.stdout)
        self.assertEqual(self.run_sh("kill -0 $(cat bg.pid) && kill $(cat bg.pid)").status, OK)

    def test_time_out_ends_the_command(self):
        outcome = self.run_sh("echo begun; sleep 60; echo not", timeout_ms=300)
        self.assertEqual((outcome.status, outcome.stdout), (TIMEOUT, b"begun\n"))
        self.assertFalse(outcome.done.kernel_restarted)
        outcome = self.run_sh("trap '' INT; while :; do sleep 1; done", timeout_ms=300)
        self.assertEqual((outcome.status, outcome.done.kernel_restarted), (TIMEOUT, True))
        self.assertEqual(self.run_sh("echo next").stdout, b"next\n")

    def test_killing_the_shell_itself(self):
        outcome = self.run_sh("kill -9 $$; sleep 5")
        self.assertEqual((outcome.status, outcome.done.kernel_restarted), (DIED, True))
        self.assertEqual(self.run_sh("echo next").stdout, b"next\n")

    def test_the_agents_descriptors_are_not_visible(self):
        self.assertEqual(self.run_sh("ls /proc/self/fd").stdout.split()[:3], [b"0", b"1", b"2"])
        self.assertEqual(len(self.run_sh("ls /proc/self/fd").stdout.split()), 4, self.run_sh("ls -l /proc/self/fd").stdout)

    def test_multi_byte_and_long_commands(self):
        self.assertEqual(self.run_sh("echo 'é€😀'").stdout.decode(), "é€😀\n")
        long = "x" * 500000
        self.assertEqual(self.run_sh(f": {long}\necho ${{#_}}").status, OK)

    def test_hidden_command_leaves_no_trace(self):
        self.run_sh("export TRACE=1; cd /tmp", hidden=True)
        self.assertEqual(self.run_sh("echo \"[${TRACE-}]\"; pwd").stdout.decode(),
                         f"[]\n{self.data}\n")

    def test_the_warm_up_cells_run(self):
        for name in ("template.sh", "ready.sh"):
            code = (ROOT / "worker/guest/warm" / name).read_text()
            self.assertEqual(self.run_sh(code, hidden=True).status, OK)


class Node(Case):
    boot = ""

    def setUp(self):
        super().setUp()
        self.g.seed(kernels=[NODE])

    def run_js(self, code, **more):
        return self.g.run(code, NODE, **more)

    def test_values(self):
        for code, want in (("1+1", "2"), ("'it'", "'it'"), ("null", "null"), ("NaN", "NaN"),
                           ("10n", "10n"), ("-0", "-0"), ("({a: [1, {b: 2}]})", "{ a: [ 1, { b: 2 } ] }"),
                           ("[1,2].map(x => x * 2)", "[ 2, 4 ]"), ("1;2;", "2")):
            self.assertEqual(self.run_js(code).text, want, code)
        for code in ("undefined", "let z = 1", "", "// nothing"):
            self.assertFalse(self.run_js(code).has_value, code)

    def test_names_live_on_and_may_be_declared_again(self):
        self.run_js("const x = 1; function f() { return x }; class A {}")
        self.assertEqual(self.run_js("x + f()").text, "2")
        self.assertEqual(self.run_js("const x = 5; x").text, "5")
        self.assertEqual(self.run_js("new A()").text, "A {}")

    def test_await_and_imports(self):
        self.assertEqual(self.run_js("await new Promise(r => setTimeout(() => r('z'), 5))").text, "'z'")
        self.assertEqual(self.run_js(
            "import fs, { readFileSync as r } from 'fs';\nimport * as os from 'node:os'\n"
            "[typeof r, typeof os.cpus, typeof fs.existsSync].join()").text,
            "'function,function,function'")
        self.assertEqual(self.run_js("(await import('path')).sep").text, "'/'")
        self.assertEqual(self.run_js("\"import('q') from 'x'\"").text, "\"import('q') from 'x'\"")
        self.assertEqual(self.run_js("require('path').sep").text, "'/'")
        self.g.put("lib.js", b"exports.seven = 7")
        self.assertEqual(self.run_js("require('./lib.js').seven").text, "7")

    def test_console(self):
        outcome = self.run_js("console.log('out', {a: 1}); console.error('err')")
        self.assertEqual((outcome.stdout, outcome.stderr), (b"out { a: 1 }\n", b"err\n"))

    def test_errors(self):
        outcome = self.run_js("function f() { throw new TypeError('wrong') }\nf()")
        self.assertEqual((outcome.error, outcome.error_value), ("TypeError", "wrong"))
        self.assertRegex(outcome.traceback, r"TypeError: wrong\n    at f \(cell-\d+:1:22\)\n")
        self.assertNotIn("node_kernel", outcome.traceback)
        self.assertNotIn("\x1b", outcome.traceback)
        self.assertEqual(self.run_js("throw 5").error_value, "5")
        self.assertEqual(self.run_js("let y = ;").error, "SyntaxError")
        self.assertEqual(self.run_js("await Promise.reject(new Error('p'))").error_value, "p")
        late = self.run_js("setTimeout(() => { throw new Error('late') }, 1)\n"
                           "await new Promise(r => setTimeout(r, 50))")
        self.assertIn(b"late", late.stderr)

    def test_exit_ends_the_cell(self):
        self.run_js("const stays = 1")
        self.assertEqual(self.run_js("process.exit()").status, OK)
        self.assertEqual(self.run_js("process.exit(3)").done.exit_code, 3)
        self.assertEqual(self.run_js("stays").text, "1")

    def test_time_outs(self):
        self.run_js("const kept = 1")
        for code in ("while (true) {}", "await new Promise(() => {})"):
            outcome = self.run_js(code, timeout_ms=300)
            self.assertEqual((outcome.status, outcome.done.kernel_restarted), (TIMEOUT, False), code)
        self.assertEqual(self.run_js("kept").text, "1")
        outcome = self.run_js("await null; while (true) {}", timeout_ms=300)
        self.assertEqual((outcome.status, outcome.done.kernel_restarted), (TIMEOUT, True))

    def test_crash_and_children(self):
        self.assertEqual(self.run_js("process.kill(process.pid, 'SIGKILL')").status, DIED)
        self.assertEqual(self.run_js("1").text, "1")
        self.assertEqual(self.run_js(
            "require('child_process').execSync('echo sub', {stdio: 'inherit'}); 0").stdout, b"sub\n")

    def test_hidden_and_warm_up(self):
        self.assertEqual(self.run_js("const trace = 1", hidden=True).status, OK)
        self.assertEqual(self.run_js("typeof trace").text, "'undefined'")
        code = (ROOT / "worker/guest/warm/ready.js").read_text()
        self.assertEqual(self.run_js(code, hidden=True).status, OK)

    def test_long_code_and_output(self):
        self.assertEqual(self.run_js("const s = '" + "x" * 2000000 + "'; s.length").text, "2000000")
        outcome = self.run_js("console.log('y'.repeat(500000))")
        self.assertEqual(len(outcome.stdout), 500001)


class Files(Case):
    boot = ""

    def names(self, **more):
        return sorted(f"{e.directory}/{e.name}".lstrip("/") for e in self.g.list(**more))

    def setUp(self):
        super().setUp()
        subprocess.run(["find", self.data, "-mindepth", "1", "-delete"], check=True)

    def test_content_comes_back_whatever_its_size(self):
        for n in (0, 1, 4095, PAYLOAD_MAX, PAYLOAD_MAX + 1, WINDOW, WINDOW + 1, 5_000_001):
            data = os.urandom(n)
            r = self.g.put("file", [data])
            self.assertEqual((r.file.name, r.file.size, r.file.is_directory), ("file", n, False))
            self.assertEqual(self.g.get("file"), data, n)
            self.assertEqual(self.g.info.size, n)

    def test_folders_are_made_and_files_replaced(self):
        self.g.put("a/b/c.txt", b"one")
        self.g.put("a/b/c.txt", b"two!")
        self.assertEqual(self.g.get("a/b/c.txt"), b"two!")
        r = self.g.stat("a/b/c.txt")
        self.assertEqual((r.name, r.directory, r.size), ("c.txt", "a/b", 4))
        self.assertLess(abs(r.modified_ns - time.time_ns()), 60 * 10**9)
        self.assertTrue(self.g.stat("a").is_directory)
        self.assertTrue(self.g.stat("").is_directory)
        self.assertEqual(self.names(), ["a"])
        self.assertEqual(self.names(recursive=True), ["a", "a/b", "a/b/c.txt"])
        if USER is not None:
            self.assertEqual(os.stat(self.data + "/a/b/c.txt").st_uid, USER)
            self.assertEqual(os.stat(self.data + "/a").st_uid, USER)

    def test_ranges(self):
        self.g.put("r", bytes(range(100)))
        self.assertEqual(self.g.get("r", offset=10, length=5), bytes(range(10, 15)))
        self.assertEqual(self.g.get("r", offset=95, length=50), bytes(range(95, 100)))
        self.assertEqual(self.g.get("r", offset=100), b"")
        self.assertEqual(self.g.get("r", offset=1 << 63), b"")

    def test_paths_that_are_refused(self):
        for path in ("", "/x", "a//b", "a/", "../x", "a/../b", ".", "./x", "x" * 256, "a/..", "..",
                     "y/" * 600 + "z"):
            with self.assertRaises(Refused, msg=path) as caught:
                self.g.put(path, b"x")
            self.assertIn(caught.exception.code, (ERR["INVAL"], ERR["TOOBIG"]))
            if path:
                with self.assertRaises(Refused):
                    self.g.get(path)
                with self.assertRaises(Refused):
                    self.g.delete(path)
        self.assertEqual(self.names(), [])

    def test_names_of_all_kinds(self):
        for name in ("sp ace", "é€😀", "-rf", "$(x)", "a;b", "quote'\"", ".hidden", "x" * 255):
            self.g.put(name, name.encode())
            self.assertEqual(self.g.get(name), name.encode())
            self.assertIn(name, self.names())
            self.g.delete(name)
        open(os.fsencode(self.data) + b"/bad\xff\xfe", "w").close()
        self.assertEqual(self.names(), ["bad??"])

    def test_links_do_not_lead_out(self):
        os.symlink("/etc", self.data + "/out")
        os.symlink("/etc/passwd", self.data + "/passwd")
        os.symlink("../../../../etc/passwd", self.data + "/up")
        self.g.put("inside/file", b"x")
        os.symlink("inside", self.data + "/in")
        for what in (lambda: self.g.get("out/passwd"), lambda: self.g.get("passwd"),
                     lambda: self.g.get("up"), lambda: self.g.put("out/new", b"x"),
                     lambda: self.g.list("out"), lambda: self.g.stat("passwd"),
                     lambda: self.g.delete("out/passwd")):
            self.refused("DENIED", what)
        self.assertEqual(self.g.get("in/file"), b"x")
        self.g.put("passwd", b"mine")
        self.assertEqual(self.g.get("passwd"), b"mine")
        self.g.delete("out")
        self.assertTrue(os.path.exists("/etc/passwd"))
        self.assertEqual(self.names(recursive=True), ["in", "inside", "inside/file", "passwd", "up"])

    def test_what_is_no_file_is_not_read(self):
        os.mkfifo(self.data + "/fifo")
        self.refused("DENIED", self.g.get, "fifo")
        self.g.put("d/f", b"x")
        self.refused("INVAL", self.g.get, "d")
        self.refused("INVAL", self.g.put, "d", b"x")
        self.refused("INVAL", self.g.put, "d/f/g", b"x")
        self.refused("NOTFOUND", self.g.get, "none")
        self.refused("NOTFOUND", self.g.delete, "none")
        self.refused("NOTFOUND", self.g.stat, "d/none")
        self.refused("NOTFOUND", self.g.list, "none")

    def test_an_upload_that_breaks_leaves_nothing(self):
        what = pb.GuestOpen(put=pb.GuestPut(path="dir/broken", size_max=1 << 20))
        n = self.g.bulk.open(what)
        self.g.bulk.send(frame(DATA, n, b"x" * 1000))
        self.assertEqual(self.names(recursive=True), ["dir"])
        self.g.bulk.send(frame(RST, n, struct.pack("<i", -1)))
        self.assertEqual(os.listdir(self.data + "/dir") if self.g.bulk.ping() is None else 0, [])
        n = self.g.bulk.open(what)
        self.g.bulk.send(frame(DATA, n, b"x" * 1000))
        self.g.bulk.attach()
        self.assertEqual(os.listdir(self.data + "/dir"), [])
        n = self.g.bulk.open(what)
        self.g.bulk.send(frame(DATA, n, b"x" * 1000))
        self.g.reconnect()
        self.assertEqual(os.listdir(self.data + "/dir"), [])

    def test_an_old_file_stays_until_the_new_one_is_complete(self):
        self.g.put("keep", b"old")
        n = self.g.bulk.open(pb.GuestOpen(put=pb.GuestPut(path="keep", size_max=100)))
        self.g.bulk.send(frame(DATA, n, b"new"))
        self.assertEqual(self.g.get("keep"), b"old")
        self.g.bulk.send(frame(FIN, n))
        self.g.result(n)
        self.assertEqual(self.g.get("keep"), b"new")

    def test_size_limit(self):
        self.g.put("limit", b"x" * 1000, size_max=1000)
        self.refused("TOOBIG", self.g.put, "limit2", [b"x" * 1001], size_max=1000)
        self.assertEqual(self.names(), ["limit"])

    def test_lists_are_cut_and_say_so(self):
        for i in range(250):
            open(f"{self.data}/f{i}", "w").close()
        self.assertEqual(len(self.g.list()), 250)
        self.assertFalse(self.g.truncated)
        self.assertEqual(len(self.g.list(entries_max=100)), 100)
        self.assertTrue(self.g.truncated)
        self.assertEqual(len(self.g.list(entries_max=250)), 250)
        self.assertFalse(self.g.truncated)

    def test_large_trees_are_listed_and_removed(self):
        for i in range(40):
            os.makedirs(f"{self.data}/tree/d{i}/e")
            for k in range(50):
                open(f"{self.data}/tree/d{i}/e/file{k}", "w").close()
        os.symlink("/etc", self.data + "/tree/link")
        if USER is not None:
            subprocess.run(["chown", "-hR", str(USER), self.data + "/tree"], check=True)
        self.assertEqual(len(self.g.list(recursive=True)), 1 + 40 * 2 + 40 * 50 + 1)
        self.assertEqual(len(self.g.list("tree/d3", recursive=True)), 51)
        self.g.delete("tree")
        self.assertEqual(self.names(), [])
        self.assertTrue(os.path.exists("/etc/passwd"))

    def test_absolute_paths(self):
        path = self.data + "/abs"
        self.g.put(path, b"x", absolute=True)
        self.assertEqual(self.g.get(path, absolute=True), b"x")
        self.assertEqual(self.g.get("abs"), b"x")
        self.assertEqual(self.g.stat(path, absolute=True).name, "abs")
        self.assertIn("passwd", [e.name for e in self.g.list("/etc", absolute=True)])
        self.assertIn(b"Linux", self.g.get("/proc/version", absolute=True))
        self.g.delete(path, absolute=True)
        self.refused("INVAL", self.g.get, "etc/passwd", absolute=True)
        self.refused("DENIED", self.g.get, "/proc/self/fd/0", absolute=True)
        if USER is not None:
            self.refused("DENIED", self.g.get, "/etc/shadow", absolute=True)
            self.refused("DENIED", self.g.put, "/etc/made", b"x", absolute=True)
            self.refused("DENIED", self.g.delete, "/etc/passwd", absolute=True)

    def test_many_at_once_and_one_that_stalls(self):
        data = {f"n{i}": os.urandom(700_000 + i) for i in range(8)}
        for name, content in data.items():
            self.g.put(name, [content])
        stalled = self.g.bulk.open(pb.GuestOpen(get=pb.GuestGet(path="n0")))
        streams = {name: self.g.bulk.open(pb.GuestOpen(get=pb.GuestGet(path=name))) for name in data}
        for name, stream in streams.items():
            self.g.result(stream)
            self.assertEqual(b"".join(self.g.data(stream)), data[name])
        got = b""
        self.g.result(stalled)
        while len(got) < WINDOW:
            kind, payload = self.g.bulk.wait(stalled)
            got += payload
        with self.assertRaises(TimeoutError):
            self.g.bulk.wait(stalled, timeout=0.3)
        self.g.bulk.send(frame(CREDIT, stalled, struct.pack("<I", len(got))))
        rest = b"".join(self.g.data(stalled))
        self.assertEqual(got + rest, data["n0"])

    def test_memory_does_not_grow_with_the_file(self):
        self.g.put("big", [bytes(1 << 20)] * 100)
        for _ in range(100):  # nobody takes these
            self.g.bulk.open(pb.GuestOpen(get=pb.GuestGet(path="big")))
        self.g.bulk.ping()
        self.assertEqual(len(self.g.get("big")), 100 << 20)
        self.assertLess(self.agent_kb("VmHWM"), 32 << 10)

    def test_a_file_that_shrinks_is_not_passed_off_as_whole(self):
        self.g.put("shrink", [bytes(1 << 20)])
        stream = self.g.bulk.open(pb.GuestOpen(get=pb.GuestGet(path="shrink")))
        self.g.result(stream)
        self.g.bulk.wait(stream)
        os.truncate(self.data + "/shrink", 300 << 10)
        self.refused("IO", lambda: list(self.g.data(stream)))


class Starting(unittest.TestCase):
    def test_without_its_arguments_it_says_how_to_call_it(self):
        p = subprocess.run([PROGRAM], capture_output=True, text=True)
        self.assertEqual(p.returncode, 2)
        self.assertIn("usage:", p.stderr)

    def test_an_interpreter_runs_where_it_may_not_choose_how_it_is_scheduled(self):
        with tempfile.TemporaryDirectory(prefix="warren-kernels-") as kernels:
            shutil.copytree(ROOT / "worker/guest/kernels", kernels, dirs_exist_ok=True)
            os.chmod(kernels, 0o755)
            kernel = pathlib.Path(kernels, "python_kernel.py")
            refuse = "def refuse(*_):\n    raise PermissionError(1, 'sched_setscheduler')\n"
            kernel.write_text(kernel.read_text().replace(
                "import os\n", f"import os\n{refuse}os.sched_setscheduler = refuse\n", 1))
            agent = HostAgent(PROGRAM, boot="python", kernels=kernels, user=USER)
            try:
                g = agent.guest()
                self.addCleanup(g.close)
                for fresh in (False, True):
                    self.assertEqual(g.run("6 * 7", fresh_kernel=fresh).text, "42")
            finally:
                self.assertTrue(agent.close())

    def test_kernels_that_do_not_start_are_not_waited_for(self):
        agent = HostAgent(PROGRAM, boot="python,bogus,shell", kernels="/nonexistent")
        try:
            g = agent.guest()
            self.assertEqual(list(g.hello.kernels), [])
            self.assertEqual(g.run("1").status, DIED)
            self.assertEqual(g.run("1", SHELL).status, DIED)
            g.put("x", b"files go on")
            self.assertEqual(g.get("x"), b"files go on")
            g.close()
        finally:
            self.assertTrue(agent.close())


if __name__ == "__main__":
    if not PROGRAM:
        sys.exit(__doc__)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # leaves no agent behind
    unittest.main(argv=[sys.argv[0]] + sys.argv[2:], verbosity=2)
