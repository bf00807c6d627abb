"""Upload sessions of the stand-in tenant (attachment-createuploadsession, outlook-large-attachments)."""

from __future__ import annotations

import secrets
import threading
from dataclasses import dataclass
from typing import Callable, Dict, Tuple

from . import letter, resource
from .mailstore import Item, Refusal
from .tenant import Tenant
from .webcall import Answer, Call, answer_json

# Octets: below the first an attachment is posted, not uploaded; above the second it is refused.
SMALLEST, LARGEST = 3 * 1024 * 1024, 150 * 1024 * 1024

# Octets of one chunk.
_CHUNK_LIMIT = 4 * 1024 * 1024


@dataclass(eq=False)
class _Upload:
    item: Item
    file: letter.Attachment
    size: int
    expires: float  # by the tenant's clock
    content: bytearray
    answers: int = 0


class Uploads:
    """The open sessions.  Their URL is the secret; no token is sent with it."""

    def __init__(self, tenant: Tenant, base: Callable[[], str]):
        self._tenant = tenant
        self._base = base
        self._lock = threading.Lock()
        self._open: Dict[str, _Upload] = {}

    @property
    def open(self) -> int:
        """How many sessions are begun but neither finished nor cancelled."""
        return len(self._open)

    def begin(self, item: Item, file: letter.Attachment, size: int) -> Answer:
        """A session for one file of a draft."""
        if item.mailbox in self._tenant.uploads_denied:
            raise Refusal(403, "ErrorAccessDenied", "Access is denied. Check credentials and try again.")
        if size < SMALLEST:
            raise Refusal(400, "ErrorAttachmentSizeShouldNotBeLessThanMinimumSize", "Too small for an upload session.")
        if size > LARGEST:
            raise Refusal(400, "ErrorAttachmentSizeLimitExceeded", "Too large for an attachment.")
        secret = secrets.token_urlsafe(24)
        upload = _Upload(item, file, size, self._tenant.clock() + self._tenant.upload_seconds, bytearray())
        with self._lock:
            self._open[secret] = upload
        return answer_json(
            201,
            {
                "@odata.context": f"{self._base()}/v1.0/$metadata#microsoft.graph.uploadSession",
                "uploadUrl": f"{self._base()}/upload/{secret}?authtoken={secrets.token_urlsafe(12)}",
                "expirationDateTime": resource.stamp(upload.expires),
                "nextExpectedRanges": ["0-"],
            },
        )

    def mailbox(self, path: str) -> str:
        """The mailbox of the session that a URL belongs to; "" if unknown."""
        upload = self._open.get(path.rpartition("/")[2])
        return upload.item.mailbox if upload else ""

    def handle(self, call: Call) -> Answer:
        """PUT a chunk, DELETE the session, GET its state."""
        if "authorization" in call.headers:
            # A token for Graph has another audience (docs#6955).
            raise Refusal(401, "InvalidAudience", "The audience claim value is invalid for current resource.")
        secret = call.path.rpartition("/")[2]
        with self._lock:
            upload = self._open.get(secret)
            if upload is not None and self._tenant.clock() >= upload.expires:
                del self._open[secret]
                raise Refusal(410, "ErrorUploadSessionExpired", "The upload session has expired.")
            if upload is None:
                raise Refusal(404, "ErrorItemNotFound", "The upload session was not found.")
            if call.method == "DELETE":
                del self._open[secret]
                return Answer(204)
        if call.method == "GET" and self._tenant.upload_status_readable:
            return self._ranges(upload)
        if call.method != "PUT":
            raise Refusal(405, "MethodNotAllowed", "The HTTP method is not supported.")
        return self._take(secret, upload, call)

    def _take(self, secret: str, upload: _Upload, call: Call) -> Answer:
        first, last, total = resource.bounds(call.headers.get("content-range", ""))
        if call.content_type != "application/octet-stream":
            raise Refusal(415, "RequestBodyRead", "application/octet-stream is expected.")
        if len(call.body) > _CHUNK_LIMIT:
            raise Refusal(413, "RequestEntityTooLarge", "A chunk has 4 MB at most.")
        if last - first + 1 != len(call.body) or total != upload.size:
            raise Refusal(400, "ErrorInvalidContentRange", "Content-Range does not fit the body or the session.")
        with self._lock:
            if first != len(upload.content):
                raise Refusal(416, "invalidRange", "The range is not the next expected one.")
            upload.content += call.body
            if len(upload.content) < upload.size:
                return self._ranges(upload)
            self._open.pop(secret, None)
        self._tenant.attach(upload.item, upload.file._replace(content=bytes(upload.content)))
        where = (upload.item.mailbox, upload.item.classic, upload.file.id)
        return Answer(201, headers={"Location": self._base() + "/api/gv1.0/" + _location(where)})

    def _ranges(self, upload: _Upload) -> Answer:
        # Both spellings were seen (corso); a client must not care.
        upload.answers += 1
        expires, begins = resource.stamp(upload.expires), len(upload.content)
        if upload.answers % 2:
            return answer_json(200, {"ExpirationDateTime": expires, "NextExpectedRanges": [f"{begins}"]})
        return answer_json(200, {"expirationDateTime": expires, "nextExpectedRanges": [f"{begins}-"]})


def _location(where: Tuple[str, str, str]) -> str:
    mailbox, item, file = where
    return f"Users('{mailbox}')/Messages('{item}')/Attachments('{file}')"
