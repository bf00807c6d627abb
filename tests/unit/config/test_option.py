from cases import each

from m365proxy.config.option import Option
from m365proxy.config.types import Text


@each(
    "path, section, name",
    [
        ("user", "", "user"),
        ("queue.retry_interval", "queue", "retry_interval"),
        ("mailboxes[].login", "mailboxes[]", "login"),
        ("mailboxes[].logins[].password", "mailboxes[].logins[]", "password"),
        ("mailboxes[].logins", "mailboxes[]", "logins"),
    ],
)
def test_a_path_is_a_section_and_a_name(path, section, name):
    option = Option(path, Text("a text", ".*"), None, "A text.")
    assert (option.section, option.name) == (section, name)
