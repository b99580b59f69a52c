"""`garrison demo`: a whole platform in a temporary folder, one call answered and every attack refused."""
