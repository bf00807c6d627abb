"""Graph's JSON resources: what a message may be made of, and how it is shown (message, mailFolder)."""

from __future__ import annotations

import base64
import binascii
import os
import re
import time
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from . import letter
from .mailstore import Folder, Item, Mailbox, Refusal

# The MAPI property of an item's size in the store.
_SIZE_TAGS = ("long 0xe08", "integer 0xe08")


class Draft(NamedTuple):
    """A message resource as it came in, checked."""

    properties: Dict[str, Any]
    attachments: List[letter.Attachment]
    extended: Dict[str, str]


# --- what comes in


def _string(value: Any) -> bool:
    return isinstance(value, str)


def _header_safe(value: Any) -> bool:
    return isinstance(value, str) and not re.search(r"[\x00-\x08\x0a-\x1f]", value)


def _boolean(value: Any) -> bool:
    return isinstance(value, bool)


def _one_of(*names: str) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, str) and value.lower() in names


def _object(**known: Callable[[Any], bool]) -> Callable[[Any], bool]:
    def check(value: Any) -> bool:
        return isinstance(value, dict) and all(
            key.startswith("@odata.") or (key in known and known[key](part)) for key, part in value.items()
        )

    return check


def _list(each: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and all(map(each, value))


_PERSON = _object(emailAddress=_object(name=_header_safe, address=_header_safe))

_FILE = _object(
    name=_header_safe,
    contentType=_string,
    contentBytes=_string,
    isInline=_boolean,
    contentId=_header_safe,
    size=lambda value: isinstance(value, int),
    id=_string,
    lastModifiedDateTime=_string,
)

_UPLOAD = _object(
    attachmentType=_one_of("file"),
    name=_header_safe,
    size=lambda v: isinstance(v, int) and v > 0,
    isInline=_boolean,
    contentId=_header_safe,
    contentType=_string,
)

_MESSAGE = {
    "subject": _header_safe,
    "body": _object(contentType=_one_of("text", "html"), content=_string),
    "from": _PERSON,
    "sender": _PERSON,
    "toRecipients": _list(_PERSON),
    "ccRecipients": _list(_PERSON),
    "bccRecipients": _list(_PERSON),
    "replyTo": _list(_PERSON),
    "importance": _one_of("low", "normal", "high"),
    "isRead": _boolean,
    "isReadReceiptRequested": _boolean,
    "isDeliveryReceiptRequested": _boolean,
    "internetMessageId": _header_safe,
    "internetMessageHeaders": _list(_object(name=_header_safe, value=_header_safe)),
    "categories": _list(_string),
    "singleValueExtendedProperties": _list(_object(id=_string, value=_string)),
    "attachments": _list(_FILE),
}


def message(value: Any, creating: bool = True) -> Draft:
    """A message resource from a request; an unknown property or a wrong type is 400 RequestBodyRead."""
    if not isinstance(value, dict):
        raise Refusal(400, "RequestBodyRead", "A message object is expected.")
    for key, part in value.items():
        if not key.startswith("@odata.") and (key not in _MESSAGE or not _MESSAGE[key](part)):
            raise Refusal(400, "RequestBodyRead", f"The property '{key}' does not exist or has a wrong type.")
    properties = {key: part for key, part in value.items() if key in _MESSAGE}
    files = [attachment(file) for file in properties.pop("attachments", [])]
    pairs = properties.pop("singleValueExtendedProperties", [])
    extended = {tag(pair.get("id", "")): pair.get("value", "") for pair in pairs}
    if not creating and (files or "internetMessageHeaders" in properties):
        raise Refusal(400, "ErrorInvalidPropertySet", "Set at creation only.")
    _check_headers(properties.get("internetMessageHeaders", []))
    for person in _people(properties):
        if "address" not in person.get("emailAddress", {}):
            raise Refusal(400, "ErrorInvalidRecipients", "A recipient has no address.")
    return Draft(properties, files, extended)


def _people(properties: Dict[str, Any]) -> List[Dict[str, Any]]:
    lists = [properties.get(key, []) for key in ("toRecipients", "ccRecipients", "bccRecipients", "replyTo")]
    return sum(lists, []) + [properties[key] for key in ("from", "sender") if key in properties]


def _check_headers(headers: Sequence[Dict[str, str]]) -> None:
    """X- names only, five at most (freescout-mail365#7)."""
    if len(headers) > 5:
        raise Refusal(400, "InvalidInternetMessageHeaderCollection", "Maximum number of headers is 5.")
    for header in headers:
        if not re.fullmatch(r"(?i)x-[!-9;-~]+", header.get("name", "")) or "value" not in header:
            raise Refusal(400, "InvalidInternetMessageHeader", "The name should start with 'x-' or 'X-'.")


def attachment(value: Any) -> letter.Attachment:
    """A fileAttachment resource from a request."""
    if not _FILE(value) or value.get("@odata.type") != "#microsoft.graph.fileAttachment" or not value.get("name"):
        raise Refusal(400, "RequestBodyRead", "A #microsoft.graph.fileAttachment with a name is expected.")
    try:
        content = base64.b64decode(value.get("contentBytes", ""), validate=True)
    except (binascii.Error, ValueError):
        raise Refusal(400, "RequestBodyRead", "contentBytes is not base64.") from None
    return _file(value, content)


def upload_item(value: Any) -> letter.Attachment:
    """The AttachmentItem of createUploadSession; its content comes later, so `content` is empty."""
    item = value.get("AttachmentItem") if isinstance(value, dict) and list(value) == ["AttachmentItem"] else None
    if not _UPLOAD(item) or not {"attachmentType", "name", "size"} <= set(item or ()):
        raise Refusal(400, "RequestBodyRead", "An AttachmentItem with attachmentType, name and size is expected.")
    assert isinstance(item, dict)
    return _file(item, b"")


def _file(value: Dict[str, Any], content: bytes) -> letter.Attachment:
    kind = value.get("contentType") or "application/octet-stream"
    inline = bool(value.get("isInline"))
    new_id = base64.b64encode(os.urandom(60)).decode()
    return letter.Attachment(new_id, value["name"], kind, content, inline, value.get("contentId") or "")


def tag(property_id: str) -> str:
    """An extended property's id in the form Graph echoes: "Long 0x0E08" -> "Long 0xe08"."""
    match = re.fullmatch(r"(?i)(\w+) 0x([0-9a-f]{1,8})", property_id)
    if match:
        return f"{match.group(1).title()} 0x{int(match.group(2), 16):x}" if match else property_id
    match = re.fullmatch(r"(?i)(\w+) (\{[0-9a-f-]{36}\}) Name (\S.*)", property_id)
    if not match:
        raise Refusal(400, "ErrorInvalidPropertyRequest", f"'{property_id}' is no extended property id.")
    return f"{match.group(1).title()} {match.group(2).lower()} Name {match.group(3)}"


# --- what goes out


def stamp(when: float) -> str:
    """A dateTimeOffset of Graph: whole seconds, UTC."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(when))


def _header(key: str, default: Any = None) -> Callable[[Item], Any]:
    return lambda item: properties_of(item).get(key, default)


def properties_of(item: Item) -> Mapping[str, Any]:
    """The properties that come from the header, whichever way the item came."""
    return letter.properties(item.raw) if item.raw is not None else item.properties


def _body(item: Item) -> Dict[str, str]:
    if item.raw is None:
        return dict({"contentType": "text", "content": ""}, **item.properties.get("body", {}))
    kind, content = letter.body_of(item.raw)
    return {"contentType": kind, "content": content}


def _headers(item: Item) -> List[Dict[str, str]]:
    if item.raw is None:
        return list(item.properties.get("internetMessageHeaders") or [])
    pairs = [(field.partition(b":")[0], letter.name_of(field)) for field in letter.split(item.raw)[0]]
    return [{"name": name.decode("latin-1"), "value": "".join(letter.values(item.raw, key)[:1])} for name, key in pairs]


_SHOWN: Dict[str, Callable[[Item], Any]] = {
    "createdDateTime": lambda item: stamp(item.created),
    "lastModifiedDateTime": lambda item: stamp(item.received),
    "changeKey": lambda item: f"CQ{item.changed:06d}",
    "categories": lambda item: list(item.properties.get("categories") or []),
    "receivedDateTime": lambda item: stamp(item.received),
    "sentDateTime": lambda item: stamp(item.sent),
    "hasAttachments": lambda item: bool(item.attachments) or (item.raw is not None and letter.has_files(item.raw)),
    "internetMessageId": lambda item: item.message_id,
    "subject": _header("subject", ""),
    "bodyPreview": lambda item: re.sub(r"<[^>]*>|\s+", " ", _body(item)["content"]).strip()[:255],
    "importance": _header("importance", "normal"),
    "parentFolderId": lambda item: item.folder.id,
    "conversationId": lambda item: f"AAQk{item.key:08d}",
    "isDeliveryReceiptRequested": lambda item: bool(item.properties.get("isDeliveryReceiptRequested")),
    "isReadReceiptRequested": lambda item: bool(item.properties.get("isReadReceiptRequested")),
    "isRead": lambda item: item.read,
    "isDraft": lambda item: item.draft,
    "inferenceClassification": lambda item: "focused",
    "body": _body,
    "sender": _header("sender"),
    "from": _header("from"),
    "toRecipients": _header("toRecipients", []),
    "ccRecipients": _header("ccRecipients", []),
    "bccRecipients": _header("bccRecipients", []),
    "replyTo": _header("replyTo", []),
    "internetMessageHeaders": _headers,
}

# Shown only when selected (message).
_ON_REQUEST = ("internetMessageHeaders",)

SELECTABLE = frozenset(_SHOWN) | {"id"}


def value_of(item: Item, key: str) -> Any:
    """One property as it is shown."""
    return _SHOWN[key](item)


def shown(
    item: Item,
    select: Optional[Sequence[str]],
    expand: Sequence[str],
    immutable: bool,
    store_size: Callable[[int], Optional[int]],
) -> Dict[str, Any]:
    """A message resource; id and etag are always there.  `expand`: ids of extended properties, as asked."""
    keys = select if select is not None else [key for key in _SHOWN if key not in _ON_REQUEST]
    found: Dict[str, Any] = {
        "@odata.etag": f'W/"CQ{item.changed:06d}"',
        "id": item.immutable if immutable else item.classic,
    }
    found.update((key, _SHOWN[key](item)) for key in keys if key != "id")
    if expand:
        pairs = [(name, extended_value(item, name, store_size)) for name in map(tag, expand)]
        present = [{"id": name, "value": value} for name, value in pairs if value is not None]
        if present:
            found["singleValueExtendedProperties"] = present
    return found


def extended_value(item: Item, name: str, store_size: Callable[[int], Optional[int]]) -> Optional[str]:
    """A property by its normalised id; always a string, None if the item has none."""
    if name.lower() in _SIZE_TAGS:
        octets = len(item.raw) if item.raw is not None else 2000
        size = store_size(octets + sum(len(a.content) for a in item.attachments))
        return None if size is None else str(size)
    return item.extended.get(name)


def shown_folder(box: Mailbox, folder: Folder, messages: Sequence[Item]) -> Dict[str, Any]:
    """A mailFolder resource."""
    return {
        "id": folder.id,
        "displayName": folder.name,
        "parentFolderId": folder.parent,
        "childFolderCount": sum(other.parent == folder.id for other in box.folders.values()),
        "unreadItemCount": sum(not item.read for item in messages),
        "totalItemCount": len(messages),
        "isHidden": False,
    }


def shown_attachment(item: letter.Attachment) -> Dict[str, Any]:
    """A fileAttachment resource without its content."""
    return {
        "@odata.type": "#microsoft.graph.fileAttachment",
        "id": item.id,
        "name": item.name,
        "contentType": item.content_type,
        "size": len(item.content),
        "isInline": item.inline,
        "contentId": item.content_id or None,
    }


def bounds(content_range: str) -> Tuple[int, int, int]:
    """first, last, total of "bytes 0-99/200"; raises Refusal 400 if it has another form."""
    match = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+)", content_range)
    if not match or int(match.group(1)) > int(match.group(2)) or int(match.group(2)) >= int(match.group(3)):
        raise Refusal(400, "ErrorInvalidContentRange", "Content-Range is missing or wrong.")
    return int(match.group(1)), int(match.group(2)), int(match.group(3))
