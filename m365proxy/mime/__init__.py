"""Messages: header, parts, and what Exchange needs of them."""
