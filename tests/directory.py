"""The stand-in tenant with what `az` asks of a directory: applications, service principals and consent.

Wire forms as in application-list, application-post-applications, serviceprincipal-post-serviceprincipals,
oauth2permissiongrant-post and serviceprincipal-list-approleassignments.  Filters are those that az and the tenant's
script send, and no others.
"""

import base64
import hashlib
import re
import uuid
from urllib.parse import parse_qs

from m365proxy.sandbox import Sandbox
from m365proxy.sandbox.mailstore import Refusal
from m365proxy.sandbox.webcall import Answer, answer_json

GRAPH = "00000003-0000-0000-c000-000000000000"

_NAMES = ("Mail.Send", "Mail.Send.Shared", "Mail.Read", "Mail.ReadWrite", "Mail.ReadWrite.Shared", "User.Read")
_SIGN_IN = ("openid", "profile", "email", "offline_access")


class Directory(Sandbox):
    """Its attributes may be looked at and changed at any time."""

    def __init__(self):
        super().__init__()
        self.applications = []
        self.grants = []  # oauth2PermissionGrants: the administrator's consent
        self.role_assignments = []  # application permissions, tenant-wide: (service principal's id, name)
        self.unknown_for = 0  # requests about a new application that are answered as if it were not there
        # New ids each time: nobody may know them by heart.
        self.scope_ids = {name: str(uuid.uuid4()) for name in _NAMES + _SIGN_IN}
        self.role_ids = {name: str(uuid.uuid4()) for name in _NAMES if "Shared" not in name}
        self.principals = [{"id": str(uuid.uuid4()), "appId": GRAPH, "displayName": "Microsoft Graph"}]
        self.principals[0]["oauth2PermissionScopes"] = _permissions(self.scope_ids)
        self.principals[0]["appRoles"] = _permissions(self.role_ids)

    @property
    def changes(self):
        """The requests that changed something, or tried to."""
        kinds = r"(?i)^/v1\.0/(applications|servicePrincipals|oauth2PermissionGrants)"
        return [f"{r.method} {r.path}" for r in self.seen(kinds) if r.method != "GET"]

    def process(self, call):
        head, *names = call.segments
        if head in ("subscriptions", "tenants"):  # Azure's own, which az asks for at the login
            return answer_json(200, {"value": []})
        serve = {
            "applications": self._applications,
            "serviceprincipals": self._principals,
            "oauth2permissiongrants": self._grants,
        }.get(names[0].lower() if head == "v1.0" and names else "")
        if serve is None:
            return super().process(call)
        try:
            self.entra.actor(call.headers)
            return serve(call, names[1:])
        except Refusal as refusal:
            error = {"code": refusal.code, "message": refusal.message}
            return answer_json(refusal.status, {"error": error})

    def _applications(self, call, names):
        if call.method == "GET" and not names:
            return _listed(self.applications, call)
        if call.method == "POST" and not names:
            new = {"id": str(uuid.uuid4()), "appId": str(uuid.uuid4()), "isFallbackPublicClient": None}
            new.update(passwordCredentials=[], keyCredentials=[], requiredResourceAccess=[], identifierUris=[])
            new.update(call.json())
            self.applications.append(new)
            return answer_json(201, new)
        application = _one(self.applications, names[0])
        if call.method == "PATCH":
            known = {one["keyId"]: one for one in application["keyCredentials"]}
            application.update(call.json())
            # A key that was there is named without its content.
            keys = [known.get(one["keyId"], one) for one in application["keyCredentials"]]
            application["keyCredentials"] = [{**one, "customKeyIdentifier": _thumbprint(one["key"])} for one in keys]
            return Answer(204)
        if call.method == "DELETE":
            self.applications.remove(application)
            self.principals = [one for one in self.principals if one["appId"] != application["appId"]]
            return Answer(204)
        # The key itself is only shown if it is asked for (keycredential).
        keys = [{**credential, "key": None} for credential in application["keyCredentials"]]
        return answer_json(200, {**application, "keyCredentials": keys})

    def _principals(self, call, names):
        if call.method == "GET" and not names:
            return _listed(self.principals, call)
        if call.method == "POST" and not names:
            app_id = call.json().get("appId")
            application = next((one for one in self.applications if one["appId"] == app_id), None)
            if application is None or self.unknown_for > 0:
                self.unknown_for -= 1
                text = f"The appId '{app_id}' of the service principal does not reference a valid application object."
                raise Refusal(400, "Request_BadRequest", text)
            if any(one["appId"] == app_id for one in self.principals):
                raise Refusal(409, "Request_MultipleObjectsWithSameKeyValue", "The service principal is there already.")
            new = {"id": str(uuid.uuid4()), "appId": app_id, "displayName": application["displayName"]}
            self.principals.append(new)
            return answer_json(201, new)
        principal = _one(self.principals, names[0])
        if names[1:] == ["appRoleAssignments"]:
            held = [name for identity, name in self.role_assignments if identity == principal["id"]]
            return answer_json(200, {"value": [{"id": name, "appRoleId": self.role_ids[name]} for name in held]})
        return answer_json(200, principal)

    def _grants(self, call, names):
        if call.method == "GET":
            return _listed(self.grants, call)
        if call.method == "DELETE":
            self.grants.remove(_one(self.grants, names[0]))
            return Answer(204)
        new = call.json()
        for key in ("clientId", "resourceId"):
            _one(self.principals, new[key])
        if set(new["scope"].split()) - set(self.scope_ids):
            raise Refusal(400, "Request_BadRequest", "One or more scopes do not exist.")
        pairs = {(grant["clientId"], grant["resourceId"], grant["consentType"]) for grant in self.grants}
        if (new["clientId"], new["resourceId"], new["consentType"]) in pairs:
            raise Refusal(409, "Request_MultipleObjectsWithSameKeyValue", "Permission entry already exists.")
        self.grants.append({"id": str(uuid.uuid4()), **new})
        return answer_json(201, self.grants[-1])


def _permissions(ids):
    return [{"value": name, "id": identity, "isEnabled": True} for name, identity in ids.items()]


def _one(objects, identity):
    """The object with that id, or (as in /servicePrincipals(appId='...')) 404."""
    for one in objects:
        if one["id"] == identity:
            return one
    raise Refusal(404, "Request_ResourceNotFound", f"Resource '{identity}' does not exist.")


def _listed(objects, call):
    (wanted,) = parse_qs(call.query).get("$filter", [""])
    match = re.fullmatch(r"(\w+) eq '((?:[^']|'')*)'", wanted)
    any_name = re.fullmatch(r"servicePrincipalNames/any\(c:c eq '([^']*)'\)", wanted)
    begins = re.fullmatch(r"startswith\(displayName,'((?:[^']|'')*)'\)", wanted)
    if match:
        key, value = match.group(1), match.group(2).replace("''", "'")
        found = [one for one in objects if one[key].lower() == value.lower()]
    elif any_name:
        found = [one for one in objects if one["appId"] == any_name.group(1)]
    elif begins:
        found = [one for one in objects if one["displayName"].startswith(begins.group(1).replace("''", "'"))]
    else:
        raise Refusal(400, "Request_UnsupportedQuery", f"Unsupported filter: {wanted!r}.")
    return answer_json(200, {"value": found})


def _thumbprint(key):
    return hashlib.sha1(base64.b64decode(key)).hexdigest().upper()
