"""What the tests leave out on Windows, and why: windowsskips.py REPORT...

For `.ci/windows`, with what pytest printed.  A reason that is not in the list fails, and so does one of the list that
nothing gave: a skip that nobody thought of hides a test.
"""

import re
import sys

# What Windows does not have, or does otherwise; the product has other code for it, or none.
OTHERWISE = (
    "TERM says nothing on Windows",
    "Windows gives low ports to everybody",
    "Windows hands over Unicode",
    "Windows has access lists instead of modes",
    "Windows has no FIFOs in directories",
    "Windows has no modes and owners of this kind",
    "Windows has no modes of files",
    "Windows has no modes of this kind",
    "Windows has no packaged service",
    "Windows has no root",
    "Windows has no sessions",
    "Windows has no signal that lets a program stand still",
    "Windows has no signals",
    "Windows has no such file modes",
    "Windows has no such look at a process",
    "Windows has no such signals",
    "Windows keeps its id in the registry",
    "Windows locks no directories",
    "Windows moves no open file",
    "Windows quotes otherwise, and runs no file without ending",
    "Windows removes no open file",
    "a directory is not synced there",
    "a socket of Windows knows its peer until something fails",
    "file modes are POSIX",
    "has no FIFO",
    "has no such call",
    "here Python keeps all time limits",
    "no POSIX modes",
    "no Unix sockets here",
    "no modes there",
    "no process can be forked here",
    "pipes are no files there",
    "root may write everywhere",
    "signals are sent otherwise there",
    "systemd's variable",
    "the child inherits nothing there",
    "there are no receivers without sockets that take descriptors",
    "there are no such users",
    "there is no root",
    "there is no syslog",
    "there, only this process can end its lock",
)

# What looks at the system from outside by means of Linux, or is about Linux.
LINUX = (
    "Linux has a list of its addresses, and a call for them",
    "abstract addresses are Linux's",
    "asks Linux itself",
    "only Linux has /proc/net",
    "only Linux has /proc/self/fd",
    "only Linux has all of 127.0.0.0/8",
    "only glibc is told to give pages back",
    "only glibc keeps large blocks",
    "plays Windows on Linux",
    "starts the checkout, not what is installed",
)

# What is not there under wine, or takes too long; and what is left out everywhere.
MISSING = (
    "Windows takes seconds to refuse",
    "needs openssl",
    "not in this charset",
    "openssl is not installed",
    "openssl writes the file",
    "the zone of this machine cannot be set",
)


def reasons(report):
    """How often pytest gave each reason, of the lines that it prints at the end."""
    found = {}
    for count, reason in re.findall(r"^SKIPPED \[(\d+)\] .+?:\d+: (.+?)\r?$", report, re.MULTILINE):
        found[reason] = found.get(reason, 0) + int(count)
    return found


def main(reports, known=(*OTHERWISE, *LINUX, *MISSING)):
    found = reasons("\n".join(reports))
    unknown, over = set(found) - set(known), set(known) - set(found)
    for reason, count in sorted(found.items()):
        print(f"{count:5} {reason}")
    for reason in sorted(unknown):
        print(f"not in the list of tests/windowsskips.py: {reason}")
    for reason in sorted(over):
        print(f"in the list of tests/windowsskips.py, and given by no test: {reason}")
    return 1 if unknown or over else 0


if __name__ == "__main__":
    sys.exit(main([open(path, encoding="utf-8", errors="replace").read() for path in sys.argv[1:]]))
