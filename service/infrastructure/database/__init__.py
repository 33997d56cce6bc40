"""SQL: tables, migrations, and one store a feature."""
