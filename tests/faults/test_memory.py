"""The most memory the program ever had while it relayed a message (VmHWM), against the budget of the design."""

import base64
import hashlib
import os
import random
import smtplib
import sys

import pytest
from mailreader import pdf_of
from program import ALERTS, PASSWORD, SCANS, Program, wait_until

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc")

# MB resident: idle with the newest libraries, and what relaying the largest attachment may add.
IDLE, RELAYING = 38, 12


def peak(process):
    """MB; the highest ever."""
    with open(f"/proc/{process.pid}/status") as status:
        line = next(line for line in status if line.startswith("VmHWM:"))
    return int(line.split()[1]) / 1024


@pytest.fixture
def program(tmp_path):
    made = Program(tmp_path, forked=False)  # a fork begins with the memory of what it is one of
    made.sign_in().start()
    yield made
    made.close()


def mail(block, times, fields):
    """With a file of a block that fills lines of base64, so many times over."""
    lines = base64.encodebytes(block).replace(b"\n", b"\r\n") * times
    return (
        b"From: alerts@contoso.com\r\nTo: scans@contoso.com\r\nSubject: scan\r\n" + fields + b"MIME-Version: 1.0\r\n"
        b"Content-Type: multipart/mixed; boundary=limit\r\n\r\n--limit\r\nContent-Type: text/plain\r\n\r\nA scan.\r\n"
        b"--limit\r\nContent-Type: application/pdf; name=scan.pdf\r\nContent-Transfer-Encoding: base64\r\n"
        b"Content-Disposition: attachment; filename=scan.pdf\r\n\r\n" + lines + b"--limit--\r\n"
    )


# Large mail with a field that JSON does not have keeps its form: a draft of MIME, that is looked at.
@pytest.mark.parametrize("megabytes, fields", [(2, b""), (80, b"Keywords: scan\r\n")])
def test_memory_does_not_grow_with_the_message(program, capsys, megabytes, fields):
    # The block repeated is no multiple of any piece's size: pieces in a wrong order or left out would show.
    block = random.Random(1).randbytes(57 * 18_413)
    idle = peak(program.process)
    with smtplib.SMTP("127.0.0.1", program.port("smtp"), timeout=100) as smtp:
        smtp.login(ALERTS, PASSWORD)
        smtp.sendmail(ALERTS, [SCANS], mail(block, megabytes, fields))
    tenant = program.sandbox.tenant
    wait_until(lambda: tenant.delivered and program.queue() == [], 250, "the delivery")
    most = peak(program.process)
    with capsys.disabled():
        print(f"\n  {megabytes} MB relayed: peak {most:.0f} MB, {idle:.0f} MB before (budget {IDLE} + {RELAYING})")
    assert most <= 2 * (IDLE + RELAYING)
    assert len(tenant.delivered) == 1
    assert (b"Keywords" in tenant.delivered[0].raw) is bool(fields)
    name, arrived = pdf_of(tenant.delivered[0].raw)
    assert name == "scan.pdf"
    assert hashlib.sha256(arrived).digest() == hashlib.sha256(block * megabytes).digest()


def test_the_measure_is_of_the_right_process(program):
    assert peak(program.process) > 10 and program.status()["pid"] == program.process.pid != os.getpid()
