"""Graph's mail calls over the stand-in tenant: who may call, what is called, how it is answered."""

from __future__ import annotations

import base64
import binascii
import json
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

from . import folderviews, resource
from .issuer import Entra
from .mailstore import Actor, Item, Mailbox, Refusal
from .odata import Query
from .tenant import Tenant
from .uploads import Uploads
from .webcall import Answer, Call, Context, answer_json, refused

# Requests of one $batch (json-batching).
_BATCH_LIMIT = 20

# The delegated scopes or application roles, one of which is enough; ".Shared" is added for others' mailboxes.
_NEEDS = {
    "any": frozenset(),
    "read": frozenset({"Mail.Read", "Mail.ReadWrite"}),
    "write": frozenset({"Mail.ReadWrite"}),
    "send": frozenset({"Mail.Send"}),
}


class Outlook:
    """The calls.  Any thread may use it."""

    def __init__(
        self,
        tenant: Tenant,
        entra: Entra,
        uploads: Uploads,
        base: Callable[[], str],
        fault: Callable[[Call], Optional[Answer]],
    ):
        """`base`: the server's URL; `fault`: the answer a fault gives to one request of a batch, if any."""
        self._fault = fault
        self._tenant = tenant
        self._entra = entra
        self._uploads = uploads
        self._views = folderviews.FolderViews(tenant, base)
        # The first pattern that fits decides; "*" is any one segment.
        self._routes: List[Tuple[str, Dict[str, Tuple[str, Callable[[Context], Answer]]]]] = [
            ("sendMail", {"POST": ("send", self._send_mail)}),
            ("messages", {"GET": ("read", self._views.messages), "POST": ("write", self._create)}),
            (
                "messages/*",
                {
                    "GET": ("read", self._get),
                    "PATCH": ("write", self._patch),
                    "DELETE": ("write", self._delete),
                },
            ),
            ("messages/*/$value", {"GET": ("read", self._value)}),
            ("messages/*/move", {"POST": ("write", self._move)}),
            ("messages/*/permanentDelete", {"POST": ("write", self._purge)}),
            ("messages/*/send", {"POST": ("send", self._send)}),
            ("messages/*/attachments", {"GET": ("read", self._attachments), "POST": ("write", self._attach)}),
            ("messages/*/attachments/createUploadSession", {"POST": ("write", self._begin_upload)}),
            ("messages/*/attachments/*", {"DELETE": ("write", self._detach)}),
            ("mailFolders", {"GET": ("read", self._views.folders)}),
            ("mailFolders/*", {"GET": ("read", self._views.folder)}),
            ("mailFolders/*/childFolders", {"GET": ("read", self._views.folders)}),
            ("mailFolders/*/messages", {"GET": ("read", self._views.messages), "POST": ("write", self._create)}),
            ("mailFolders/*/messages/delta", {"GET": ("read", self._views.delta)}),
        ]

    def handle(self, call: Call) -> Answer:
        """One call below /v1.0; a Refusal becomes Graph's error answer."""
        names = call.segments[1:]
        try:
            if names == ["$metadata"]:
                return Answer(200, b"<Edmx/>", {"Content-Type": "application/xml"})
            actor = self._entra.actor(call.headers)
            if names == ["$batch"]:
                return self._batch(call, actor)
            return self._dispatch(call, actor, names)
        except Refusal as refusal:
            return refused(refusal)

    # --- who and what

    def _dispatch(self, call: Call, actor: Actor, names: List[str]) -> Answer:
        if names[:1] == ["me"]:
            if actor.app:
                raise Refusal(400, "BadRequest", "/me request is only valid with delegated authentication flow.")
            owner, depth = actor.user, 1
        elif names[:1] == ["users"] and len(names) > 1 and names[1]:
            owner, depth = self._tenant.resolve(names[1]), 2
        else:
            raise Refusal(400, "BadRequest", f"Resource not found for the segment '{''.join(names[:1])}'.")
        rest = names[depth:]
        if not rest:
            return self._person(call, actor, owner)
        methods = next((methods for pattern, methods in self._routes if _fits(pattern, rest)), None)
        if methods is None:
            raise Refusal(400, "BadRequest", f"Resource not found for the segment '{rest[-1]}'.")
        if call.method not in methods:
            raise Refusal(405, "MethodNotAllowed", "The HTTP method is not supported.", Allow=", ".join(methods))
        need, function = methods[call.method]
        self._check_permission(actor, need, owner)
        box = self._mailbox(actor, owner, depth == 1)
        self._tenant.check_access(box, actor.user)
        path = "/".join(call.path.split("/")[: depth + 2])
        return function(Context(call, actor, box, path, rest))

    def _check_permission(self, actor: Actor, need: str, owner: str) -> None:
        """permissions-reference: without .Shared only the user's own mailbox is open."""
        own = actor.app or owner == actor.user
        enough = _NEEDS[need] if own else {scope + ".Shared" for scope in _NEEDS[need]}
        if enough and not enough & actor.scopes:
            raise Refusal(403, "ErrorAccessDenied", "Access is denied. Check credentials and try again.")

    def _mailbox(self, actor: Actor, owner: str, own: bool) -> Mailbox:
        if own and owner not in self._tenant.mailboxes:
            # Signed in, but without a licence.
            raise Refusal(404, "MailboxNotEnabledForRESTAPI", "The mailbox is either inactive or on-premise.")
        return self._tenant.mailbox(owner)

    def _person(self, call: Call, actor: Actor, owner: str) -> Answer:
        """GET /me (user-get)."""
        if call.method != "GET":
            raise Refusal(405, "MethodNotAllowed", "The HTTP method is not supported.", Allow="GET")
        person = self._tenant.person(owner)
        if owner != actor.user:
            raise Refusal(403, "Authorization_RequestDenied", "Insufficient privileges to complete the operation.")
        known = {"id": person.oid, "userPrincipalName": person.upn, "mail": person.mail, "displayName": person.mail}
        wanted = Query(call.query).select(list(known))
        return answer_json(200, {key: known[key] for key in wanted or known})

    # --- sending

    def _may_send_as_others(self, context: Context) -> bool:
        return context.actor.app or "Mail.Send.Shared" in context.actor.scopes

    def _send_mail(self, context: Context) -> Answer:
        """user-sendmail: MIME as text/plain in base64, or JSON; 202 and nothing else."""
        others = self._may_send_as_others(context)
        if context.call.content_type == "text/plain":
            self._tenant.send_mime(context.box, _mime(context.call.body), others)
            return Answer(202)
        value = context.call.json()
        known = isinstance(value, dict) and set(value) <= {"message", "saveToSentItems"} and "message" in value
        if not known or not isinstance(value.get("saveToSentItems", True), bool):
            raise Refusal(400, "RequestBodyRead", "message and saveToSentItems are expected.")
        draft = resource.message(value["message"])
        self._tenant.send_json(context.box, *draft, save=value.get("saveToSentItems", True), others=others)
        return Answer(202)

    def _send(self, context: Context) -> Answer:
        """message-send: no body."""
        if context.call.body:
            raise Refusal(400, "BadRequest", "The request must have no body.")
        self._tenant.send_draft(self._item(context), self._may_send_as_others(context))
        return Answer(202)

    # --- drafts

    def _create(self, context: Context) -> Answer:
        """user-post-messages; in a folder's URL only JSON works (docs#16368)."""
        folder = context.names[1] if context.names[0] == "mailFolders" else "drafts"
        if context.call.content_type == "text/plain":
            if context.names[0] == "mailFolders":
                raise Refusal(400, "UnableToDeserializePostBody", "Were unable to deserialize.")
            item = self._tenant.create_draft(context.box, raw=_mime(context.call.body))
        else:
            properties, files, extended = resource.message(context.call.json())
            item = self._tenant.create_draft(
                context.box, folder, properties=properties, attachments=files, extended=extended
            )
        return self._shown(context, item, 201)

    def _patch(self, context: Context) -> Answer:
        draft = resource.message(context.call.json(), creating=False)
        item = self._item(context)
        self._tenant.update(item, draft.properties, draft.extended)
        return self._shown(context, item, 200)

    def _attachments(self, context: Context) -> Answer:
        return answer_json(200, {"value": self._listed(self._item(context))})

    def _listed(self, item: Item) -> List[Dict[str, Any]]:
        return [resource.shown_attachment(file) for file in self._tenant.attachments(item)]

    def _attach(self, context: Context) -> Answer:
        """message-post-attachments."""
        file = resource.attachment(context.call.json())
        self._tenant.attach(self._item(context), file)
        return answer_json(201, resource.shown_attachment(file))

    def _begin_upload(self, context: Context) -> Answer:
        value = context.call.json()
        file = resource.upload_item(value)
        self._tenant.check_takes_files(self._item(context))
        return self._uploads.begin(self._item(context), file, value["AttachmentItem"]["size"])

    def _detach(self, context: Context) -> Answer:
        item, wanted = self._item(context), context.names[3]
        if all(file.id != wanted for file in item.attachments):
            raise Refusal(404, "ErrorItemNotFound", "The specified object was not found in the store.")
        self._tenant.detach(item, wanted)
        return Answer(204)

    # --- items

    def _item(self, context: Context) -> Item:
        return self._tenant.find(context.box, context.names[1], context.immutable)

    def _shown(self, context: Context, item: Item, status: int) -> Answer:
        query = Query(context.call.query)
        select = query.select(sorted(resource.SELECTABLE))
        of_files = query.of_attachments()
        expand = query.expand() if of_files is None else []
        value = resource.shown(item, select, expand, context.immutable, self._tenant.store_size)
        if of_files is not None:
            value["attachments"] = [
                {key: file[key] for key in ("@odata.type", *of_files)} for file in self._listed(item)
            ]
        return answer_json(status, value)

    def _get(self, context: Context) -> Answer:
        return self._shown(context, self._item(context), 200)

    def _value(self, context: Context) -> Answer:
        """outlook-get-mime-message: generated at each call."""
        raw = self._tenant.value(self._item(context))
        return Answer(200, raw, {"Content-Type": "text/plain"}, raw_value=True)

    def _delete(self, context: Context) -> Answer:
        self._tenant.delete(self._item(context))
        return Answer(204)

    def _purge(self, context: Context) -> Answer:
        """message-permanentdelete: global cloud only."""
        if not self._tenant.permanent_delete:
            raise Refusal(405, "MethodNotAllowed", "The HTTP method is not supported.")
        self._tenant.purge(self._item(context))
        return Answer(204)

    def _move(self, context: Context) -> Answer:
        """message-move."""
        value = context.call.json()
        target = value.get("destinationId") if isinstance(value, dict) and len(value) == 1 else None
        if not isinstance(target, str):
            raise Refusal(400, "RequestBodyRead", "destinationId is expected.")
        item = self._item(context)
        self._tenant.move(item, target)
        return self._shown(context, item, 201)

    # --- batch

    def _batch(self, call: Call, actor: Actor) -> Answer:
        """json-batching: the outer answer is 200 whatever the inner ones are."""
        value = call.json()
        inner = value.get("requests") if isinstance(value, dict) else None
        if not isinstance(inner, list) or call.method != "POST":
            raise Refusal(400, "BadRequest", "requests are expected.")
        ids = [part.get("id") if isinstance(part, dict) else None for part in inner]
        if not 1 <= len(inner) <= _BATCH_LIMIT or len(set(ids)) != len(ids) or not all(isinstance(i, str) for i in ids):
            raise Refusal(400, "BadRequest", f"1 to {_BATCH_LIMIT} requests with different ids are expected.")
        statuses: Dict[str, int] = {}
        answers = [self._inner(part, call.headers["authorization"], statuses) for part in inner]
        answers.reverse()  # the order means nothing, and nobody should rely on it
        return answer_json(200, {"responses": answers})

    def _inner(self, part: Dict[str, Any], authorization: str, statuses: Dict[str, int]) -> Dict[str, Any]:
        failed = [name for name in part.get("dependsOn") or [] if statuses.get(name, 500) >= 400]
        if failed:
            answer = refused(Refusal(424, "FailedDependency", "A request this one depends on failed."))
        else:
            try:
                call = _inner_call(part, authorization)
                answer = self._fault(call) or self.handle(call)
            except Refusal as refusal:
                answer = refused(refusal)
        statuses[part["id"]] = answer.status
        headers = answer.headers or {}
        shown: Dict[str, Any] = {"id": part["id"], "status": answer.status, "headers": headers}
        if answer.body:
            is_json = headers.get("Content-Type", "").startswith("application/json")
            shown["body"] = json.loads(answer.body) if is_json else base64.b64encode(answer.body).decode()
        return shown


