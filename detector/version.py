"""The version of this package, for the command line, reports and evidence bundles."""

__version__ = "0.1.0"
