"""Exported files: TFLite, its metadata, and golden vectors."""
