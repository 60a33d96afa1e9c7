"""Live public books and prints, and orders of ours that exist only here."""
