"""A mailbox folder as POP3 sees it."""
