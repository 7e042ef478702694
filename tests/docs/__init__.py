"""Tests of what a reader sees first: the documents, the examples, and the layout of the repository."""
