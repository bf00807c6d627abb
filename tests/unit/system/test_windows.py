"""The branches for Windows, on Linux: a Python that lacks what Windows lacks runs the demo and the commands.

Everything runs in a child process whose sys.platform says win32, without fcntl, pwd, setuid, Unix sockets, HUP and
so on, and with an msvcrt that locks like the real one: octet 0 of the file, refused at once if it is held.
"""

import os
import pathlib
import subprocess
import sys
import textwrap

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[3]

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="plays Windows on Linux")

WINDOWS = """
    import fcntl, os, signal, socket, sys, time, types
    # What these do is the standard library's and the libraries' business.
    import ctypes, getpass, http.client, json, logging.handlers, poplib, shutil, smtplib, socketserver, ssl, subprocess
    import tempfile, email.message, email.policy, uuid, urllib.request, platform
    import cryptography.fernet, cryptography.x509, msal, requests

    def locking(handle, mode, count):
        assert count == 1 and os.lseek(handle, 0, os.SEEK_CUR) == 0, "octet 0 is the lock"
        kinds = {1: fcntl.LOCK_UN, 2: fcntl.LOCK_EX | fcntl.LOCK_NB}
        fcntl.flock(handle, kinds[mode])

    msvcrt = types.ModuleType("msvcrt")
    msvcrt.LK_UNLCK, msvcrt.LK_NBLCK, msvcrt.locking = 1, 2, locking
    sys.modules["msvcrt"] = msvcrt
    # A file that Python's own open holds open can be neither renamed nor removed; one opened for sharing can.
    shared = {}
    def create_file(path, access, share, security, disposition, attributes, template):
        assert share == 7 and disposition == 3
        try:
            handle = os.open(path, os.O_RDONLY)
        except FileNotFoundError:
            return ctypes.wintypes.HANDLE(-1).value
        shared[handle] = os.path.realpath(path)
        return handle

    def guarded(function):
        def call(path, *more, **words):
            for handle in os.listdir("/proc/self/fd"):
                try:
                    held = os.readlink(f"/proc/self/fd/{handle}") == os.path.realpath(path)
                except FileNotFoundError:
                    continue
                if held and shared.get(int(handle)) != os.path.realpath(path):
                    raise PermissionError(13, "sharing violation", path)
            return function(path, *more, **words)
        return call

    import ctypes.wintypes
    class Kernel32:
        def __init__(self, name, use_last_error):
            self.CreateFileW = lambda *values: create_file(*values)
            self.IsUserAnAdmin = lambda: 0
    ctypes.WinDLL, ctypes.get_last_error = Kernel32, lambda: 2
    ctypes.WinError = lambda code: FileNotFoundError(code, "no such file")
    msvcrt.open_osfhandle = lambda handle, flags: handle
    os.O_BINARY = 0
    os.replace, os.unlink, os.remove = guarded(os.replace), guarded(os.unlink), guarded(os.remove)
    for name in ("fcntl", "pwd", "grp", "termios", "resource", "syslog"):
        sys.modules[name] = None
    for name in ("geteuid", "getuid", "setuid", "setgid", "setgroups", "statvfs", "fork", "O_DIRECTORY", "fchmod"):
        delattr(os, name)
    for name in ("SIGHUP", "SIGUSR1", "SIGUSR2", "SIGALRM"):
        delattr(signal, name)
    del socket.AF_UNIX
    shutil.disk_usage = lambda path: types.SimpleNamespace(free=1 << 40)  # Linux's would need statvfs
    begin = subprocess.Popen.__init__
    def popen(self, *values, creationflags=0, **more):
        begin(self, *values, **more)  # Linux's refuses them
    subprocess.Popen.__init__ = popen
    sys.platform = "win32"
    from m365proxy import cli
    from m365proxy.system import files
"""


