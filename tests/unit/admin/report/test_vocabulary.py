import pytest
from cases import each

from m365proxy.admin.report import vocabulary


@each("word", ["smtp_port", "mailboxes", "TLSv1.2", "starttls", "auto", "printer", "Root"])
def test_words_of_the_config_and_of_everybody_are_known(word):
    assert vocabulary.is_known(word)


@each("word", ["hunter2", "contoso", "m.mueller", ""])
def test_others_are_not(word):
    assert not vocabulary.is_known(word)


@pytest.mark.parametrize("name,expected", [("smtp_prot", True), ("mailboxs", True), ("hunter2", False)])
def test_a_typing_error_is_nearly_known(name, expected):
    assert vocabulary.is_nearly_known(name) is expected
