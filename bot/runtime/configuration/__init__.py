"""What people write: vault files, desk files, keys, books; read, checked whole, turned into what the rest takes."""
