"""Folders by name, path and id, and rights that are missing."""

from __future__ import annotations

import pytest
from maildrop_harness import (
    ids,
    page,
    refusal,
    rig,
)

from m365proxy.errors import Permanent

__all__ = ["rig"]


LONG_ID = "AAMkAD" + "x" * 80 + "/+=="


@pytest.mark.parametrize(
    "name, path",
    [
        ("inbox", "/mailFolders/inbox/messages"),
        ("SentItems", "/mailFolders/sentitems/messages"),
        (LONG_ID, "/mailFolders/AAMkAD" + "x" * 80 + "%2F%2B%3D%3D/messages"),
        ("Scans", "/mailFolders/s1/messages"),
        ("scans/2026", "/mailFolders/s2/messages"),
        (" Scans / 2026 /", "/mailFolders/s2/messages"),
        ("Inbox/Done", "/mailFolders/d%2F1/messages"),
    ],
)
def test_folders_by_name_path_and_id(rig, name, path):
    rig.graph.folders = {
        "/mailFolders": {"value": [{"id": "x", "displayName": "Other"}, {"id": "s1", "displayName": "Scans"}]},
        "/mailFolders/s1/childFolders": {"value": [{"id": "s2", "displayName": "2026"}]},
        "/mailFolders/inbox/childFolders": {"value": [{"id": "d/1", "displayName": "done"}]},
    }
    rig.open(page(1), folder=name)
    assert rig.graph.calls[-1][0] == path


def test_a_folders_id_is_remembered_for_an_hour(rig):
    rig.graph.folders = {"/mailFolders": {"value": [{"id": "s1", "displayName": "Scans"}]}}
    for _ in range(3):
        rig.open(page(1), folder="Scans").close()
    assert len(rig.graph.calls) == 4
    rig.now += 3601
    rig.open(page(1), folder="Scans").close()
    assert len(rig.graph.calls) == 6


def test_a_folder_that_went_is_looked_up_anew(rig):
    rig.graph.folders = {"/mailFolders": {"value": [{"id": "s1", "displayName": "Scans"}]}}
    with pytest.raises(Permanent):
        rig.open(refusal(404, "ErrorItemNotFound"), folder="Scans")
    rig.graph.folders = {"/mailFolders": {"value": [{"id": "s9", "displayName": "Scans"}]}}
    rig.open(page(1), folder="Scans")
    assert rig.graph.calls[-1][0] == "/mailFolders/s9/messages"


@pytest.mark.parametrize("name", ["Scans", "Inbox/Scans", "/", "Inbox/"])
def test_a_folder_that_does_not_exist(rig, name):
    rig.graph.folders = {"/mailFolders": {"value": []}, "/mailFolders/inbox/childFolders": {"value": []}}
    if name == "Inbox/":
        assert ids(rig.open(page(1), folder=name)) == [1]
        return
    with pytest.raises(Permanent, match="folder"):
        rig.open(folder=name)


@pytest.mark.parametrize(
    "answer, account, words",
    [
        (
            refusal(403, "ErrorAccessDenied"),
            "alerts@contoso.com",
            "Add-MailboxPermission scanner@contoso.com -User alerts@contoso.com -AccessRights FullAccess",
        ),
        (refusal(404, "ErrorItemNotFound"), "alerts@contoso.com", "-AccessRights FullAccess"),
        (refusal(403, "ErrorAccessDenied"), "scanner@contoso.com", "run `m365proxy login` again"),
        (refusal(403, "ErrorAccessDenied"), "", '-App 6f1c -Role "Application Mail.ReadWrite"'),
        (refusal(404, "ErrorInvalidUser"), "alerts@contoso.com", "There is no mailbox scanner@contoso.com"),
        (refusal(404, "MailboxNotEnabledForRESTAPI"), "alerts@contoso.com", "no licence"),
    ],
)
def test_a_missing_right_is_named(rig, answer, account, words):
    rig.graph.user = account
    with pytest.raises(Permanent) as caught:
        rig.open(answer)
    assert words in str(caught.value)
