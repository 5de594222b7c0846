"""Answer questions about the user's own data, most of them by training many times."""