def _fits(pattern: str, names: Sequence[str]) -> bool:
    parts = pattern.split("/")
    return len(parts) == len(names) and all(part in ("*", name) and name for part, name in zip(parts, names))


def _mime(body: bytes) -> bytes:
    """Decode base64 in the standard alphabet; line breaks are tolerated (user-sendmail)."""
    try:
        return base64.b64decode(b"".join(body.split()), validate=True)
    except (binascii.Error, ValueError):
        raise Refusal(400, "ErrorMimeContentInvalidBase64String", "Invalid base64 string for MIME content.") from None


def _inner_call(part: Dict[str, Any], authorization: str) -> Call:
    url, method = part.get("url"), part.get("method")
    headers = part.get("headers") or {}
    if not isinstance(url, str) or not isinstance(method, str) or not isinstance(headers, dict):
        raise Refusal(400, "BadRequest", "id, method and a relative url are expected.")
    if url.startswith(("http", "/v1.0")):
        raise Refusal(400, "BadRequest", "The url must be relative, without /v1.0.")
    path, _, query = url.partition("?")
    sent = {str(name).lower(): str(value) for name, value in headers.items()}
    body = part.get("body")
    if isinstance(body, str):
        content: bytes = base64.b64decode(body)
    else:
        content = json.dumps(body).encode() if body is not None else b""
    sent["authorization"] = authorization
    return Call(method.upper(), "/v1.0/" + path.lstrip("/"), query, sent, content)