def on_windows(code, tmp_path, *words):
    program = textwrap.dedent(WINDOWS) + textwrap.dedent(code)
    environ = dict(os.environ, HOME=str(tmp_path), PYTHONPATH=str(ROOT), NOTIFY_SOCKET="unused")
    return subprocess.run(
        [sys.executable, "-c", program, *words], capture_output=True, text=True, timeout=60, env=environ, cwd=tmp_path
    )


def test_the_demo(tmp_path):
    done = on_windows("sys.exit(cli.main(['demo']))", tmp_path)
    assert done.returncode == 0, done.stderr
    assert "octet by octet the same" in done.stdout


def test_every_module_can_be_imported(tmp_path):
    done = on_windows(
        """
        import importlib, pathlib
        for path in sorted(pathlib.Path(cli.__file__).parent.rglob("*.py")):
            name = ".".join(path.relative_to(pathlib.Path(cli.__file__).parents[1]).with_suffix("").parts)
            if not name.endswith("__main__"):
                importlib.import_module(name.replace(".__init__", ""))
    """,
        tmp_path,
    )
    assert done.returncode == 0, done.stderr


def test_one_holder_of_a_lock_and_its_pid(tmp_path):
    done = on_windows(
        """
        first, second = files.Lock("lock"), files.Lock("lock")
        first.acquire()
        first.note_holder()
        try:
            second.acquire()
        except files.InUse as error:
            print(str(os.getpid()) in str(error))
        first.release()
        second.acquire()
        print("taken over")
    """,
        tmp_path,
    )
    assert done.stdout.split("\n")[:2] == ["True", "taken over"], done.stderr


@pytest.mark.parametrize("refusals,outcome", [(1, "moved"), (20, "moved"), (21, "PermissionError")])
def test_a_rename_that_a_scanner_refuses_is_tried_again(refusals, outcome, tmp_path):
    done = on_windows(
        """
        refusals, real, time.sleep = int(sys.argv[1]), os.replace, lambda seconds: None
        def replace(source, target):
            global refusals
            refusals -= 1
            if refusals >= 0:
                raise PermissionError(13, "sharing violation")
            real(source, target)
        os.replace = replace
        open("a", "w").close()
        try:
            files.move("a", "b")
            print("moved")
        except PermissionError as error:
            print(type(error).__name__)
    """,
        tmp_path,
        str(refusals),
    )
    assert done.stdout.strip() == outcome, done.stderr


def test_a_rename_that_stays_refused_is_told_to_the_device_as_451(tmp_path):
    """The file is discarded and the device sends again."""
    done = on_windows(
        """
        from m365proxy.spool.envelope import Envelope
        from m365proxy.errors import Temporary
        from m365proxy.spool.spool import Spool
        time.sleep = lambda seconds: None
        def refuse(source, target):
            raise PermissionError(13, "sharing violation")
        spool = Spool("queue")
        spool.make()
        incoming = spool.put(Envelope(mailbox="a@contoso.com", sender="a@contoso.com", recipients=("b@contoso.com",)))
        incoming.write(b"Subject: x\\r\\n\\r\\nx\\r\\n")
        os.replace = refuse
        os.rename = refuse
        try:
            incoming.commit()
        except Temporary as error:
            print(type(error).__name__, os.listdir("queue/new"), os.listdir("queue/tmp"))
    """,
        tmp_path,
    )
    assert done.stdout.split()[1:] == ["[]", "[]"], (done.stdout, done.stderr)


def test_a_message_in_hand_can_be_moved(tmp_path):
    done = on_windows(
        """
        open("a", "w").close()
        with open("a"):
            try:
                files.move("a", "b")
            except PermissionError:
                print("held")
        with files.open_shared("a"):
            files.move("a", "b")
        try:
            files.open_shared("a")
        except FileNotFoundError:
            print("moved")
    """,
        tmp_path,
    )
    assert done.stdout.split() == ["held", "moved"], done.stderr


def test_a_directory_is_not_synced(tmp_path):
    done = on_windows("files.sync_directory('nowhere'); print('nothing done')", tmp_path)
    assert done.stdout == "nothing done\n", done.stderr
