"""What the checks share: the files of the tree, and C text with comments and strings told apart."""
import os
import re
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def files(folders=None, endings=(".c", ".h")):
    """Paths relative to the root, sorted: tracked and not yet tracked files, but no ignored ones."""
    listed = subprocess.run(
        ["git", "-C", ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        capture_output=True, text=True)
    if listed.returncode == 0:
        names = listed.stdout.split("\0")
    else:  # an exported tree: whatever is there but build folders
        names = []
        for folder, subs, here in os.walk(ROOT):
            subs[:] = [s for s in subs if not s.startswith(("build", ".git"))]
            names += [os.path.relpath(os.path.join(folder, n), ROOT) for n in here]
    return sorted(n for n in set(names) if n.endswith(endings) and os.path.isfile(os.path.join(ROOT, n)) and
                  (folders is None or n.split("/")[0] in folders))


def read(name):
    with open(os.path.join(ROOT, name), encoding="utf-8", errors="replace") as f:
        return f.read()


TOKEN = re.compile(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.S)


def blank(text):
    """The same text, as many lines, without what it holds."""
    return re.sub(r"[^\n]", " ", text)


def code_of(text, keep_strings=False):
    """The code: comments (and strings) blanked, lines and columns as they were."""
    def one(m):
        t = m.group(0)
        if t[0] == "/" or not keep_strings:
            return blank(t)
        return t
    return TOKEN.sub(one, text)


def comments_of(text):
    """The comments: all else blanked."""
    out, at = [], 0
    for m in TOKEN.finditer(text):
        out.append(blank(text[at:m.start()]))
        out.append(m.group(0) if m.group(0)[0] == "/" else blank(m.group(0)))
        at = m.end()
    out.append(blank(text[at:]))
    return "".join(out)


def line_at(text, pos):
    return text.count("\n", 0, pos) + 1


class Report:
    """Collects what is wrong; end() prints one line of success or the list, and exits."""

    def __init__(self, name):
        self.name, self.wrong = name, []

    def add(self, where, what):
        self.wrong.append(f"{where}: {what}")

    def end(self, success):
        for w in self.wrong:
            print(w)
        if self.wrong:
            print(f"{self.name}: {len(self.wrong)} wrong")
            sys.exit(1)
        print(f"{self.name}: {success}")
        sys.exit(0)
