"""SQL: tables, migrations, and one repository per record type."""
