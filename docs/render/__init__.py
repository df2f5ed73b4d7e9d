"""The tables of the docs, each made from a file of results: functions that return Markdown."""
