"""What people read: HTML pages, and what they are made of."""
