"""The report: tables, figures, page."""
