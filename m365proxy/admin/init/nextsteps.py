"""What comes after `init`: commands that work as they are shown."""

from __future__ import annotations

import os
from typing import List, Mapping, Optional

from ...config.restart import needing_restart
from ...config.sections import Config
from .. import invocation, packaged, running


class Call:
    """Commands of this program, so that they can be copied: as it was started, and with sudo if that was used."""

    def __init__(self, path: str, environ: Mapping[str, str]):
        """`path`: the config's, absolute."""
        self._path = path
        self._environ = environ
        self._sudo = "sudo " if "SUDO_USER" in environ else ""

    def plain(self, command: str) -> str:
        """Without sudo, even if that was used."""
        return f"{invocation.program(self._path, self._environ)} {command}"

    def __call__(self, command: str) -> str:
        return self._sudo + self.plain(command)

    def as_root(self, command: str) -> str:
        """A command of the system."""
        return self._sudo + command


def of_service(before: Optional[Config], after: Config, call: Call) -> str:
    """What to do so that the program works with the config that was just written."""
    unit = packaged.unit_of(after.path)
    by_systemd = bool(unit) and os.path.isdir("/run/systemd/system")
    restart = call.as_root(f"systemctl restart {unit}")
    if before is not None and running.is_running(after):
        changed = needing_restart(before, after)
        if not changed:
            return f"Make the running program use it: `{call('reload')}`"
        for_what = f"Restart the running program, for {', '.join(changed)}"
        return f"{for_what}: `{restart}`" if by_systemd else f"{for_what}: stop it, and start it again."
    start = restart if by_systemd else call("run")
    return f"If the program waits for its config, it begins to work by itself within seconds; else start it: `{start}`"


def steps(
    *, has_ids: bool, is_signed_in: bool, script: str, grant: bool, service: str, is_new: bool, call: Call
) -> List[str]:
    """What an administrator has to do, in order.

    `script`: the tenant's script, if it has to run; "" if not.  `grant`: it
    would have to, but there is none.  `service`: what `of_service` says.
    `is_new`: nothing was ever sent with this config.
    """
    found = []
    if script:
        found.append(
            f"Open https://shell.azure.com as an administrator of the tenant, choose PowerShell, and paste all of "
            f"{script} there."
        )
    if grant:
        found.append("Give the application its rights in Exchange: see Tenant and Exchange in the documentation.")
    if not has_ids:
        found.append(f"Fill in the ids, as the script's last line has them: `{call('init --ids')} 'LINE'`")
    if not is_signed_in:
        found.append(f"Sign in: `{call('login')}`")
    found.append(service)
    if is_new or not is_signed_in:
        found.append(f"See whether all is well: `{call('check')}`")
        found.append(f"Send a mail as a device does: `{call('test')}`")
    return found


def is_signed_in(before: Optional[Config], after: Config) -> bool:
    """Whether there is a sign-in for this account and app registration, or none is needed.

    `before`: the config that was used until now; None if there were no ids in it.
    """
    if after.client_secret or after.client_certificate:
        return True
    if before is None or (before.user, before.client_id) != (after.user, after.client_id):
        return False
    return os.path.exists(os.path.join(after.state_dir, "tokens.enc"))
