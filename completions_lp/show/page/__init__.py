"""A report -> ``report.html``: one file that opens from disk, with no network, no server and no model."""

from completions_lp.show.page.document import LIMIT, Figure, make_page, name_run

__all__ = ["LIMIT", "Figure", "make_page", "name_run"]
