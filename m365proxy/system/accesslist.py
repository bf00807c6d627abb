"""Who may read and change a file of Windows: its access list, as the text that Windows makes of it (SDDL).

That text names accounts by abbreviation or number, which are the same in every language of Windows.
"""

from __future__ import annotations

import re
import sys
from typing import Dict, Iterator, List, NamedTuple, Optional, Tuple


class Account(NamedTuple):
    """One that stands for more than one person.

    name: what an English Windows calls it.
    number: what names it in every language of Windows, S-1-..., or the name once more where only the domain knows.
    """

    name: str
    number: str


# By abbreviation ([MS-DTYP] 2.5.1.1).
_EVERYBODY = {
    "WD": Account("Everyone", "S-1-1-0"),
    "AU": Account("Authenticated Users", "S-1-5-11"),
    "BU": Account("Users", "S-1-5-32-545"),
    "IU": Account("INTERACTIVE", "S-1-5-4"),
    "NU": Account("NETWORK", "S-1-5-2"),
    "BG": Account("Guests", "S-1-5-32-546"),
    "AN": Account("ANONYMOUS LOGON", "S-1-5-7"),
    "DU": Account("Domain Users", "Domain Users"),
    "DG": Account("Domain Guests", "Domain Guests"),
}
_BY_NUMBER = {account.number: account for account in _EVERYBODY.values()}
_OF_DOMAIN = re.compile(r"S-1-5-21-\d+-\d+-\d+-(513|514)")

# Rights in words of two letters ([MS-DTYP] 2.5.1.1), as bits.
_WORDS = {
    "GA": 0x10000000,
    "GR": 0x80000000,
    "GW": 0x40000000,
    "GX": 0x20000000,
    "FA": 0x1F01FF,
    "FR": 0x120089,
    "FW": 0x120116,
    "FX": 0x1200A0,
    "RC": 0x20000,
    "SD": 0x10000,
    "WD": 0x40000,
    "WO": 0x80000,
    "CC": 0x1,
    "DC": 0x2,
    "LC": 0x4,
    "SW": 0x8,
    "RP": 0x10,
    "WP": 0x20,
    "DT": 0x40,
    "LO": 0x80,
    "CR": 0x100,
}

# The content of a file or a list of names; writing or adding, removing, changing the list or the owner.
_READ = 0x1 | 0x10000000 | 0x80000000
_CHANGE = 0x2 | 0x4 | 0x40 | 0x10000 | 0x40000 | 0x80000 | 0x10000000 | 0x40000000

_ENTRY = re.compile(r"\(([^;()]*);([^;()]*);([^;()]*);[^;()]*;[^;()]*;([^;()]*)[;)]")


class Access(NamedTuple):
    """The accounts of everybody that may read a file, and those that may change it."""

    readers: List[Account]
    writers: List[Account]


def of_text(text: str) -> Access:
    """What a security descriptor in SDDL lets everybody do.  Entries that refuse something are not subtracted."""
    found: Dict[Account, int] = {}
    for account, bits in _allowed(text):
        found[account] = found.get(account, 0) | bits
    return Access(
        [account for account, bits in found.items() if bits & _READ],
        [account for account, bits in found.items() if bits & _CHANGE],
    )


def _allowed(text: str) -> Iterator[Tuple[Account, int]]:
    start = text.find("D:")
    entries = text[start + 2 :].split("S:(")[0] if start >= 0 else "NO_ACCESS_CONTROL"
    if "NO_ACCESS_CONTROL" in entries:  # without a list nobody is refused
        yield _EVERYBODY["WD"], _WORDS["FA"]
        return
    for kind, _, rights, number in _ENTRY.findall(entries):
        account = _account(number)
        if kind in ("A", "XA", "OA") and account:
            yield account, _bits(rights)


def _account(number: str) -> Optional[Account]:
    domain = _OF_DOMAIN.fullmatch(number)
    if domain:
        return Account({"513": "Domain Users", "514": "Domain Guests"}[domain[1]], number)
    return _EVERYBODY.get(number) or _BY_NUMBER.get(number)


def _bits(rights: str) -> int:
    if rights[:1].isdigit():
        return int(rights, 0)
    bits = 0
    for place in range(0, len(rights), 2):
        bits |= _WORDS.get(rights[place : place + 2], 0)
    return bits


if sys.platform == "win32":

    def text_of(path: str) -> str:
        """The access list of a file or directory in SDDL.  OSError if it cannot be read."""
        import ctypes
        from ctypes import wintypes

        # Win32 API, aclapi.h and sddl.h: a file's (1) access list (4), in the only revision there is (1).
        advapi, kernel = ctypes.WinDLL("advapi32", use_last_error=True), ctypes.WinDLL("kernel32")
        kernel.LocalFree.argtypes = (wintypes.HLOCAL,)
        descriptor, text = ctypes.c_void_p(), wintypes.LPWSTR()
        failed = advapi.GetNamedSecurityInfoW(
            ctypes.c_wchar_p(path), 1, 4, None, None, None, None, ctypes.byref(descriptor)
        )
        if failed:
            raise ctypes.WinError(failed)
        try:
            if not advapi.ConvertSecurityDescriptorToStringSecurityDescriptorW(
                descriptor, 1, 4, ctypes.byref(text), None
            ):
                raise ctypes.WinError(ctypes.get_last_error())
            try:
                return text.value or ""
            finally:
                kernel.LocalFree(text)
        finally:
            kernel.LocalFree(descriptor)

else:

    def text_of(path: str) -> str:
        """There are no such lists."""
        raise OSError("no access lists of Windows")
