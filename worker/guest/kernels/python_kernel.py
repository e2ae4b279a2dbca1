"""The Python interpreter of a session.

Reads requests from descriptor 3 and writes messages to descriptor 4 (worker/guest/kernel_msg.h
has the format); what the code prints goes to descriptors 1 and 2 and is read from there by the
agent. One thread, no files, no history. Cells that are plain Python take a short path around
IPython; its semantics (magics, !commands, display hooks) are kept for those that need them.
"""

import sys

sys.path[0] = ""  # the working directory, as in every notebook, not this program's folder

import __future__
import ast
import asyncio
import base64
import builtins
import ctypes
import gc
import getpass
import hashlib
import io
import json
import linecache
import opcode
import os
import _random
import random
import re
import select
import signal
import _signal
import socket
import threading
import traceback
import warnings

from IPython.core.displayhook import DisplayHook
from IPython.core.displaypub import DisplayPublisher
from IPython.core.error import StdinNotImplementedError
from IPython.core.interactiveshell import InteractiveShell
from traitlets import Type
from traitlets.config import Config

REQUEST, REPLY = 3, 4
MT_WORDS = 624
BODY_BYTES_MAX = (8 << 20) - 8192  # PROTO_EVENT_BYTES_MAX without what is around it
ERROR_CHARS_MAX = 8 << 10
TRACEBACK_BYTES_MAX = 256 << 10
PARTS_MAX = 30
BINARY_TYPES = ("image/png", "image/jpeg", "image/gif", "application/pdf")
AWAIT = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
HERE = os.path.abspath(__file__)
IPYTHON = "/IPython/core/"
RUNNERS = (HERE, asyncio.base_events.__file__)

# Kept from the user's reach, as far as that goes.
os_read, os_write, os_getpid, os_dup2 = os.read, os.write, os.getpid, os.dup2
# The module `signal` turns numbers into enums and back, dear under software emulation.
get_handler, set_handler, SIGINT = _signal.getsignal, _signal.signal, int(signal.SIGINT)
set_mask = _signal.pthread_sigmask


class InterruptsWait:
    """SIGINT is raised before or after what runs under this, never in the middle.

    Changing the mask raises what came before: on the way in nothing was done yet, on the way out
    all is done.
    """

    def __enter__(self):
        try:
            set_mask(_signal.SIG_BLOCK, (SIGINT,))
        except BaseException:
            set_mask(_signal.SIG_UNBLOCK, (SIGINT,))
            raise

    def __exit__(self, *_):
        set_mask(_signal.SIG_UNBLOCK, (SIGINT,))


interrupts_wait = InterruptsWait()


class Channel:
    """Requests in, messages out."""

    def __init__(self):
        self.buffer = b""
        self.lock = threading.Lock()
        self.pending = []  # requests that came while a display was waited for
        self.shown_out = 0  # displays whose "shown" has not come yet
        self.held = b""

    def request(self):
        """The next request as (verb, argument, body); None at the end."""
        while True:
            request = self.pending.pop(0) if self.pending else self.read_request()
            if request is None or request[0] != "shown":
                return request
            self.shown_out -= 1

    def wait_shown(self):
        """Until the agent has the display and all output before it; an interrupt may end it."""
        while self.shown_out > 0:
            if b"\n" not in self.buffer:
                select.select((REQUEST,), (), ())  # only here an interrupt may come through
            with interrupts_wait:
                request = self.read_request()
                if request is None:
                    os._exit(0)
                if request[0] == "shown":
                    self.shown_out -= 1
                else:
                    self.pending.append(request)

    def read_request(self):
        while b"\n" not in self.buffer:
            if not self.fill():
                return None
        head, _, rest = self.buffer.partition(b"\n")
        verb, size, argument = head.decode().split(" ")
        size = int(size)
        if len(rest) < size:
            parts = [rest]
            missing = size - len(rest)
            while missing > 0:
                more = os_read(REQUEST, 1 << 20)
                if not more:
                    return None
                parts.append(more)
                missing -= len(more)
            rest = b"".join(parts)
        self.buffer = rest[size:]
        return verb, argument, rest[:size]

    def fill(self):
        more = os_read(REQUEST, 65536)
        self.buffer += more
        return more

    def hold(self, verb, body):
        """Goes out with the next message: each write wakes the agent."""
        self.held += b"%s %d\n%s" % (verb.encode(), len(body), body)

    def send(self, verb, body=b"", tail=""):
        """One message."""
        data = b"%s%s %d%s\n%s" % (self.held, verb.encode(), len(body), tail.encode(), body)
        self.held = b""
        with self.lock:
            n = os_write(REPLY, data)
            while n < len(data):
                n += os_write(REPLY, data[n : n + 65536])


