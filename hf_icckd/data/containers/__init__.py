"""Files that hold many images: tables, arrays, archives."""
