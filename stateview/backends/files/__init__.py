"""Files and folders of namespaces: what JSON files and SQLite share."""
