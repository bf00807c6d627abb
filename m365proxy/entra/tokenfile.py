"""tokens.enc: the stored sign-in, encrypted, changed by one process at a time.

The file is only ever replaced as a whole, under tokens.lock.  Each sign-in has a
generation; the result of a refresh is stored only while the file still holds the
generation it came from.
"""

from __future__ import annotations

import dataclasses
import json
import os
import secrets
from typing import Any, Dict, Mapping, Optional, Tuple

from ..errors import SignInNeeded
from ..system import files, log

logger = log.get("tokenfile")

_FORMAT = 1

_OTHER_KEY = "If the service has its key from $M365PROXY_KEY or a systemd credential, run this with the same key. "

# Changes when somebody else replaces the file; None: there is no file.
Identity = Optional[Tuple[int, int, int]]


class TokenFileDamaged(SignInNeeded):
    """The stored sign-in is there but cannot be read; it is kept until somebody signs in again."""


class KeyUnusable(SignInNeeded):
    """M365PROXY_KEY or the systemd credential is not a key; the stored sign-in may be fine."""

    exit_status = 78


@dataclasses.dataclass(frozen=True)
class SignIn:
    """One stored sign-in.  `signed_in_at` in seconds since 1970; `cache` is msal's and full of secrets."""

    generation: int
    user: str
    tenant: str
    signed_in_at: float
    cache: str = dataclasses.field(repr=False)


class TokenFile:
    """The file, its lock and its key.  Any thread and process may call."""

    def __init__(self, state_dir: str, environ: Mapping[str, str] = os.environ):
        """`environ` may hold M365PROXY_KEY, or CREDENTIALS_DIRECTORY with a file m365proxy.key in it."""
        self.state_dir = state_dir
        self.path = os.path.join(state_dir, "tokens.enc")
        self._key_path = os.path.join(state_dir, "token.key")
        self._lock_path = os.path.join(state_dir, "tokens.lock")
        self._environ = environ

    def key_environ(self) -> Dict[str, str]:
        """What of the environment the key may come from."""
        names = ("M365PROXY_KEY", "CREDENTIALS_DIRECTORY")
        return {name: self._environ[name] for name in names if name in self._environ}

    def identity(self) -> Identity:
        """Quick to get; changes when the file's content changes."""
        try:
            found = os.stat(self.path)
        except OSError:
            return None
        return found.st_ino, found.st_size, found.st_mtime_ns

    def is_newer(self, moment: float) -> bool:
        """Whether somebody signed in or renewed the sign-in after a moment (seconds since 1970, of this machine)."""
        identity = self.identity()
        return identity is not None and identity[2] > moment * 1e9

    def load(self) -> Optional[SignIn]:
        """The sign-in; None if there is none.

        TokenFileDamaged if it cannot be decrypted, SignInNeeded if it cannot
        be opened, KeyUnusable if M365PROXY_KEY or the credential is not a key.
        """
        content = _read(self.path)
        if content is None:
            return None
        origin, key = self._key()
        if key is None:
            raise self._damaged(f"{origin} is missing or not a key, so {self.path} cannot be decrypted", _OTHER_KEY)
        text = _decrypt(key, content)
        if text is None:
            raise self._undecryptable(origin, content)
        sign_in = _parse(text)
        if sign_in is None:
            raise self._damaged(f"{self.path} was written by another version of m365proxy")
        return sign_in

    def sign_in(self, user: str, tenant: str, cache: str, now: float) -> SignIn:
        """Store a new sign-in in place of the old one; a file that cannot be read is kept as tokens.enc.bad.

        CannotCreate if it cannot be written; then the old one is still intact.
        """
        try:
            with files.locked(self._lock_path):
                new = SignIn(self._generation() + 1, user, tenant, now, cache)
                self._write(new)
        except OSError as error:
            sentence = f"The sign-in cannot be stored in {self.path}: {error.strerror}. Fix that and sign in again."
            raise files.cannot_create(sentence, error) from None
        return new

    def refreshed(self, base: SignIn, cache: str) -> Optional[SignIn]:
        """Store what msal made of `base`, entry by entry; returns what the file then holds.

        Somebody may have signed in or out meanwhile: then nothing is written.
        OSError if it cannot be written, InUse if the lock is held for long.
        """
        with files.locked(self._lock_path):
            current = self.load()
            if current is None or current.generation != base.generation:
                return current
            merged = merge(json.loads(base.cache), json.loads(cache), json.loads(current.cache))
            new = dataclasses.replace(current, cache=json.dumps(merged))
            self._write(new)
            return new

    def remove(self) -> bool:
        """Forget the sign-in, readable or not; returns whether there was one.  The key stays."""
        if self.identity() is None:
            return False
        try:
            with files.locked(self._lock_path):
                files.remove(self.path)
        except OSError as error:
            sentence = f"{self.path} cannot be removed: {error.strerror}. Delete it by hand."
            raise files.cannot_create(sentence, error) from None
        return True

    def _generation(self) -> int:
        try:
            old = self.load()
        except TokenFileDamaged as damage:
            logger.warning("%s", damage)
            files.move(self.path, self.path + ".bad")
            old = None
        # A refresh may still be under way for a sign-in that is gone: its number must not be used again.
        return old.generation if old else secrets.randbits(32)

    def _write(self, sign_in: SignIn) -> None:
        content = json.dumps({"version": _FORMAT, **dataclasses.asdict(sign_in)})
        key = self._key()[1] or self._new_key()
        files.replace(self.path, _fernet(key).encrypt(content.encode()))

    def _key(self) -> Tuple[str, Optional[bytes]]:
        """Where the key comes from, and the key; None if there is none, or if token.key is not a key."""
        origin, given = "M365PROXY_KEY", self._environ.get("M365PROXY_KEY", "").encode() or None
        directory = self._environ.get("CREDENTIALS_DIRECTORY")
        if given is None and directory:
            origin, given = "the credential m365proxy.key", _read(os.path.join(directory, "m365proxy.key"))
        if given is None:
            own = _read(self._key_path)
            return self._key_path, own if own is not None and _fernet(own) else None
        if _fernet(given) is None:
            raise KeyUnusable(f"{origin} is not a key: it must be 32 octets in URL-safe base64, 44 characters.")
        return origin, given

    def _new_key(self) -> bytes:
        from cryptography.fernet import Fernet

        key = Fernet.generate_key()
        if os.path.exists(self._key_path):
            files.move(self._key_path, self._key_path + ".bad")
        files.replace(self._key_path, key)
        return key

    def _undecryptable(self, origin: str, content: bytes) -> TokenFileDamaged:
        if origin == self._key_path:
            return self._damaged(f"{self.path} cannot be decrypted with {origin}", _OTHER_KEY)
        own = _read(self._key_path)
        if own is not None and _fernet(own) and _decrypt(own, content) is not None:
            return TokenFileDamaged(
                f"{self.path} was encrypted with {self._key_path}, but the key here is {origin}. Run `m365proxy login` "
                "with that key too (with systemd, by systemd-run: see Security in the documentation)."
            )
        return self._damaged(f"{self.path} cannot be decrypted with {origin}")

    def _damaged(self, what: str, hint: str = "") -> TokenFileDamaged:
        return TokenFileDamaged(
            f"{what}. {hint}Run `m365proxy login` to sign in again; the old file is kept as tokens.enc.bad."
        )


