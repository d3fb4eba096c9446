"""A world and a start student whose misuse of tools has several causes."""
