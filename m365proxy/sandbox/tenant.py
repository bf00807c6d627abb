"""The stand-in Microsoft tenant: mailboxes, folders, items, rights, sending.

No HTTP in here.  What Graph promises always holds; what Graph leaves open is
set by the modes.  Any thread may call anything.
"""

from __future__ import annotations

import calendar
import copy
import email.utils
import threading
import time
import uuid
from typing import Any, Dict, Iterable, List, Optional, Sequence, Tuple

from . import letter
from .mailstore import CLASSIC_OCTETS, IMMUTABLE_OCTETS, Delivery, Item, Mailbox, Person, Refusal, new_id
from .modes import Modes

# Properties that can be changed only in a draft (message-update).
_DRAFT_ONLY = frozenset({"body", "subject", "replyTo", "internetMessageId"})

_PATCHABLE_FIELDS = {
    "toRecipients": "To",
    "ccRecipients": "Cc",
    "bccRecipients": "Bcc",
    "replyTo": "Reply-To",
    "from": "From",
    "sender": "Sender",
}

# Header fields that do not survive a MIME submission (docs#21904, msgraph-sdk-dotnet#2209).
_DROPPED = ("auto-submitted", "precedence", "return-path", "received", "dkim-signature")


class Tenant(Modes):
    """The state, and the modes it works in."""

    def __init__(self, mailboxes: Sequence[str], user: str, tenant_id: str, client_id: str):
        super().__init__(signs_in_as=user.lower(), signs_in_tenant=tenant_id)
        self.user = user.lower()
        self.tenant_id = tenant_id
        self.client_id = client_id
        self.lock = threading.RLock()
        self.mailboxes: Dict[str, Mailbox] = {}

        # What happened.
        self.delivered: List[Delivery] = []
        self.outside: List[Tuple[str, bytes]] = []  # (address, MIME) for addresses without a mailbox here
        self.created_drafts = 0

        self._ids: Dict[str, List[Item]] = {}
        self._key = 0
        self._change = 0
        for address in mailboxes:
            self.add_mailbox(address)

    # --- mailboxes, people, rights

    def add_mailbox(self, address: str) -> Mailbox:
        """A new mailbox: the user gets Full Access and Send As."""
        address = address.lower()
        with self.lock:
            box = self.mailboxes[address] = Mailbox(address)
            self.full_access.add(address)
            self.send_as |= {(address, address), (self.user, address)}
        return box

    def person(self, address: str) -> Person:
        """The person with that address."""
        address = address.lower()
        return Person(str(uuid.uuid5(uuid.NAMESPACE_DNS, address)), self.upns.get(address, address), address)

    def resolve(self, reference: str) -> str:
        """The address of the person with this address, user principal name or object id."""
        wanted = reference.lower()
        if wanted in self.mailboxes:
            return wanted
        people = (self.person(address) for address in list(self.mailboxes) + [self.signs_in_as])
        return next((p.mail for p in people if wanted in (p.oid, p.upn.lower())), wanted)

    def mailbox(self, reference: str) -> Mailbox:
        """A mailbox by address, user principal name or object id; raises Refusal 404 if there is none."""
        address = self.resolve(reference)
        if address in self.unlicensed:
            raise Refusal(404, "MailboxNotEnabledForRESTAPI", "The mailbox is either inactive or on-premise.")
        if address not in self.mailboxes:
            raise Refusal(404, "ErrorInvalidUser", f"The requested user '{reference}' is invalid.")
        return self.mailboxes[address]

    def check_access(self, box: Mailbox, user: str) -> None:
        """Raise Refusal unless `user` ("" for app-only) may open the mailbox."""
        if not user:
            if self.app_mailboxes is not None and box.address not in self.app_mailboxes:
                raise Refusal(403, "ErrorAccessDenied", "Access to OData is disabled.")
        elif box.address != user and box.address not in self.full_access:
            raise Refusal(*self.no_access, "Access is denied. Check credentials and try again.")

    # --- items

    def add_message(
        self, mailbox: str, raw: bytes, folder: str = "inbox", received: Optional[float] = None, corrupt: bool = False
    ) -> str:
        """Put MIME into a folder as if it had been delivered; returns its immutable id."""
        with self.lock:
            item = self._new(self.mailbox(mailbox), folder, raw=raw, corrupt=corrupt)
            if received is not None:
                item.received = item.sent = received
            return item.immutable

    def items(self, mailbox: str, folder: str = "inbox") -> List[Item]:
        """What is visible in a folder now, oldest first."""
        with self.lock:
            box = self.mailbox(mailbox)
            return self.visible(box.folder(folder).items.values())

    def visible(self, items: Iterable[Item]) -> List[Item]:
        now = self.clock()
        with self.lock:
            return sorted((i for i in items if i.appears <= now < i.vanishes), key=lambda i: (i.received, i.key))

    def add_folder(self, mailbox: str, name: str, parent: str = "msgfolderroot") -> str:
        """Make a new folder; returns its id."""
        with self.lock:
            box = self.mailbox(mailbox)
            return box.add(name, parent=box.folder(parent).id).id

    def find(self, box: Mailbox, item_id: str, immutable: bool = True) -> Item:
        """The item with this id in this mailbox; `immutable`: the request asked for immutable ids."""
        with self.lock:
            known = self._ids.get(item_id, [])
            if not known and len(item_id) not in (72, 152):
                raise Refusal(400, "ErrorInvalidIdMalformed", "Id is malformed.")
            if known and known[0].mailbox != box.address:
                raise Refusal(404, "ErrorInvalidMailboxItemId", "Item Id doesn't belong to the targeted mailbox.")
            found = self.visible(known)
            if not found:
                raise Refusal(404, "ErrorItemNotFound", "The specified object was not found in the store.")
            if self.strict_ids and not immutable and item_id == found[0].immutable:
                raise Refusal(400, "ErrorInvalidIdMalformed", "An immutable id needs Prefer: IdType.")
            return found[0]

    def create_draft(
        self,
        box: Mailbox,
        folder: str = "drafts",
        *,
        raw: Optional[bytes] = None,
        properties: Optional[Dict[str, Any]] = None,
        attachments: Sequence[letter.Attachment] = (),
        extended: Optional[Dict[str, str]] = None,
    ) -> Item:
        """A draft from MIME (it always stays a draft: docs#14829) or from checked properties (user-post-messages)."""
        if box.address in self.drafts_denied:
            raise Refusal(403, "ErrorAccessDenied", "Access is denied. Check credentials and try again.")
        self._check_room(box)
        if raw is not None:
            self._check_form(raw)
        with self.lock:
            item = self._new(
                box,
                folder,
                raw=raw,
                properties=dict(properties or {}),
                attachments=list(attachments),
                extended=dict(extended or {}),
                draft=True,
                read=True,
            )
            item.bcc_in_mime = raw is not None and bool(letter.values(raw, "bcc"))
            if raw is None:
                item.message_id = item.properties.get("internetMessageId") or item.message_id
                headers = item.properties.get("internetMessageHeaders") or []
                box.header_names |= {header["name"].lower() for header in headers}
            if self.message_id == "replace_at_create":
                self._rename(item, self._new_message_id())
            self.created_drafts += 1
            return item

    def update(self, item: Item, changes: Dict[str, Any], extended: Dict[str, str]) -> None:
        """Apply the checked changes of a PATCH (message-update)."""
        if not item.draft and _DRAFT_ONLY & set(changes):
            raise Refusal(400, "ErrorInvalidPropertySet", "Only a draft can be changed so.")
        with self.lock:
            self._touch(item)
            item.extended.update(extended)
            item.read = changes.pop("isRead", item.read)
            if "internetMessageId" in changes:
                self._rename(item, changes.pop("internetMessageId"))
            if "body" in changes and item.raw is not None:
                item.properties, item.raw = copy.deepcopy(dict(letter.properties(item.raw))), None
            item.properties.update(changes)
            if item.raw is None:
                return
            for key, name in _PATCHABLE_FIELDS.items():
                if key in changes:
                    people = changes[key] if isinstance(changes[key], list) else [changes[key]]
                    item.raw = letter.with_field(item.raw, name, letter.formatted(people))
            if "subject" in changes:
                item.raw = letter.with_field(item.raw, "Subject", changes["subject"] or " ")

    def attach(self, item: Item, attachment: letter.Attachment) -> None:
        """Add a file to a draft; see mime_drafts_take_files."""
        self.check_takes_files(item)
        with self.lock:
            self._touch(item)
            if item.raw is not None and self.mime_drafts_take_files == "forget_mime":
                kind, content = letter.body_of(item.raw)
                header = copy.deepcopy(dict(letter.properties(item.raw)))
                item.properties = dict(header, body={"contentType": kind, "content": content})
                item.attachments, item.raw = letter.files(item.raw), None
            item.attachments.append(attachment)

    def check_takes_files(self, item: Item) -> None:
        """Raise Refusal if no file may be added to the item."""
        refuses = item.raw is not None and self.mime_drafts_take_files == "refuse_files"
        if not item.draft or refuses:
            raise Refusal(400, "ErrorInvalidRequest", "Only a draft takes attachments.")

    def attachments(self, item: Item) -> List[letter.Attachment]:
        """The attachments as they are listed."""
        if item.raw is None:
            return item.attachments
        shown = self.mime_drafts_take_files != "hide_files"
        return [*letter.files(item.raw), *(item.attachments if shown else ())]

    def detach(self, item: Item, attachment_id: str) -> None:
        """Remove a file from a draft."""
        with self.lock:
            self._touch(item)
            item.attachments = [file for file in item.attachments if file.id != attachment_id]

    def move(self, item: Item, destination: str) -> None:
        """Move into another folder: the classic id changes, the immutable one does not (message-move)."""
        with self.lock:
            target = self.mailboxes[item.mailbox].folder(destination)
            self._leave(item)
            item.folder = target
            target.items[item.key] = item
            self._ids[item.classic].remove(item)
            item.classic = new_id(CLASSIC_OCTETS)
            self._ids[item.classic] = [item]
            self._touch(item)

    def delete(self, item: Item) -> None:
        """A plain DELETE: it moves the item, as was observed but is not promised (docs#19256)."""
        if item.folder.known == "recoverableitemsdeletions":
            raise Refusal(403, "ErrorCannotDeleteObject", "The object cannot be deleted.")
        if not self.delete_moves:
            self.purge(item)
        else:
            self.move(item, "recoverableitemsdeletions" if item.folder.known == "deleteditems" else "deleteditems")

    def purge(self, item: Item) -> None:
        """Delete for good, as the user sees it (message-permanentdelete)."""
        with self.lock:
            self._leave(item)
            for known in (item.immutable, item.classic):
                self._ids[known].remove(item)

    def mime(self, item: Item) -> bytes:
        """A message's MIME: as it came, or made from its properties and attachments."""
        if item.corrupt:
            raise Refusal(500, "ErrorCorruptData", "Data is corrupt.")
        if item.raw is None:
            theirs = item.extended.get("Systemtime 0x39", "") if self.keeps_submit_time else ""
            date = _date(calendar.timegm(time.strptime(theirs, "%Y-%m-%dT%H:%M:%SZ")) if theirs else item.sent)
            properties = dict(item.properties, internetMessageId=item.message_id, date=date)
            properties.setdefault("from", {"emailAddress": {"address": item.mailbox}})
            return letter.build(properties, item.attachments, item.extended)
        if item.attachments and self.mime_drafts_take_files not in ("ignore_files", "hide_files"):
            return letter.with_files(item.raw, item.attachments)
        return item.raw

    def value(self, item: Item) -> bytes:
        """What $value gives: rebuilt at each call (outlook-get-mime-message)."""
        raw = self.mime(item)
        if self.regenerate:
            raw = letter.regenerated(raw)
        raw = raw.replace(b"\r\n", b"\n") if self.value_line_ends == "lf" else raw
        return b"\xef\xbb\xbf" + raw if self.value_bom else raw

    def change(self) -> int:
        """The number of the latest change: a delta token."""
        with self.lock:
            return self._change

    # --- sending

    def send_mime(self, box: Mailbox, raw: bytes, others: bool = True) -> Delivery:
        """sendMail with MIME: a copy is always saved (user-sendmail).

        `others`: the token may send from addresses other than the mailbox's own.
        """
        self._check_room(box)
        self._check_form(raw)
        return self._submit(box, raw, {}, True, None, others, bool(letter.values(raw, "bcc")))

    def send_json(
        self,
        box: Mailbox,
        properties: Dict[str, Any],
        attachments: Sequence[letter.Attachment],
        extended: Dict[str, str],
        save: bool,
        others: bool = True,
    ) -> Delivery:
        """sendMail with JSON, already checked."""
        self._check_room(box)
        full = dict(properties, date=_date(self.clock()))
        full["internetMessageId"] = properties.get("internetMessageId") or self._new_message_id()
        full.setdefault("from", {"emailAddress": {"address": box.address}})
        return self._submit(box, letter.build(full, attachments, extended), extended, save, None, others, False)

    def send_draft(self, item: Item, others: bool = True) -> Delivery:
        """POST .../send: always saved, and the draft becomes the copy (message-send)."""
        if not item.draft:
            raise Refusal(400, "ErrorInvalidRequest", "The item is not a draft.")
        raw = self.mime(item)
        return self._submit(self.mailboxes[item.mailbox], raw, item.extended, True, item, others, item.bcc_in_mime)

    def _submit(
        self,
        box: Mailbox,
        raw: bytes,
        extended: Dict[str, str],
        save: bool,
        draft: Optional[Item],
        others: bool,
        bcc_in_mime: bool,
    ) -> Delivery:
        sender, recipients = self._judge(box, raw, others)
        own = draft.message_id if draft else "".join(letter.values(raw, "message-id")[:1])
        kept = bool(own) and (self.message_id == "keep" or (draft and self.message_id == "replace_at_create"))
        message_id = own if kept else self._new_message_id()
        copy = self._as_stored(box, raw, message_id, sender)
        if not self.keep_content:
            raw, copy = (octets.partition(b"\r\n\r\n")[0] + b"\r\n\r\n" for octets in (raw, copy))
        marker = next((value for name, value in extended.items() if " Name " in name), "")
        with self.lock:
            # A draft that is still there can be sent again: nothing promises otherwise.
            if draft is not None and draft not in self._ids[draft.immutable]:
                raise Refusal(404, "ErrorItemNotFound", "The specified object was not found in the store.")
            done = Delivery(sender, box.address, tuple(sorted(recipients)), raw, message_id, marker, self.clock())
            self.delivered.append(done)
            shown = bcc_in_mime and not self.strips_bcc
            self._deliver(copy if shown else letter.without(copy, lambda name: name == "bcc"), recipients)
            self._save_copy(box, copy, message_id, extended if self.marker_survives else {}, save, draft)
            if self.copy_for_sent_as and sender != box.address and sender in self.mailboxes:
                self._new(self.mailboxes[sender], "sentitems", raw=copy, read=True)
        return done

    def _judge(self, box: Mailbox, raw: bytes, others: bool) -> Tuple[str, List[str]]:
        """From and the recipients; raises Exchange's refusal."""
        try:
            recipients = letter.recipients(raw)
            senders = letter.addresses(raw, "from")
            named = senders + letter.addresses(raw, "sender")
        except letter.BadAddress as error:
            raise Refusal(400, "ErrorInvalidRecipients", f"At least one recipient is not valid: {error}") from None
        if not recipients:
            raise Refusal(400, "ErrorInvalidRecipients", "The message contains no recipients.")
        if len(senders) > 1:
            raise Refusal(400, "ErrorInvalidRequest", "More than one From address.")
        for name, address in named:
            address = self.aliases.get(address.lower(), address.lower())
            if address != box.address and not others:
                raise Refusal(403, "ErrorAccessDenied", "Mail.Send.Shared is needed.")
            # A display name with an @ was seen to be refused (SMTP2Graph#28).
            if "@" in name or (box.address, address) not in self.send_as:
                raise Refusal(403, "ErrorSendAsDenied", "The user account does not have the right to send as this.")
        if len(raw) > self.max_send_size:
            raise Refusal(400, "ErrorMessageSizeExceeded", "The message exceeds the maximum supported size.")
        sender = senders[0][1].lower() if senders else box.address
        return self.aliases.get(sender, sender), recipients

    def _as_stored(self, box: Mailbox, raw: bytes, message_id: str, sender: str) -> bytes:
        """The message as Exchange keeps it: its own Message-ID, a From, and the headers it knows."""
        copy = raw
        if letter.values(raw, "message-id") != [message_id]:
            copy = letter.with_field(copy, "Message-ID", message_id)
        written = letter.addresses(raw, "from")
        if not written or written[0][1].lower() != sender:
            copy = letter.with_field(copy, "From", sender)
        if not self.drops_headers:
            return copy
        known = box.header_names
        return letter.without(
            copy,
            lambda name: (
                name in _DROPPED
                or name.startswith("list-")
                or (name.startswith("x-") and name != "x-priority" and name not in known)
            ),
        )

    def _deliver(self, copy: bytes, recipients: Sequence[str]) -> None:
        for address in recipients:
            target = self.aliases.get(address, address)
            if target in self.mailboxes:
                self._new(self.mailboxes[target], "inbox", raw=copy)
            else:
                self.outside.append((address, copy))

    def _save_copy(
        self, box: Mailbox, copy: bytes, message_id: str, extended: Dict[str, str], save: bool, draft: Optional[Item]
    ) -> None:
        """Drafts -> Sent Items; in between, for sent_copy_delay seconds, the draft is where while_sending says."""
        now = self.clock()
        until = now + self.sent_copy_delay
        survives = self.draft_id_survives and draft is not None and draft.vanishes == float("inf")
        if draft is not None:
            if self.while_sending == "outbox" and self.sent_copy_delay:
                self.move(draft, "outbox")
            draft.vanishes = until
            draft.folder.removed.append((self._next_change(), draft.classic, draft.immutable))
            if self.while_sending == "gone" or not self.sent_copy_delay:
                self.purge(draft)
        if not (save and self.save_sent_items):
            return
        sent = self._new(box, "sentitems", raw=copy, extended=dict(extended), read=True)
        sent.message_id = message_id
        sent.appears = until
        if draft is not None and survives:
            self._ids.pop(sent.immutable)
            sent.immutable = draft.immutable
            self._ids[sent.immutable].append(sent)

    def _check_room(self, box: Mailbox) -> None:
        if box.address in self.full:
            raise Refusal(403, "ErrorQuotaExceeded", "The mailbox has exceeded its quota.")

    def _check_form(self, raw: bytes) -> None:
        problem = letter.problem(raw) if self.strict_mime else ""
        if problem or not raw.strip():
            raise Refusal(400, "ErrorMimeContentInvalidBase64String", f"Invalid MIME content: {problem or 'empty'}.")

    # --- ids and changes; the lock is held

    def _new(self, box: Mailbox, folder: str, **more: Any) -> Item:
        now = self.clock()
        self._key += 1
        raw = more.get("raw")
        own = "".join(letter.values(raw, "message-id")[:1]) if raw is not None else ""
        item = Item(
            box.address,
            box.folder(folder),
            self._key,
            new_id(CLASSIC_OCTETS),
            new_id(IMMUTABLE_OCTETS),
            own or self._new_message_id(),
            now,
            now,
            now,
            **more,
        )
        item.folder.items[item.key] = item
        self._ids[item.classic] = [item]
        self._ids[item.immutable] = [item]
        self._touch(item)
        return item

    def _rename(self, item: Item, message_id: str) -> None:
        item.message_id = message_id
        if item.raw is not None:
            item.raw = letter.with_field(item.raw, "Message-ID", message_id)

    def _new_message_id(self) -> str:
        return f"<{uuid.uuid4().hex.upper()}@sandbox.prod.outlook.com>"

    def _leave(self, item: Item) -> None:
        item.folder.items.pop(item.key, None)
        item.folder.removed.append((self._next_change(), item.classic, item.immutable))

    def _touch(self, item: Item) -> None:
        item.changed = self._next_change()

    def _next_change(self) -> int:
        self._change += 1
        return self._change


def _date(when: float) -> str:
    return email.utils.formatdate(when)
