"""Reading what other programs remembered: exports of ChatGPT and Claude, mem0, LoCoMo, and JSON lines.

One module per format, each a function from an opened file to items, one at a time. `Export` opens files and tells their
format, `load` stores what they hold.
"""
