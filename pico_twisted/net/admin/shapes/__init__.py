"""What the admin port says, as values. Both sides use them: the port writes them, its clients read them."""
