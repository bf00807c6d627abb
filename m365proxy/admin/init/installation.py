"""The config at a path, as it is and as it will be, and the files that belong to it."""

from __future__ import annotations

import os
import sys
from typing import Dict, List, Optional, Tuple

from ...config.sections import Config
from ...entra import registration
from ...errors import CannotCreate, InUse
from ...system import files, machine
from ...system.outbound import Outbound
from .. import packaged
from . import amendment, answers, appkey, configfile
from .amendment import ZEROS, Document
from .answers import Answers
from .configfile import Access, NewFile
from .tenantlookup import Tenants
from .tenantscript import Ids, Plan, PlannedMailbox, script

APP_NAME = "m365proxy"

# Where packaged services keep their state.
_STATE = "/var/lib/m365proxy"

# Seconds to wait while another `init` writes.
_PATIENCE = 10.0

_SOMEBODY = "somebody@contoso.com"


class Installation:
    """What `init` changes.  Nothing is written until `write`.

    present: what the config that is there answers; None if there is none, or only the sample.
    before: that config; of the sample, its settings for the network.
    document: the config as it will be.
    passwords: new ones, by user name; to be shown once.
    """

    def __init__(self, path: str, content: Optional[bytes]):
        """ConfigError if the config that is there has mistakes."""
        self.path = path
        self._content = content
        self.document: Document = {} if content is None else configfile.parse(content, path)
        self._is_own = content is not None and configfile.is_as_written(self.document)
        noted = configfile.notes(self.document)
        self._own_script = str(noted.get("script", ""))  # the digest of the one that was written last
        self.present: Optional[Answers] = None
        if not noted and not configfile.has_ids(self.document):
            amendment.drop_sample(self.document)
        self.before = configfile.loaded({**self.document, **_filler(self.document)}, path)
        if self.document.get("mailboxes"):
            new = noted.get("new")
            tenant = str(noted.get("tenant") or configfile.tenant_id(self.document))
            self.present = answers.of_config(self.before, tenant, map(str, new) if isinstance(new, list) else ())
            if not self.document.get("user"):
                self.present = self.present._replace(account="")
        self._answered = self.present
        self._script = b""
        self.passwords: Dict[str, str] = {}
        self._app_key: Optional[appkey.AppKey] = None

    @classmethod
    def read(cls, path: str, command: str) -> Installation:
        """CannotCreate if the file cannot be read, with `command` to run as root."""
        try:
            return cls(path, files.read(path))
        except PermissionError:
            raise CannotCreate(f"{path} cannot be read by this user. Run `sudo {command}`.") from None

    def tenants(self) -> Tenants:
        """Who is to be asked about names; ConfigError if the config's way there cannot be used."""
        config = self.before
        authority, _, _ = registration.endpoints(config.cloud, config.graph_url, config.authority_url)
        return Tenants(Outbound(config.https_proxy, config.ca_file), authority)

    def amend(self, answered: Answers, is_other_tenant: bool = False) -> None:
        """Take answers over, with new passwords for new mailboxes; the ids of another tenant go."""
        from ...logins import passwords

        there = self.present.mailboxes if self.present else ()
        self.passwords.update({one: passwords.generate() for one in answered.mailboxes if one not in there})
        hashes = {one: passwords.hash_password(password) for one, password in self.passwords.items()}
        if is_other_tenant or not self.has_ids:  # the service waits for both of them
            amendment.set_ids(self.document, ZEROS, ZEROS)
        amendment.amend(self.document, self.present, answered, hashes)
        if answered.app_only and not (self.before.client_secret or self.before.client_certificate):
            self._make_app_key()
        if self.present is None:
            for key, value in _places(self.path).items():
                self.document.setdefault(key, value)
        self._answered = answered

    def _make_app_key(self) -> None:
        self._app_key = key = appkey.make(APP_NAME)
        self.document["client_certificate"] = {
            "private_key": os.path.basename(self._beside("-app.pem")),
            "thumbprint": key.thumbprint,
        }
        self.document["client_secret_expires"] = key.end.isoformat()

    def add_login(self, mailbox: str, login: str) -> None:
        """A further user name of a mailbox, with a new password."""
        from ...logins import passwords

        self.passwords[login] = passwords.generate()
        amendment.add_login(self.document, mailbox, login, passwords.hash_password(self.passwords[login]))

    def write(self) -> Tuple[List[NewFile], List[str]]:
        """Write what differs; the files, and the paths of copies that stay.  Inside `undisturbed`, after `finish`.

        InUse if somebody has changed the config since it was read.
        """
        with files.locked_directory(os.path.dirname(os.path.realpath(self.path)), _PATIENCE):
            if files.read(self.path) != self._content:
                raise InUse(
                    f"Meanwhile somebody else has changed {self.path}, so nothing was written. Run the command again."
                )
            new = self.files()
            return new, configfile.write(new)

    def set_ids(self, ids: Ids) -> None:
        """The app registration of the tenant."""
        amendment.set_ids(self.document, ids.tenant_id, ids.client_id)

    @property
    def has_ids(self) -> bool:
        return configfile.has_ids(self.document)

    def _beside(self, ending: str) -> str:
        return os.path.splitext(self.path)[0] + ending

    @property
    def script_path(self) -> str:
        """Where the tenant's script is."""
        return self._beside("-tenant.ps1")

    def _make_script(self) -> str:
        """The tenant's script, for what was answered; "" if the application's certificate is not from here."""
        answered = self.answered
        certificate = self._app_key.certificate if self._app_key else files.read(self._beside("-app.crt")) or b""
        if answered.app_only and not certificate:
            return ""
        return script(
            Plan(
                tenant=answered.tenant,
                account=answered.account,
                mailboxes=tuple(PlannedMailbox(one, one in answered.new) for one in answered.mailboxes),
                permissions=self.before.permissions,
                attachment_limit_mb=self.before.attachment_limit_mb,
                app_only=answered.app_only,
                certificate=certificate.decode() if answered.app_only else "",
                app_name=APP_NAME,
            )
        )

    @property
    def has_changed_tenant(self) -> bool:
        """Whether the tenant's script has to run, again or for the first time."""
        before, after = self.present, self.answered
        if before is None or not self.has_ids:
            return True
        return any(getattr(before, name) != getattr(after, name) for name in ("app_only", "account", "mailboxes"))

    @property
    def has_script(self) -> bool:
        """Whether there is one; not for an application whose certificate is not from here."""
        return bool(self._script)

    def finish(self, with_script: bool = True) -> Config:
        """Note down what is not in the config itself; the config as it will be.  ConfigError if it has mistakes.

        `with_script`: the tenant's script is written too, if there is one.
        """
        answered = self.answered
        self._script = self._make_script().encode() if with_script else b""
        noted: Document = {
            "tenant": answered.tenant,
            "new": sorted(answered.new),
            "script": configfile.digest(self._script) if self._script else self._own_script,
        }
        configfile.set_notes(self.document, noted)
        return configfile.loaded(self.document, self.path)

    @property
    def answered(self) -> Answers:
        """What the document answers, after `amend` or if it did before."""
        assert self._answered is not None
        return self._answered

    def files(self) -> List[NewFile]:
        """What is to be written after `finish`, as far as it differs; the config last, as all else belongs to it."""
        access = configfile.access_for(self.path)
        if self.present is None:  # it had no passwords before
            access = access.without_others()
        readable = Access(-1, -1, 0o644)
        new = []
        if self._app_key:
            new += [
                NewFile(self._beside("-app.pem"), self._app_key.key, access.without_others(), is_secret=True),
                NewFile(self._beside("-app.crt"), self._app_key.certificate, readable),
            ]
        if self._script:
            is_own = configfile.digest(files.read(self.script_path) or b"") == self._own_script
            new.append(NewFile(self.script_path, self._script, readable, keep=not is_own))
        new.append(NewFile(self.path, configfile.render(self.document), access, keep=not self._is_own))
        return [file for file in new if files.read(file.path) != file.content]

    def shown(self, file: NewFile) -> str:
        """One of `files` as people may see it: of the config no secrets."""
        content = file.content if file.path != self.path else configfile.render(configfile.masked(self.document))
        return content.decode()


def _places(path: str) -> Document:
    """What a new config at this path needs so that the service and commands have the same state directory."""
    unit = packaged.unit_of(path)
    if unit:
        return {"state_dir": os.path.join(_STATE, unit.partition("@")[2]).rstrip("/")}
    if machine.is_openwrt():  # as docs/openwrt.md has it: /var is in memory, and there is little of that and of flash
        return {"state_dir": os.path.splitext(path)[0], "queue": {"min_free_mb": 4}, "receivers": 0}
    if sys.platform == "win32" and not path.startswith(os.path.expanduser("~")):
        # A service's user has another home, and nobody sees what it says.
        return {"state_dir": "state", "logging": {"file": "m365proxy.log"}}
    return {}


def _filler(document: Document) -> Document:
    """What is missing in a config that is not filled in, so that it can be read for all else."""
    filler: Document = {}
    if not any(document.get(key) for key in ("user", "client_secret", "client_certificate")):
        filler["user"] = _SOMEBODY
    if not document.get("mailboxes"):
        filler["mailboxes"] = [{"username": _SOMEBODY, "password": "none"}]
    return filler
