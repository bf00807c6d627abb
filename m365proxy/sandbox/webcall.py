"""A request and an answer of the stand-in tenant, free of sockets."""

from __future__ import annotations

import json
import uuid
from typing import Any, Dict, List, NamedTuple, Optional
from urllib.parse import unquote

from .mailstore import Actor, Mailbox, Refusal

JSON = "application/json; odata.metadata=minimal; charset=utf-8"


class Call(NamedTuple):
    """A request: path and query as sent, header names in lower case."""

    method: str
    path: str
    query: str
    headers: Dict[str, str]
    body: bytes

    @property
    def target(self) -> str:
        return self.path + ("?" + self.query if self.query else "")

    @property
    def segments(self) -> List[str]:
        """The path's segments, each decoded by itself: an id may hold an escaped slash."""
        return [unquote(segment) for segment in self.path.split("/")[1:]]

    @property
    def content_type(self) -> str:
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()

    def prefers(self, wish: str) -> bool:
        """Whether the Prefer header contains the wish, in any quotes and case."""
        wishes = self.headers.get("prefer", "").replace('"', "").replace(" ", "").lower().split(",")
        return wish.lower() in wishes

    def json(self) -> Any:
        """The body as JSON: 415 for another content type, 400 if it is not JSON (observed codes)."""
        if self.content_type != "application/json":
            raise Refusal(415, "RequestBodyRead", "A supported MIME type could not be found.")
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError):
            raise Refusal(400, "BadRequest", "Unable to read JSON request payload.") from None


class Context(NamedTuple):
    """One call after its token, its rights and its mailbox have been checked."""

    call: Call
    actor: Actor
    box: Mailbox
    path: str  # "/v1.0/me" or "/v1.0/users/..." as it was sent
    names: List[str]  # the segments below that

    @property
    def immutable(self) -> bool:
        """Whether ids are immutable ones (outlook-immutable-id)."""
        return self.call.prefers("IdType=ImmutableId")


class Answer(NamedTuple):
    """An answer.  `raw_value`: a $value, which may be sent without a length."""

    status: int
    body: bytes = b""
    headers: Optional[Dict[str, str]] = None
    raw_value: bool = False


def answer_json(status: int, value: Any, **headers: str) -> Answer:
    """A JSON answer."""
    return Answer(status, json.dumps(value).encode(), {"Content-Type": JSON, **headers})


def refused(refusal: Refusal) -> Answer:
    """Graph's error body, which holds the same request-id as the header (errors)."""
    request_id = str(uuid.uuid4())
    error = {"code": refusal.code, "message": refusal.message, "innerError": {"request-id": request_id}}
    return answer_json(refusal.status, {"error": error}, **{"request-id": request_id, **refusal.headers})
