"""What bench/run, bench/compare, bench/report and bench/inside share: the table of workloads, one cell
measured, and the arithmetic of rounds."""
import fnmatch
import json
import math
import os
import statistics
import subprocess
import sys
import tomllib

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)
HUGE = "/proc/sys/vm/nr_hugepages"
HUGE_BYTES = 2 << 20
CELL_SECONDS = 900  # no cell takes so long


def die(program, text, status=1):
    print(f"{program}: {text}", file=sys.stderr)
    sys.exit(status)


# ------------------------------------------------------------ the table

def size_word(n):
    for unit, word in ((1 << 20, "MiB"), (1 << 10, "KiB")):
        if n >= unit and n % unit == 0:
            return f"{n // unit}{word}"
    return f"{n}B"


def count_word(n):
    for unit, word in ((10**6, "M"), (10**3, "K")):
        if n >= unit and n % unit == 0:
            return f"{n // unit}{word}"
    return str(n)


def workloads():
    with open(os.path.join(HERE, "workloads.toml"), "rb") as f:
        table = tomllib.load(f)
    grid = table["grid"]
    for value_bytes in grid["value_bytes"]:
        for keys in grid["keys"]:
            name = f"{size_word(value_bytes)}-{count_word(keys)}"
            if keys * value_bytes <= grid["max_bytes"]:
                table["cells"][name] = {"keys": keys, "value_bytes": value_bytes, "runs": grid["runs"],
                                        "subjects": grid["subjects"], "grid": True}
    for cell in table["cells"].values():
        cell.setdefault("subjects", table["subjects"])
    return table


def cells_of(table, set_name, patterns):
    """[(name, cell)] of a set that fit one of the patterns, with the set's numbers and runs."""
    wanted = table["sets"][set_name]
    out = []
    for name, cell in table["cells"].items():
        if not any(fnmatch.fnmatchcase(name, p) for p in wanted["cells"]) or \
                not any(fnmatch.fnmatchcase(name, p) for p in patterns or ["*"]):
            continue
        runs = wanted.get("grid_runs", cell["runs"]) if cell.get("grid") else cell["runs"]
        out.append((name, {**cell, "runs": runs, "draws": wanted["draws"], "rounds": wanted["rounds"]}))
    return out


# ------------------------------------------------------------ one cell

class HugePages:
    """As many as a cell wants, for as long as it runs; none where they cannot be reserved."""

    def __init__(self):
        self.before = None

    def reserve(self, cell):
        """True: there are enough free ones for the pool and every table."""
        if not os.path.exists(HUGE):
            return False
        each = cell["value_bytes"] + 250
        tables = 1.6 + sum(s in cell["subjects"].split(",") for s in ("limit", "absl", "absl16"))
        pages = int(tables * cell["keys"] * each + 256 * cell["value_bytes"]) // HUGE_BYTES + 200
        self.before = int(read(HUGE)) if self.before is None else self.before
        if self.free() < pages and os.access(HUGE, os.W_OK):
            with open(HUGE, "w") as f:
                f.write(str(pages + self.before))
        return self.free() >= pages

    def free(self):
        return int(read("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages"))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.before is not None and os.access(HUGE, os.W_OK):
            with open(HUGE, "w") as f:
                f.write(str(self.before))


def read(path):
    with open(path) as f:
        return f.read()


def commit():
    """The tree's; "-dirty" if anything but the results themselves has changed."""
    def git(*words):
        return subprocess.run(["git", "-C", ROOT, *words], capture_output=True, text=True).stdout.strip()
    dirty = git("status", "--porcelain", "--untracked-files=no", "--", ":/", ":!/bench/results.json", ":!/bench/*.svg")
    return (git("describe", "--always") or "unknown") + ("-dirty" if dirty else "")


def measure(build, cell, runs=None, rounds=None, huge=True, peers=True):
    """What bench_cell prints, as a dict.  Raises CalledProcessError if it could not measure."""
    command = [os.path.join(build, "bench", "bench_cell"), "--bin", build, "--keys", str(cell["keys"]),
               "--value-bytes", str(cell["value_bytes"]), "--draws", str(cell["draws"]),
               "--rounds", str(rounds or cell["rounds"]), "--subjects", cell["subjects"]]
    for run in runs or cell["runs"]:
        command += ["--run", run]
    if not huge:
        command.append("--no-huge")
    if peers and ("redis" in cell["subjects"] or "memcached" in cell["subjects"]):
        command.insert(0, os.path.join(ROOT, "tools", "bench-peers"))
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, timeout=CELL_SECONDS)
    return json.loads(done.stdout)


def run_word(run):
    return f"{run['draw']}:{run['workers']}:{run['reads_percent']}:{run['servers']}"


# ------------------------------------------------------------ rounds

def median(series):
    return statistics.median(series)


def interval(series):
    """The median's confidence interval of 95 %, from order statistics: no shape is assumed."""
    ordered, n = sorted(series), len(series)
    outside = 0.0
    for k in range(n // 2):
        outside += 2 * math.comb(n, k) * 0.5 ** n
        if outside > 0.05:
            return (ordered[k - 1], ordered[n - k]) if k else (ordered[0], ordered[-1])
    return ordered[0], ordered[-1]


def jobs_of(results, cell, run):
    for r in results["cells"].get(cell, {}).get("runs", []):
        if run_word(r) == run:
            return r["jobs"]
    return {}


def fastest(jobs, words):
    """Of several kinds the one with the smallest median; None if there is none of them."""
    there = [jobs[w] for w in words.split() if w in jobs]
    return min(there, key=lambda j: median(j["ns"])) if there else None


def ratios(jobs, pair):
    """By round; None if a kind is not there."""
    over, under = (fastest(jobs, words) for words in pair)
    if over is None or under is None:
        return None
    return [a / b for a, b in zip(over["ns"], under["ns"])]


def scales(job):
    return [alone / first + alone / second for alone, first, second in
            zip(job["ns"], job["both_first_ns"], job["both_second_ns"])]


def outcome(results, want):
    """The number that is wanted, or None: it was not measured."""
    if "spread" in want:
        of = [ratios(jobs_of(results, cell, want["run"]), want["spread"]) for cell in want["cells"]]
        return None if None in of else max(map(median, of)) / min(map(median, of))
    if "cells_of" in want:
        kind, large, small = want["cells_of"]
        of = [jobs_of(results, cell, want["run"]).get(kind) for cell in (large, small)]
        return None if None in of else median(of[0]["ns"]) / median(of[1]["ns"])
    jobs = jobs_of(results, want["cell"], want["run"])
    if "scale" in want:
        return median(scales(jobs[want["scale"]])) if want["scale"] in jobs else None
    of = ratios(jobs, want["ratio"])
    return None if of is None else median(of)


def verdict(want, value):
    """'', 'missed' or 'below the floor'."""
    for key, bad in (("at_most", lambda v, limit: v > limit), ("at_least", lambda v, limit: v < limit)):
        if key in want and bad(round(value, 2), want[key]):
            return "below the floor" if "floor" in want and bad(round(value, 2), want["floor"]) else "missed"
    return ""
