"""From the spool to Graph, and what is said when that fails."""
