"""Vector files of other tools, one format a module: what each calls a layer is brought to the output of a block.

A reader takes a ``Source`` and what is ``Asked`` of it; ``registry`` knows them all. Nothing in a file is ever run.
"""
