"""A report -> ``report.html``: one file that opens from disk, with no network, no server and no model.

The headline and the checks stand in plain HTML; the sweep and the completion explorer are drawn by the file's own
scripts from columns that lie compressed inside it and are inflated only when they are looked at.
"""

from completions_lp.show.page.document import LIMIT, Figure, make_page, name_run

__all__ = ["LIMIT", "Figure", "make_page", "name_run"]
