"""A shop as a process that kills itself with SIGKILL before it executes a given line event of shop.py."""

import ctypes
import os
import signal
import sys
import time
import traceback

PR_SET_PDEATHSIG = 1
DEATH_SECONDS = 10
LIBC = ctypes.CDLL(None)


def fork(run, log):
    """Runs a function in a new process that ends with this one. Returns its id and its standard output.

    The file `log` gets its standard error.
    """
    read, write = os.pipe()
    pid = os.fork()
    if pid:
        os.close(write)
        return pid, os.fdopen(read)
    try:
        LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        os.dup2(write, 1)
        os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND), 2)
        sys.stdout, sys.stderr = open(1, "w", 1, closefd=False), open(2, "w", 1, closefd=False)
        run()
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(1)


class Process:
    """A started program. `url` is None if it was killed before it printed its address."""

    def __init__(self, run, log):
        self.pid, self.stdout = fork(run, log)
        self.status = None
        address = self.stdout.readline()
        self.url = address.split()[-1] if address.endswith("\n") else None

    def died(self, seconds=DEATH_SECONDS):
        """Whether it has ended within this time."""
        deadline = time.monotonic() + seconds
        while self.status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.status = status
                self.stdout.close()
            elif time.monotonic() > deadline:
                return False
            else:
                time.sleep(0.0005)
        return True

    def was_killed(self):
        return self.died() and os.WIFSIGNALED(self.status) and os.WTERMSIG(self.status) == signal.SIGKILL

    def kill(self):
        if self.status is None:
            os.kill(self.pid, signal.SIGKILL)
            self.died()


def execute(code, settings, kill_at=None, record=None):
    """Executes the program. Kills the process before its line event number `kill_at`; writes all line events to `record`."""
    os.environ.update(settings)
    events = 0
    file = None if record is None else os.open(record, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def line(frame, event, _):
        nonlocal events
        if event == "line":
            events += 1
            if file is not None:
                os.write(file, b"%d\n" % frame.f_lineno)
            if events == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)
        return line

    def enter(frame, _event, _argument):
        return line if frame.f_code.co_filename == code.co_filename else None

    if kill_at is not None or file is not None:
        sys.settrace(enter)
    exec(code, {"__name__": "__main__"})
