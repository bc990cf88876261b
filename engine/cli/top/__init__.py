"""`walflow top`: samples (figures of an engine's metrics, pure), sources (asking engines and the database), screen (the picture,
pure), command (the loop).
"""
