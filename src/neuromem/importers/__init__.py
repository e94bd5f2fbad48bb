"""Reading what other programs remembered: exports of ChatGPT and Claude, mem0, LoCoMo, and JSON lines.

One module per format, each a function from an opened file to items, one at a time. `Export` opens files and tells their
format, `load` stores what they hold.
"""

from neuromem.importers.files import Export
from neuromem.importers.items import Fact, Item, Remark, Turn
from neuromem.importers.storing import Report, Tally, load, survey

__all__ = ["Export", "Fact", "Item", "Remark", "Report", "Tally", "Turn", "load", "survey"]