channel = Channel()


def send_from_user_code(verb, body):
    """A message of the running cell. SIGINT waits meanwhile: half of one would be the end."""
    if os_getpid() != kernel.pid:
        return  # a child that the cell forked
    with interrupts_wait:
        flush()
        channel.send(verb, body)
        channel.shown_out += verb == "show"


def display_body(body):
    """Output goes through other pipes: to keep the order, the main thread waits for the agent."""
    if threading.current_thread() is threading.main_thread() and not serving_forks:
        send_from_user_code("show", body)
        channel.wait_shown()
    else:
        send_from_user_code("display", body)


# --- Output -------------------------------------------------------------------------------------


def open_text(fd):
    """Flushed at each line end, as on a terminal; what cannot be encoded is shown escaped."""
    return io.TextIOWrapper(
        io.BufferedWriter(io.FileIO(fd, "w", closefd=False), 8192),
        encoding="utf-8",
        errors="backslashreplace",
        line_buffering=True,
    )


class Output:
    """Standard output and error. User code may close or replace them; each cell begins with both
    descriptors in place."""

    def __init__(self):
        self.saved = [os.dup(1), os.dup(2)]
        self.libc_flush = ctypes.CDLL(None).fflush
        self.stdout = sys.stdout = sys.__stdout__ = open_text(1)
        self.stderr = sys.stderr = sys.__stderr__ = open_text(2)

    def restore(self):
        os_dup2(self.saved[0], 1)
        os_dup2(self.saved[1], 2)
        if self.stdout.closed:
            self.stdout = sys.stdout = sys.__stdout__ = open_text(1)
        if self.stderr.closed:
            self.stderr = sys.stderr = sys.__stderr__ = open_text(2)


def flush():
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except Exception:
            pass  # the user's own object, or closed
    output.libc_flush(None)


# --- Values and displays ------------------------------------------------------------------------


def part(kind, data):
    return b"%s %d\n%s" % (kind.encode(), len(data), data)


