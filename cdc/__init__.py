"""Logical decoding over psycopg's libpq: committed rows of any database, in the order of their commits.

Knows nothing of workflows. The pure half turns bytes into values (`pgoutput`, `messages`, `relations`), frames into
messages and statuses (`protocol`), and decides what may be confirmed (`progress`). The other half talks to a server:
`slot` prepares and starts, `stream` delivers. Errors are one tree, in `errors`.
"""
