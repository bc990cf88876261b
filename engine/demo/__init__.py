"""`make demo`: real workflows on a real PostgreSQL, shown living and finished, one of them through a killed engine.

`stage` is the server and the engine process, `screen` what is printed, `story` how an instance is drawn, `scenes` what is
shown. It is no part of the command line's contract: run it with `python -m engine.demo`.
"""
