"""What people look at: tables, pictures, the report, the terminal."""
