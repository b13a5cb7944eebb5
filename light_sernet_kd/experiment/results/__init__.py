"""What a finished run tells: metrics, report, page, pictures, and the receipt of what was read and made."""
