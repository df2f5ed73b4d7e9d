"""Tests of the tables, statistics and pages of results."""
