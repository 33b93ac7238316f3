"""Batches: several files, a folder or a ZIP archive in one upload, and the page with all their results."""
