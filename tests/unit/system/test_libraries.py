"""What is said when a library is missing or broken, by system."""

import sys

from cases import each

from m365proxy.system.libraries import explain

# As Windows says it: the module's last name only, and not which DLL.
BROKEN = "DLL load failed while importing _rust: The specified module could not be found."
IN_CRYPTOGRAPHY = "C:\\m365proxy\\Lib\\site-packages\\cryptography\\hazmat\\bindings\\_rust.pyd"


@each(
    "error, platform, said",
    [
        (ModuleNotFoundError("no", name="msal"), "linux", "library msal is missing. Debian: apt install python3-msal"),
        (ModuleNotFoundError("no", name="cryptography.x509"), "linux", "library cryptography is missing. Debian"),
        (ImportError("no libffi", name="_cffi_backend"), "linux", "_cffi_backend cannot be loaded (no libffi). Debian"),
        (ModuleNotFoundError("no", name="_ssl"), "linux", "module _ssl is missing. Install all of Python"),
        (ModuleNotFoundError("no", name="msal"), "win32", f'Install it: "{sys.executable}" -m pip install msal'),
        (ImportError(BROKEN, name="_rust", path=IN_CRYPTOGRAPHY), "win32", "Install the Microsoft Visual C++"),
        (ImportError(BROKEN, name="_rust", path=IN_CRYPTOGRAPHY), "win32", "library cryptography cannot be loaded"),
        (ImportError("DLL load failed", name="_ssl", path="C:\\Python\\DLLs\\_ssl.pyd"), "win32", "Visual C++"),
        (ModuleNotFoundError("no", name="_ssl"), "win32", "module _ssl is missing. Run Python's installer again"),
    ],
)
def test_the_next_step_is_one_of_this_system(error, platform, said):
    sentence = explain(error, platform)
    assert said in sentence
    assert platform == "linux" or "apt" not in sentence
