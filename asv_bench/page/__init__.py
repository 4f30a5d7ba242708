"""The pages that `dashboard.py` builds: results read, drawn and written as a static site."""
