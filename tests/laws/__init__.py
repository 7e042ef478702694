"""Tests that cross the packages: they walk the table of all ops, or compare with another library or device."""
