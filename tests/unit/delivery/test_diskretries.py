"""When the disk is asked again, and what the log says about it."""

import errno

from cases import each

from m365proxy.delivery.diskretries import DiskRetries, explain


def test_first_within_seconds_and_then_as_rarely_as_all_other_tries():
    retries = DiskRetries(300.0)
    assert [retries.add_failure("a") for _ in range(7)] == [1.0, 2.0, 5.0, 10.0, 30.0, 300.0, 300.0]
    assert retries.add_failure("b") == 1.0
    retries.clear("a")
    retries.clear("never failed")
    assert retries.add_failure("a") == 1.0


def test_never_more_rarely_than_all_other_tries():
    retries = DiskRetries(3.0)
    assert [retries.add_failure("a") for _ in range(4)] == [1.0, 2.0, 3.0, 3.0]


@each("code", [errno.EACCES, errno.EPERM, errno.EBUSY, errno.ETXTBSY])
def test_the_log_names_what_may_have_the_file_open(code):
    assert "virus scanner" in explain(OSError(code, "no", "new/x"))


def sharing_violation(code=32):
    """As Windows reports it; elsewhere OSError takes no winerror."""
    error = PermissionError(errno.EACCES, "The process cannot access the file")
    error.winerror = code
    return error


@each("code", [32, 33])
def test_a_sharing_violation_is_named_as_such(code):
    assert "another program, such as a virus scanner, holds it." in explain(sharing_violation(code))


def test_a_failing_disk_is_no_virus_scanner():
    assert explain(OSError(errno.EIO, "Input/output error")).endswith("Check the disk of state_dir")
