"""Attributes of the stand-in tenant that tests set: what Graph leaves open or an administrator may choose."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Callable, Dict, FrozenSet, Optional, Set, Tuple


def _store_size(octets: int) -> int:
    # PR_MESSAGE_SIZE is not the size of the MIME: attachments are smaller in the store, headers are extra.
    return octets * 3 // 4 + 3500


def _all_scopes() -> Set[str]:
    return {"User.Read", "Mail.Send", "Mail.Send.Shared", "Mail.ReadWrite", "Mail.ReadWrite.Shared"}


@dataclass(eq=False, repr=False)
class Modes:
    """Each of them may be changed at any time."""

    # Signing in.
    signs_in_as: str = ""  # who types the device code
    signs_in_tenant: str = ""  # and the tenant that person belongs to
    granted_scopes: Set[str] = field(default_factory=_all_scopes)
    granted_roles: Set[str] = field(default_factory=lambda: {"Mail.Send", "Mail.ReadWrite"})  # app-only
    client_secrets: Set[str] = field(default_factory=lambda: {"sandbox-secret"})
    client_certificate: Optional[bytes] = None  # PEM; None: any assertion is accepted
    upns: Dict[str, str] = field(default_factory=dict)  # mailbox -> userPrincipalName where it differs

    # Rights and state in Exchange.
    full_access: Set[str] = field(default_factory=set)  # mailboxes the user may open
    send_as: Set[Tuple[str, str]] = field(default_factory=set)  # (mailbox in the URL, From address)
    app_mailboxes: Optional[FrozenSet[str]] = None  # app-only: limited to these (None: all)
    no_access: Tuple[int, str] = (403, "ErrorAccessDenied")  # what a mailbox without Full Access answers
    drafts_denied: Set[str] = field(default_factory=set)  # mailboxes that refuse POST /messages (403)
    uploads_denied: Set[str] = field(default_factory=set)  # ... and createUploadSession (known-issues)
    unlicensed: Set[str] = field(default_factory=set)  # 404 MailboxNotEnabledForRESTAPI
    full: Set[str] = field(default_factory=set)  # 403 ErrorQuotaExceeded
    aliases: Dict[str, str] = field(default_factory=dict)  # proxy address -> mailbox; From is rewritten to it

    # Sending.
    strict_mime: bool = True  # refuse what Exchange may garble: see letter.problem
    strips_bcc: bool = True  # False: recipients see a Bcc field that came in MIME (nothing documented says otherwise)
    message_id: str = "keep"  # or "replace_at_create", "replace_at_send"
    draft_id_survives: bool = True  # the draft's immutable id is the sent copy's (outlook-immutable-id)
    marker_survives: bool = True  # extended properties are on the sent copy too
    keeps_submit_time: bool = (
        False  # Date is the draft's PidTagClientSubmitTime (MS-OXOMSG 2.2.3.11: the server sets it)
    )
    sent_copy_delay: float = 0.0  # seconds until the copy is in Sent Items
    while_sending: str = "gone"  # where the draft is meanwhile: "gone", "drafts" or "outbox"
    save_sent_items: bool = True
    copy_for_sent_as: bool = False  # a copy in the From mailbox as well (Set-Mailbox)
    # What becomes of a draft that was made of MIME when a file is added (GF 2.4, which nobody has settled): "keep": the
    # file is added to the MIME; "forget_mime": header fields that are no properties, and alternatives, are lost;
    # "ignore_files": it is sent as it was, though the file is listed; "hide_files": not even that; "refuse_files": 400.
    mime_drafts_take_files: str = "keep"
    max_send_size: int = 150 * 1024 * 1024  # octets of MIME; Exchange's own default is 35 MB
    drops_headers: bool = True  # stored copies lose List-*, Auto-Submitted, unknown X- ... (docs#17444)
    request_limit: int = 4_000_000  # octets of one request body
    over_limit: str = "413"  # or "400", "500", "reset", or "200": MIME swallowed, nothing sent (docs#13979)
    keep_content: bool = True  # False: of sent mail, only headers are kept (long load tests)

    # Reading.
    regenerate: bool = True  # a new boundary for every $value
    value_coding: str = "length"  # or "chunked", "gzip" (both without Content-Length)
    value_line_ends: str = "crlf"  # or "lf"
    value_bom: bool = False  # a byte order mark before every $value
    store_size: Callable[[int], Optional[int]] = _store_size  # None: the property is absent
    page_cap: int = 1000  # most items of a page
    page_short: bool = False  # pages one item short of what was asked
    page_empty: bool = False  # an empty page with a nextLink before every page but the first
    page_duplicate: bool = False  # a page begins with the last item of the one before
    strict_ids: bool = True  # immutable ids need the Prefer header
    delta_lost: bool = False  # the next use of a delta token is 410 syncStateNotFound
    permanent_delete: bool = True  # False: 405, as in national clouds
    delete_moves: bool = True  # False: a plain DELETE destroys at once

    # Uploads.
    upload_seconds: float = 3600.0  # lifetime of an upload session
    upload_status_readable: bool = False  # whether GET on the upload URL answers

    # Graph's clock, also in its Date header.
    clock: Callable[[], float] = time.time