def bundle(data):
    """A MIME bundle as a message body. What is too large is named instead of sent."""
    parts, size = [], 0
    for kind, value in data.items():
        kind = kind.replace(" ", "")
        if isinstance(value, str):
            if kind in BINARY_TYPES:
                try:
                    value = base64.b64decode(value)
                except ValueError:
                    value = value.encode("utf-8", "replace")
            else:
                value = value.encode("utf-8", "backslashreplace")
        elif not isinstance(value, bytes):
            value = json.dumps(value, default=repr).encode()
        if not kind or len(kind) > 90 or len(parts) >= PARTS_MAX:
            continue
        if size + len(value) > BODY_BYTES_MAX:
            if kind != "text/plain":
                continue
            value = value[: BODY_BYTES_MAX // 2] + b"... (cut: larger than the limit)"
        size += len(value)
        parts.append(part(kind, value))
    if not parts and data:
        parts.append(part("text/plain", b"(not shown: larger than the limit)"))
    return b"".join(parts)


class Publisher(DisplayPublisher):
    def publish(self, data, metadata=None, source=None, *, transient=None, update=False, **kw):
        body = bundle(data)
        if body:
            display_body(body)

    def clear_output(self, wait=False):
        pass


class Hook(DisplayHook):
    """Shows the value of a cell that ran inside IPython."""

    def __call__(self, result=None):
        if result is not None and not self.quiet():
            kernel.show(result, send_from_user_code)
            self.update_user_ns(result)
            self.fill_exec_result(result)


# --- The shell ----------------------------------------------------------------------------------


class Shell(InteractiveShell):
    """IPython without a terminal, a history file and a way to ask the user."""

    display_pub_class = Type(Publisher)
    displayhook_class = Type(Hook)

    def init_io(self):
        pass

    def init_virtualenv(self):
        pass

    def enable_matplotlib(self, gui=None):
        return "agg", "agg"  # figures are shown at the end of a cell in any case

    def enable_gui(self, gui=None):
        pass

    def ask_exit(self):
        raise SystemExit(0)

    def raw_input(self, prompt=""):
        refuse_input(prompt)

    def system(self, cmd):
        """Children write to our descriptors, as they do from a script."""
        flush()
        self.system_raw(cmd)

    def note_failure(self, exc_tuple=None, *args, **kwargs):
        kernel.failure = kernel.failure or exc_tuple or sys.exc_info()

    showtraceback = note_failure

    def showsyntaxerror(self, filename=None, running_compiled_code=False):
        self.note_failure()

    def showindentationerror(self):
        self.note_failure()


def refuse_input(prompt="", *args, **kwargs):
    raise StdinNotImplementedError(
        "input() cannot be used here: nobody is there to answer. Give the code its data as "
        "variables or files."
    )


def make_shell():
    config = Config()
    config.HistoryManager.enabled = False
    config.InteractiveShell.colors = "NoColor"
    config.Completer.use_jedi = False
    shell = Shell.instance(config=config)
    shell.builtin_trap.activate()
    warnings.filterwarnings("ignore", message="To exit: use")
    builtins.input = getpass.getpass = refuse_input
    return shell


# --- Running cells ------------------------------------------------------------------------------

SCALARS = (int, str, bool, float, complex, bytes, type(None))
SIMPLE = frozenset(SCALARS + (list, tuple, dict))
LINE = 70  # what is shorter, IPython prints on one line
NOTHING = object()  # the cell has no value
CO_COROUTINE = 0x80
FUTURE_FLAGS = 0
for feature in __future__.all_feature_names:
    FUTURE_FLAGS |= getattr(__future__, feature).compiler_flag


CALLS = (ast.Call, ast.Await)
CALL_OPS = [opcode.opmap[op] for op in ("CALL", "CALL_FUNCTION_EX") if "CALL" in opcode.opmap]
JUMPS = frozenset(opcode.hasjrel + opcode.hasjabs)
UNPARSABLE = (SyntaxError, ValueError, OverflowError, RecursionError, MemoryError)
STATEMENTS = frozenset(
    "assert async break class continue def del for from global if import match nonlocal pass raise "
    "return try while with".split()
)
first_word = re.compile(r"\w+").match
is_no_magic = re.compile(r"\w+\s*(=[^=]|[.(\[:])").match


def trait_values(owner, *names):
    """Where the traits of an object are. The way through traitlets takes a hundred times as many
    steps, half of what a small cell costs; nothing watches these."""
    for name in names:
        getattr(owner, name)  # from here on it is there
    return owner._trait_values


def on_idle_interrupt(number, frame):
    """SIGINT between two cells: too late, nothing is to be stopped."""


class Kernel:
    def __init__(self):
        self.shell = make_shell()
        self.names = self.shell.user_ns
        self.pid = os_getpid()
        self.failure = None
        self.interrupt_handler = signal.default_int_handler
        self.loop = None
        formatters = self.shell.display_formatter.formatters
        plain, history = formatters["text/plain"], self.shell.history_manager
        self.traits = trait_values(
            self.shell, "execution_count", "ast_transformers", "input_transformers_post"
        )
        self.past = trait_values(
            history, "_i", "_ii", "_iii", "_i00", "input_hist_raw", "input_hist_parsed"
        )
        self.plain = trait_values(plain, "type_printers")
        self.rich = [trait_values(f, "type_printers") for f in formatters.values() if f is not plain]
        self.hook = self.shell.displayhook
        self.compiler = self.shell.compile
        self.magics = self.shell.magics_manager.magics["line"]
        self.callbacks = self.shell.events.callbacks
        self.settle()

    def settle(self):
        """What is registered now is ours: only more than that sends cells the long way."""
        self.plain_printers = dict(self.plain["type_printers"])
        self.callbacks_known = sum(map(len, self.callbacks.values()))

    # -- values

    def is_simple(self, value, depth=0):
        """Values whose only form is their repr: built-in types, short enough for one line, unless
        the user registered another form."""
        kind = type(value)
        if kind not in SIMPLE or (depth > 0 and kind is str and len(value) > LINE):
            return False
        if self.plain["type_printers"].get(kind) is not self.plain_printers.get(kind):
            return False
        if depth == 0:
            for form in self.rich:
                if kind in form["type_printers"]:
                    return False
        if kind is list or kind is tuple or kind is dict:
            if len(value) > LINE // 2 or depth > 3:
                return False
            if kind is dict and not all(self.is_simple(k, depth + 1) for k in value):
                return False
            items = value.values() if kind is dict else value
            return all(self.is_simple(v, depth + 1) for v in items)
        return True

    def text(self, value):
        """The repr of a simple value, or None: IPython would print it otherwise."""
        if not self.is_simple(value):
            return None
        text = repr(value)
        return text if len(text) <= LINE or type(value) in SCALARS else None

    def show(self, value, send):
        """The RESULT of a cell. None has no forms."""
        if value is None:
            body = b""
        else:
            text = self.text(value)
            if text is not None and len(text) <= LINE:
                body = part("text/plain", text.encode("utf-8", "backslashreplace"))
            else:
                data = {"text/plain": text}
                if text is None:
                    data, _ = self.shell.display_formatter.format(value)
                body = bundle(data or {"text/plain": "(its repr fails)"})
        send("result", body)

    # -- plain Python

    def needs_ipython(self, code):
        """True for what is Python as well but means something else to IPython."""
        if self.traits["ast_transformers"] or self.traits["input_transformers_post"]:
            return True
        if sum(map(len, self.callbacks.values())) > self.callbacks_known:
            return True
        line = code.strip()
        if "\n" in line:
            return False
        # `pwd` and `ls -l` mean the magic, unless a variable has that name.
        word = first_word(line)
        if word is None or word[0] not in self.magics or word[0] in self.names:
            return False
        return not is_no_magic(line)

    def parse(self, code, name):
        """The cell's tree, or None when it is not Python."""
        try:
            return compile(code, name, "exec", ast.PyCF_ONLY_AST | AWAIT | self.compiler.flags, True)
        except UNPARSABLE:
            return None

    def compile_quickly(self, code, name):
        """A cell whose last line is an expression, as (code object of what is before it or None,
        that of the expression, that line); else None. It is what the cell's tree would give,
        without the way over Python's own copy of the tree: what is whole at the begin of a line
        is as whole for the parser."""
        code = code.rstrip()
        head, newline, last = code.rpartition("\n")
        word = first_word(last)
        if "=" in last or ";" in last or last[:1].isspace() or "__future__" in head:
            return None
        if word is not None and word[0] in STATEMENTS:
            return None
        flags = AWAIT | self.compiler.flags
        try:
            value = compile("\n" * (head.count("\n") + len(newline)) + last, name, "eval", flags, True)
            return compile(head, name, "exec", flags, True) if head else None, value, last
        except UNPARSABLE:
            return None

    def run(self, tree, name, mode, names):
        return self.run_code(compile(tree, name, mode, AWAIT | self.compiler.flags, True), names)

    def run_code(self, code, names):
        """Top-level await gets an event loop, one for the session."""
        self.compiler.flags |= code.co_flags & FUTURE_FLAGS
        if not code.co_flags & CO_COROUTINE:
            return eval(code, names)
        if self.loop is None or self.loop.is_closed():
            self.loop = asyncio.new_event_loop()
            asyncio.set_event_loop(self.loop)
        return self.loop.run_until_complete(eval(code, names))

    def run_quickly(self, head, value, last, name):
        """Runs what compile_quickly() made; the cell's value or NOTHING."""
        if head is not None:
            self.run_code(head, self.names)
        result = self.run_code(value, self.names)
        if result is None and self.is_call(value, last, name):
            return NOTHING  # print(x) was not called for its value
        return result

    def is_call(self, compiled, text, name):
        """Is an expression that gave None a call? Code without jumps is one when it ends so."""
        ops = compiled.co_code[::2].replace(b"\0", b"")  # without inline caches
        if CALL_OPS and JUMPS.isdisjoint(ops):
            return ops[-2] in CALL_OPS
        tree = self.parse(text, name)
        return tree is None or isinstance(tree.body[0].value, CALLS)

    def run_plain(self, tree, code, name, names):
        """Runs a cell's tree; its value or NOTHING."""
        last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
        if tree.body:
            self.run(tree, name, "exec", names)
        if last is None:
            return NOTHING
        value = self.run(ast.Expression(last.value), name, "eval", names)
        if code.rstrip().endswith(";"):
            return NOTHING
        if value is None and isinstance(last.value, CALLS):
            return NOTHING
        return value

    def run_visible(self, code):
        """A cell of the user; its value or NOTHING."""
        number = self.traits["execution_count"]
        name = "<cell %d>" % number
        quick = tree = None
        if not self.needs_ipython(code):
            quick = self.compile_quickly(code, name)
            tree = self.parse(code, name) if quick is None else None
        if quick is None and tree is None:
            self.shell.run_cell(code, store_history=True)
            return NOTHING  # IPython has shown it
        self.remember_input(code, number)
        linecache.cache[name] = (len(code), None, [s + "\n" for s in code.splitlines()], name)
        try:
            if quick is not None:
                value = self.run_quickly(*quick, name)
            else:
                value = self.run_plain(tree, code, name, self.names)
            if value is not NOTHING and value is not None:
                self.remember_output(value)
            return value
        finally:
            self.traits["execution_count"] += 1

    def remember_input(self, code, number):
        """What HistoryManager.store_inputs does, without what only its database needs."""
        past, names = self.past, self.names
        past["input_hist_parsed"].append(code)
        past["input_hist_raw"].append(code)
        i, ii, iii = past["_i00"], past["_i"], past["_ii"]
        past["_i00"], past["_i"], past["_ii"], past["_iii"] = code, i, ii, iii
        here = {"_i": i, "_ii": ii, "_iii": iii, "_i%d" % number: code}
        names.update(here)
        self.shell.user_ns_hidden.update(here)
        names.pop("__warningregistry__", None)  # each cell warns anew

    def remember_output(self, value):
        """What DisplayHook.update_user_ns does."""
        hook, names = self.hook, self.names
        cache, get = names["_oh"], names.get
        if value is cache:
            return
        if len(cache) >= hook.cache_size:
            hook.cull_cache()
        before = hook._, hook.__, hook.___
        if get("_") is before[0] and get("__") is before[1] and get("___") is before[2]:
            hook._, hook.__, hook.___ = value, before[0], before[1]
            names["_"], names["__"], names["___"] = value, before[0], before[1]
        number = self.traits["execution_count"]
        names["_%d" % number] = cache[number] = value

    def run_hidden(self, code):
        """A cell that leaves no name and no number behind. It takes the same way as a user's, so
        that in a clone all of that way has been walked (and translated) before it counts."""
        shell, hook = self.shell, self.shell.displayhook
        history = shell.history_manager
        names, count = dict(self.names), shell.execution_count
        lists = [shell.user_ns["_ih"], history.input_hist_raw, history.input_hist_parsed]
        lengths = [len(items) for items in lists]
        outputs = dict(shell.user_ns["_oh"])
        last = [getattr(history, name, "") for name in ("_i", "_ii", "_iii", "_i00")]
        shown = hook._, hook.__, hook.___
        try:
            return self.run_visible(code)
        finally:
            linecache.cache.pop("<cell %d>" % count, None)
            for items, length in zip(lists, lengths):
                del items[length:]
            shell.user_ns["_oh"].clear()
            shell.user_ns["_oh"].update(outputs)
            for name, value in zip(("_i", "_ii", "_iii", "_i00"), last):
                setattr(history, name, value)
            hook._, hook.__, hook.___ = shown
            self.names.clear()
            self.names.update(names)
            shell.execution_count = count

    # -- one request

    def execute(self, code, hidden):
        """Runs a cell and reports everything but its end: ("ok" or "error", exit code)."""
        self.failure = None
        value = NOTHING
        try:
            set_handler(SIGINT, self.interrupt_handler)
            set_mask(_signal.SIG_UNBLOCK, (SIGINT,))  # in case an interrupt left it blocked
            value = self.run_hidden(code) if hidden else self.run_visible(code)
        except BaseException:
            self.failure = self.failure or sys.exc_info()
        try:
            show_figures()
            if value is not NOTHING and self.failure is None:
                self.show(value, channel.hold)
        except BaseException:
            self.failure = self.failure or sys.exc_info()
        self.end_interrupts()
        flush()
        failure, self.failure = self.failure, None
        return ("ok", 0) if failure is None else self.report(*failure)

    def end_interrupts(self):
        """From here a SIGINT must not tear the kernel's own work apart."""
        while True:
            try:
                handler = get_handler(SIGINT)
                if handler is not on_idle_interrupt:
                    set_handler(SIGINT, on_idle_interrupt)
                    self.interrupt_handler = handler or signal.default_int_handler
                return
            except KeyboardInterrupt:
                self.failure = self.failure or sys.exc_info()

    # -- errors

    def report(self, kind, value, tb):
        if issubclass(kind, SystemExit):
            code = value.code
            if code is None or code == 0:
                return "ok", 0
            self.send_error("SystemExit", str(code), "SystemExit: %s\n" % (code,))
            return "error", code if isinstance(code, int) and 0 < code < 256 else 1
        try:
            text = format_traceback(kind, value, tb)
        except Exception:
            text = "%s (its traceback cannot be shown)\n" % kind.__name__
        try:
            said = str(value)
        except Exception:
            said = "(its text cannot be shown)"
        self.send_error(kind.__name__, said, text)
        return "error", 1

    def send_error(self, name, value, text):
        def clean(s, limit):
            return s[:limit].replace("\0", "\\0").encode("utf-8", "backslashreplace")

        data = text.encode("utf-8", "backslashreplace")
        if len(data) > TRACEBACK_BYTES_MAX:
            half = TRACEBACK_BYTES_MAX // 2
            data = data[:half] + b"\n...\n" + data[-half:]
        body = clean(name, 200) + b"\0" + clean(value, ERROR_CHARS_MAX) + b"\0" + data
        channel.hold("error", body)


def format_traceback(kind, value, tb):
    """As Python prints it, without the frames that are not the user's."""
    while tb is not None and tb.tb_frame.f_code.co_filename in RUNNERS:
        tb = tb.tb_next
    todo = [traceback.TracebackException(kind, value, tb, compact=True)]
    whole = todo[0]
    while todo:
        one = todo.pop()
        one.stack[:] = [f for f in one.stack if f.filename != HERE and IPYTHON not in f.filename]
        todo += [e for e in (one.__cause__, one.__context__, *(getattr(one, "exceptions", None) or ())) if e]
    return "".join(whole.format())


# --- Figures ------------------------------------------------------------------------------------


def as_png(figure):
    data = io.BytesIO()
    figure.savefig(data, format="png", bbox_inches="tight")
    return data.getvalue()


def show_figures(*args, **kwargs):
    """Shows and closes all open figures: at plt.show() and at the end of each cell."""
    pyplot = sys.modules.get("matplotlib.pyplot")
    if pyplot is None or not pyplot._pylab_helpers.Gcf.figs:
        return
    try:
        for manager in pyplot._pylab_helpers.Gcf.get_all_fig_managers():
            figure = manager.canvas.figure
            if figure.get_children()[1:]:  # more than its background
                body = bundle({"image/png": as_png(figure), "text/plain": repr(figure)})
                display_body(body)
    finally:
        pyplot.close("all")


def prepare_plotting():
    import matplotlib
    from matplotlib.figure import Figure

    matplotlib.use("agg")
    import matplotlib.pyplot as pyplot

    pyplot.switch_backend("agg")  # hooks itself into IPython now and not at the first figure
    pyplot.show = show_figures
    Figure.show = show_figures
    kernel.shell.display_formatter.formatters["image/png"].for_type(Figure, as_png)


# --- Seed ---------------------------------------------------------------------------------------

numpy_state = None  # found while loading


def find_numpy_state():
    """The memory of NumPy's global generator, 624 words and the position of MT19937; None when it
    looks otherwise. Filling it costs a hundredth of numpy.random.seed, which a new clone would
    translate for the first time."""
    generator = sys.modules["numpy.random"].mtrand._rand
    name, key, position, has_gauss, _ = generator.get_state()
    address = generator._bit_generator.ctypes.state_address
    expected = key.astype("<u4").tobytes() + int(position).to_bytes(4, "little")
    if name != "MT19937" or has_gauss or ctypes.string_at(address, len(expected)) != expected:
        return None
    view = ctypes.pythonapi.PyMemoryView_FromMemory
    view.restype, view.argtypes = ctypes.py_object, (ctypes.c_void_p, ctypes.c_ssize_t, ctypes.c_int)
    return view(address, len(expected), 0x200)  # PyBUF_WRITE


def reseed_numpy(numpy, seed):
    if numpy_state is not None:
        fresh = os.urandom(MT_WORDS * 4) + MT_WORDS.to_bytes(4, "little")
        numpy_state[:] = fresh
    else:
        words = hashlib.sha512(seed + b"numpy").digest()
        numpy.random.seed(numpy.frombuffer(words, dtype="<u4"))


def reseed(hexadecimal):
    """Clones of one snapshot have equal memory: everything random in it is made anew.

    It runs on the way to a clone's first answer, so the shortest code is taken. OpenSSL needs
    none: its generators seed themselves again in a process that was forked (its fork id), which
    every interpreter is, and nothing draws from them before the first seed.
    """
    seed = bytes.fromhex(hexadecimal.decode())
    _random.Random.seed(random._inst, int.from_bytes(seed, "little"))
    random._inst.gauss_next = None
    modules = sys.modules
    if "numpy.random" in modules:
        reseed_numpy(modules["numpy"], seed)
    if "tempfile" in modules:
        modules["tempfile"]._name_sequence = None
    if "uuid" in modules:
        modules["uuid"]._node = modules["uuid"]._last_timestamp = None
    if "multiprocessing.process" in modules:
        process = modules["multiprocessing.process"]
        current = process.current_process()
        current._config["authkey"] = process.AuthenticationString(os.urandom(32))


# --- Fork server --------------------------------------------------------------------------------


def serve_forks(channel_fd):
    """Forks an interpreter for each message, on the descriptors that come with it. Returns in the
    interpreter. The user's code cannot reach this process: its real user is root."""
    requests = socket.socket(fileno=channel_fd)
    requests.send(b"ready")
    while True:
        text, fds, _, _ = socket.recv_fds(requests, 256, REPLY)
        if not text:
            os._exit(0)
        try:
            pid = os.fork()
            if pid == 0:
                if os.fork() > 0:
                    os._exit(0)  # the agent becomes the interpreter's parent
                requests.detach()
                become_interpreter(*text.decode().split(" "), fds)
                return
            os.waitpid(pid, 0)
        except OSError:  # no process, no memory: the agent sees the descriptors closed
            if os_getpid() != kernel.pid:
                os._exit(1)
        for fd in fds:
            os.close(fd)


def become_interpreter(group, uid, gid, fds):
    os.setsid()
    for number, fd in enumerate(fds, 1):
        os.dup2(fd, number, number <= 2)
        os.close(fd)
    if int(uid) >= 0:
        os.seteuid(0)
    if group != "-":
        for path in (group, "/proc/self/oom_score_adj"):
            with open(path, "w") as file:
                file.write("0")
    if int(uid) >= 0:
        os.setgroups([])
        os.setresgid(int(gid), int(gid), int(gid))
        os.setresuid(int(uid), int(uid), int(uid))
    try:  # as agent_spawn_batch(), spawn.h
        os.sched_setscheduler(0, os.SCHED_BATCH | os.SCHED_RESET_ON_FORK, os.sched_param(0))
    except OSError:
        pass  # it runs all the same
    prctl = ctypes.CDLL(None).prctl
    prctl(38, 1, 0, 0, 0)  # PR_SET_NO_NEW_PRIVS
    prctl(4, 1, 0, 0, 0)  # PR_SET_DUMPABLE: /proc/self is its own again
    kernel.pid = os_getpid()
    output.saved = [os.dup(1), os.dup(2)]
    channel.send("started", b"", " %d" % kernel.pid)


def run_warm_up():
    """The template's warm-up cell, so that every interpreter comes out of it warm."""
    try:
        with open(os.path.join(os.path.dirname(HERE), "template.py")) as file:
            kernel.execute(file.read(), True)
    except OSError:
        pass  # not packed with it


# --- Start --------------------------------------------------------------------------------------


def serve():
    while True:
        request = channel.request()
        if request is None:
            os._exit(0)
        verb, argument, body = request
        if verb == "exec":
            output.restore()
            flag, serial = argument.split(".")
            status, code = kernel.execute(body.decode("utf-8", "replace"), flag == "hidden")
            if os_getpid() != kernel.pid:
                os._exit(code)  # a child that the cell forked and that came out of it
            channel.send("done", b"", " %s %d %s" % (status, code, serial))
        elif verb == "seed":
            reseed(body)
            # When a cell follows, with its first message: each write wakes the agent.
            follows = channel.buffer.startswith(b"exec ")
            (channel.hold if follows else channel.send)("seeded", b"")


def preload():
    global numpy_state
    try:
        import numpy
        import pandas

        numpy_state = find_numpy_state()
        prepare_plotting()
    except ImportError as error:
        print("guest: python kernel without", error.name, file=sys.stderr)


def main(fork_server):
    global serving_forks
    if fork_server:
        # The request descriptor is a socket here; the number is the interpreters' afterwards.
        channel_fd = os.dup(REQUEST)
        os.dup2(REPLY, REQUEST, False)
    preload()
    if fork_server:
        run_warm_up()
    kernel.settle()
    gc.collect()
    gc.freeze()
    if fork_server:
        serve_forks(channel_fd)
        serving_forks = False
    channel.send("ready")
    serve()


arguments, sys.argv = sys.argv[1:], [""]
serving_forks = arguments[:1] == ["--fork-server"]
if serving_forks and int(arguments[1]) >= 0:
    # Files made while loading are the session's user's; root's rights are kept aside.
    os.setegid(int(arguments[2]))
    os.seteuid(int(arguments[1]))
signal.signal(signal.SIGINT, on_idle_interrupt)
for fd in (REQUEST, REPLY):
    os.set_inheritable(fd, False)
output = Output()
kernel = Kernel()
main(serving_forks)
