#!/usr/bin/env python3
"""Kills examples/own-payments/shop.py with SIGKILL at each of its lines, in all scenarios, and checks what is left.

    kill.py          each scenario without a kill, then with a kill at each point (see `kill_points`), then with two kills
    kill.py bugs     plants one bug after the other and expects that a check fails

The settings are the environment: CUPONERA_URL, CUPONERA_API_KEY (role SERVICE), BOOKS (ids of books as JSON: `one` with
codes of one use, `five` with five uses, `lock` that requires a lock), CUPONERA_SOAK, and SEED for the same pairs again.
"""

import base64  # noqa: F401
import collections
import functools
import hmac  # noqa: F401
import http.server  # noqa: F401
import json
import multiprocessing
import os
import pathlib
import random
import runpy
import sys
import tempfile
import time
import traceback
import types

# The unused modules are those of shop.py: its processes are forks of this one, and do not load them again.

if sys.version_info < (3, 10):
    sys.exit("the example and its test need Python 3.10 or newer")

EXAMPLE = pathlib.Path(__file__).resolve().parents[3] / "examples/own-payments"
sys.path.insert(0, str(EXAMPLE))
sys.dont_write_bytecode = True

import mutations  # noqa: E402
from process import Process  # noqa: E402
from scenarios import SCENARIOS, Failure, World, play  # noqa: E402

WORKERS = 8
IS_SOAK = "CUPONERA_SOAK" in os.environ
# Words of the lines that have an effect outside of the process.
EFFECTS = (".execute", "with self.db", ".request(", ".getresponse", ".write(")
# Number of runs in which the restarted shop is killed too, and in a soak.
PAIRS = 3000 if IS_SOAK else 100
# Line events of a restarted shop, at most: the place of a second kill.
RESTART_EVENTS = 160

Run = collections.namedtuple("Run", "scenario kills bug record", defaults=((), None, False))
Result = collections.namedtuple("Result", "run failure deaths events")


class Worker:
    """Plays runs one after the other, with a provider of its own."""

    def __init__(self, server):
        self.server = server
        self.folder = tempfile.mkdtemp(prefix="own-payments-")
        program = functools.partial(runpy.run_path, str(EXAMPLE / "provider.py"), run_name="__main__")
        os.environ["PROVIDER_PORT"] = "0"
        self.provider = Process(program, f"{self.folder}/provider")

    def play(self, run):
        with tempfile.TemporaryDirectory(dir=self.folder) as folder:
            record = f"{folder}/events" if run.record else None
            world = World(program(run.bug), self.server, self.provider.url, folder, run.kills, record)
            try:
                play(run.scenario, world)
                failure = None
            except Failure as error:
                failure = str(error)
            except Exception:
                failure = traceback.format_exc()
            return Result(run, failure, world.deaths, [] if failure or not run.record else read_events(record))


def read_events(record):
    """Numbers of lines of shop.py, and in between texts: what others did."""
    with open(record) as file:
        return [int(line) if line.strip().isdigit() else line for line in file]


def source(bug):
    text = (EXAMPLE / "shop.py").read_text()
    return mutations.mutated(text, bug) if bug else text


@functools.lru_cache
def program(bug=None):
    return compile(source(bug), str(EXAMPLE / "shop.py"), "exec")


def begin(server):
    global worker
    worker = Worker(server)


def work(run):
    return worker.play(run)


@functools.lru_cache
def effects(bug):
    """The lines of shop.py that may change something outside of the process."""
    return {number for number, line in enumerate(source(bug).splitlines(), 1) if any(word in line for word in EFFECTS)}


def executable_lines(code):
    lines = {line for _, _, line in code.co_lines() if line}
    return lines.union(*(executable_lines(part) for part in code.co_consts if isinstance(part, types.CodeType)))


def kill_points(result, known):
    """The numbers of the line events to kill at: each line, and each state that a killed shop can leave.

    The state is the history of what others did (`World.note`) and of the lines that have an effect outside of the process;
    in a soak, of all lines. What is `known` from other scenarios is left out.
    """
    history, point, points = 0, 0, []
    for event in result.events:
        is_line = isinstance(event, int)
        if is_line:
            point += 1
            new = {history, event}
            if not new <= known:
                known |= new
                points.append(point)
        if IS_SOAK or not is_line or event in effects(result.run.bug):
            history = hash((history, event, "history"))
    return points


def describe(result):
    kills = ", ".join(map(str, result.run.kills)) or "no kill"
    texts = [line for line in result.failure.splitlines() if line.strip("-")]
    return f"{result.run.scenario}, killed at event {kills}: {texts[-1]}"


def kill_at_each_line(pool):
    began = time.monotonic()
    recorded = list(pool.imap_unordered(work, [Run(scenario.__name__, record=True) for scenario in SCENARIOS]))
    failed = [result for result in recorded if result.failure]
    recorded.sort(key=lambda result: result.run.scenario)
    runs, lines, known = [], set(), set()
    for result in recorded:
        if not result.failure:
            points = kill_points(result, known)
            lines.update(event for event in result.events if isinstance(event, int))
            runs += [Run(result.run.scenario, (point,)) for point in points]
    seed = int(os.environ.get("SEED", random.randrange(2**32)))
    chance = random.Random(seed)
    sample = chance.sample(runs, min(len(runs), PAIRS))
    pairs = [run._replace(kills=(*run.kills, chance.randint(1, RESTART_EVENTS))) for run in sample]
    done = list(pool.imap_unordered(work, runs + pairs, chunksize=4))
    failed += [result for result in done if result.failure]
    missed = [result for result in done if len(result.run.kills) == 1 and result.deaths == 0 and not result.failure]
    unreached = sorted(executable_lines(program()) - lines)
    for result in failed[:10]:
        print(describe(result), result.failure, sep="\n")
    for result in missed[:10]:
        print(f"{result.run.scenario}: event {result.run.kills[0]} does not happen again")
    if unreached and not failed:
        print(f"no scenario executes these lines of shop.py: {unreached}")
    seconds = time.monotonic() - began
    print(
        f"{len(lines)} lines in {len(recorded)} scenarios, {len(runs)} runs with one kill and {len(pairs)} with two"
        f" (seed {seed}): {len(failed)} failures in {seconds:.0f} s"
    )
    return not (failed or missed or unreached)


def plant_bugs(pool):
    all_caught = True
    for bug, (_, _, scenarios) in mutations.BUGS.items():
        found = next(failures_with(pool, bug, scenarios), None)
        print(f"caught {bug}: {describe(found)}" if found else f"missed {bug}", flush=True)
        all_caught &= found is not None
    return all_caught


def failures_with(pool, bug, scenarios):
    """The failures of the scenarios with this bug, without a kill and then at each state."""
    for scenario in scenarios:
        result = pool.apply(work, [Run(scenario, bug=bug, record=True)])
        if result.failure:
            yield result
            return
        states = kill_points(result, set(result.events))
        for first in range(0, len(states), WORKERS):
            runs = [Run(scenario, (point,), bug) for point in states[first : first + WORKERS]]
            yield from (result for result in pool.map(work, runs, chunksize=1) if result.failure)


def main():
    url, key, books = (os.environ[name] for name in ("CUPONERA_URL", "CUPONERA_API_KEY", "BOOKS"))
    server = {"url": url, "key": key, "books": json.loads(books)}
    context = multiprocessing.get_context("fork")
    with context.Pool(WORKERS, begin, [server]) as pool:
        passed = plant_bugs(pool) if sys.argv[1:] == ["bugs"] else kill_at_each_line(pool)
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