def _read(path: str) -> Optional[bytes]:
    try:
        return files.read(path)
    except OSError as error:
        raise SignInNeeded(
            f"{path} cannot be read: {error.strerror}. Make the user that m365proxy runs as its owner."
        ) from None


def _fernet(key: bytes) -> Any:
    """The cipher of a key; None if it is not a key."""
    from cryptography.fernet import Fernet

    try:
        return Fernet(key.strip())
    except ValueError:
        return None


def _decrypt(key: bytes, content: bytes) -> Optional[bytes]:
    from cryptography.fernet import InvalidToken

    try:
        decrypted: bytes = _fernet(key).decrypt(content)
        return decrypted
    except InvalidToken:
        return None


def _parse(text: bytes) -> Optional[SignIn]:
    """The decrypted content; None if it is not of our format."""
    content = json.loads(text)
    return SignIn(**content) if content.pop("version") == _FORMAT else None


def merge(base: Mapping[str, Any], ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> Dict[str, Any]:
    """Merge two msal caches that both come from `base`: {kind: {key: entry}}.

    An entry only one side touched is taken from that side, so that a clock set
    back does not make a new refresh token lose against the one it replaces.
    Of two new entries, the younger by its own timestamp wins.
    """
    merged: Dict[str, Any] = {}
    for kind in {**theirs, **ours}:
        before, our, their = base.get(kind, {}), ours.get(kind, {}), theirs.get(kind, {})
        entries = {key: _chosen(before.get(key), our.get(key), their.get(key)) for key in {**their, **our}}
        merged[kind] = {key: entry for key, entry in entries.items() if entry is not None}
    return merged


def _chosen(before: Any, our: Any, their: Any) -> Any:
    if their == before:
        return our
    if our in (before, None):
        return their
    return their if their is not None and _stamp(their) > _stamp(our) else our


def _stamp(entry: Mapping[str, Any]) -> int:
    return int(entry.get("last_modification_time") or entry.get("cached_at") or 0)
